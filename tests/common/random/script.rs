//! Programs as text: what a random program says, free of the tape, the compiler and the devices.

use std::collections::HashMap;
use std::fmt;

use ganomede::tape::{ConvOptions, Padding, PoolOptions, RandomState, Sampling, Tape, Tensor, Variable};

/// Index of a value in its script.
pub(crate) type Id = usize;

/// How a value is made from others.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Make {
    /// Written by the host; the number is its name.
    Input(usize),
    /// A state's value at the start of the replay.
    State(usize),
    /// The same constant everywhere.
    Full(f32),
    Unary(Unary),
    Binary(Binary),
    /// Of sizes 1, to the value's shape.
    Broadcast,
    Reshape,
    Stop,
    Permute(Vec<usize>),
    Slice {
        start: Vec<usize>,
        end: Vec<usize>,
        step: Vec<usize>,
    },
    Embed {
        start: Vec<usize>,
        step: Vec<usize>,
    },
    Concat(usize),
    Sum(Vec<usize>),
    Mean(Vec<usize>),
    Max(Vec<usize>),
    Variance(Vec<usize>),
    MatMul {
        trans_a: bool,
        trans_b: bool,
    },
    Conv(ConvOptions),
    ConvTranspose(ConvOptions),
    Conv1d {
        stride: usize,
        padding: usize,
        dilation: usize,
    },
    ConvTranspose1d {
        stride: usize,
        padding: usize,
        dilation: usize,
    },
    MaxPool(PoolOptions),
    AvgPool(PoolOptions),
    Upsample(usize),
    Min(Vec<usize>),
    Prod(Vec<usize>),
    Gather {
        axis: usize,
        indices: Vec<usize>,
    },
    Pad {
        low: Vec<usize>,
        high: Vec<usize>,
        padding: Padding,
    },
    Resample {
        axis: usize,
        sampling: Sampling,
    },
    Filter {
        axis: usize,
        taps: Vec<f32>,
    },
    /// Input 1 where input 0 is not 0, else input 2.
    Select,
    /// Random numbers, normal or uniform; the number tells draws apart.
    Random {
        normal: bool,
        draw: usize,
    },
    Dropout {
        p: f32,
        draw: usize,
    },
    /// The gradient of ⟨input 0, input 1⟩, or of input 0 where that is all there is, with respect to one of
    /// several values that are asked for together.
    Gradient {
        wrt: Vec<Id>,
        pick: usize,
    },
}

/// Functions of one number.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) enum Unary {
    Affine(f32, f32),
    Recip,
    Exp,
    Log,
    Sqrt,
    Abs,
    Sign,
    Square,
    Relu,
    Leaky(f32),
    Tanh,
    Sigmoid,
    Softplus,
    Clamp(f32, f32),
    Step,
    Power(f32),
}

/// Functions of two numbers.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) enum Binary {
    Add,
    Sub,
    Mul,
    Div,
    Max,
    Min,
    Greater,
    Equal,
    /// Of a positive number.
    Pow,
}

/// One value.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Value {
    pub(crate) make: Make,
    pub(crate) inputs: Vec<Id>,
    pub(crate) shape: Vec<usize>,
}

impl Value {
    pub(crate) fn len(&self) -> usize {
        self.shape.iter().product()
    }

    pub(crate) fn draws(&self) -> bool {
        matches!(self.make, Make::Random { .. } | Make::Dropout { .. })
    }

    /// All values that this one needs.
    pub(crate) fn needs(&self) -> Vec<Id> {
        match &self.make {
            Make::Gradient { wrt, .. } => [self.inputs.as_slice(), wrt].concat(),
            _ => self.inputs.clone(),
        }
    }

    pub(super) fn renamed(&self, name: impl Fn(Id) -> Id) -> Value {
        let mut value = self.clone();
        value.inputs.iter_mut().for_each(|id| *id = name(*id));
        if let Make::Gradient { wrt, .. } = &mut value.make {
            wrt.iter_mut().for_each(|id| *id = name(*id));
        }
        value
    }
}

/// A program.
#[derive(Debug, Clone, Default, PartialEq)]
pub(crate) struct Script {
    pub(crate) values: Vec<Value>,
    /// New values of states, in order.
    pub(crate) assigns: Vec<(usize, Id)>,
    pub(crate) outputs: Vec<Id>,
    /// Whether inputs are small whole numbers.
    pub(crate) whole: bool,
}

impl fmt::Display for Script {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (id, value) in self.values.iter().enumerate() {
            writeln!(f, "  v{id}{:?} = {:?} of {:?}", value.shape, value.make, value.inputs)?;
        }
        self.assigns.iter().try_for_each(|(state, id)| writeln!(f, "  state {state} becomes v{id}"))?;
        write!(f, "  outputs {:?}", self.outputs)
    }
}

impl Script {
    /// Which values up to `end` gradients reach from `start`.
    pub(super) fn dependent(&self, start: Id, end: Id) -> Vec<bool> {
        let mut dependent = vec![false; end.max(start) + 1];
        dependent[start] = true;
        for id in start + 1..=end {
            let value = &self.values[id];
            dependent[id] = value.make != Make::Stop && value.inputs.iter().any(|&i| dependent[i]);
        }
        dependent
    }

