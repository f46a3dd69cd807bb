//! Calls that mean nothing: each is an error that says which rule it breaks, on both devices, and never a
//! panic, a silent number or an abort. And thousands of random calls, which either give a program that runs
//! or such an error.

use crate::common::{cpu, gpu};
use crate::nonsense;
use ganomede::device::Device;
use ganomede::nn::{self, Adam, BatchNorm, LayerNorm, Mode, Sgd};
use ganomede::program::{StateId, compile};
use ganomede::tape::{
    ConvOptions, Initial, Padding, PoolOptions, RandomState, Sampling, StateError, States, Tape, Tensor,
    Variable,
};

/// What happened to a recording on its way to a result.
#[derive(Debug, PartialEq)]
enum Outcome {
    /// A rule of the tape was broken: the operation at fault.
    Tape(&'static str, String),
    /// A rule of the registry.
    States(StateError),
    /// The compiler refused.
    Compile(String),
    /// The device refused.
    Device(String),
    /// It ran.
    Ran,
}

fn outcome(device: &Device, tape: &Tape, states: &States) -> Outcome {
    let graph = match tape.finish() {
        Ok(graph) => graph,
        Err(error) => return Outcome::Tape(error.op, error.to_string()),
    };
    if let Err(error) = states.check() {
        return Outcome::States(error);
    }
    let program = match compile(&graph) {
        Ok(program) => program,
        Err(error) => return Outcome::Compile(error.to_string()),
    };
    let ran = || device.load(&program, &device.store(states, 1)?)?.run(1);
    ran().map_or_else(|error| Outcome::Device(error.to_string()), |()| Outcome::Ran)
}

/// Records on the first tape; the second is another.
type Misuse = for<'t> fn(&'t Tape, &'t Tape, &mut States);

/// Records, and expects a broken rule of this operation.
fn refuse(cases: &[(&str, &str, Misuse)]) {
    for device in [cpu(), gpu()] {
        for (what, op, misuse) in cases {
            let (tape, other, mut states) = (Tape::new(), Tape::new(), States::new());
            misuse(&tape, &other, &mut states);
            let outcome = outcome(&device, &tape, &states);
            match &outcome {
                Outcome::Tape(found, text) if found == op => assert!(text.len() > op.len() + 8, "{text}"),
                _ => panic!("{}, {what}: {outcome:?}, not a broken rule of {op}", device.describe()),
            }
        }
    }
}

fn image(tape: &Tape) -> Tensor<'_> {
    tape.input("x", &[1, 1, 4, 4])
}

fn pool(kernel: [usize; 2], stride: [usize; 2], padding: [usize; 2]) -> PoolOptions {
    PoolOptions::new(kernel, stride, padding)
}

const HUGE: usize = 1 << 62;
const MAX: usize = usize::MAX;

