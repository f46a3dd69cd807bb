//! Random calls with random ranks, sizes and options, sensible about half of the time, and random damage to
//! what they give: each ends in a program that runs or in an error, in a build whose arithmetic checks for
//! overflow.

use ganomede::device::Device;
use ganomede::nn::{self, Adam, BatchNorm, LayerNorm, Mode};
use ganomede::program::{Launch, Program, Role, StateId, compile};
use ganomede::tape::{
    ConvOptions, Graph, Initial, Op, Padding, PoolOptions, RandomState, Sampling, States, Tape, Tensor,
    Variable,
};
use ganomede_kernels::Kernel;

/// Numbers that nobody thinks of.
const ODD: [usize; 10] =
    [0, 0, 1 << 31, (1 << 32) - 1, 1 << 41, 1 << 61, 1 << 62, 1 << 63, usize::MAX - 1, usize::MAX];
const FLOATS: [f32; 8] = [0.5, -1.0, 0.0, 2.0, f32::NAN, f32::INFINITY, 1e30, -0.0];

/// A stream of choices, the same for the same seed.
pub(crate) struct Dice(u64);

impl Dice {
    pub(crate) fn new(seed: u64) -> Self {
        Self(seed.wrapping_mul(0x9E37_79B9_7F4A_7C15) ^ 0x1234_5678_9ABC_DEF1)
    }

    /// One of `0..n`.
    fn below(&mut self, n: usize) -> usize {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        (self.0 >> 16) as usize % n.max(1)
    }

    fn once_in(&mut self, n: usize) -> bool {
        self.below(n) == 0
    }

    /// A size: small, rarely odd.
    fn size(&mut self) -> usize {
        if self.once_in(60) { ODD[self.below(ODD.len())] } else { 1 + self.below(4) }
    }

    fn sizes<const N: usize>(&mut self) -> [usize; N] {
        [(); N].map(|()| self.size())
    }

    /// A pad, start or the like: mostly 0.
    fn offset(&mut self) -> usize {
        match self.below(60) {
            0 => ODD[self.below(ODD.len())],
            1..15 => 1 + self.below(2),
            _ => 0,
        }
    }

    fn offsets<const N: usize>(&mut self) -> [usize; N] {
        [(); N].map(|()| self.offset())
    }

    fn shape(&mut self) -> Vec<usize> {
        let rank = [0, 1, 2, 2, 3, 4, 4, 4, 5, 8][self.below(10)];
        (0..rank).map(|_| self.size()).collect()
    }

    fn float(&mut self) -> f32 {
        FLOATS[self.below(FLOATS.len())]
    }

    fn pick<T: Clone>(&mut self, from: &[T]) -> T {
        from[self.below(from.len())].clone()
    }
}

/// What is at hand while calls are made.
struct Author<'t> {
    tape: &'t Tape,
    other: &'t Tape,
    dice: Dice,
    pool: Vec<Tensor<'t>>,
    variables: Vec<Variable>,
    random: RandomState,
}

/// Registers a few states and records a few calls; the states are for the device.
pub(crate) fn record(tape: &Tape, seed: u64) -> States {
    let (mut states, other) = (States::new(), Tape::new());
    let mut dice = Dice::new(seed);
    let mut variables: Vec<Variable> = [&[2, 3][..], &[3], &[], &[1, 2, 4, 4]]
        .iter()
        .enumerate()
        .map(|(i, shape)| states.add(format!("s{i}"), shape, Initial::Constant(0.5)))
        .collect();
    if dice.once_in(20) {
        variables.push(States::new().add("elsewhere", &[2, 3], Initial::Constant(1.0)));
    }
    let mut random = nn::random_state(&mut states, "random", seed);
    if dice.once_in(20) {
        random.key = dice.pick(&variables);
    }
    let calls = 1 + dice.below(12);
    let mut author = Author { tape, other: &other, dice, pool: vec![], variables, random };
    for shape in [&[2, 3][..], &[3], &[1, 2, 4, 4], &[2, 2, 3, 3]] {
        author.pool.push(tape.input(&format!("x{shape:?}"), shape));
    }
    for _ in 0..calls {
        if let Some(made) = author.call(&mut states) {
            author.pool.push(made);
        }
    }
    let last = author.pool.len() - 1;
    tape.output("last", author.pool[last]);
    if author.dice.once_in(3) {
        let (y, x) = (author.pool[last], author.any());
        tape.output("gradient", tape.grad(y.square().sum_all(), &[x])[0]);
    }
    states
}

