"""Golden values for every operation of the tape, from PyTorch in float64.

Run `python3 tests/goldens/ops.py` (torch, safetensors) to write `ops.safetensors` beside this file. Seeds
depend on the case's name alone, so one case can change without the others.

Every operation f sits in the middle of a graph, where its incoming gradient is neither 1 nor constant:

    a_i  = x_i + 0.25 tanh(x_i)                 upstream of f; keeps signs and ties
    y    = f(a_0, a_1, ...)
    L    = sum w * (y + y*y / 2)                downstream of f
    g_i  = dL/dx_i                              first derivatives
    S    = sum_i sum v_i * g_i
    h_i  = dS/dx_i                              second derivatives, with respect to every input

Tensors of a case: `name/x0 ...`, `name/y`, `name/w`, `name/g0 ...`, `name/v0 ...`, `name/h0 ...`.
"""

import zlib
from pathlib import Path

import torch
import torch.nn.functional as F
from safetensors.torch import save_file

CASES = {}


def case(name, f, *inputs):
    """Registers f over inputs given as shapes, or as (shape, kind)."""
    assert name not in CASES, name
    CASES[name] = (f, [i if isinstance(i[0], tuple) else (i, "normal") for i in inputs])


def draw(shape, kind, generator):
    """Inputs of a case, rounded to float32 so that both sides start from the same numbers."""
    x = torch.randn(shape, generator=generator, dtype=torch.float64)
    if kind == "positive":
        x = 0.4 + 1.6 * torch.rand(shape, generator=generator, dtype=torch.float64)
    elif kind == "kinked":  # stays away from the kink at 0
        x = x + 0.1 * torch.sign(x)
    elif kind == "ties":
        x = torch.randint(-2, 3, shape, generator=generator).double()
    elif kind == "large":
        x = 20 * x
    elif kind == "shown":  # square matrices, positive on the diagonal
        x = x + 4 * torch.eye(shape[-1])
    else:
        assert kind == "normal", kind
    return x.float().double()


# ----
# convolutions -------------------------------------------------------------------------------------------------