#[test]
fn shapes_without_elements_or_beyond_all_memory() {
    refuse(&[
        ("an empty input", "input", |t, _, _| t.output("y", t.input("x", &[0, 3]))),
        ("an empty constant", "broadcast", |t, _, _| t.output("y", t.full(1.0, &[0]))),
        ("sums of one", "broadcast", |t, _, _| t.output("y", t.full(1.0, &[0, 3]).sum(&[1]))),
        ("means of one", "broadcast", |t, _, _| t.output("y", t.full(1.0, &[0, 3]).mean_per_sample())),
        ("softmax of one", "broadcast", |t, _, _| t.output("y", t.full(1.0, &[3, 0]).softmax(1))),
        ("max of one", "broadcast", |t, _, _| t.output("y", t.full(1.0, &[0, 3]).max(&[0]))),
        ("gradient of its variance", "broadcast", |t, _, _| {
            let x = t.full(1.0, &[0, 3]);
            t.output("y", t.grad(x.variance(&[0, 1]).sum_all(), &[x])[0]);
        }),
        ("repeated to nothing", "broadcast", |t, _, _| {
            t.output("y", t.input("x", &[1]).broadcast_to(&[0]).sum_all());
        }),
        ("added to nothing", "broadcast", |t, _, _| {
            t.output("y", t.input("x", &[1]) + t.full(1.0, &[0]));
        }),
        ("an image of nothing", "broadcast", |t, _, _| {
            let (x, w) = (t.full(1.0, &[1, 1, 0, 4]), t.input("w", &[1, 1, 3, 3]));
            t.output("y", x.conv_transpose2d(w, ConvOptions::default()));
        }),
        ("a kernel of nothing", "broadcast", |t, _, _| {
            t.output("y", image(t).conv_transpose2d(t.full(1.0, &[1, 1, 0, 3]), ConvOptions::default()));
        }),
        ("a product over nothing", "broadcast", |t, _, _| {
            t.output("y", t.full(1.0, &[2, 0]).matmul(t.full(1.0, &[0, 2])));
        }),
        ("no planes", "broadcast", |t, _, _| {
            t.output("y", t.full(1.0, &[0, 1, 4, 4]).avg_pool2d(PoolOptions::square(2)));
        }),
        ("random numbers of no shape", "random", |t, _, s| {
            t.output("y", t.uniform(&nn::random_state(s, "r", 1), &[0, 4]));
        }),
        ("a huge input", "input", |t, _, _| t.output("y", t.input("x", &[HUGE, 16]).sum_all())),
        ("an input whose size wraps to 0", "input", |t, _, _| {
            t.output("y", t.input("x", &[1 << 32, 1 << 32]))
        }),
        ("a huge constant", "broadcast", |t, _, _| t.output("y", t.full(1.0, &[MAX]) * 2.0)),
        ("reshaped by wrapping", "reshape", |t, _, _| {
            t.output("y", t.input("x", &[4]).reshape(&[HUGE, 16, 4]))
        }),
        ("repeated beyond all memory", "broadcast", |t, _, _| t.output("y", image(t).upsample_nearest(HUGE))),
        ("repeated by a wrapping factor", "broadcast", |t, _, _| {
            t.output("y", image(t).upsample_nearest(MAX))
        }),
        ("random numbers beyond all memory", "random", |t, _, s| {
            t.output("y", t.normal(&nn::random_state(s, "r", 1), &[HUGE]));
        }),
    ]);
}

