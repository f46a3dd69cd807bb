//! Every operation of the tape against PyTorch: values, first and second derivatives, in the middle of a
//! graph, on both devices. `tests/goldens/ops.py` defines the graph around each operation and writes the
//! numbers.

use crate::common;
use std::collections::BTreeSet;

use crate::common::{Fixture, load, numbers, program, write};
use ganomede::device::Device;
use ganomede::tape::{
    ConvOptions, Graph, Initial, Op, Padding, PoolOptions, RandomState, Sampling, States, Tape, Tensor,
};
use ganomede_kernels::conv::Face;
use ganomede_kernels::expr::{Binary, Unary};
use ganomede_kernels::pool;
use ganomede_kernels::random::Distribution;

/// An operation by the name of its golden.
type Case = (&'static str, for<'t> fn(&[Tensor<'t>]) -> Tensor<'t>);

const TOLERANCE: f32 = 1e-4;

/// `[c]` beside `[n, c, h, w]`.
fn channel<'t>(x: Tensor<'t>) -> Tensor<'t> {
    x.reshape(&[1, x.len(), 1, 1])
}

fn batch_norm<'t>(x: Tensor<'t>, gamma: Tensor<'t>, beta: Tensor<'t>) -> Tensor<'t> {
    let axes: &[usize] = if x.rank() == 4 { &[0, 2, 3] } else { &[0] };
    let fit = |p: Tensor<'t>| if x.rank() == 4 { channel(p) } else { p };
    (x - x.mean(axes)) / (x.variance(axes) + 1e-5).sqrt() * fit(gamma) + fit(beta)
}

fn bce<'t>(logits: Tensor<'t>, target: Tensor<'t>) -> Tensor<'t> {
    (logits.softplus() - logits * target).mean_all()
}

