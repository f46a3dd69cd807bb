"""Operations of the tape at NaN, infinities, zeros of both signs, denormals and the ends of the range, from
PyTorch in float32.

Run `python3 tests/goldens/special.py` (torch, safetensors) to write `special.safetensors` beside this file.

The inputs of a case are named groups of tensors; its outputs are the value y and the gradients g0, g1, ... of
<y, w> with w = 0.25, 0.5, ... 1.25 in turn. Everything is made from the inputs, and (`flushed`) from the
inputs with denormals replaced by zeros of their sign, as devices may take them (WGSL 15.7.3); each in float32
and (`exact`) in float64 from the same numbers, for the true value where float32 lost it. Tensors:

    GROUP/x0 ...                        inputs of every case of the group
    GROUP:CASE/y, /g0 ...               outputs
    GROUP:CASE/exact/y, /flushed/y, /flushed/exact/y ...    those that differ from the plain ones
"""

from pathlib import Path

import torch
import torch.nn.functional as F
from safetensors.torch import save_file

NAN, INF = float("nan"), float("inf")
EDGES = [NAN, INF, -INF, 0.0, -0.0, 1e-45, -1e-45, 3e-39, -3e-39, 1.1754944e-38, 1e-30, -1e-30, 1e30, -1e30, 1e38, -1e38]
MORE = [3.4028235e38, -3.4028235e38, 1e-7, -1e-7, 1e-4, 0.5, -0.5, 0.8, 1.0, -1.0, 2.5, -3.0, 9.0, -9.5, 16.0, -20.0]
MORE += [60.0, -60.0, 88.0, 88.8, -87.5, -90.0, 100.0, -104.5, 1e4, -1e4, 1e10, -1e10]
FEW = EDGES + [1.0, -1.0, 0.5, -2.0, 3.0, 20.0, -20.0]

# Rows of a reduction: what may meet in one.
ROWS = [
    [1.0, 2.0, -3.0, 0.5],
    [NAN, 1.0, 2.0, 3.0],
    [1.0, 2.0, 3.0, NAN],
    [NAN, NAN, NAN, NAN],
    [NAN, INF, -INF, 0.0],
    [INF, 1.0, 2.0, 3.0],
    [-INF, 1.0, 2.0, 3.0],
    [INF, -INF, 1.0, 2.0],
    [INF, INF, 1.0, 2.0],
    [-INF, -INF, -INF, -INF],
    [0.0, 0.0, 0.0, 0.0],
    [-0.0, -0.0, -0.0, -0.0],
    [0.0, -0.0, 0.0, -0.0],
    [1e-45, 1e-45, 3e-39, 1e-39],
    [1e-30, 1e-30, -1e-30, 2e-30],
    [1e30, 1e30, -1e30, 2e30],
    [1e38, 1e38, 1e38, 1e38],
    [1e38, -1e38, 1e38, -1e38],
    [1e30, 1.0, 1e30, 2.0],
    [5.0, 5.0, 5.0, 5.0],
    [1e4, 1.0001e4, 0.9999e4, 1e4],
    [-20.0, 100.0, 88.8, -104.5],
    [90.0, 90.0, -90.0, 0.0],
]


def plane(values, fill=0.25):
    """A 5 x 5 image with the values along its diagonal."""
    p = fill + 0.125 * torch.arange(25.0).view(5, 5)
    for i, v in enumerate(values):
        p[i, i] = v
    return p


PLANES = torch.stack(
    [
        plane([NAN]),
        plane([0.1, 0.2, NAN]),
        plane([INF, 1.0, -INF]),
        plane([-INF, 2.0, 1.0, 0.5, INF]),
        torch.full((5, 5), -INF),
        plane([1e38, 1e38, 1e38, 1e38, 1e38], 1e37),
        plane([1e-45, 3e-39, 1e-39, -1e-45, 1e-40], 1e-38),
        plane([-0.0, 0.0, -0.0]),
    ]
).view(8, 1, 5, 5)

pairs = torch.cartesian_prod(torch.tensor(FEW), torch.tensor(FEW))
GROUPS = {
    "one": [torch.tensor(EDGES + MORE)],
    "two": [pairs[:, 0].contiguous(), pairs[:, 1].contiguous()],
    "rows": [torch.tensor(ROWS)],
    "norm": [torch.tensor(ROWS), torch.tensor([0.5, 1.0, -1.5, 2.0]), torch.tensor([0.1, -0.2, 0.3, 0.0])],
    "planes": [PLANES],
    "conv": [PLANES, torch.tensor([[0.5, -1.0, 0.25], [1.0, 2.0, -0.5], [0.0, 1.5, 1.0]]).view(1, 1, 3, 3)],
    "groups": [PLANES.view(4, 2, 5, 5), torch.linspace(-1, 1, 18).view(2, 1, 3, 3)],
    "product": [
        torch.tensor([[1.0, NAN, 2.0], [INF, 1.0, 2.0], [1e30, 1e30, 1e30], [1e-30, 1e-30, 0.0], [-1.0, 0.5, 2.0]]),
        torch.tensor([[1.0, 0.0, 1e30], [2.0, 1.0, 1e30], [0.0, -1.0, 1e-30]]),
    ],
}

