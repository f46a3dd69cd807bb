//! The CPU evaluator: straight-line code over a block of lanes at a time.
//!
//! Registers that are the same for a whole block are computed once as scalars. The others are blocks of
//! [`LANES`] floats placed by linear scan, so that the live ones stay in the L1 cache; operands are read where they
//! lie and results are written straight to their output wherever no later instruction needs what it held.

use super::{Binary, Expr, Instr, Reg, Unary, math};
use multiversion::multiversion;

/// Elements evaluated by one pass over the code.
pub const LANES: usize = 1024;

/// How an operand of the expression varies along a block.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// One value for the whole block.
    Uniform,
    /// One value for each lane.
    Lanes,
    /// What output `i` holds before it is written.
    Output(usize),
}

/// An operand or register over one block.
#[derive(Debug, Clone, Copy)]
pub enum Value<'a> {
    /// The same in every lane.
    Uniform(f32),
    /// At least as many values as the block has lanes.
    Lanes(&'a [f32]),
}

/// Where a register lives.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Place {
    Uniform,
    Operand(usize),
    Block(usize),
    Output(usize),
}

/// An expression prepared for evaluation over blocks.
#[derive(Debug, Clone)]
pub struct Evaluator {
    code: Vec<Instr>,
    kinds: Vec<Kind>,
    places: Vec<Place>,
    outputs: Vec<Reg>,
    store: bool,
    blocks: usize,
}

impl Evaluator {
    /// Prepares `expr` for operands of these kinds. With `store`, [`Evaluator::run`] writes `outputs` to buffers;
    /// without, they are kept for [`Evaluator::value`].
    pub fn new(expr: &Expr, kinds: &[Kind], outputs: &[Reg], store: bool) -> Self {
        let code = expr.code.clone();
        let mut last_use: Vec<usize> = (0..code.len()).collect();
        let mut uniform = vec![true; code.len()];
        for (i, instr) in code.iter().enumerate() {
            match *instr {
                Instr::Operand(o) => uniform[i] = kinds[o] == Kind::Uniform,
                Instr::Const(_) => {}
                Instr::Unary(_, a) => {
                    last_use[a] = i;
                    uniform[i] = uniform[a];
                }
                Instr::Binary(_, a, b) => {
                    (last_use[a], last_use[b]) = (i, i);
                    uniform[i] = uniform[a] && uniform[b];
                }
            }
        }
        // The last instruction that reads what each output held before.
        let mut held_until = vec![None; outputs.len()];
        for (i, instr) in code.iter().enumerate() {
            if let Instr::Operand(o) = *instr
                && let Kind::Output(out) = kinds[o]
            {
                held_until[out] = held_until[out].max(Some(last_use[i]));
            }
        }
        let mut places = Vec::with_capacity(code.len());
        let (mut free, mut blocks, mut dying) = (Vec::new(), 0, vec![Vec::new(); code.len()]);
        for (i, instr) in code.iter().enumerate() {
            let mut block = || {
                let block = free.pop().unwrap_or_else(|| {
                    blocks += 1;
                    blocks - 1
                });
                if !outputs.contains(&i) {
                    dying[last_use[i]].push(block);
                }
                Place::Block(block)
            };
            let place = match *instr {
                _ if uniform[i] => Place::Uniform,
                Instr::Operand(o) => match kinds[o] {
                    // Kept aside where another output takes it: the two may trade places.
                    Kind::Output(out) if (0..outputs.len()).any(|p| p != out && outputs[p] == i) => block(),
                    Kind::Output(out) => Place::Output(out),
                    Kind::Uniform | Kind::Lanes => Place::Operand(o),
                },
                _ => {
                    let direct = |&out: &usize| store && outputs[out] == i && held_until[out] < Some(i);
                    (0..outputs.len()).find(direct).map_or_else(block, Place::Output)
                }
            };
            places.push(place);
            // Freed only now: an instruction never writes the block that it reads.
            free.append(&mut dying[i]);
        }
        Self { code, kinds: kinds.to_vec(), places, outputs: outputs.to_vec(), store, blocks }
    }

    /// For epilogues: operand 0 is the row itself, which the last register replaces. See [`Evaluator::update_row`].
    pub fn for_rows(expr: &Expr, others: &[Kind]) -> Self {
        let kinds: Vec<Kind> = std::iter::once(Kind::Output(0)).chain(others.iter().copied()).collect();
        Self::new(expr, &kinds, &[expr.code.len() - 1], true)
    }