const CONVOLUTIONS: &[Case] = &[
    ("conv2d_3x3", |x| x[0].conv2d(x[1], ConvOptions::new(1, 1))),
    ("conv2d_rect", |x| {
        let options =
            ConvOptions { stride: [2, 1], pad_low: [1, 0], pad_high: [1, 0], ..ConvOptions::default() };
        x[0].conv2d(x[1], options)
    }),
    ("conv2d_k4s2p1", |x| x[0].conv2d(x[1], ConvOptions::new(2, 1))),
    ("conv2d_same_k5s2", |x| x[0].conv2d(x[1], ConvOptions::asymmetric(2, 1, 2))),
    ("conv2d_pads_differ", |x| {
        x[0].conv2d(x[1], ConvOptions { pad_low: [1, 0], pad_high: [0, 2], ..ConvOptions::default() })
    }),
    ("conv2d_dilated", |x| {
        let options = ConvOptions { stride: [1, 2], dilation: [2, 3], ..ConvOptions::new(1, 2) };
        x[0].conv2d(x[1], options)
    }),
    ("conv2d_stride_above_kernel", |x| x[0].conv2d(x[1], ConvOptions::new(3, 0))),
    ("conv2d_1x1", |x| x[0].conv2d(x[1], ConvOptions::default())),
    ("conv2d_bias_leaky_relu", |x| {
        (x[0].conv2d(x[1], ConvOptions::new(2, 1)) + channel(x[2])).leaky_relu(0.2)
    }),
    ("conv_transpose2d_3x3", |x| x[0].conv_transpose2d(x[1], ConvOptions::new(1, 1))),
    ("conv_transpose2d_k4s2p1", |x| x[0].conv_transpose2d(x[1], ConvOptions::new(2, 1))),
    ("conv_transpose2d_k5s2p2_op1", |x| {
        x[0].conv_transpose2d(x[1], ConvOptions { output_padding: [1, 1], ..ConvOptions::new(2, 2) })
    }),
    ("conv_transpose2d_rect_dilated", |x| {
        let options = ConvOptions {
            stride: [1, 2],
            pad_low: [1, 0],
            pad_high: [1, 0],
            dilation: [2, 1],
            output_padding: [1, 0],
            ..ConvOptions::default()
        };
        x[0].conv_transpose2d(x[1], options)
    }),
    ("conv_transpose2d_output_padding_above_stride", |x| {
        let options = ConvOptions {
            pad_low: [1, 0],
            pad_high: [1, 0],
            dilation: [3, 3],
            output_padding: [2, 2],
            ..ConvOptions::default()
        };
        x[0].conv_transpose2d(x[1], options)
    }),
    ("conv_transpose2d_stride_above_kernel", |x| {
        x[0].conv_transpose2d(x[1], ConvOptions { output_padding: [2, 2], ..ConvOptions::new(3, 0) })
    }),
    ("conv_transpose2d_pads_differ", |x| {
        let options = ConvOptions { pad_low: [1, 0], pad_high: [2, 1], ..ConvOptions::new(2, 0) };
        x[0].conv_transpose2d(x[1], options)
    }),
    ("conv_transpose2d_bias_tanh", |x| {
        (x[0].conv_transpose2d(x[1], ConvOptions::new(2, 1)) + channel(x[2])).tanh()
    }),
    ("conv2d_groups", |x| x[0].conv2d(x[1], ConvOptions { groups: 2, ..ConvOptions::new(1, 1) })),
    ("conv2d_depthwise", |x| {
        let options = ConvOptions { groups: 3, dilation: [2, 1], ..ConvOptions::asymmetric(2, 1, 2) };
        x[0].conv2d(x[1], options)
    }),
    ("conv2d_depthwise_many", |x| x[0].conv2d(x[1], ConvOptions { groups: 3, ..ConvOptions::new(1, 0) })),
    ("conv_transpose2d_groups", |x| {
        let options = ConvOptions { groups: 2, output_padding: [1, 0], ..ConvOptions::new(2, 1) };
        x[0].conv_transpose2d(x[1], options)
    }),
    ("conv_transpose2d_depthwise", |x| {
        x[0].conv_transpose2d(x[1], ConvOptions { groups: 3, ..ConvOptions::new(1, 0) })
    }),
    ("conv1d", |x| x[0].conv1d(x[1], 2, 1, 1)),
    ("conv1d_dilated", |x| x[0].conv1d(x[1], 1, 2, 2)),
    ("conv_transpose1d", |x| x[0].conv_transpose1d(x[1], 2, 1, 1)),
    ("conv_transpose1d_dilated", |x| x[0].conv_transpose1d(x[1], 3, 0, 2)),
];

const PRODUCTS: &[Case] = &[
    ("linear", |x| x[0].linear(x[1], Some(x[2]))),
    ("linear_no_bias", |x| x[0].linear(x[1], None)),
    ("linear_relu", |x| x[0].linear(x[1], Some(x[2])).relu()),
    ("matmul_22_nn", |x| x[0].matmul(x[1])),
    ("matmul_22_nt", |x| x[0].matmul_with(x[1], false, true)),
    ("matmul_22_tn", |x| x[0].matmul_with(x[1], true, false)),
    ("matmul_22_tt", |x| x[0].matmul_with(x[1], true, true)),
    ("matmul_23_nn", |x| x[0].matmul(x[1])),
    ("matmul_23_nt", |x| x[0].matmul_with(x[1], false, true)),
    ("matmul_23_tn", |x| x[0].matmul_with(x[1], true, false)),
    ("matmul_23_tt", |x| x[0].matmul_with(x[1], true, true)),
    ("matmul_32_nn", |x| x[0].matmul(x[1])),
    ("matmul_32_nt", |x| x[0].matmul_with(x[1], false, true)),
    ("matmul_32_tn", |x| x[0].matmul_with(x[1], true, false)),
    ("matmul_32_tt", |x| x[0].matmul_with(x[1], true, true)),
    ("matmul_33_nn", |x| x[0].matmul(x[1])),
    ("matmul_33_nt", |x| x[0].matmul_with(x[1], false, true)),
    ("matmul_33_tn", |x| x[0].matmul_with(x[1], true, false)),
    ("matmul_33_tt", |x| x[0].matmul_with(x[1], true, true)),
    ("matmul_self", |x| x[0].matmul_with(x[0], false, true)),
];