layer_norm = lambda x, g, b: F.layer_norm(x, (4,), g, b, 1e-5)
CASES = {
    "one": {
        "neg": torch.neg,
        "recip": torch.reciprocal,
        "exp": torch.exp,
        "log": torch.log,
        "sqrt": torch.sqrt,
        "abs": torch.abs,
        "sign": torch.sign,
        "square": torch.square,
        "relu": F.relu,
        "leaky_relu": lambda x: F.leaky_relu(x, 0.2),
        "tanh": torch.tanh,
        "sigmoid": torch.sigmoid,
        "softplus": lambda x: torch.logaddexp(x, torch.zeros_like(x)),
        "affine": lambda x: 2 * x - 3,
        "scale": lambda x: x * 1e-30,
        "clamp": lambda x: torch.clamp(x, -0.5, 0.8),
        "step": lambda x: (x > 0).float(),
    },
    "two": {
        "add": torch.add,
        "sub": torch.sub,
        "mul": torch.mul,
        "div": torch.div,
        "maximum": torch.maximum,
        "minimum": torch.minimum,
        "pow": torch.pow,
        "select": lambda a, b: torch.where(a != 0, b, a),
        "greater": lambda a, b: (a > b).float(),
        "equal": lambda a, b: (a == b).float(),
        "l1": lambda a, b: (a - b).abs(),
        "mse": lambda a, b: (a - b).square(),
    },
    "rows": {
        "sum": lambda x: x.sum(1, keepdim=True),
        "mean": lambda x: x.mean(1, keepdim=True),
        "max": lambda x: x.amax(1, keepdim=True),
        "min": lambda x: x.amin(1, keepdim=True),
        "prod": lambda x: x.prod(1, keepdim=True),
        "softmax": lambda x: x.softmax(1),
        "variance": lambda x: x.var(1, keepdim=True, correction=0),
    },
    "norm": {"layer_norm": layer_norm},
    "planes": {
        "max_pool": lambda x: F.max_pool2d(x, 2),
        "max_pool_padded": lambda x: F.max_pool2d(x, 3, stride=2, padding=1),
        "avg_pool": lambda x: F.avg_pool2d(x, 3, stride=2, padding=1),
        "filter": lambda x: F.conv2d(x, torch.tensor([0.25, 0.5, 0.125], dtype=x.dtype).view(1, 1, 1, 3), padding=(0, 1)),
        "max_pool_dilated": lambda x: F.max_pool2d(x, 2, stride=1, dilation=3),
        "gather": lambda x: x[:, :, [4, 0, 0, 2]],
        "resize_linear": lambda x: F.interpolate(x, (10, 7), mode="bilinear"),
        "pad_reflect": lambda x: F.pad(x, (1, 2, 3, 1), mode="reflect"),
        "upsample_nearest": lambda x: F.interpolate(x, scale_factor=2),
        "pad": lambda x: F.pad(x, (1, 0, 2, 1)),
    },
    "conv": {
        "conv2d": lambda x, w: F.conv2d(x, w, padding=1),
        "conv2d_strided": lambda x, w: F.conv2d(x, w, stride=2),
        "conv_transpose2d": lambda x, w: F.conv_transpose2d(x, w, stride=2, padding=1),
    },
    "groups": {"conv2d_groups": lambda x, w: F.conv2d(x, w, padding=1, groups=2)},
    "product": {"matmul": torch.matmul},
}


def outputs(f, inputs, dtype):
    xs = [x.to(dtype).requires_grad_() for x in inputs]
    y = f(*xs).to(dtype)
    found = [None] * len(xs)
    if y.requires_grad:
        w = (torch.arange(y.numel()) % 5 + 1) / 4
        found = torch.autograd.grad(y, xs, w.to(dtype).view(y.shape), allow_unused=True)
    gs = [torch.zeros_like(x) if g is None else g for g, x in zip(found, xs)]
    results = {"y": y.detach()} | {f"g{i}": g for i, g in enumerate(gs)}
    return {key: value.float().contiguous() for key, value in results.items()}


def flush(x):
    return torch.where(x.abs() < torch.finfo(torch.float32).tiny, x * 0, x)


def same(a, b):
    return torch.equal(a.view(torch.int32), b.view(torch.int32))


def main():
    torch.backends.mkldnn.enabled = False  # its transforms spread what is not finite
    torch.backends.nnpack.enabled = False
    tensors = {}
    for group, inputs in GROUPS.items():
        tensors |= {f"{group}/x{i}": x for i, x in enumerate(inputs)}
        for name, f in CASES[group].items():
            plain = outputs(f, inputs, torch.float32)
            others = {
                "exact": outputs(f, inputs, torch.float64),
                "flushed": outputs(f, [flush(x) for x in inputs], torch.float32),
                "flushed/exact": outputs(f, [flush(x) for x in inputs], torch.float64),
            }
            for key, value in plain.items():
                tensors[f"{group}:{name}/{key}"] = value
                for kind, other in others.items():
                    if not same(value, other[key]):
                        tensors[f"{group}:{name}/{kind}/{key}"] = other[key]
    tensors = {name: t.contiguous().clone() for name, t in tensors.items()}
    path = Path(__file__).with_name("special.safetensors")
    save_file(tensors, path)
    rows = sum(t.numel() for name, t in tensors.items() if ":" in name and "flushed" not in name and "exact" not in name)
    print(f"{sum(len(c) for c in CASES.values())} cases, {rows} rows, {path.stat().st_size} bytes")


if __name__ == "__main__":
    main()