conv, convt = F.conv2d, F.conv_transpose2d
case("conv2d_3x3", lambda x, w: conv(x, w, padding=1), (2, 3, 5, 7), (4, 3, 3, 3))
case("conv2d_rect", lambda x, w: conv(x, w, stride=(2, 1), padding=(1, 0)), (2, 2, 7, 6), (3, 2, 3, 2))
case("conv2d_k4s2p1", lambda x, w: conv(x, w, stride=2, padding=1), (2, 3, 8, 6), (5, 3, 4, 4))
case("conv2d_same_k5s2", lambda x, w: conv(F.pad(x, (1, 2, 1, 2)), w, stride=2), (1, 2, 8, 8), (3, 2, 5, 5))
case("conv2d_pads_differ", lambda x, w: conv(F.pad(x, (0, 2, 1, 0)), w), (2, 1, 4, 5), (2, 1, 2, 3))
case("conv2d_dilated", lambda x, w: conv(x, w, stride=(1, 2), padding=2, dilation=(2, 3)), (1, 2, 7, 9), (3, 2, 3, 2))
case("conv2d_stride_above_kernel", lambda x, w: conv(x, w, stride=3), (2, 3, 8, 7), (2, 3, 1, 2))
case("conv2d_1x1", lambda x, w: conv(x, w), (3, 5, 3, 4), (2, 5, 1, 1))
case(
    "conv2d_bias_leaky_relu",
    lambda x, w, b: F.leaky_relu(conv(x, w, b, stride=2, padding=1), 0.2),
    (2, 2, 6, 6),
    (3, 2, 4, 4),
    (3,),
)
case("conv_transpose2d_3x3", lambda x, w: convt(x, w, padding=1), (2, 3, 4, 5), (3, 2, 3, 3))
case("conv_transpose2d_k4s2p1", lambda x, w: convt(x, w, stride=2, padding=1), (2, 4, 3, 4), (4, 3, 4, 4))
case(
    "conv_transpose2d_k5s2p2_op1",
    lambda x, w: convt(x, w, stride=2, padding=2, output_padding=1),
    (1, 3, 3, 4),
    (3, 2, 5, 5),
)
case(
    "conv_transpose2d_rect_dilated",
    lambda x, w: convt(x, w, stride=(1, 2), padding=(1, 0), dilation=(2, 1), output_padding=(1, 0)),
    (2, 2, 4, 3),
    (2, 3, 3, 2),
)
case(
    "conv_transpose2d_output_padding_above_stride",
    lambda x, w: convt(x, w, padding=(1, 0), dilation=3, output_padding=2),
    (1, 2, 3, 4),
    (2, 2, 2, 3),
)
case("conv_transpose2d_stride_above_kernel", lambda x, w: convt(x, w, stride=3, output_padding=2), (1, 2, 3, 2), (2, 2, 2, 1))
case("conv_transpose2d_pads_differ", lambda x, w: convt(x, w, stride=2)[:, :, 1:-2, :-1], (2, 2, 4, 3), (2, 3, 4, 3))
case(
    "conv_transpose2d_bias_tanh",
    lambda x, w, b: torch.tanh(convt(x, w, b, stride=2, padding=1)),
    (1, 3, 3, 3),
    (3, 2, 4, 4),
    (2,),
)
case("conv2d_groups", lambda x, w: conv(x, w, padding=1, groups=2), (2, 4, 5, 6), (6, 2, 3, 3))
case(
    "conv2d_depthwise",
    lambda x, w: conv(F.pad(x, (1, 2, 1, 2)), w, stride=2, dilation=(2, 1), groups=3),
    (2, 3, 7, 6),
    (3, 1, 3, 2),
)
case("conv2d_depthwise_many", lambda x, w: conv(x, w, groups=3), (1, 3, 5, 5), (6, 1, 3, 3))
case(
    "conv_transpose2d_groups",
    lambda x, w: convt(x, w, stride=2, padding=1, output_padding=(1, 0), groups=2),
    (2, 4, 3, 4),
    (4, 3, 3, 3),
)
case("conv_transpose2d_depthwise", lambda x, w: convt(x, w, groups=3), (2, 3, 3, 2), (3, 1, 2, 3))
case("conv1d", lambda x, w: F.conv1d(x, w, stride=2, padding=1), (2, 3, 9), (4, 3, 4))
case("conv1d_dilated", lambda x, w: F.conv1d(x, w, padding=2, dilation=2), (2, 2, 7), (3, 2, 3))
case("conv_transpose1d", lambda x, w: F.conv_transpose1d(x, w, stride=2, padding=1), (2, 3, 5), (3, 2, 4))
case("conv_transpose1d_dilated", lambda x, w: F.conv_transpose1d(x, w, stride=3, dilation=2), (1, 2, 4), (2, 3, 3))

# ---- matrix
# products ----------------------------------------------------------------------------------------------

case("linear", F.linear, (5, 7), (3, 7), (3,))
case("linear_no_bias", F.linear, (4, 6), (5, 6))
case("linear_relu", lambda x, w, b: F.relu(F.linear(x, w, b)), (3, 5), (4, 5), (4,))
for batched_a in (False, True):
    for batched_b in (False, True):
        for trans_a in (False, True):
            for trans_b in (False, True):
                a = (5, 4) if trans_a else (4, 5)
                b = (3, 5) if trans_b else (5, 3)
                form = f"{'3' if batched_a else '2'}{'3' if batched_b else '2'}_"
                form += f"{'t' if trans_a else 'n'}{'t' if trans_b else 'n'}"
                case(
                    f"matmul_{form}",
                    lambda a, b, s=trans_a, t=trans_b: (a.mT if s else a) @ (b.mT if t else b),
                    ((2,) if batched_a else ()) + a,
                    ((2,) if batched_b else ()) + b,
                )
case("matmul_self", lambda a: a @ a.mT, (2, 3, 5))

# ---- element by
# element -------------------------------------------------------------------------------------------