const POINTWISE: &[Case] = &[
    ("add", |x| x[0] + x[1]),
    ("add_row", |x| x[0] + x[1]),
    ("add_bias_4d", |x| x[0] + channel(x[1])),
    ("sub_column", |x| x[0] - x[1]),
    ("sub_both_repeat", |x| x[0] - x[1]),
    ("mul", |x| x[0] * x[1]),
    ("mul_scalar_tensor", |x| x[0] * x[1]),
    ("mul_outer", |x| x[0] * x[1]),
    ("div", |x| x[0] / x[1]),
    ("div_repeat", |x| x[0] / x[1]),
    ("one_over", |x| 1.0 / x[0]),
    ("constants", |x| 3.0 - (2.0 * x[0] + 1.0) / 4.0 + (0.5 - x[0]) * 2.0),
    ("affine", |x| x[0].affine(-1.5, 0.25)),
    ("neg", |x| -x[0]),
    ("recip", |x| x[0].recip()),
    ("exp", |x| x[0].exp()),
    ("log", |x| x[0].log()),
    ("sqrt", |x| x[0].sqrt()),
    ("abs", |x| x[0].abs()),
    ("abs_at_zero", |x| x[0].abs()),
    ("sign", |x| x[0].sign()),
    ("square", |x| x[0].square()),
    ("relu", |x| x[0].relu()),
    ("relu_at_zero", |x| x[0].relu()),
    ("leaky_relu", |x| x[0].leaky_relu(0.2)),
    ("leaky_relu_at_zero", |x| x[0].leaky_relu(0.2)),
    ("leaky_relu_negative", |x| x[0].leaky_relu(-0.5)),
    ("tanh", |x| x[0].tanh()),
    ("sigmoid", |x| x[0].sigmoid()),
    ("sigmoid_large", |x| x[0].sigmoid()),
    ("softplus", |x| x[0].softplus()),
    ("softplus_large", |x| x[0].softplus()),
    ("clamp", |x| x[0].clamp(-0.5, 0.8)),
    ("step", |x| x[0].step()),
    ("maximum", |x| x[0].maximum(x[1])),
    ("maximum_ties", |x| x[0].maximum(x[1])),
    ("minimum", |x| x[0].minimum(x[1])),
    ("minimum_ties", |x| x[0].minimum(x[1])),
    ("greater", |x| x[0].greater(x[1])),
    ("equal", |x| x[0].equal(x[1])),
    ("select", |x| x[0].greater(x[1]).select(x[1], x[2])),
    ("select_repeat", |x| (x[0] - 0.2).step().select(x[1], x[2] * x[0])),
    ("select_same", |x| x[0].greater(x[1]).select(x[0], x[0].square())),
    ("powf_cube", |x| x[0].powf(3.0)),
    ("powf_fraction", |x| x[0].powf(-2.7)),
    ("powf_zero", |x| x[0].powf(0.0)),
    ("powf_root", |x| x[0].powf(0.5)),
    ("pow_tensor", |x| x[0].pow(x[1])),
    ("stop_gradient", |x| x[0].stop_gradient() * x[1] + x[0]),
];