#[test]
fn positions_that_overflow() {
    refuse(&[
        ("pads that wrap to nothing", "embed", |t, _, _| t.output("y", t.input("x", &[4]).pad(&[MAX], &[1]))),
        ("pads that wrap", "embed", |t, _, _| t.output("y", t.input("x", &[4]).pad(&[HUGE], &[HUGE * 3]))),
        ("pads beyond all memory", "embed", |t, _, _| {
            t.output("y", t.input("x", &[4]).pad(&[1 << 41], &[0]))
        }),
        ("too few pads", "pad", |t, _, _| t.output("y", t.input("x", &[4, 4]).pad(&[1], &[1]))),
        ("a step that wraps", "embed", |t, _, _| t.output("y", t.input("x", &[3]).embed(&[1], &[MAX], &[8]))),
        ("a step that wraps in", "embed", |t, _, _| {
            t.output("y", t.input("x", &[3]).embed(&[0], &[1 << 63], &[8]));
        }),
        ("a start that wraps", "narrow", |t, _, _| t.output("y", t.input("x", &[4]).narrow(0, MAX, 2))),
        ("nothing of an axis", "narrow", |t, _, _| t.output("y", t.input("x", &[4]).narrow(0, 1, 0))),
        ("an axis that is not there", "narrow", |t, _, _| t.output("y", t.input("x", &[]).narrow(0, 0, 1))),
        ("a cut of no length", "slice", |t, _, _| t.output("y", t.input("x", &[4]).slice(&[2], &[2], &[1]))),
        ("a step of 0", "slice", |t, _, _| t.output("y", t.input("x", &[4]).slice(&[0], &[2], &[0]))),
        ("pads of a convolution that wrap", "conv2d", |t, _, _| {
            let options = ConvOptions { pad_low: [MAX, 0], pad_high: [3, 0], ..ConvOptions::default() };
            t.output("y", image(t).conv2d(t.input("w", &[1, 1, 3, 3]), options));
        }),
        ("pads of a convolution beyond 32 bits", "conv", |t, _, _| {
            let options = ConvOptions { stride: [1 << 40; 2], ..ConvOptions::new(1, 1 << 40) };
            t.output("y", image(t).conv2d(t.input("w", &[1, 1, 3, 3]), options));
        }),
        ("a dilation that wraps", "conv2d", |t, _, _| {
            let options = ConvOptions { dilation: [1 << 63; 2], ..ConvOptions::default() };
            t.output("y", image(t).conv2d(t.input("w", &[1, 1, 3, 3]), options));
        }),
        ("strides of a transposed convolution that wrap", "conv_transpose2d", |t, _, _| {
            let options = ConvOptions { stride: [MAX, 1], pad_low: [MAX, 0], ..ConvOptions::default() };
            t.output("y", image(t).conv_transpose2d(t.input("w", &[1, 1, 3, 3]), options));
        }),
        ("a transposed convolution beyond all memory", "conv", |t, _, _| {
            let options = ConvOptions { stride: [1 << 40; 2], ..ConvOptions::default() };
            t.output("y", image(t).conv_transpose2d(t.input("w", &[1, 1, 3, 3]), options));
        }),
        ("pads of a transposed convolution that wrap", "conv_transpose2d", |t, _, _| {
            let options =
                ConvOptions { pad_low: [1 << 63; 2], pad_high: [1 << 63; 2], ..ConvOptions::default() };
            t.output("y", image(t).conv_transpose2d(t.input("w", &[1, 1, 3, 3]), options));
        }),
        ("a stride of 0", "conv2d", |t, _, _| {
            t.output("y", t.input("x", &[1, 1, 8]).conv1d(t.input("w", &[1, 1, 3]), 0, 0, 1));
        }),
        ("a dilation of 0", "conv2d", |t, _, _| {
            t.output("y", t.input("x", &[1, 1, 8]).conv1d(t.input("w", &[1, 1, 3]), 1, 0, 0));
        }),
    ]);
}