case("add", torch.add, (2, 3, 5), (2, 3, 5))
case("add_row", torch.add, (4, 7), (7,))
case("add_bias_4d", lambda x, b: x + b.view(1, -1, 1, 1), (2, 3, 3, 2), (3,))
case("sub_column", torch.sub, (4, 5), (4, 1))
case("sub_both_repeat", torch.sub, (3, 1, 4), (2, 1))
case("mul", torch.mul, (3, 5), (3, 5))
case("mul_scalar_tensor", torch.mul, (3, 5), (1,))
case("mul_outer", torch.mul, (4, 1), (1, 3))
case("div", torch.div, (3, 5), ((3, 5), "positive"))
case("div_repeat", torch.div, (2, 3, 4), ((3, 1), "positive"))
case("one_over", lambda x: 1 / x, ((7,), "positive"))
case("constants", lambda x: 3 - (2 * x + 1) / 4 + (0.5 - x) * 2, (11,))
case("affine", lambda x: -1.5 * x + 0.25, (13,))
case("neg", torch.neg, (2, 3))
case("recip", torch.reciprocal, ((9,), "positive"))
case("exp", torch.exp, (3, 5))
case("log", torch.log, ((3, 5), "positive"))
case("sqrt", torch.sqrt, ((17,), "positive"))
case("abs", torch.abs, ((17,), "kinked"))
case("abs_at_zero", torch.abs, ((17,), "ties"))
case("sign", torch.sign, ((9,), "ties"))
case("square", torch.square, (9,))
case("relu", F.relu, ((3, 7), "kinked"))
case("relu_at_zero", F.relu, ((15,), "ties"))
case("leaky_relu", lambda x: F.leaky_relu(x, 0.2), ((3, 7), "kinked"))
case("leaky_relu_at_zero", lambda x: F.leaky_relu(x, 0.2), ((15,), "ties"))
case("leaky_relu_negative", lambda x: F.leaky_relu(x, -0.5), ((13,), "kinked"))
case("tanh", torch.tanh, (3, 5))
case("sigmoid", torch.sigmoid, (3, 5))
case("sigmoid_large", torch.sigmoid, ((11,), "large"))
case("softplus", F.softplus, (3, 5))
case("softplus_large", lambda x: F.softplus(x, threshold=1e9), ((11,), "large"))
case("clamp", lambda x: torch.clamp(x, -0.5, 0.8), (23,))
case("step", lambda x: (x > 0).double(), ((9,), "ties"))
case("maximum", torch.maximum, (3, 7), (7,))
case("maximum_ties", torch.maximum, ((19,), "ties"), ((19,), "ties"))
case("minimum", torch.minimum, (3, 7), (3, 1))
case("minimum_ties", torch.minimum, ((19,), "ties"), ((19,), "ties"))
case("greater", lambda a, b: (a > b).double(), ((19,), "ties"), ((19,), "ties"))
case("equal", lambda a, b: (a == b).double(), ((19,), "ties"), ((19,), "ties"))
case("select", lambda a, b, c: torch.where(a > b, b, c), ((19,), "ties"), ((19,), "ties"), (19,))
case("select_repeat", lambda a, b, c: torch.where(a > 0.2, b, c * a), (3, 1), (4,), (2, 3, 4))
case("select_same", lambda a, b: torch.where(a > b, a, a * a), (3, 7), (7,))
case("powf_cube", lambda x: x**3, (3, 7))
case("powf_fraction", lambda x: x**-2.7, ((3, 7), "positive"))
case("powf_zero", lambda x: x**0, (5,))
case("powf_root", lambda x: x**0.5, ((11,), "positive"))
case("pow_tensor", torch.pow, ((3, 5), "positive"), (5,))
case("stop_gradient", lambda a, b: a.detach() * b + a, (3, 4), (3, 4))

# ---- reductions and
# norms -----------------------------------------------------------------------------------------