impl<'t> Author<'t> {
    fn any(&mut self) -> Tensor<'t> {
        if self.dice.once_in(80) {
            return self.other.input("other", &[2, 3]);
        }
        let pool = std::mem::take(&mut self.pool);
        let found = self.dice.pick(&pool);
        self.pool = pool;
        found
    }

    /// One that mostly has this rank.
    fn of_rank(&mut self, rank: usize) -> Tensor<'t> {
        let found = self.any();
        let fits: Vec<_> = self.pool.iter().copied().filter(|t| t.rank() == rank).collect();
        if fits.is_empty() || self.dice.once_in(30) { found } else { self.dice.pick(&fits) }
    }

    /// One that mostly has the shape of `x`.
    fn like(&mut self, x: Tensor<'t>) -> Tensor<'t> {
        let fits: Vec<_> = self.pool.iter().copied().filter(|t| t.shape() == x.shape()).collect();
        if fits.is_empty() || self.dice.once_in(20) { self.any() } else { self.dice.pick(&fits) }
    }

    fn axes(&mut self, x: Tensor<'t>) -> Vec<usize> {
        let rank = x.rank();
        let mut axes: Vec<_> = (0..rank).filter(|_| self.dice.once_in(2)).collect();
        if self.dice.once_in(40) {
            axes.push(self.dice.below(2) + rank);
        }
        axes
    }

    fn kernel(&mut self, channels: usize, input: usize) -> Tensor<'t> {
        let mut shape = vec![self.dice.size(), self.dice.size(), self.dice.size(), self.dice.size()];
        if !self.dice.once_in(30) {
            shape[input] = channels;
        }
        let value = self.dice.float();
        self.tape.full(value, &shape)
    }

    fn pooling(&mut self) -> PoolOptions {
        let dice = &mut self.dice;
        let (kernel, padding) = (dice.sizes(), dice.offsets());
        let stride = if dice.once_in(2) { kernel } else { dice.sizes() };
        let options = PoolOptions::new(kernel, stride, padding);
        match dice.below(3) {
            0 => PoolOptions { dilation: dice.sizes(), ceil: true, ..options },
            1 => PoolOptions { pad_high: dice.offsets(), count_padding: false, ..options },
            _ => options,
        }
    }

    fn call(&mut self, states: &mut States) -> Option<Tensor<'t>> {
        let (x, tape) = (self.any(), self.tape);
        let made = match self.dice.below(12) {
            0 => self.element_wise(x),
            1 => self.reduction(x),
            2..=4 => self.rearranged(x),
            5 => self.product(),
            6 => self.image(),
            7 => self.layer(states),
            8 => self.loss(x),
            9 => self.differentiated(x),
            10 => {
                let shape = self.dice.shape();
                match self.dice.below(4) {
                    0 => tape.full(self.dice.float(), &shape),
                    1 => tape.uniform(&self.random.clone(), &shape),
                    2 => x.dropout(&self.random.clone(), self.dice.float()),
                    _ => tape.input(&format!("x{}", self.dice.below(6)), &shape),
                }
            }
            _ => {
                let variable = self.dice.pick(&self.variables);
                match self.dice.below(3) {
                    0 => tape.state(&variable),
                    1 => {
                        let fits = self.pool.iter().copied().find(|t| t.shape() == variable.shape);
                        tape.assign(&variable, fits.unwrap_or(x));
                        return None;
                    }
                    _ => {
                        tape.output(&format!("y{}", self.dice.below(30)), x);
                        return None;
                    }
                }
            }
        };
        // What grows without end would end in memory, not in a rule.
        (made.len() <= 5000).then_some(made)
    }

    fn element_wise(&mut self, x: Tensor<'t>) -> Tensor<'t> {
        let other = self.like(x);
        let (low, high) = (self.dice.float(), self.dice.float());
        match self.dice.below(18) {
            0 => x + other,
            1 => x * other,
            2 => x / other,
            3 => x.maximum(other),
            4 => x.greater(other).select(x, other),
            5 => x.clamp(low, high),
            6 => x.leaky_relu(low),
            7 => x.affine(low, high),
            8 => x.tanh(),
            9 => x.relu().sqrt(),
            10 => x.softplus().log(),
            11 => low / x,
            12 => x.stop_gradient(),
            13 => -x,
            14 => x.abs() - high,
            15 => x.pow(other),
            16 => x.powf(low),
            _ => x.sigmoid().square(),
        }
    }

    fn reduction(&mut self, x: Tensor<'t>) -> Tensor<'t> {
        let axes = self.axes(x);
        match self.dice.below(10) {
            0 => x.sum(&axes),
            1 => x.mean(&axes),
            2 => x.max(&axes),
            3 => x.variance(&axes),
            4 => x.softmax(axes.first().copied().unwrap_or(0)),
            5 => x.sum_per_sample(),
            6 => x.mean_per_sample(),
            7 => x.prod(&axes),
            8 => x.min(&axes),
            _ => x.mean_all(),
        }
    }

    fn rearranged(&mut self, x: Tensor<'t>) -> Tensor<'t> {
        let (shape, rank, dice) = (x.shape(), x.rank(), &mut self.dice);
        let axis = if dice.once_in(30) { rank + dice.below(2) } else { dice.below(rank) };
        match dice.below(17) {
            0 => x.flatten(),
            1 => {
                let mut longer = shape.clone();
                (0..=dice.below(4)).for_each(|_| longer.insert(dice.below(longer.len() + 1), 1));
                x.reshape(&longer)
            }
            2 => x.reshape(&dice.shape()),
            3 => {
                let repeated: Vec<_> = shape.iter().map(|&n| if n == 1 { dice.size() } else { n }).collect();
                x.broadcast_to(&repeated)
            }
            4 => x.broadcast_to(&dice.shape()),
            5 => {
                let mut order: Vec<_> = (0..rank).collect();
                (0..rank).for_each(|d| order.swap(d, dice.below(rank)));
                if dice.once_in(30) {
                    order.push(rank);
                }
                x.permute(&order)
            }
            6 => x.transpose(),
            7 => {
                let start: Vec<_> = shape.iter().map(|_| dice.offset()).collect();
                let step: Vec<_> =
                    shape.iter().map(|_| dice.offset().saturating_mul(2).saturating_add(1)).collect();
                let end: Vec<_> = shape.iter().map(|&n| n.wrapping_sub(dice.offset())).collect();
                x.slice(&start, &end, &step)
            }
            8 => x.narrow(axis, dice.offset(), dice.size()),
            9 => {
                let start: Vec<_> = shape.iter().map(|_| dice.offset()).collect();
                let step: Vec<_> = shape.iter().map(|_| dice.size()).collect();
                let whole: Vec<_> = (0..rank)
                    .map(|d| {
                        start[d].wrapping_add(step[d].wrapping_mul(shape[d])).wrapping_add(dice.offset())
                    })
                    .collect();
                x.embed(&start, &step, &whole)
            }
            10 => {
                let pads = |dice: &mut Dice| -> Vec<_> { shape.iter().map(|_| dice.offset()).collect() };
                let (low, high) = (pads(dice), pads(dice));
                x.pad(&low, &high)
            }
            11 => x.upsample_nearest(dice.size()),
            12 => {
                let sampling = dice.pick(&[Sampling::Nearest, Sampling::Linear, Sampling::LinearAligned]);
                if dice.once_in(2) {
                    x.resample(axis, dice.size(), sampling)
                } else {
                    x.resize(dice.sizes(), sampling)
                }
            }
            13 => {
                let indices: Vec<_> = (0..dice.below(5)).map(|_| dice.offset()).collect();
                x.gather(axis, &indices)
            }
            14 => {
                let padding = dice.pick(&[Padding::Constant(2.0), Padding::Reflect, Padding::Edge]);
                let pads = |dice: &mut Dice| -> Vec<_> { shape.iter().map(|_| dice.offset()).collect() };
                let (low, high) = (pads(dice), pads(dice));
                x.pad_with(&low, &high, padding)
            }
            _ => {
                let count = if dice.once_in(40) { 0 } else { 1 + dice.below(9) };
                let other = self.like(x);
                let mut parts = vec![x; count];
                if let Some(part) = parts.last_mut() {
                    *part = other;
                }
                Tensor::concat(&parts, axis)
            }
        }
    }

    fn product(&mut self) -> Tensor<'t> {
        let rank = 2 + self.dice.below(2);
        let x = self.of_rank(rank);
        let inner = x.shape().last().copied().unwrap_or(1);
        let columns = self.dice.size();
        match self.dice.below(3) {
            0 => {
                let shape = if self.dice.once_in(20) { self.dice.shape() } else { vec![inner, columns] };
                x.matmul(self.tape.full(0.5, &shape))
            }
            1 => {
                let bias = if self.dice.once_in(10) { self.dice.shape() } else { vec![columns] };
                let weight = self.tape.full(0.5, &[columns, inner]);
                x.linear(weight, Some(self.tape.full(1.0, &bias)))
            }
            _ => {
                let (a, b) = (self.dice.once_in(2), self.dice.once_in(2));
                let other = self.of_rank(rank);
                x.matmul_with(other, a, b)
            }
        }
    }

    fn image(&mut self) -> Tensor<'t> {
        let x = self.of_rank(4);
        let channels = x.shape().get(1).copied().unwrap_or(1);
        let mut options = ConvOptions {
            stride: self.dice.sizes(),
            pad_low: self.dice.offsets(),
            pad_high: self.dice.offsets(),
            ..ConvOptions::default()
        };
        if self.dice.once_in(3) {
            (options.dilation, options.output_padding) = (self.dice.sizes(), self.dice.offsets());
        }
        if self.dice.once_in(6) {
            options.groups = self.dice.size();
        }
        match self.dice.below(6) {
            0 | 1 => x.conv2d(self.kernel(channels, 1), options),
            2 => x.conv_transpose2d(self.kernel(channels, 0), options),
            3 => x.avg_pool2d(self.pooling()),
            4 => x.max_pool2d(self.pooling()),
            _ => {
                let [stride, padding, dilation] = [self.dice.size(), self.dice.offset(), self.dice.size()];
                let series = self.of_rank(3);
                let channels = series.shape().get(1).copied().unwrap_or(1);
                let kernel = self.tape.full(0.5, &[channels, channels, self.dice.size()]);
                match self.dice.below(2) {
                    0 => series.conv1d(kernel, stride, padding, dilation),
                    _ => series.conv_transpose1d(kernel, stride, padding, dilation),
                }
            }
        }
    }

    fn layer(&mut self, states: &mut States) -> Tensor<'t> {
        let rank = 2 + 2 * self.dice.below(2);
        let x = self.of_rank(rank);
        let channels = x.shape().get(1).copied().filter(|_| !self.dice.once_in(20)).unwrap_or(2);
        // A name twice now and then.
        let name = format!("layer{}", self.dice.below(40));
        match self.dice.below(3) {
            0 => LayerNorm::new(states, &name, channels).forward(self.tape, x),
            mode => {
                let mode = [Mode::Eval, Mode::Train, Mode::Instance][(mode + self.dice.below(2)) % 3];
                BatchNorm::new(states, &name, channels).forward(self.tape, x, mode)
            }
        }
    }

    fn loss(&mut self, x: Tensor<'t>) -> Tensor<'t> {
        let other = self.like(x);
        let image = self.of_rank(4);
        match self.dice.below(6) {
            0 => nn::mse(x, other),
            1 => nn::l1(x, other),
            2 => nn::bce_with_logits(x, self.dice.float()),
            3 => {
                let like = self.like(image);
                nn::ssim(
                    image,
                    like,
                    self.dice.pick(&[[1, 1], [3, 3], [3, 1], [3, 2], [0, 1], [usize::MAX; 2]]),
                )
            }
            _ => {
                let samples = x.shape().first().copied().unwrap_or(1);
                let samples = if self.dice.once_in(10) { self.dice.size() } else { samples };
                let alpha = self.tape.full(0.5, &[samples]);
                nn::gradient_penalty(self.tape, |x| x.tanh().square(), x, other, alpha)
            }
        }
    }

    fn differentiated(&mut self, x: Tensor<'t>) -> Tensor<'t> {
        let (y, g) = (self.any(), self.any());
        let cotangent = self.like(y);
        match self.dice.below(4) {
            0 => self.tape.grad(y.tanh().sum_all(), &[x])[0],
            1 => self.tape.grad(y, &[x, g])[1],
            2 => self.tape.vjp(y, cotangent, &[x])[0],
            _ => {
                let dx = self.tape.grad(y.square().mean_all(), &[x])[0];
                self.tape.grad(dx.sigmoid().sum_all(), &[g])[0]
            }
        }
    }
}

/// An optimiser over some of the states, with gradients that may not fit.
pub(crate) fn optimise(tape: &Tape, states: &mut States, seed: u64) {
    let mut dice = Dice::new(seed);
    let known: Vec<Variable> = states.variables().take(4).collect();
    let parameters: Vec<Variable> = (0..dice.below(3)).map(|_| dice.pick(&known)).collect();
    let adam = Adam::new(states, "adam", parameters.clone(), 0.1, [0.9, 0.99]);
    let mut gradients: Vec<_> = parameters.iter().map(|p| tape.full(0.5, &p.shape)).collect();
    if dice.once_in(4) {
        gradients.pop();
    }
    if dice.once_in(4) {
        gradients.push(tape.full(1.0, &dice.shape()));
    }
    adam.apply(tape, &gradients);
}

/// Changes one number of a graph.
pub(crate) fn damage(graph: &mut Graph, seed: u64) {
    let mut dice = Dice::new(seed);
    let at = dice.below(graph.nodes.len());
    let (count, other) = (graph.nodes.len(), dice.pick(&graph.nodes));
    let number = if dice.once_in(3) { ODD[dice.below(ODD.len())] } else { dice.below(count + 2) };
    let node = &mut graph.nodes[at];
    let place = dice.below(node.inputs.len().max(node.shape.len()).max(1));
    match dice.below(10) {
        0 => node.op = other.op,
        1 => node.inputs = other.inputs,
        2 => node.shape = other.shape,
        3 => _ = node.inputs.pop(),
        4 => node.inputs.push(number),
        5 => node.inputs.iter_mut().skip(place).take(1).for_each(|input| *input = number),
        6 => node.shape.iter_mut().skip(place).take(1).for_each(|size| *size = number),
        7 => graph.outputs.push((if dice.once_in(2) { "last" } else { "new" }.to_owned(), number)),
        8 => _ = graph.assigns.insert(StateId(dice.below(6)), number),
        _ => match &mut node.op {
            Op::Permute(numbers) => *numbers = vec![number; numbers.len()],
            Op::Slice { start, step } | Op::Embed { start, step } => {
                *(if dice.once_in(2) { start } else { step }) = vec![number; node.shape.len()];
            }
            Op::Sum { axes, .. } | Op::Max { axes } | Op::Variance { axes } => axes.push(number),
            Op::Concat(axis) => *axis = number,
            Op::Conv(_, geometry) => match dice.below(6) {
                0 => geometry.stride[0] = number,
                1 => geometry.pad_low[1] = number,
                2 => geometry.kernel[0] = number,
                3 => geometry.y[1] = number,
                4 => geometry.batch = number,
                _ => geometry.dilation = [number; 2],
            },
            Op::MaxPool(pool) => match dice.below(4) {
                0 => pool.planes = number,
                1 => pool.x[0] = number,
                2 => pool.kernel[1] = number,
                _ => pool.stride[0] = number,
            },
            Op::State(state) => state.0 = number,
            Op::MatMul { trans_a, .. } => *trans_a = !*trans_a,
            _ => node.inputs.clear(),
        },
    }
}

/// Changes one number of a program.
pub(crate) fn spoil(program: &mut Program, seed: u64) {
    let mut dice = Dice::new(seed);
    let count = program.buffers.len();
    let number = if dice.once_in(3) { ODD[dice.below(ODD.len())] } else { dice.below(count + 2) };
    if program.launches.is_empty() || dice.once_in(3) {
        let buffer = dice.below(count);
        let other = dice.pick(&program.buffers);
        let buffer = &mut program.buffers[buffer];
        match dice.below(3) {
            0 => buffer.len = number,
            1 => buffer.role = other.role,
            _ => buffer.role = Role::State(StateId(number)),
        }
        return;
    }
    let other = dice.pick(&program.launches);
    let at = dice.below(program.launches.len());
    let Launch { kernel, inputs, outputs, .. } = &mut program.launches[at];
    let place = dice.below(inputs.len().max(outputs.len()));
    match dice.below(9) {
        0 => *kernel = other.kernel,
        1 => *inputs = other.inputs,
        2 => *outputs = other.outputs,
        3 => inputs.push(number),
        4 => _ = outputs.pop(),
        5 => inputs.iter_mut().skip(place).take(1).for_each(|buffer| *buffer = number),
        6 => outputs.iter_mut().skip(place).take(1).for_each(|buffer| *buffer = number),
        _ => match kernel {
            Kernel::Pointwise(k) => match dice.below(4) {
                0 => k.shape[0] = number,
                1 => k.outputs[0] = number,
                2 => k.operands.iter_mut().take(1).for_each(|o| o.strides = vec![number; o.strides.len()]),
                _ => k.operands.iter_mut().take(1).for_each(|o| o.len = number),
            },
            Kernel::Reduce(k) => match dice.below(3) {
                0 => k.shape[0] = number,
                1 => k.reduced = vec![true; k.reduced.len()],
                _ => k.outputs[0].reg = number,
            },
            Kernel::Copy(k) => match dice.below(4) {
                0 => k.len = number,
                1 => k.parts[0].src_offset = number,
                2 => k.parts[0].dst_strides = vec![number; k.parts[0].shape.len()],
                _ => k.parts[0].shape[0] = number,
            },
            Kernel::Conv(k) => match dice.below(4) {
                0 => k.geometry.batch = number,
                1 => k.geometry.stride = [number; 2],
                2 => k.geometry.x[0] = number,
                _ => k.half = !k.half,
            },
            Kernel::Gemm(k) => match dice.below(3) {
                0 => k.m = number,
                1 => k.batched_a = !k.batched_a,
                _ => k.half_b = !k.half_b,
            },
            Kernel::Moments(k) => k.channels = number,
            Kernel::MaxPool(k) => k.kernel = [number; 2],
            Kernel::Random(k) => k.len = number,
            Kernel::Sparse(k) => k.outer = number,
            #[allow(unreachable_patterns, reason = "a family that has no case of its own here")]
            _ => inputs.clear(),
        },
    }
}

/// How many ended how.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Tally {
    pub(crate) ran: usize,
    pub(crate) refused: usize,
}

