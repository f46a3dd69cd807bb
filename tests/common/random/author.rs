//! Writes random programs: each move picks an operation and operands among what is there.

use super::script::{Binary, Id, Make, Script, Unary, Value};

/// Shapes of inputs and states: few, so that values find partners and programs share pipelines.
pub(crate) const INPUTS: [&[usize]; 8] =
    [&[2, 3], &[3], &[2, 1], &[1, 2, 4, 4], &[2, 2, 3, 2], &[2, 4, 3], &[2, 1, 3, 2], &[1]];
pub(crate) const STATES: [&[usize]; 5] = [&[2, 3], &[2, 3], &[3], &[1, 2, 4, 4], &[1]];
/// Elements of one value.
pub(super) const MOST: usize = 48;

/// Pseudo-random numbers (SplitMix64, Steele et al. 2014).
pub(crate) struct Dice(pub(crate) u64);

impl Dice {
    pub(crate) fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let z = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        let z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        z ^ (z >> 31)
    }

    pub(crate) fn below(&mut self, end: usize) -> usize {
        (self.next() % end.max(1) as u64) as usize
    }

    pub(super) fn one_in(&mut self, n: usize) -> bool {
        self.below(n) == 0
    }

    pub(super) fn of<T: Copy>(&mut self, choice: &[T]) -> T {
        choice[self.below(choice.len())]
    }

    /// In [0, 1).
    pub(crate) fn unit(&mut self) -> f64 {
        (self.next() >> 11) as f64 / (1_u64 << 53) as f64
    }
}

/// A program of so many moves.
pub(crate) fn write(seed: u64, moves: usize) -> Script {
    let mut dice = Dice(seed);
    let whole = dice.one_in(3);
    let mut author = Author { dice, script: Script { whole, ..Script::default() }, orders: vec![] };
    for (name, shape) in INPUTS.iter().enumerate() {
        author.make(Make::Input(name), &[], shape);
    }
    for _ in 0..2 {
        let state = author.dice.below(STATES.len());
        author.make(Make::State(state), &[], STATES[state]);
    }
    (0..moves).for_each(|_| author.act());
    author.finish()
}

pub(super) struct Author {
    pub(super) dice: Dice,
    pub(super) script: Script,
    /// How many gradients stand behind each value.
    orders: Vec<usize>,
}

impl Author {
    pub(super) fn make(&mut self, make: Make, inputs: &[Id], shape: &[usize]) -> Id {
        // An input or state read twice is one; everything else that is written twice is two.
        let known = |v: &Value| v.make == make && matches!(make, Make::Input(_) | Make::State(_));
        if let Some(known) = self.script.values.iter().position(known) {
            return known;
        }
        let behind = inputs.iter().map(|&i| self.orders[i]).max().unwrap_or(0);
        self.orders.push(behind + usize::from(matches!(make, Make::Gradient { .. })));
        self.script.values.push(Value { make, inputs: inputs.to_vec(), shape: shape.to_vec() });
        self.script.values.len() - 1
    }

    pub(super) fn shape(&self, id: Id) -> Vec<usize> {
        self.script.values[id].shape.clone()
    }

    pub(super) fn len(&self, id: Id) -> usize {
        self.script.values[id].len()
    }

    /// Later values are picked more often, so that programs grow deep as well as wide; large ones are not
    /// built upon.
    pub(super) fn pick(&mut self) -> Id {
        loop {
            let back = self.dice.unit().powi(2) * self.script.values.len() as f64;
            let id = self.script.values.len() - 1 - back as usize;
            if self.len(id) <= MOST && self.script.values[id].shape.len() <= 5 {
                return id;
            }
        }
    }

    pub(super) fn find(&mut self, fits: impl Fn(&[usize]) -> bool) -> Option<Id> {
        (0..40).find_map(|_| {
            let id = self.pick();
            fits(&self.script.values[id].shape).then_some(id)
        })
    }

    pub(super) fn unary(&mut self, op: Unary, x: Id) -> Id {
        let shape = self.shape(x);
        self.make(Make::Unary(op), &[x], &shape)
    }

    /// Two values of shapes that broadcast, made alike first.
    pub(super) fn binary(&mut self, op: Binary, a: Id, b: Id) -> Id {
        let (sa, sb) = (self.shape(a), self.shape(b));
        let rank = sa.len().max(sb.len());
        let at = |s: &[usize], d: usize| if d + s.len() < rank { 1 } else { s[d + s.len() - rank] };
        let shape: Vec<usize> = (0..rank).map(|d| at(&sa, d).max(at(&sb, d))).collect();
        let (a, b) = (self.broadcast(a, &shape), self.broadcast(b, &shape));
        self.make(Make::Binary(op), &[a, b], &shape)
    }

    pub(super) fn broadcast(&mut self, x: Id, shape: &[usize]) -> Id {
        let own = self.shape(x);
        let aligned = [vec![1; shape.len() - own.len()], own].concat();
        let x = self.reshape(x, &aligned);
        if aligned == shape { x } else { self.make(Make::Broadcast, &[x], shape) }
    }