case("sum_first", lambda x: x.sum(0, keepdim=True), (3, 4, 5))
case("sum_middle", lambda x: x.sum(1, keepdim=True), (3, 4, 5))
case("sum_last", lambda x: x.sum(2, keepdim=True), (3, 4, 5))
case("sum_outer", lambda x: x.sum((0, 2), keepdim=True), (3, 4, 5))
case("sum_all", lambda x: x.sum(), (3, 4, 5))
case("sum_of_product", lambda x, y: (x * y).sum((0, 2, 3), keepdim=True), (2, 3, 4, 5), (3, 1, 1))
case("sum_per_sample", lambda x: x.flatten(1).sum(1), (3, 4, 5))
case("mean_last", lambda x: x.mean(1, keepdim=True), (5, 7))
case("mean_channels", lambda x: x.mean((0, 2, 3), keepdim=True), (2, 3, 4, 5))
case("mean_all", lambda x: x.mean(), (4, 7))
case("mean_per_sample", lambda x: x.flatten(1).mean(1), (3, 2, 7))
case("max_last", lambda x: x.amax(1, keepdim=True), (5, 7))
case("max_outer", lambda x: x.amax((0, 2), keepdim=True), (3, 4, 5))
case("max_ties", lambda x: x.amax((1, 2), keepdim=True), ((3, 4, 5), "ties"))
case("min_outer", lambda x: x.amin((0, 2), keepdim=True), (3, 4, 5))
case("min_ties", lambda x: x.amin((1, 2), keepdim=True), ((3, 4, 5), "ties"))
case("prod_last", lambda x: x.prod(1, keepdim=True), (4, 7))
case("prod_all", lambda x: x.prod(0, keepdim=True).prod(1, keepdim=True).prod(2, keepdim=True), (2, 3, 3))
case("prod_zeros", lambda x: x.prod(1, keepdim=True), ((9, 5), "ties"))
case("variance_channels", lambda x: x.var((0, 2, 3), keepdim=True, correction=0), (2, 3, 4, 5))
case("variance_rows", lambda x: x.var(1, keepdim=True, correction=0), (5, 7))
case("variance_columns", lambda x: x.var(0, keepdim=True, correction=0), (5, 3))
case("variance_samples", lambda x: x.var((1, 2, 3), keepdim=True, correction=0), (2, 3, 2, 5))
case("variance_split", lambda x: x.var((1, 3), keepdim=True, correction=0), (2, 3, 4, 5))
case("variance_all", lambda x: x.var(correction=0), (3, 5))
case("softmax_last", lambda x: x.softmax(1), (4, 7))
case("softmax_middle", lambda x: x.softmax(1), (2, 3, 4))


def masked_attention(scores, mask, values):
    return torch.where(mask > 0, scores, -torch.inf).softmax(2) @ values


# Attention: of each row of scores, what is hidden weighs nothing.
case("softmax_masked", masked_attention, (2, 5, 5), ((2, 5, 5), "shown"), (2, 5, 3))
case("softmax_large", lambda x: x.softmax(1), ((3, 5), "large"))
case(
    "batch_norm_train_4d",
    lambda x, g, b: F.batch_norm(x, None, None, g, b, training=True, eps=1e-5),
    (4, 3, 3, 2),
    (3,),
    (3,),
)
case("batch_norm_train_2d", lambda x, g, b: F.batch_norm(x, None, None, g, b, training=True, eps=1e-5), (7, 5), (5,), (5,))
case(
    "batch_norm_train_leaky_relu",
    lambda x, g, b: F.leaky_relu(F.batch_norm(x, None, None, g, b, training=True, eps=1e-5), 0.2),
    (3, 2, 4, 4),
    (2,),
    (2,),
)
case(
    "batch_norm_eval",
    lambda x, g, b, m, v: (x - m.view(1, -1, 1, 1)) / (v.view(1, -1, 1, 1) + 1e-5).sqrt() * g.view(1, -1, 1, 1)
    + b.view(1, -1, 1, 1),
    (2, 3, 4, 3),
    (3,),
    (3,),
    (3,),
    ((3,), "positive"),
)
case(
    "layer_norm",
    lambda x, g, b: F.layer_norm(x, x.shape[1:], eps=1e-5) * g.view(1, -1, 1, 1) + b.view(1, -1, 1, 1),
    (3, 2, 4, 3),
    (2,),
    (2,),
)

