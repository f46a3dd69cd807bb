//! Single operations as programs, recorded on a tape like any model's.

use clap::ValueEnum;

use crate::shared::CliError;
use ganomede::Precision;
use ganomede::nn::{Adam, BatchNorm, Mode, random_state};
use ganomede::program::{CompileError, Program, compile};
use ganomede::tape::{ConvOptions, Initial, PoolOptions, Sampling, States, Tape, Tensor};

/// Operations that can be timed alone.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
#[value(rename_all = "snake_case")]
pub(crate) enum OpName {
    /// conv2d of images N×C×H×W.
    Conv,
    /// conv_transpose2d of images N×C×H×W.
    ConvTranspose,
    /// Weight gradient of conv2d on images N×C×H×W.
    ConvWeight,
    /// Matrix product M×N×K, or B×M×N×K for a batch.
    Gemm,
    /// Batch norm in train mode and leaky ReLU of N×C×H×W.
    BatchNorm,
    /// Its gradient in x, γ and β.
    BatchNormGrad,
    /// leaky ReLU of a sum of two tensors.
    Pointwise,
    /// Hyperbolic tangent.
    Tanh,
    /// Sum over all dimensions but the second.
    Reduce,
    /// Mean and variance over all dimensions but the second.
    Moments,
    /// Exchange of the last two dimensions.
    #[value(alias = "copy")]
    Transpose,
    /// Maximum of 2×2 windows of N×C×H×W.
    MaxPool,
    /// Bilinear resize of N×C×H×W to twice its size.
    Resize,
    /// Normal random numbers.
    Random,
    /// One step of Adam on a parameter of this shape.
    Adam,
}

impl OpName {
    /// As on the command line.
    pub(crate) fn name(self) -> String {
        self.to_possible_value().map_or_else(String::new, |value| value.get_name().to_owned())
    }
}

/// The operation with its parameters.
#[derive(Debug, Clone, clap::Args)]
#[command(after_help = "Examples:\n  ganomede bench op conv --shape 64x64x32x32 --out-channels 128\n  \
    ganomede bench op gemm --shape 512x512x512 --device gpu --variant naive")]
pub(crate) struct OpArgs {
    /// Which operation.
    #[arg(value_enum)]
    pub(crate) name: OpName,
    /// Shape of the first operand; M×N×K for gemm.
    #[arg(long, value_name = "NxCxHxW", value_parser = parse_shape)]
    pub(crate) shape: Option<Shape>,
    /// Convolution: channels that come out [default: twice those that go in, half for conv_transpose].
    #[arg(long)]
    pub(crate) out_channels: Option<usize>,
    /// Convolution: kernel.
    #[arg(long, default_value_t = 4)]
    pub(crate) kernel: usize,
    /// Convolution: stride.
    #[arg(long, default_value_t = 2)]
    pub(crate) stride: usize,
    /// Convolution: padding.
    #[arg(long, default_value_t = 1)]
    pub(crate) padding: usize,
    /// gemm: the first operand is stored K×M.
    #[arg(long)]
    pub(crate) trans_a: bool,
    /// gemm: the second operand is stored N×K.
    #[arg(long)]
    pub(crate) trans_b: bool,
    /// GPU variant of the operation's first kernel, by the number or name that `kernels list` gives [default:
    /// the kernel's choice].
    #[arg(long)]
    pub(crate) variant: Option<String>,
}

/// `64x64x32x32`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Shape(pub(crate) Vec<usize>);

impl std::fmt::Display for Shape {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let dims: Vec<_> = self.0.iter().map(ToString::to_string).collect();
        f.write_str(&dims.join("x"))
    }
}

/// More elements would not fit any device's memory, and products of sizes below it cannot overflow.
const MAX_ELEMENTS: usize = 1 << 32;

fn parse_shape(text: &str) -> Result<Shape, String> {
    let dims: Option<Vec<usize>> = text.split(['x', '×', ',']).map(|part| part.trim().parse().ok()).collect();
    let dims = dims.ok_or("write a shape like 64x64x32x32")?;
    let elements =
        dims.iter().try_fold(1_usize, |n, &d| n.checked_mul(d).filter(|&n| n > 0 && n <= MAX_ELEMENTS));
    match elements {
        Some(_) if dims.len() <= 6 => Ok(Shape(dims)),
        Some(_) => Err("at most 6 dimensions".to_owned()),
        None => Err(format!(
            "every dimension must be at least 1 and all together at most {MAX_ELEMENTS} elements"
        )),
    }
}