    /// Elements of scratch that evaluation needs.
    pub fn scratch_len(&self) -> usize {
        self.code.len().next_multiple_of(16) + self.blocks * LANES
    }

    /// Evaluates `n ≤` [`LANES`] lanes. `outputs` are the blocks stored to (empty slice without `store`).
    #[inline]
    pub fn run(&self, n: usize, operands: &[Value<'_>], outputs: &mut [&mut [f32]], scratch: &mut [f32]) {
        run_block(self, n, operands, outputs, scratch);
    }

    /// Output `o` of the last [`Evaluator::run`] without `store`.
    pub fn value<'a>(&self, o: usize, operands: &[Value<'a>], scratch: &'a [f32]) -> Value<'a> {
        let reg = self.outputs[o];
        match self.places[reg] {
            Place::Uniform => Value::Uniform(scratch[reg]),
            Place::Operand(i) => operands[i],
            Place::Block(b) => {
                let at = self.code.len().next_multiple_of(16) + b * LANES;
                Value::Lanes(&scratch[at..at + LANES])
            }
            Place::Output(_) => Value::Uniform(f32::NAN), // only made with `store`
        }
    }

    /// Replaces every element of `row` by the last register; operand `i + 1` is `others[i]`, whose lanes match
    /// the row's elements. Made by [`Evaluator::for_rows`].
    pub fn update_row(&self, row: &mut [f32], others: &[Value<'_>], scratch: &mut [f32]) {
        let mut operands = [Value::Uniform(0.0); 1 + crate::conv::Epilogue::MAX_OPERANDS];
        for (b, block) in row.chunks_mut(LANES).enumerate() {
            let n = block.len();
            for (slot, other) in operands[1..].iter_mut().zip(others) {
                *slot = match *other {
                    Value::Uniform(v) => Value::Uniform(v),
                    Value::Lanes(v) => Value::Lanes(&v[b * LANES..b * LANES + n]),
                };
            }
            run_block(self, n, &operands[..=others.len()], &mut [block], scratch);
        }
    }
}

/// One pass over the code. The only place where vector instructions of the machine are chosen.
#[multiversion(targets(
    "x86_64+avx512f+avx512vl+avx512dq+avx512bw+avx2+fma",
    "x86_64+avx2+fma",
    "aarch64+neon"
))]
fn run_block(
    ev: &Evaluator,
    n: usize,
    operands: &[Value<'_>],
    outputs: &mut [&mut [f32]],
    scratch: &mut [f32],
) {
    let (uniforms, blocks) = scratch.split_at_mut(ev.code.len().next_multiple_of(16));
    for (i, instr) in ev.code.iter().enumerate() {
        match ev.places[i] {
            Place::Uniform => {
                uniforms[i] = match *instr {
                    Instr::Operand(o) => match operands[o] {
                        Value::Uniform(v) => v,
                        Value::Lanes(v) => v[0],
                    },
                    Instr::Const(c) => c.0,
                    Instr::Unary(..) | Instr::Binary(..) => {
                        let mut one = [0.0];
                        apply(instr, &mut one, |r| Value::Uniform(uniforms[r]));
                        one[0]
                    }
                }
            }
            Place::Operand(_) => {}
            Place::Output(_) if matches!(instr, Instr::Operand(_)) => {}
            Place::Output(o) => {
                // Taken out while it is written, so that the other outputs can be read beside it.
                let out = std::mem::take(&mut outputs[o]);
                apply(instr, &mut out[..n], |r| match ev.places[r] {
                    Place::Uniform => Value::Uniform(uniforms[r]),
                    Place::Operand(o) => operands[o],
                    Place::Output(o) => Value::Lanes(&*outputs[o]),
                    Place::Block(b) => Value::Lanes(&blocks[b * LANES..][..LANES]),
                });
                outputs[o] = out;
            }
            Place::Block(b) => {
                let (below, rest) = blocks.split_at_mut(b * LANES);
                let (block, above) = rest.split_at_mut(LANES);
                if let Instr::Operand(o) = *instr
                    && let Kind::Output(out) = ev.kinds[o]
                {
                    block[..n].copy_from_slice(&outputs[out][..n]);
                }
                apply(instr, &mut block[..n], |r| match ev.places[r] {
                    Place::Uniform => Value::Uniform(uniforms[r]),
                    Place::Operand(o) => operands[o],
                    Place::Output(o) => Value::Lanes(&*outputs[o]),
                    Place::Block(c) if c < b => Value::Lanes(&below[c * LANES..][..LANES]),
                    Place::Block(c) => Value::Lanes(&above[(c - b - 1) * LANES..][..LANES]),
                });
            }
        }
    }
    if !ev.store {
        return;
    }
    for (o, &reg) in ev.outputs.iter().enumerate() {
        if ev.places[reg] == Place::Output(o) {
            continue;
        }
        let out = std::mem::take(&mut outputs[o]);
        match ev.places[reg] {
            Place::Uniform => out[..n].fill(uniforms[reg]),
            Place::Operand(i) => match operands[i] {
                Value::Uniform(v) => out[..n].fill(v),
                Value::Lanes(v) => out[..n].copy_from_slice(&v[..n]),
            },
            Place::Output(p) => out[..n].copy_from_slice(&outputs[p][..n]),
            Place::Block(b) => out[..n].copy_from_slice(&blocks[b * LANES..][..n]),
        }
        outputs[o] = out;
    }
}

#[inline(always)]
fn map(dst: &mut [f32], a: Value<'_>, f: impl Fn(f32) -> f32) {
    match a {
        Value::Uniform(a) => dst.fill(f(a)),
        Value::Lanes(a) => {
            for (d, &a) in dst.iter_mut().zip(a) {
                *d = f(a);
            }
        }
    }
}

#[inline(always)]
fn map2(dst: &mut [f32], a: Value<'_>, b: Value<'_>, f: impl Fn(f32, f32) -> f32) {
    match (a, b) {
        (Value::Uniform(a), Value::Uniform(b)) => dst.fill(f(a, b)),
        (Value::Uniform(a), b) => map(dst, b, |b| f(a, b)),
        (a, Value::Uniform(b)) => map(dst, a, |a| f(a, b)),
        (Value::Lanes(a), Value::Lanes(b)) => {
            for ((d, &a), &b) in dst.iter_mut().zip(a).zip(b) {
                *d = f(a, b);
            }
        }
    }
}

#[inline(always)]
fn truth(is: bool) -> f32 {
    if is { 1.0 } else { 0.0 }
}

#[inline(always)]
fn apply<'a>(instr: &Instr, dst: &mut [f32], get: impl Fn(Reg) -> Value<'a>) {
    match *instr {
        Instr::Operand(_) | Instr::Const(_) => {}
        Instr::Unary(op, a) => {
            let a = get(a);
            match op {
                Unary::Neg => map(dst, a, |x| -x),
                Unary::Recip => map(dst, a, |x| 1.0 / x),
                Unary::Exp => map(dst, a, math::exp),
                Unary::Log => map(dst, a, math::log),
                Unary::Sqrt => map(dst, a, f32::sqrt),
                Unary::Abs => map(dst, a, f32::abs),
                Unary::Sign => map(dst, a, |x| truth(x > 0.0) - truth(x < 0.0)),
                Unary::Square => map(dst, a, |x| x * x),
                Unary::Relu => map(dst, a, |x| if x < 0.0 { 0.0 } else { x }),
                Unary::LeakyRelu(s) => map(dst, a, |x| if x > 0.0 { x } else { s.0 * x }),
                Unary::LeakyMask(s) => map(dst, a, |x| if x > 0.0 { 1.0 } else { s.0 }),
                Unary::Tanh => map(dst, a, math::tanh),
                Unary::Sigmoid => map(dst, a, math::sigmoid),
                Unary::Softplus => map(dst, a, math::softplus),
                Unary::Affine(k, c) => map(dst, a, |x| x.mul_add(k.0, c.0)),
                Unary::Clamp(low, high) => map(dst, a, |x| math::clamp(x, low.0, high.0)),
                Unary::ClampMask(low, high) => map(dst, a, |x| truth(x >= low.0 && x <= high.0)),
                Unary::Step => map(dst, a, |x| truth(x > 0.0)),
            }
        }
        Instr::Binary(op, a, b) => {
            let (a, b) = (get(a), get(b));
            match op {
                Binary::Add => map2(dst, a, b, |a, b| a + b),
                Binary::Sub => map2(dst, a, b, |a, b| a - b),
                Binary::Mul => map2(dst, a, b, |a, b| a * b),
                Binary::Div => map2(dst, a, b, |a, b| a / b),
                Binary::Max => map2(dst, a, b, math::max),
                Binary::Min => map2(dst, a, b, math::min),
                Binary::Greater => map2(dst, a, b, |a, b| truth(a > b)),
                Binary::Equal => map2(dst, a, b, |a, b| truth(a == b)),
            }
        }
    }
}