const REDUCTIONS: &[Case] = &[
    ("sum_first", |x| x[0].sum(&[0])),
    ("sum_middle", |x| x[0].sum(&[1])),
    ("sum_last", |x| x[0].sum(&[2])),
    ("sum_outer", |x| x[0].sum(&[0, 2])),
    ("sum_all", |x| x[0].sum_all()),
    ("sum_of_product", |x| (x[0] * x[1]).sum(&[0, 2, 3])),
    ("sum_per_sample", |x| x[0].sum_per_sample()),
    ("mean_last", |x| x[0].mean(&[1])),
    ("mean_channels", |x| x[0].mean(&[0, 2, 3])),
    ("mean_all", |x| x[0].mean_all()),
    ("mean_per_sample", |x| x[0].mean_per_sample()),
    ("max_last", |x| x[0].max(&[1])),
    ("max_outer", |x| x[0].max(&[0, 2])),
    ("max_ties", |x| x[0].max(&[1, 2])),
    ("min_outer", |x| x[0].min(&[0, 2])),
    ("min_ties", |x| x[0].min(&[1, 2])),
    ("prod_last", |x| x[0].prod(&[1])),
    ("prod_all", |x| x[0].prod(&[0, 1, 2])),
    ("prod_zeros", |x| x[0].prod(&[1])),
    ("variance_channels", |x| x[0].variance(&[0, 2, 3])),
    ("variance_rows", |x| x[0].variance(&[1])),
    ("variance_columns", |x| x[0].variance(&[0])),
    ("variance_samples", |x| x[0].variance(&[1, 2, 3])),
    ("variance_split", |x| x[0].variance(&[1, 3])),
    ("variance_all", |x| x[0].variance(&[0, 1]).reshape(&[])),
    ("softmax_last", |x| x[0].softmax(1)),
    ("softmax_middle", |x| x[0].softmax(1)),
    ("softmax_masked", |x| {
        let hidden = x[0] * 0.0 - f32::INFINITY;
        x[1].step().select(x[0], hidden).softmax(2).matmul(x[2])
    }),
    ("softmax_large", |x| x[0].softmax(1)),
    ("batch_norm_train_4d", |x| batch_norm(x[0], x[1], x[2])),
    ("batch_norm_train_2d", |x| batch_norm(x[0], x[1], x[2])),
    ("batch_norm_train_leaky_relu", |x| batch_norm(x[0], x[1], x[2]).leaky_relu(0.2)),
    ("batch_norm_eval", |x| {
        (x[0] - channel(x[3])) / (channel(x[4]) + 1e-5).sqrt() * channel(x[1]) + channel(x[2])
    }),
    ("layer_norm", |x| {
        let axes = [1, 2, 3];
        let normal = (x[0] - x[0].mean(&axes)) / (x[0].variance(&axes) + 1e-5).sqrt();
        normal * channel(x[1]) + channel(x[2])
    }),
];

/// Of `filter`: not the same from both ends.
const TAPS: [f32; 5] = [0.5, -1.0, 2.0, 0.25, 1.5];