#[test]
fn windows_and_ranks_that_do_not_fit() {
    refuse(&[
        ("average windows of 0", "avg_pool2d", |t, _, _| {
            t.output("y", image(t).avg_pool2d(PoolOptions::square(0)))
        }),
        ("average strides of 0", "avg_pool2d", |t, _, _| {
            t.output("y", image(t).avg_pool2d(pool([2; 2], [0; 2], [0; 2])));
        }),
        ("averages of rank 3", "avg_pool2d", |t, _, _| {
            t.output("y", t.input("x", &[2, 3, 3]).avg_pool2d(pool([2; 2], [1; 2], [0; 2])));
        }),
        ("average windows beyond the image", "avg_pool2d", |t, _, _| {
            t.output("y", image(t).avg_pool2d(pool([9; 2], [1; 2], [0; 2])));
        }),
        ("maximum windows of 0", "max_pool2d", |t, _, _| {
            t.output("y", image(t).max_pool2d(PoolOptions::square(0)))
        }),
        ("maxima of rank 3", "max_pool2d", |t, _, _| {
            t.output("y", t.input("x", &[1, 4, 4]).max_pool2d(PoolOptions::square(2)));
        }),
        ("maxima of a scalar", "max_pool2d", |t, _, _| {
            t.output("y", t.input("x", &[]).max_pool2d(PoolOptions::square(2)));
        }),
        ("pads of maxima that wrap", "max_pool2d", |t, _, _| {
            t.output("y", image(t).max_pool2d(pool([MAX, 2], [1; 2], [1 << 63, 0])));
        }),
        ("joining nothing", "concat", |t, _, _| t.output("y", Tensor::concat(&[], 0))),
        ("joining nothing, then computing", "concat", |t, _, _| {
            t.output("y", (t.input("x", &[1]) + Tensor::concat(&[], 0)).exp());
        }),
        ("joining along no axis", "concat", |t, _, _| {
            t.output("y", Tensor::concat(&[t.input("x", &[2])], 9));
        }),
        ("joining scalars", "concat", |t, _, _| {
            let x = t.input("x", &[]);
            t.output("y", Tensor::concat(&[x, x], 0));
        }),
        ("joining what does not fit", "concat", |t, _, _| {
            t.output("y", Tensor::concat(&[t.input("x", &[2, 3]), t.input("z", &[2, 4])], 0));
        }),
        ("an entry that is not there", "gather", |t, _, _| t.output("y", t.input("x", &[3]).gather(0, &[3]))),
        ("no entries", "gather", |t, _, _| t.output("y", t.input("x", &[3]).gather(0, &[]))),
        ("entries of no axis", "gather", |t, _, _| t.output("y", t.input("x", &[]).gather(0, &[0]))),
        ("entries of an axis beyond reason", "sparse", |t, _, _| {
            t.output("y", t.input("x", &[1 << 30]).gather(0, &[5]));
        }),
        ("an image of a huge size", "resample", |t, _, _| {
            t.output("y", image(t).resize([MAX, MAX], Sampling::Linear));
        }),
        ("an axis resampled to nothing", "resample", |t, _, _| {
            t.output("y", image(t).resample(2, 0, Sampling::LinearAligned));
        }),
        ("mirrored further than it is long", "pad_with", |t, _, _| {
            t.output("y", t.input("x", &[3]).pad_with(&[MAX], &[0], Padding::Reflect));
        }),
        ("groups of no channels", "conv2d", |t, _, _| {
            let options = ConvOptions { groups: 0, ..ConvOptions::default() };
            t.output("y", image(t).conv2d(t.input("w", &[1, 1, 3, 3]), options));
        }),
        ("groups beyond all memory", "conv2d", |t, _, _| {
            let options = ConvOptions { groups: MAX, ..ConvOptions::default() };
            t.output("y", image(t).conv2d(t.input("w", &[1, 3, 3, 3]), options));
        }),
        ("groups of an image beyond reason", "conv_transpose2d", |t, _, _| {
            let options = ConvOptions { groups: 2, stride: [MAX; 2], ..ConvOptions::default() };
            let x = t.input("x", &[1, 2, 4, 4]);
            t.output("y", x.conv_transpose2d(t.input("w", &[2, 1, 3, 3]), options));
        }),
        ("softmax of a scalar", "max", |t, _, _| t.output("y", t.input("x", &[]).softmax(0))),
        ("an axis of a variance that is not there", "variance", |t, _, _| {
            t.output("y", t.input("x", &[3]).variance(&[4]));
        }),
        ("transposing a vector", "transpose", |t, _, _| t.output("y", t.input("x", &[3]).transpose())),
        ("an order with a repetition", "permute", |t, _, _| {
            t.output("y", t.input("x", &[3, 2]).permute(&[1, 1]));
        }),
        ("a product of vectors", "matmul", |t, _, _| {
            let x = t.input("x", &[3]);
            t.output("y", x.matmul(x).sum(&[1]));
        }),
        ("clamp with low above high", "clamp", |t, _, _| t.output("y", t.input("x", &[3]).clamp(1.0, -1.0))),
        ("clamp by NaN", "clamp", |t, _, _| t.output("y", t.input("x", &[3]).clamp(f32::NAN, 1.0))),
        ("dropout by NaN", "dropout", |t, _, s| {
            t.output("y", t.input("x", &[3]).dropout(&nn::random_state(s, "r", 1), f32::NAN));
        }),
        ("a bias that grows the result", "linear", |t, _, _| {
            let (x, w, b) = (t.input("x", &[2, 3]), t.input("w", &[4, 3]), t.input("b", &[5, 1, 4]));
            t.output("y", x.linear(w, Some(b)));
        }),
        ("a bias of one number", "linear", |t, _, _| {
            t.output("y", t.input("x", &[2, 3]).linear(t.input("w", &[4, 3]), Some(t.input("b", &[1]))));
        }),
        ("a random state of other shapes", "random", |t, _, s| {
            let state = |s: &mut States, name: &str| s.add(name, &[1], Initial::Constant(0.0));
            t.output("y", t.uniform(&RandomState { key: state(s, "k"), step: state(s, "s") }, &[4]));
        }),
        ("two shapes of one input", "input", |t, _, _| {
            t.output("y", t.input("x", &[3]).sum_all() + t.input("x", &[4]).sum_all());
        }),
        ("two outputs of one name", "output", |t, _, _| {
            t.output("y", t.input("x", &[3]));
            t.output("y", t.input("x", &[3]));
        }),
    ]);
}