# ---- shapes, pooling,
# resampling ----------------------------------------------------------------------------------

case("reshape", lambda x: x.reshape(4, 6), (2, 3, 4))
case("flatten", lambda x: x.flatten(1), (2, 3, 4))
case("transpose", lambda x: x.mT, (2, 3, 5))
case("permute", lambda x: x.permute(2, 0, 3, 1), (2, 3, 4, 5))
case("broadcast_to", lambda x: x.expand(2, 3, 4), (3, 1))
case("slice_steps", lambda x: x[1:5:2, 0:7:3], (6, 7))
case("narrow", lambda x: x[:, 2:5], (3, 6, 2))
case("embed", lambda x: F.conv_transpose2d(x, torch.ones(1, 1, 1, 1).double(), stride=(2, 3)), (1, 1, 3, 2))
case("pad", lambda x: F.pad(x, (1, 0, 2, 3)), (2, 3, 4))
case("concat_channels", lambda a, b, c: torch.cat([a, b, c], 1), (2, 1, 3), (2, 4, 3), (2, 2, 3))
case("concat_rows", lambda a, b: torch.cat([a, b], 0), (3, 4), (2, 4))
case("concat_nine", lambda *parts: torch.cat(parts, 1), *[(2, 1 + i % 3) for i in range(9)])
case("upsample_nearest_2", lambda x: F.interpolate(x, scale_factor=2), (2, 3, 3, 2))
case("upsample_nearest_3", lambda x: F.interpolate(x, scale_factor=3), (1, 2, 2, 3))
case("gather", lambda x: x[:, [4, 0, 0, 2, 4, 4, 1]], (2, 5, 3))
case("gather_last", lambda x: x[:, :, [2, 1, 0]], (2, 2, 3))
case("pad_constant", lambda x: F.pad(x, (1, 3, 2, 0), value=-1.5), (2, 2, 3, 4))
case("pad_reflect", lambda x: F.pad(x, (1, 3, 2, 1), mode="reflect"), (2, 2, 3, 4))
case("pad_edge", lambda x: F.pad(x, (0, 6, 5, 1), mode="replicate"), (2, 1, 3, 4))
case("resize_nearest", lambda x: F.interpolate(x, (7, 3)), (2, 2, 3, 5))
case("resize_linear_up", lambda x: F.interpolate(x, (7, 10), mode="bilinear"), (2, 2, 3, 4))
case("resize_linear_down", lambda x: F.interpolate(x, (3, 4), mode="bilinear"), (1, 2, 7, 9))
case("resize_aligned", lambda x: F.interpolate(x, (9, 3), mode="bilinear", align_corners=True), (2, 1, 4, 7))
case("resize_aligned_one", lambda x: F.interpolate(x, (1, 8), mode="bilinear", align_corners=True), (1, 2, 3, 1))
TAPS = torch.tensor([0.5, -1.0, 2.0, 0.25, 1.5]).double().view(1, 1, 5)
case("filter", lambda x: F.conv1d(x.reshape(6, 1, 7), TAPS, padding=2).reshape(2, 3, 7), (2, 3, 7))
case("filter_rows", lambda x: F.conv1d(x.mT.reshape(6, 1, 4), TAPS, padding=2).reshape(2, 3, 4).mT, (2, 4, 3))
case("filter_wider", lambda x: F.conv1d(x.reshape(3, 1, 2), TAPS, padding=2).reshape(3, 2), (3, 2))
case("resample_1d", lambda x: F.interpolate(x, 11, mode="linear"), (2, 3, 4))
case(
    "avg_pool_uncounted",
    lambda x: F.avg_pool2d(x, (3, 2), stride=(2, 1), padding=1, count_include_pad=False),
    (1, 3, 5, 4),
)
case("avg_pool_ceil", lambda x: F.avg_pool2d(x, 3, stride=2, padding=(1, 0), ceil_mode=True), (2, 2, 6, 6))
case("avg_pool_pads_differ", lambda x: F.avg_pool2d(F.pad(x, (1, 1, 0, 2)), (3, 2), stride=2), (2, 2, 5, 5))
case(
    "max_pool_dilated",
    lambda x: F.max_pool2d(x, (3, 2), stride=(1, 2), padding=1, dilation=(2, 3)),
    (2, 2, 7, 8),
)
case("max_pool_ceil", lambda x: F.max_pool2d(x, 3, stride=2, ceil_mode=True), (2, 2, 6, 8))
case("max_pool_pads_differ", lambda x: F.max_pool2d(F.pad(x, (1, 0, 0, 2), value=-1e30), (3, 2), stride=2), (1, 2, 5, 6))
case("avg_pool", lambda x: F.avg_pool2d(x, 2), (2, 3, 4, 6))
case("avg_pool_overlap", lambda x: F.avg_pool2d(x, 3, stride=2), (2, 2, 7, 5))
case("avg_pool_padded", lambda x: F.avg_pool2d(x, (3, 2), stride=(2, 1), padding=1), (1, 3, 5, 4))
case("max_pool", lambda x: F.max_pool2d(x, 2), (2, 3, 4, 6))
case("max_pool_overlap", lambda x: F.max_pool2d(x, 3, stride=2), (2, 2, 7, 5))
case("max_pool_padded", lambda x: F.max_pool2d(x, (3, 2), stride=(2, 1), padding=1), (1, 3, 5, 4))
case("max_pool_ties", lambda x: F.max_pool2d(x, 3, stride=2, padding=1), ((1, 2, 6, 5), "ties"))