const SHAPES: &[Case] = &[
    ("reshape", |x| x[0].reshape(&[4, 6])),
    ("flatten", |x| x[0].flatten()),
    ("transpose", |x| x[0].transpose()),
    ("permute", |x| x[0].permute(&[2, 0, 3, 1])),
    ("broadcast_to", |x| x[0].broadcast_to(&[2, 3, 4])),
    ("slice_steps", |x| x[0].slice(&[1, 0], &[5, 7], &[2, 3])),
    ("narrow", |x| x[0].narrow(1, 2, 3)),
    ("embed", |x| x[0].embed(&[0; 4], &[1, 1, 2, 3], &[1, 1, 5, 4])),
    ("pad", |x| x[0].pad(&[0, 2, 1], &[0, 3, 0])),
    ("concat_channels", |x| Tensor::concat(x, 1)),
    ("concat_rows", |x| Tensor::concat(x, 0)),
    ("concat_nine", |x| Tensor::concat(x, 1)),
    ("upsample_nearest_2", |x| x[0].upsample_nearest(2)),
    ("upsample_nearest_3", |x| x[0].upsample_nearest(3)),
    ("gather", |x| x[0].gather(1, &[4, 0, 0, 2, 4, 4, 1])),
    ("gather_last", |x| x[0].gather(2, &[2, 1, 0])),
    ("pad_constant", |x| x[0].pad_with(&[0, 0, 2, 1], &[0, 0, 0, 3], Padding::Constant(-1.5))),
    ("pad_reflect", |x| x[0].pad_with(&[0, 0, 2, 1], &[0, 0, 1, 3], Padding::Reflect)),
    ("pad_edge", |x| x[0].pad_with(&[0, 0, 5, 0], &[0, 0, 1, 6], Padding::Edge)),
    ("resize_nearest", |x| x[0].resize([7, 3], Sampling::Nearest)),
    ("resize_linear_up", |x| x[0].resize([7, 10], Sampling::Linear)),
    ("resize_linear_down", |x| x[0].resize([3, 4], Sampling::Linear)),
    ("resize_aligned", |x| x[0].resize([9, 3], Sampling::LinearAligned)),
    ("resize_aligned_one", |x| x[0].resize([1, 8], Sampling::LinearAligned)),
    ("filter", |x| x[0].filter(2, &TAPS)),
    ("filter_rows", |x| x[0].filter(1, &TAPS)),
    // More taps than the axis is long.
    ("filter_wider", |x| x[0].filter(1, &TAPS)),
    ("resample_1d", |x| x[0].resample(2, 11, Sampling::Linear)),
    ("avg_pool_uncounted", |x| {
        x[0].avg_pool2d(PoolOptions { count_padding: false, ..PoolOptions::new([3, 2], [2, 1], [1, 1]) })
    }),
    ("avg_pool_ceil", |x| {
        x[0].avg_pool2d(PoolOptions { ceil: true, ..PoolOptions::new([3, 3], [2, 2], [1, 0]) })
    }),
    ("avg_pool_pads_differ", |x| {
        let options = PoolOptions { pad_high: [2, 1], ..PoolOptions::new([3, 2], [2, 2], [0, 1]) };
        x[0].avg_pool2d(options)
    }),
    ("max_pool_dilated", |x| {
        x[0].max_pool2d(PoolOptions { dilation: [2, 3], ..PoolOptions::new([3, 2], [1, 2], [1, 1]) })
    }),
    ("max_pool_ceil", |x| {
        x[0].max_pool2d(PoolOptions { ceil: true, ..PoolOptions::new([3, 3], [2, 2], [0, 0]) })
    }),
    ("max_pool_pads_differ", |x| {
        let options = PoolOptions { pad_high: [2, 0], ..PoolOptions::new([3, 2], [2, 2], [0, 1]) };
        x[0].max_pool2d(options)
    }),
    ("avg_pool", |x| x[0].avg_pool2d(PoolOptions::square(2))),
    ("avg_pool_overlap", |x| x[0].avg_pool2d(PoolOptions::new([3, 3], [2, 2], [0, 0]))),
    ("avg_pool_padded", |x| x[0].avg_pool2d(PoolOptions::new([3, 2], [2, 1], [1, 1]))),
    ("max_pool", |x| x[0].max_pool2d(PoolOptions::square(2))),
    ("max_pool_overlap", |x| x[0].max_pool2d(PoolOptions::new([3, 3], [2, 2], [0, 0]))),
    ("max_pool_padded", |x| x[0].max_pool2d(PoolOptions::new([3, 2], [2, 1], [1, 1]))),
    ("max_pool_ties", |x| x[0].max_pool2d(PoolOptions::new([3, 3], [2, 2], [1, 1]))),
];

const LOSSES: &[Case] = &[
    ("loss_l1", |x| (x[0] - x[1]).abs().mean_all()),
    ("loss_mse", |x| (x[0] - x[1]).square().mean_all()),
    ("loss_bce_real", |x| (-x[0]).softplus().mean_all()),
    ("loss_bce_fake", |x| x[0].softplus().mean_all()),
    ("loss_bce_target", |x| bce(x[0], x[1])),
];

/// The graph that `ops.py` describes, with one output for each golden; returns the names of inputs and
/// outputs.
fn record(tape: &Tape, fixture: &Fixture, (name, f): &Case) {
    let inputs = fixture.numbered(&format!("{name}/x"));
    assert!(!inputs.is_empty(), "no golden for {name}: add it to tests/goldens/ops.py");
    let xs: Vec<_> = (0..inputs.len()).map(|i| tape.input(&format!("x{i}"), &inputs[i].shape)).collect();
    let inner: Vec<_> = xs.iter().map(|&x| x + 0.25 * x.tanh()).collect();
    let y = f(&inner);
    assert_eq!(y.shape(), fixture.get(&format!("{name}/y")).shape, "{name}: shape");
    let w = tape.input("w", &y.shape());
    let first = tape.grad((w * (y + 0.5 * y.square())).sum_all(), &xs);
    let mut total = tape.constant(0.0);
    for (i, &g) in first.iter().enumerate() {
        total = total + (tape.input(&format!("v{i}"), &g.shape()) * g).sum_all();
    }
    let second = tape.grad(total, &xs);
    tape.output("y", y);
    for i in 0..xs.len() {
        tape.output(&format!("g{i}"), first[i]);
        tape.output(&format!("h{i}"), second[i]);
    }
}