#[test]
fn layers_and_losses() {
    refuse(&[
        ("batch norm of a vector", "batch_norm", |t, _, s| {
            t.output("y", BatchNorm::new(s, "b", 3).forward(t, t.input("x", &[3]), Mode::Train));
        }),
        ("batch norm of a scalar", "batch_norm", |t, _, s| {
            t.output("y", BatchNorm::new(s, "b", 3).forward(t, t.input("x", &[]), Mode::Eval));
        }),
        ("batch norm of other channels", "batch_norm", |t, _, s| {
            t.output("y", BatchNorm::new(s, "b", 3).forward(t, t.input("x", &[2, 5]), Mode::Train));
        }),
        ("batch norm of one channel on five", "batch_norm", |t, _, s| {
            t.output("y", BatchNorm::new(s, "b", 1).forward(t, t.input("x", &[2, 5]), Mode::Eval));
        }),
        ("batch norm of no channels", "batch_norm", |t, _, s| {
            t.output("y", BatchNorm::new(s, "b", 0).forward(t, t.input("x", &[2, 5]), Mode::Instance));
        }),
        ("layer norm of a vector", "layer_norm", |t, _, s| {
            t.output("y", LayerNorm::new(s, "l", 3).forward(t, t.input("x", &[3])));
        }),
        ("layer norm of one channel on five", "layer_norm", |t, _, s| {
            t.output("y", LayerNorm::new(s, "l", 1).forward(t, t.input("x", &[2, 5])));
        }),
        ("structure of rank 2", "ssim", |t, _, _| {
            let x = t.input("x", &[4, 4]);
            t.output("y", nn::ssim(x, x, [3, 3]));
        }),
        ("structure in an even window", "ssim", |t, _, _| {
            t.output("y", nn::ssim(image(t), image(t), [3, 2]))
        }),
        ("structure in no window", "ssim", |t, _, _| t.output("y", nn::ssim(image(t), image(t), [0, 3]))),
        ("structure of two shapes", "ssim", |t, _, _| {
            t.output("y", nn::ssim(image(t), t.input("z", &[1, 1, 4, 1]), [3, 3]));
        }),
        ("differences that broadcast", "mse", |t, _, _| {
            t.output("y", nn::mse(t.input("x", &[4, 1]), t.input("z", &[4])));
        }),
        ("absolute differences that broadcast", "l1", |t, _, _| {
            t.output("y", nn::l1(t.input("x", &[4, 1]), t.input("z", &[4])));
        }),
        ("a penalty on a scalar", "gradient_penalty", |t, _, _| {
            let x = t.input("x", &[]);
            t.output("y", nn::gradient_penalty(t, |x| x.square(), x, x, x));
        }),
        ("a penalty with too few shares", "gradient_penalty", |t, _, _| {
            let x = t.input("x", &[4, 3]);
            t.output("y", nn::gradient_penalty(t, |x| x.square(), x, x, t.input("a", &[1])));
        }),
        ("a penalty between two shapes", "gradient_penalty", |t, _, _| {
            let (x, z, a) = (t.input("x", &[4, 3]), t.input("z", &[4, 1]), t.input("a", &[4]));
            t.output("y", nn::gradient_penalty(t, |x| x.square(), x, z, a));
        }),
        ("too few gradients", "adam", |t, _, s| {
            adam(s).apply(t, &[t.full(1.0, &[2])]);
        }),
        ("too many gradients", "adam", |t, _, s| {
            adam(s).apply(t, &[t.full(1.0, &[2]), t.full(1.0, &[3]), t.full(1.0, &[2])]);
        }),
        ("gradients in another order", "adam", |t, _, s| {
            adam(s).apply(t, &[t.full(1.0, &[3]), t.full(1.0, &[2])]);
        }),
        ("a gradient that broadcasts", "adam", |t, _, s| {
            adam(s).apply(t, &[t.full(1.0, &[1]), t.full(1.0, &[3])]);
        }),
        ("a learning rate for each number", "adam", |t, _, s| {
            let gradients = [t.full(1.0, &[2]), t.full(1.0, &[3])];
            adam(s).apply_at(t, &gradients, t.full(0.1, &[2]));
        }),
        ("a loss of many numbers", "grad", |t, _, s| adam(s).minimise(t, t.input("x", &[4]))),
    ]);
}