impl OpArgs {
    /// The variant that `--variant` names for the first launch of the operation's program.
    pub(crate) fn variant_of(&self, program: &Program) -> Result<Option<&'static str>, CliError> {
        let (Some(asked), Some(first)) = (&self.variant, program.launches.first()) else { return Ok(None) };
        let family = first.kernel.ladder();
        let has = first.kernel.variants();
        if let Some(variant) = family.variant(asked).filter(|v| has.contains(&v.name)) {
            return Ok(Some(variant.name));
        }
        let known = (1..).zip(family.variants).filter(|(_, v)| has.contains(&v.name));
        let known: Vec<String> = known.map(|(number, v)| format!("{number} {}", v.name)).collect();
        let name = first.kernel.name();
        Err(CliError::input(format!(
            "{name} has no variant '{asked}' for this shape; it has: {}",
            known.join(", ")
        )))
    }

    /// The shape given, or a typical one.
    pub(crate) fn shape(&self) -> Shape {
        let usual: &[usize] = match self.name {
            OpName::Gemm => &[512, 512, 512],
            OpName::ConvTranspose => &[64, 128, 16, 16],
            OpName::Adam => &[512, 256, 4, 4],
            _ => &[64, 64, 32, 32],
        };
        self.shape.clone().unwrap_or_else(|| Shape(usual.to_vec()))
    }

    /// The shape given, or one small enough for plain loops in f64.
    pub(crate) fn shape_or_small(&self) -> Shape {
        let small: &[usize] = match self.name {
            OpName::Gemm => &[70, 66, 260],
            OpName::Adam => &[16, 8, 4, 4],
            _ => &[4, 20, 16, 16],
        };
        self.shape.clone().unwrap_or_else(|| Shape(small.to_vec()))
    }

    /// Records the operation on inputs that the host writes, its products rounded to `precision`.
    pub(crate) fn record(&self, precision: Precision) -> Result<(States, Program), CliError> {
        let Shape(dims) = self.shape();
        let rank = |allowed: std::ops::RangeInclusive<usize>| {
            if allowed.contains(&dims.len()) {
                return Ok(());
            }
            let wanted = if allowed.start() == allowed.end() {
                allowed.start().to_string()
            } else {
                format!("{} to {}", allowed.start(), allowed.end())
            };
            let name = self.name.name();
            Err(CliError::input(format!(
                "--shape {} has {} dimensions; {name} takes {wanted}",
                self.shape(),
                dims.len()
            )))
        };
        let sizes = [self.kernel, self.stride, self.out_channels.unwrap_or(1)];
        if sizes.iter().any(|&s| s == 0 || s > 65_536) || self.padding > 65_536 {
            return Err(CliError::input(
                "--kernel, --stride and --out-channels are 1 to 65536, --padding 0 to 65536",
            ));
        }
        let tape = Tape::new();
        let mut states = States::new();
        let x = || tape.input("x", &dims);
        let others = || (0..dims.len()).filter(|&d| d != 1).collect::<Vec<_>>();
        let options = ConvOptions::new(self.stride, self.padding);
        match self.name {
            OpName::Conv | OpName::ConvWeight => {
                rank(4..=4)?;
                let out = self.out_channels.unwrap_or(2 * dims[1]);
                let w = tape.input("w", &[out, dims[1], self.kernel, self.kernel]);
                let y = x().conv2d(w, options);
                let result = if self.name == OpName::Conv {
                    y
                } else {
                    tape.vjp(y, tape.input("dy", &y.shape()), &[w])[0]
                };
                tape.output("out", result);
            }
            OpName::ConvTranspose => {
                rank(4..=4)?;
                let out = self.out_channels.unwrap_or(dims[1].div_ceil(2));
                let w = tape.input("w", &[dims[1], out, self.kernel, self.kernel]);
                tape.output("out", x().conv_transpose2d(w, options));
            }
            OpName::Gemm => {
                rank(3..=4)?;
                let (batch, sizes) = dims.split_at(dims.len() - 3);
                let &[m, n, k] = sizes else { return Err(CliError::input("gemm takes M×N×K")) };
                let matrix = |name, rows, columns, transposed: bool| {
                    let mut shape = batch.to_vec();
                    shape.extend(if transposed { [columns, rows] } else { [rows, columns] });
                    tape.input(name, &shape)
                };
                let (a, b) = (matrix("a", m, k, self.trans_a), matrix("b", k, n, self.trans_b));
                tape.output("out", a.matmul_with(b, self.trans_a, self.trans_b));
            }
            OpName::BatchNorm | OpName::BatchNormGrad => {
                rank(2..=6)?;
                let norm = BatchNorm::new(&mut states, "batch_norm", dims[1]);
                let x = x();
                let y = norm.forward(&tape, x, Mode::Train).leaky_relu(0.2);
                if self.name == OpName::BatchNorm {
                    tape.output("out", y);
                } else {
                    let parameters = norm.parameters();
                    let wrt = [x, tape.state(&parameters[0]), tape.state(&parameters[1])];
                    for (gradient, name) in
                        tape.vjp(y, tape.input("dy", &dims), &wrt).into_iter().zip(["dx", "dγ", "dβ"])
                    {
                        tape.output(name, gradient);
                    }
                }
            }
            OpName::Pointwise => tape.output("out", (x() + tape.input("y", &dims)).leaky_relu(0.2)),
            OpName::Tanh => tape.output("out", x().tanh()),
            OpName::Reduce => {
                rank(2..=6)?;
                tape.output("out", x().sum(&others()));
            }
            OpName::Moments => {
                rank(2..=6)?;
                tape.output("mean", x().mean(&others()));
                tape.output("variance", x().variance(&others()));
            }
            OpName::Transpose => {
                rank(2..=6)?;
                let mut order: Vec<usize> = (0..dims.len()).collect();
                order.swap(dims.len() - 2, dims.len() - 1);
                tape.output("out", x().permute(&order));
            }
            OpName::MaxPool => {
                rank(4..=4)?;
                tape.output("out", x().max_pool2d(PoolOptions::square(2)));
            }
            OpName::Resize => {
                rank(4..=4)?;
                tape.output("out", x().resize([2 * dims[2], 2 * dims[3]], Sampling::Linear));
            }
            OpName::Random => {
                let random = random_state(&mut states, "random", 0);
                tape.output("out", tape.normal(&random, &dims));
            }
            OpName::Adam => {
                let parameter = states.add("parameter", &dims, Initial::Constant(0.5));
                let adam = Adam::new(&mut states, "adam", vec![parameter], 1e-4, [0.9, 0.999]);
                let gradient: Tensor<'_> = tape.input("gradient", &dims);
                adam.apply(&tape, &[gradient]);
            }
        }
        let program = compile(&tape.finish().map_err(CompileError::from)?)?;
        Ok((states, program.with_precision(precision)))
    }
}