impl Tally {
    fn count<E: std::fmt::Display>(&mut self, what: &str, result: Result<(), E>) {
        match result {
            Ok(()) => self.ran += 1,
            Err(error) => {
                let text = error.to_string();
                assert!(text.len() > 10, "{what}: '{text}' says nothing");
                self.refused += 1;
            }
        }
    }
}

/// Bytes of programs that are run: what is larger was only to be refused or not.
const SMALL: u64 = 4 << 20;

fn run(device: &Device, program: &Program, states: &States) -> Result<(), ganomede::device::DeviceError> {
    if program.buffers.iter().fold(0_u64, |sum, b| sum.saturating_add(b.len as u64)) > SMALL {
        return device.program_bytes(program).map(|_| ());
    }
    let store = device.store(states, 1)?;
    let mut executable = device.load(program, &store)?;
    executable.run(2)
}

/// Records, compiles and runs: what the tape and the registry accept compiles, and runs.
pub(crate) fn calls(device: &Device, seeds: std::ops::Range<u64>) -> Tally {
    let mut tally = Tally::default();
    for seed in seeds {
        let tape = Tape::new();
        let mut states = record(&tape, seed);
        if seed.is_multiple_of(5) {
            optimise(&tape, &mut states, seed);
        }
        let what = format!("seed {seed}");
        match (tape.finish(), states.check()) {
            (Err(error), _) => tally.count(&what, Err::<(), _>(error)),
            (_, Err(error)) => tally.count(&what, Err::<(), _>(error)),
            (Ok(graph), Ok(())) => {
                let program = compile(&graph).unwrap_or_else(|error| panic!("{what}: {error}"));
                let outcome = run(device, &program, &states);
                // A tape that saw variables of another registry alone cannot know that the store has others.
                if let Err(error) = &outcome
                    && !matches!(error, ganomede::device::DeviceError::OtherState { .. })
                {
                    panic!("{what}: {error}");
                }
                tally.count(&what, outcome);
            }
        }
    }
    tally
}

/// Damages graphs, and runs what still compiles.
pub(crate) fn damaged_graphs(device: &Device, seeds: std::ops::Range<u64>) -> Tally {
    let mut tally = Tally::default();
    for seed in seeds {
        let tape = Tape::new();
        let states = record(&tape, seed);
        let (Ok(mut graph), Ok(())) = (tape.finish(), states.check()) else { continue };
        damage(&mut graph, seed);
        match compile(&graph) {
            Ok(program) => tally.count(&format!("seed {seed}"), run(device, &program, &states)),
            Err(error) => tally.count(&format!("seed {seed}"), Err::<(), _>(error)),
        }
    }
    tally
}

/// Damages programs, and runs what still loads.
pub(crate) fn spoilt_programs(device: &Device, seeds: std::ops::Range<u64>) -> Tally {
    let mut tally = Tally::default();
    for seed in seeds {
        let tape = Tape::new();
        let states = record(&tape, seed);
        let (Ok(graph), Ok(())) = (tape.finish(), states.check()) else { continue };
        let Ok(mut program) = compile(&graph) else { continue };
        spoil(&mut program, seed);
        tally.count(&format!("seed {seed}"), run(device, &program, &states));
    }
    tally
}