# ----
# losses -------------------------------------------------------------------------------------------------------

case("loss_l1", F.l1_loss, (3, 7), (3, 7))
case("loss_mse", F.mse_loss, (3, 7), (3, 7))
case("loss_bce_real", lambda l: F.binary_cross_entropy_with_logits(l, torch.ones_like(l)), ((13,), "large"))
case("loss_bce_fake", lambda l: F.binary_cross_entropy_with_logits(l, torch.zeros_like(l)), ((13,), "large"))
case("loss_bce_target", lambda l, t: F.binary_cross_entropy_with_logits(l, t), (5, 3), ((5, 3), "positive"))


def gradients(scalar, inputs):
    """Derivatives with respect to all inputs; zeros where there is no path."""
    if not scalar.requires_grad:
        return [torch.zeros_like(x) for x in inputs]
    found = torch.autograd.grad(scalar, inputs, create_graph=True, allow_unused=True)
    return [torch.zeros_like(x) if g is None else g for g, x in zip(found, inputs)]


def main():
    tensors = {}
    for name, (f, specs) in CASES.items():
        generator = torch.Generator().manual_seed(zlib.crc32(name.encode()))
        xs = [draw(shape, kind, generator).requires_grad_() for shape, kind in specs]
        y = f(*[x + 0.25 * torch.tanh(x) for x in xs])
        w = draw(y.shape, "normal", generator)
        gs = gradients((w * (y + y * y / 2)).sum(), xs)
        vs = [draw(x.shape, "normal", generator) for x in xs]
        hs = gradients(sum((v * g).sum() for v, g in zip(vs, gs)), xs)
        tensors[f"{name}/y"], tensors[f"{name}/w"] = y, w
        for i, parts in enumerate(zip(xs, gs, vs, hs)):
            for letter, part in zip("xgvh", parts):
                tensors[f"{name}/{letter}{i}"] = part
    tensors = {name: t.detach().float().contiguous().clone() for name, t in tensors.items()}
    path = Path(__file__).with_name("ops.safetensors")
    save_file(tensors, path)
    print(f"{len(CASES)} cases, {len(tensors)} tensors, {path.stat().st_size} bytes")


if __name__ == "__main__":
    main()