    pub(super) fn reshape(&mut self, x: Id, shape: &[usize]) -> Id {
        if self.shape(x) == shape { x } else { self.make(Make::Reshape, &[x], shape) }
    }

    /// Keeps numbers from growing.
    pub(super) fn tame(&mut self, x: Id) -> Id {
        match (self.script.whole, self.dice.below(3)) {
            (true, _) => self.unary(Unary::Clamp(-8.0, 8.0), x),
            (false, 0) => self.unary(Unary::Affine(0.25, 0.0), x),
            (false, _) => self.unary(Unary::Tanh, x),
        }
    }

    fn act(&mut self) {
        match self.dice.below(38) {
            0..=5 => Some(self.random_unary()),
            6..=11 => self.random_binary(),
            12..=14 => Some(self.reduction()),
            15..=17 => self.norm(),
            18..=20 => self.rearranged(),
            21 => self.concat(),
            22 | 23 => self.product(),
            24 | 25 => self.image(),
            26 => {
                let x = self.pick();
                let shape = self.shape(x);
                Some(self.make(Make::Stop, &[x], &shape))
            }
            27 => self.wide(),
            28 => {
                let (shape, v) = (self.dice.of(&INPUTS), self.dice.of(&[2.0, -1.0, 0.5, 0.0]));
                Some(self.make(Make::Full(v), &[], shape))
            }
            29 => self.select(),
            30 => self.draw(),
            31 | 32 => self.sampled(),
            _ => self.gradient(),
        };
    }

    /// Whatever `y` is made of that gradients reach.
    fn behind(&self, y: Id) -> Vec<Id> {
        let mut reached = vec![false; y + 1];
        reached[y] = true;
        for id in (0..=y).rev() {
            let value = &self.script.values[id];
            if reached[id] && value.make != Make::Stop {
                value.needs().into_iter().for_each(|i| reached[i] = true);
            }
        }
        (0..=y).filter(|&id| reached[id]).collect()
    }

    fn gradient(&mut self) -> Option<Id> {
        let gradients = self.script.values.iter().filter(|v| matches!(v.make, Make::Gradient { .. })).count();
        let mut y = self.pick();
        if self.orders[y] > 1 || gradients > 8 {
            return None;
        }
        let (order, shape) = (self.orders[y], self.shape(y));
        let mut inputs = vec![];
        if self.dice.one_in(4)
            && let Some(cotangent) = self.find(|s| s == shape)
            && self.orders[cotangent] <= 1
        {
            inputs.extend([y, cotangent]);
        } else {
            // A loss: mean square, or what makes each element's cotangent another.
            if !self.script.whole && self.dice.one_in(2) {
                let bent = self.unary(Unary::Tanh, y);
                y = self.binary(Binary::Mul, bent, y);
            } else if self.dice.one_in(2) {
                y = self.unary(Unary::Square, y);
            }
            let axes: Vec<_> = (0..shape.len()).filter(|&d| shape[d] > 1).collect();
            if !axes.is_empty() {
                let ones = vec![1; shape.len()];
                y = self.make(Make::Sum(axes), &[y], &ones);
            }
            y = self.reshape(y, &[]);
            inputs.push(y);
        }
        let limit = if order == 0 { 32 } else { 8 };
        let behind = self.behind(inputs[0]);
        let mut wrt = vec![];
        for _ in 0..1 + self.dice.below(3) {
            let w = if self.dice.one_in(8) { self.pick() } else { self.dice.of(&behind) };
            let plain = !matches!(self.script.values[w].make, Make::Gradient { .. });
            if plain && self.len(w) <= limit && !wrt.contains(&w) && self.script.is_plain(inputs[0], w) {
                wrt.push(w);
            }
        }
        let mut last = None;
        for pick in 0..wrt.len() {
            let shape = self.shape(wrt[pick]);
            last = Some(self.make(Make::Gradient { wrt: wrt.clone(), pick }, &inputs, &shape));
        }
        last
    }

    fn finish(mut self) -> Script {
        let mut outputs = vec![self.script.values.len() - 1];
        let gradients: Vec<Id> = (0..self.script.values.len()).filter(|&id| self.orders[id] > 0).collect();
        for _ in 0..1 + self.dice.below(4) {
            let id = if gradients.is_empty() || self.dice.one_in(2) {
                self.pick()
            } else {
                self.dice.of(&gradients)
            };
            outputs.push(id);
        }
        outputs.sort_unstable();
        outputs.dedup();
        for _ in 0..self.dice.below(4) {
            let state = self.dice.below(STATES.len());
            if let Some(value) = self.find(|s| s == STATES[state]) {
                self.script.assigns.push((state, value));
            }
        }
        self.script.outputs = outputs;
        self.script.pruned()
    }
}