/// Of two parameters.
fn adam(states: &mut States) -> Adam {
    let parameters = [2, 3].map(|n| states.add(format!("p{n}"), &[n], Initial::Constant(1.0)));
    Adam::new(states, "adam", parameters.to_vec(), 0.1, [0.9, 0.999])
}

#[test]
fn cotangents_of_another_shape() {
    refuse(&[
        ("of an element-wise function", "vjp", |t, _, _| {
            let x = t.input("x", &[2, 3]);
            t.output("y", t.vjp(x.square(), t.full(1.0, &[5]), &[x])[0]);
        }),
        ("one that broadcasts", "vjp", |t, _, _| {
            let x = t.input("x", &[2, 3]);
            t.output("y", t.vjp(x.square(), t.full(1.0, &[1, 3]), &[x])[0]);
        }),
        ("a scalar", "vjp", |t, _, _| {
            let x = t.input("x", &[2, 3]);
            t.output("y", t.vjp(x.exp(), t.constant(1.0), &[x])[0]);
        }),
        ("of a convolution", "vjp", |t, _, _| {
            let w = t.input("w", &[1, 1, 3, 3]);
            let y = image(t).conv2d(w, ConvOptions::default());
            t.output("y", t.vjp(y, t.full(1.0, &[1, 1, 9, 9]), &[w])[0]);
        }),
        ("that nothing reads", "vjp", |t, _, _| {
            let (x, z) = (t.input("x", &[4]), t.input("z", &[4]));
            t.output("y", t.vjp(x.square(), t.full(1.0, &[9]), &[z])[0]);
        }),
        ("of itself", "vjp", |t, _, _| {
            let x = t.input("x", &[4]);
            t.output("y", t.vjp(x, t.full(1.0, &[2, 2]), &[x])[0]);
        }),
        ("a loss of two numbers", "grad", |t, _, _| {
            let x = t.input("x", &[2]);
            t.output("y", t.grad(x.square(), &[x])[0]);
        }),
    ]);
}