fn compare(device: &Device, cases: &[Case]) {
    let fixture = Fixture::read("ops.safetensors");
    let mut wrong = vec![];
    for case in cases {
        let name = case.0;
        let tape = Tape::new();
        record(&tape, &fixture, case);
        let (mut executable, _store) = load(device, &program(&tape), &States::new(), 0);
        let count = fixture.numbered(&format!("{name}/x")).len();
        let numbered = |letters: &[&str]| -> Vec<String> {
            letters.iter().flat_map(|l| (0..count).map(move |i| format!("{l}{i}"))).collect()
        };
        for input in numbered(&["x", "v"]).iter().map(String::as_str).chain(["w"]) {
            write(&mut executable, input, &fixture.get(&format!("{name}/{input}")).data);
        }
        executable.run(1).unwrap_or_else(|e| panic!("{name}: {e}"));
        for output in ["y".to_owned()].into_iter().chain(numbered(&["g", "h"])) {
            let got = executable.read(&output).unwrap_or_else(|e| panic!("{name}/{output}: {e}"));
            let found = common::difference(&got, &fixture.get(&format!("{name}/{output}")).data);
            if found > TOLERANCE {
                wrong.push(format!("{name}/{output}: {found:e}"));
            }
        }
    }
    assert!(wrong.is_empty(), "beyond {TOLERANCE:e} of PyTorch:\n{}", wrong.join("\n"));
}

macro_rules! groups {
    ($($group:ident: $cases:ident;)*) => {
        /// Every group.
        const GROUPS: &[&[Case]] = &[$($cases),*];
        $(mod $group {
            use super::*;
            #[test]
            fn match_pytorch_on_cpu() {
                compare(&common::cpu(), $cases);
            }
            #[test]
            fn match_pytorch_on_gpu() {
                compare(&common::gpu(), $cases);
            }
        })*
    };
}

groups! {
    convolutions: CONVOLUTIONS;
    products: PRODUCTS;
    pointwise: POINTWISE;
    reductions: REDUCTIONS;
    shapes: SHAPES;
    losses: LOSSES;
}

/// A match without wildcard, and the list of its arms: a new operation fails to compile here, and once it has
/// an arm, [`every_operation_has_a_golden`] fails until some case uses it.
macro_rules! kinds {
    ($name:ident, $list:ident, $type:ty: $($pattern:pat => $kind:literal,)*) => {
        fn $name(op: &$type) -> &'static str {
            match op {
                $($pattern => $kind,)*
            }
        }
        const $list: &[&str] = &[$($kind),*];
    };
}

kinds! { op_kind, OP_KINDS, Op:
    Op::Input(_) => "input",
    Op::State(_) => "state",
    Op::Const(_) => "const",
    Op::Unary(_) => "unary",
    Op::Binary(_) => "binary",
    Op::Select => "select",
    Op::Broadcast => "broadcast",
    Op::Reshape => "reshape",
    Op::StopGradient => "stop_gradient",
    Op::Permute(_) => "permute",
    Op::Slice { .. } => "slice",
    Op::Embed { .. } => "embed",
    Op::Concat(_) => "concat",
    Op::Sum { .. } => "sum",
    Op::Max { .. } => "max",
    Op::Variance { .. } => "variance",
    Op::Conv(Face::Conv, _) => "conv",
    Op::Conv(Face::Transpose, _) => "conv_transpose",
    Op::Conv(Face::Weight, _) => "conv_weight",
    Op::MatMul { .. } => "matmul",
    Op::MaxPool(pool::MaxPool { face: pool::Face::Indices, .. }) => "max_pool_indices",
    Op::MaxPool(pool::MaxPool { face: pool::Face::Gather, .. }) => "max_pool_gather",
    Op::MaxPool(pool::MaxPool { face: pool::Face::Scatter, .. }) => "max_pool_scatter",
    Op::Sparse(..) => "sparse",
    Op::Random(Distribution::Uniform, _) => "uniform",
    Op::Random(Distribution::Normal, _) => "normal",
    Op::Custom(_) => "custom",
}