    /// Whether a gradient of `y` with respect to `wrt` means one thing. A gradient within `y` is an
    /// expression of all that lies on its way, and how it moves with a value on that way depends on how it is
    /// written: 1 − y² or 1 − tanh² x.
    pub(super) fn is_plain(&self, y: Id, wrt: Id) -> bool {
        (0..=y).all(|id| match &self.values[id].make {
            Make::Gradient { wrt: inner, pick } if inner[*pick] < wrt && wrt <= self.values[id].inputs[0] => {
                let before = self.dependent(inner[*pick], wrt)[wrt];
                !(before && self.dependent(wrt, self.values[id].inputs[0])[self.values[id].inputs[0]])
            }
            _ => true,
        })
    }

    /// Records the program; outputs are named by their values.
    pub(crate) fn record(&self, tape: &Tape, states: &[Variable], random: &RandomState) {
        let mut made: Vec<Tensor<'_>> = vec![];
        // By what is differentiated, and with respect to what.
        let mut gradients: HashMap<[&[Id]; 2], Vec<Tensor<'_>>> = HashMap::new();
        for value in &self.values {
            let of = |i: usize| made[value.inputs[i]];
            let x = || of(0);
            let tensor = match &value.make {
                Make::Input(name) => tape.input(&format!("x{name}"), &value.shape),
                Make::State(state) => tape.state(&states[*state]),
                Make::Full(v) => tape.full(*v, &value.shape),
                Make::Unary(op) => unary(*op, x()),
                Make::Binary(op) => binary(*op, x(), of(1)),
                Make::Broadcast => x().broadcast_to(&value.shape),
                Make::Reshape => x().reshape(&value.shape),
                Make::Stop => x().stop_gradient(),
                Make::Permute(order) => x().permute(order),
                Make::Slice { start, end, step } => x().slice(start, end, step),
                Make::Embed { start, step } => x().embed(start, step, &value.shape),
                Make::Concat(axis) => {
                    Tensor::concat(&value.inputs.iter().map(|&i| made[i]).collect::<Vec<_>>(), *axis)
                }
                Make::Sum(axes) => x().sum(axes),
                Make::Mean(axes) => x().mean(axes),
                Make::Max(axes) => x().max(axes),
                Make::Variance(axes) => x().variance(axes),
                Make::MatMul { trans_a, trans_b } => x().matmul_with(of(1), *trans_a, *trans_b),
                Make::Conv(options) => x().conv2d(of(1), *options),
                Make::ConvTranspose(options) => x().conv_transpose2d(of(1), *options),
                Make::Conv1d { stride, padding, dilation } => x().conv1d(of(1), *stride, *padding, *dilation),
                Make::ConvTranspose1d { stride, padding, dilation } => {
                    x().conv_transpose1d(of(1), *stride, *padding, *dilation)
                }
                Make::MaxPool(options) => x().max_pool2d(*options),
                Make::AvgPool(options) => x().avg_pool2d(*options),
                Make::Upsample(factor) => x().upsample_nearest(*factor),
                Make::Min(axes) => x().min(axes),
                Make::Prod(axes) => x().prod(axes),
                Make::Gather { axis, indices } => x().gather(*axis, indices),
                Make::Pad { low, high, padding } => x().pad_with(low, high, *padding),
                Make::Resample { axis, sampling } => x().resample(*axis, value.shape[*axis], *sampling),
                Make::Filter { axis, taps } => x().filter(*axis, taps),
                Make::Select => x().select(of(1), of(2)),
                Make::Random { normal: true, .. } => tape.normal(random, &value.shape),
                Make::Random { .. } => tape.uniform(random, &value.shape),
                Make::Dropout { p, .. } => x().dropout(random, *p),
                Make::Gradient { wrt, pick } => {
                    let differentiate = || {
                        let handles: Vec<_> = wrt.iter().map(|&w| made[w]).collect();
                        match value.inputs[..] {
                            [loss] => tape.grad(made[loss], &handles),
                            _ => tape.vjp(of(0), of(1), &handles),
                        }
                    };
                    gradients.entry([&value.inputs, wrt]).or_insert_with(differentiate)[*pick]
                }
            };
            made.push(tensor);
        }
        self.assigns.iter().for_each(|&(state, id)| tape.assign(&states[state], made[id]));
        tape.assign(&random.step, tape.state(&random.step) + 1.0);
        self.outputs.iter().for_each(|&id| tape.output(&format!("v{id}"), made[id]));
    }
}

fn unary<'t>(op: Unary, x: Tensor<'t>) -> Tensor<'t> {
    match op {
        Unary::Affine(scale, shift) => x.affine(scale, shift),
        Unary::Recip => x.recip(),
        Unary::Exp => x.exp(),
        Unary::Log => x.log(),
        Unary::Sqrt => x.sqrt(),
        Unary::Abs => x.abs(),
        Unary::Sign => x.sign(),
        Unary::Square => x.square(),
        Unary::Relu => x.relu(),
        Unary::Leaky(slope) => x.leaky_relu(slope),
        Unary::Tanh => x.tanh(),
        Unary::Sigmoid => x.sigmoid(),
        Unary::Softplus => x.softplus(),
        Unary::Clamp(low, high) => x.clamp(low, high),
        Unary::Step => x.step(),
        Unary::Power(exponent) => x.powf(exponent),
    }
}

fn binary<'t>(op: Binary, x: Tensor<'t>, y: Tensor<'t>) -> Tensor<'t> {
    match op {
        Binary::Add => x + y,
        Binary::Sub => x - y,
        Binary::Mul => x * y,
        Binary::Div => x / y,
        Binary::Max => x.maximum(y),
        Binary::Min => x.minimum(y),
        Binary::Greater => x.greater(y),
        Binary::Equal => x.equal(y),
        Binary::Pow => x.pow(y),
    }
}