#[test]
fn tensors_and_variables_of_elsewhere() {
    refuse(&[
        ("added", "add", |t, o, _| t.output("y", t.input("x", &[2]) + o.input("x", &[2]))),
        ("a constant added", "add", |t, o, _| t.output("y", t.input("x", &[2]) + o.full(1.0, &[2]))),
        ("added to a constant", "mul", |t, o, _| t.output("y", t.constant(2.0) * o.input("x", &[2]))),
        ("with a number that is nowhere here", "output", |t, o, _| {
            t.output("y", o.input("x", &[2]).exp().sum_all());
        }),
        ("chosen", "select", |t, o, _| {
            t.output("y", t.input("c", &[2]).select(t.input("x", &[2]), o.input("x", &[2])));
        }),
        ("chosen by", "select", |t, o, _| {
            let x = t.input("x", &[2]);
            t.output("y", x + o.input("c", &[2]).select(x, x));
        }),
        ("multiplied", "matmul", |t, o, _| {
            t.output("y", t.input("x", &[2, 2]).matmul(o.input("x", &[2, 2])))
        }),
        ("folded", "conv", |t, o, _| {
            t.output("y", image(t).conv2d(o.input("w", &[1, 1, 3, 3]), ConvOptions::default()));
        }),
        ("joined", "concat", |t, o, _| {
            t.output("y", Tensor::concat(&[t.input("x", &[2]), o.input("x", &[2])], 0));
        }),
        ("joined among many", "concat", |t, o, _| {
            let mut parts = vec![t.input("x", &[2]); 20];
            parts[17] = o.input("x", &[2]);
            t.output("y", Tensor::concat(&parts, 0));
        }),
        ("a loss", "vjp", |t, o, _| {
            let x = t.input("x", &[2]);
            t.output("y", t.grad(o.input("x", &[2]).square().exp().sum_all(), &[x])[0]);
        }),
        ("a parameter", "vjp", |t, o, _| {
            t.output("y", t.grad(t.input("x", &[2]).square().sum_all(), &[o.input("w", &[2])])[0]);
        }),
        ("a cotangent", "vjp", |t, o, _| {
            let x = t.input("x", &[2]);
            t.output("y", t.vjp(x.exp(), o.full(1.0, &[2]), &[x])[0]);
        }),
        ("an output", "output", |t, o, _| t.output("y", o.input("x", &[2]))),
        ("a state's value", "assign", |t, o, s| {
            t.assign(&s.add("v", &[2], Initial::Constant(0.0)), o.input("x", &[2]));
        }),
        ("a layer's input", "matmul", |t, o, s| {
            t.output("y", nn::Linear::new(s, "l", [3, 2], true).forward(t, o.input("x", &[4, 3])) * 2.0);
        }),
        ("a variable", "state", |t, _, s| {
            let here = s.add("w", &[2], Initial::Constant(1.0));
            let there = States::new().add("w", &[2], Initial::Constant(1.0));
            t.output("y", t.state(&here) * t.state(&there));
        }),
        ("a variable to assign", "assign", |t, _, s| {
            let here = s.add("w", &[2], Initial::Constant(1.0));
            let there = States::new().add("v", &[2], Initial::Constant(1.0));
            t.assign(&there, t.state(&here) * 2.0);
        }),
        ("a variable of another shape than it had", "state", |t, _, s| {
            let here = s.add("w", &[2, 3], Initial::Constant(1.0));
            let mut forged = here.clone();
            forged.shape = vec![3, 2];
            t.output("y", t.state(&here).transpose() + t.state(&forged));
        }),
        ("a value of another shape", "assign", |t, _, s| {
            t.assign(&s.add("w", &[2], Initial::Constant(1.0)), t.full(1.0, &[3]));
        }),
    ]);
}

#[test]
fn both_tapes_of_a_mixture_are_broken() {
    let (one, two) = (Tape::new(), Tape::new());
    let _ = one.input("x", &[2]) + two.input("x", &[2]);
    assert_eq!(one.finish().unwrap_err(), two.finish().unwrap_err());
    assert!(one.finish().unwrap_err().to_string().contains("another tape"));
}

/// Registers states; the variable is another registry's.
type Registration = fn(&mut States, Variable);