kinds! { unary_kind, UNARY_KINDS, Unary:
    Unary::Neg => "neg",
    Unary::Recip => "recip",
    Unary::Exp => "exp",
    Unary::Log => "log",
    Unary::Sqrt => "sqrt",
    Unary::Abs => "abs",
    Unary::Sign => "sign",
    Unary::Square => "square",
    Unary::Relu => "relu",
    Unary::LeakyRelu(_) => "leaky_relu",
    Unary::LeakyMask(_) => "leaky_mask",
    Unary::Tanh => "tanh",
    Unary::Sigmoid => "sigmoid",
    Unary::Softplus => "softplus",
    Unary::Affine(..) => "affine",
    Unary::Clamp(..) => "clamp",
    Unary::ClampMask(..) => "clamp_mask",
    Unary::Step => "step",
}

kinds! { binary_kind, BINARY_KINDS, Binary:
    Binary::Add => "add",
    Binary::Sub => "sub",
    Binary::Mul => "mul",
    Binary::Div => "div",
    Binary::Max => "maximum",
    Binary::Min => "minimum",
    Binary::Pow => "pow",
    Binary::Greater => "greater",
    Binary::Equal => "equal",
}

/// Kinds of the nodes that the outputs depend on.
fn used_kinds(graph: &Graph, kinds: &mut BTreeSet<&'static str>) {
    let mut stack: Vec<_> = graph.outputs.iter().map(|(_, id)| *id).collect();
    let mut seen = BTreeSet::new();
    while let Some(id) = stack.pop() {
        if seen.insert(id) {
            let node = &graph.nodes[id];
            stack.extend(&node.inputs);
            kinds.insert(op_kind(&node.op));
            match &node.op {
                Op::Unary(op) => _ = kinds.insert(unary_kind(op)),
                Op::Binary(op) => _ = kinds.insert(binary_kind(op)),
                _ => {}
            }
        }
    }
}

#[test]
fn every_operation_has_a_golden() {
    let fixture = Fixture::read("ops.safetensors");
    let mut kinds = BTreeSet::new();
    for case in GROUPS.iter().copied().flatten() {
        let tape = Tape::new();
        record(&tape, &fixture, case);
        used_kinds(&tape.finish().unwrap_or_else(|e| panic!("{}: {e}", case.0)), &mut kinds);
    }
    let (tape, mut states) = (Tape::new(), States::new());
    record_random(&tape, &random_state(&mut states));
    used_kinds(&tape.finish().unwrap(), &mut kinds);
    let all = OP_KINDS.iter().chain(UNARY_KINDS).chain(BINARY_KINDS);
    // An operation in a file of its own has its test there, for example tests/custom_operation.rs.
    let missing: Vec<_> = all.filter(|kind| **kind != "custom" && !kinds.contains(*kind)).collect();
    assert!(missing.is_empty(), "no golden uses {missing:?}");

    let cases: BTreeSet<_> = GROUPS.iter().copied().flatten().map(|case| case.0).collect();
    let goldens: BTreeSet<_> = fixture.names().filter_map(|name| name.split('/').next()).collect();
    assert_eq!(cases, goldens, "the tables here and tests/goldens/ops.py list the same cases");
}

// ---- random numbers and dropout: statistics, and one mask for value and gradient ----

const SAMPLES: usize = 20_000;

fn random_state(states: &mut States) -> RandomState {
    let key = [0x1234_5678_u32, 0x0BAD_CAFE].map(f32::from_bits).to_vec();
    RandomState {
        key: states.add("key", &[2], Initial::Values(key)),
        step: states.add("step", &[1], Initial::Constant(0.0)),
    }
}

fn record_random(tape: &Tape, random: &RandomState) {
    let x = tape.input("x", &[SAMPLES]);
    let y = x.dropout(random, 0.3);
    tape.output("dropped", y);
    tape.output("mask", tape.grad((y * tape.input("w", &[SAMPLES])).sum_all(), &[x])[0]);
    tape.output("uniform", tape.uniform(random, &[SAMPLES]));
    tape.output("normal", tape.normal(random, &[SAMPLES]));
    tape.output("channels", x.reshape(&[SAMPLES / 8, 2, 4]).dropout_channels(random, 0.3));
    tape.assign(&random.step, tape.state(&random.step) + 1.0);
}

fn mean(values: &[f32]) -> f64 {
    values.iter().map(|&v| f64::from(v)).sum::<f64>() / values.len() as f64
}

fn check_random(device: &Device) {
    let (tape, mut states) = (Tape::new(), States::new());
    let random = random_state(&mut states);
    record_random(&tape, &random);
    let (mut executable, _store) = load(device, &program(&tape), &states, 0);
    let x: Vec<f32> = numbers(SAMPLES, 1).iter().map(|v| v + 2.0).collect();
    let w: Vec<f32> = numbers(SAMPLES, 2).iter().map(|v| v - 2.0).collect();
    write(&mut executable, "x", &x);
    write(&mut executable, "w", &w);
    let mut before = vec![];
    for _ in 0..2 {
        executable.run(1).unwrap();
        let read = |name: &str| executable.read(name).unwrap();
        let (dropped, mask, uniform, normal) =
            (read("dropped"), read("mask"), read("uniform"), read("normal"));
        for i in 0..SAMPLES {
            // Zero where dropped, else scaled by 1 / 0.7; the gradient has the same mask.
            let scale = if dropped[i] == 0.0 { 0.0 } else { 1.0 / 0.7 };
            assert!((dropped[i] - scale * x[i]).abs() < 1e-5, "value {i}: {} of {}", dropped[i], x[i]);
            assert!((mask[i] - scale * w[i]).abs() < 1e-5, "gradient {i}: {} of {}", mask[i], w[i]);
        }
        // Whole channels, of four numbers each, none of which is zero.
        let channels = read("channels");
        let is_kept = |channel: &[f32]| channel.iter().filter(|v| **v != 0.0).count();
        assert!(channels.chunks_exact(4).all(|channel| [0, 4].contains(&is_kept(channel))));
        for (value, x) in channels.iter().zip(&x).filter(|(value, _)| **value != 0.0) {
            assert!((value - x / 0.7).abs() < 1e-5, "{value} of {x}");
        }
        let of_channels = channels.iter().filter(|v| **v != 0.0).count() as f64 / SAMPLES as f64;
        // Six standard errors of a quarter of the numbers.
        assert!((of_channels - 0.7).abs() < 0.04, "{of_channels} of channels kept");
        let kept = dropped.iter().filter(|v| **v != 0.0).count() as f64 / SAMPLES as f64;
        // Six standard errors: 6 · √(p (1 − p) / n).
        assert!((kept - 0.7).abs() < 0.02, "{kept} kept");
        assert!(uniform.iter().all(|v| (0.0..1.0).contains(v)) && (mean(&uniform) - 0.5).abs() < 0.0125);
        let variance = mean(&normal.iter().map(|v| v * v).collect::<Vec<_>>());
        assert!(
            mean(&normal).abs() < 0.0425 && (variance - 1.0).abs() < 0.06,
            "{} {variance}",
            mean(&normal)
        );
        assert_ne!(before, normal, "each replay has new numbers");
        before = normal;
    }
}

#[test]
fn random_numbers_and_dropout_on_cpu() {
    check_random(&common::cpu());
}

#[test]
fn random_numbers_and_dropout_on_gpu() {
    check_random(&common::gpu());
}

#[test]
fn uniform_numbers_have_the_same_bits_on_both_devices() {
    let uniform = |device: &Device| {
        let (tape, mut states) = (Tape::new(), States::new());
        record_random(&tape, &random_state(&mut states));
        let (mut executable, _store) = load(device, &program(&tape), &states, 0);
        executable.run(3).unwrap();
        executable.read("uniform").unwrap()
    };
    assert_eq!(uniform(&common::cpu()), uniform(&common::gpu()));
}