#[test]
fn registries_say_what_cannot_be_registered() {
    let foreign = || States::new().add("theirs", &[2], Initial::Constant(0.0));
    let twice = |name: &str| StateError::Twice { name: name.to_owned() };
    let cases: &[(&str, Registration, StateError)] = &[
        ("a name twice", |s, _| _ = (add(s, "v", &[2]), add(s, "v", &[3])), twice("v")),
        (
            "a parameter twice",
            |s, _| {
                let w = add(s, "w", &[2]);
                Sgd::new(s, "o", vec![w.clone(), w], 0.1, 0.0);
            },
            twice("o.velocity.w"),
        ),
        (
            "an optimiser's name twice",
            |s, _| {
                let w = add(s, "w", &[2]);
                Adam::new(s, "o", vec![w.clone()], 0.1, [0.9, 0.9]);
                Adam::new(s, "o", vec![w], 0.1, [0.9, 0.9]);
            },
            twice("o.m.w"),
        ),
        (
            "a foreign parameter",
            |s, theirs| _ = Adam::new(s, "o", vec![theirs], 0.1, [0.9, 0.9]),
            StateError::Foreign { name: "theirs".to_owned() },
        ),
        (
            "a foreign average",
            |s, theirs| {
                add(s, "w", &[2]);
                nn::Ema::new(s, "e", vec![theirs], 0.9);
            },
            StateError::Foreign { name: "theirs".to_owned() },
        ),
        (
            "a foreign start",
            |s, theirs| s.set_initial(&theirs, Initial::Constant(1.0)),
            StateError::Foreign { name: "theirs".to_owned() },
        ),
        ("an empty state", |s, _| _ = add(s, "v", &[2, 0]), shape("v", &[2, 0])),
        ("a huge state", |s, _| _ = add(s, "v", &[HUGE, 8]), shape("v", &[HUGE, 8])),
        ("too few start values", |s, _| _ = s.add("v", &[2], Initial::Values(vec![1.0])), shape("v", &[2])),
        (
            "too many start values",
            |s, _| {
                let v = add(s, "v", &[2]);
                s.set_initial(&v, Initial::Values(vec![1.0; 3]));
            },
            shape("v", &[2]),
        ),
    ];
    for (what, misuse, expected) in cases {
        let mut states = States::new();
        misuse(&mut states, foreign());
        let found = states.check().expect_err(what);
        match (&found, expected) {
            (StateError::Shape { name, shape, .. }, StateError::Shape { name: n, shape: s, .. }) => {
                assert_eq!((name, shape), (n, s), "{what}");
            }
            _ => assert_eq!(&found, expected, "{what}"),
        }
        for device in [cpu(), gpu()] {
            let error = device.store(&states, 0).err().expect(what);
            assert_eq!(error.to_string(), found.to_string(), "{what}");
        }
    }
}

fn add(states: &mut States, name: &str, shape: &[usize]) -> Variable {
    states.add(name, shape, Initial::Constant(0.0))
}

fn shape(name: &str, shape: &[usize]) -> StateError {
    StateError::Shape { name: name.to_owned(), shape: shape.to_vec(), what: String::new() }
}

#[test]
fn states_that_a_registry_does_not_have_are_not_found() {
    let mut states = States::new();
    add(&mut states, "v", &[2]);
    for id in [1, 3, MAX] {
        assert_eq!(states.name(StateId(id)), None);
        assert_eq!(states.variable(StateId(id)), None);
        assert_eq!(states.initial_values(StateId(id), 0), Err(StateError::Unknown { id, known: 1 }));
    }
    assert_eq!(states.name(StateId(0)), Some("v"));
    assert_eq!(states.variables().collect::<Vec<_>>(), [states.find("v").unwrap()]);
}

#[test]
fn a_copy_of_a_registry_has_the_same_states() {
    let mut states = States::new();
    let w = add(&mut states, "w", &[2]);
    let mut copy = states.clone();
    let more = add(&mut copy, "more", &[2]);
    let tape = Tape::new();
    tape.assign(&more, tape.state(&w) + tape.state(&copy.find("w").unwrap()) + 1.0);
    assert_eq!(outcome(&cpu(), &tape, &copy), Outcome::Ran);
}

// ---- random
// calls ---------------------------------------------------------------------------------------------------

/// Fails where nearly all of them ran or nearly none did: then the test would prove little.
fn balanced(tally: nonsense::Tally) {
    let total = tally.ran + tally.refused;
    assert!(tally.ran * 8 > total && tally.refused * 8 > total, "{tally:?}");
}

#[test]
fn random_calls_run_or_are_refused_on_cpu() {
    balanced(nonsense::calls(&cpu(), 0..6000));
}

#[test]
fn random_calls_run_or_are_refused_on_gpu() {
    balanced(nonsense::calls(&gpu(), 0..150));
}

#[test]
fn damaged_graphs_run_or_are_refused() {
    balanced(nonsense::damaged_graphs(&cpu(), 0..6000));
    balanced(nonsense::damaged_graphs(&gpu(), 6000..6150));
}

#[test]
fn damaged_programs_run_or_are_refused() {
    balanced(nonsense::spoilt_programs(&cpu(), 0..6000));
    balanced(nonsense::spoilt_programs(&gpu(), 6000..6150));
}
