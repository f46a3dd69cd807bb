"""Golden values of functions of masks and masks of functions, from PyTorch in float64, at points where they
bend or blow up.

Run `python3 tests/goldens/masks.py` (torch, safetensors) to write `masks.safetensors` beside this file.

Every unary u and every masked operation m are taken in both orders: f = u(m(x)), then f = m(u(x)). Of each

    y = f(x),    g = d/dx sum w * f,    h = d/dx sum v * g

at the points `x` (tensors `x`, `other`, `w`, `v`), as tensors of shape [2 * unaries, 3, points] named after
the masked operation. Where PyTorch itself multiplies infinity by the zero of a mask (abs at 0, amax) it has
NaN: what is not NaN is held against it, and what is must be 0 here if the mask is.
"""

from pathlib import Path

import torch
import torch.nn.functional as F
from safetensors.torch import save_file

INF, NAN = float("inf"), float("nan")
POINTS = torch.tensor([-INF, -3, -1, -0.5, 0, 0.25, 0.5, 1, 3, INF, NAN], dtype=torch.float64)
OTHER = torch.tensor([0, 0, -1, 0, 0, 1, 0.5, 0, 0, 0, 0.25], dtype=torch.float64)
W = torch.tensor([1.5, -0.5, 2, 1, -1.25, 0.75, 1, -2, 0.5, 1, 1], dtype=torch.float64)
V = torch.tensor([0.5, 1, -1, 0.75, 2, 1.5, -0.25, 1, 1, -1, 1], dtype=torch.float64)


def clamp(x, low, high):
    """With the derivative 1 at both bounds, as most versions of PyTorch have it and this tape promises."""
    return torch.where((x >= low) & (x <= high), x, torch.clamp(x.detach(), low, high))


UNARIES = [
    lambda x: -x,
    lambda x: 1 / x,
    torch.exp,
    torch.log,
    torch.sqrt,
    torch.abs,
    lambda x: x * x,
    F.relu,
    lambda x: F.leaky_relu(x, 0.2),
    torch.tanh,
    torch.sigmoid,
    lambda x: F.softplus(x, threshold=1e9),
    lambda x: 2 * x - 0.5,
    lambda x: clamp(x, -0.5, 0.5),
]

MASKED = {
    "relu": F.relu,
    "leaky_relu": lambda x: F.leaky_relu(x, 0.2),
    "clamp": lambda x: clamp(x, 0, 1),
    "clamp_below": lambda x: clamp(x, -INF, 0.5),
    "maximum": lambda x: torch.maximum(x, OTHER),
    "minimum": lambda x: torch.minimum(OTHER, x),
    "where": lambda x: torch.where(x > OTHER, x, OTHER),
    "where_not": lambda x: torch.where(x > 0, OTHER, x),
    "abs": torch.abs,
    "max": lambda x: torch.stack([x, OTHER], 1).amax(1),
}


def derivatives(f):
    x = POINTS.clone().requires_grad_()
    y = f(x)
    if not y.requires_grad:
        return torch.stack([y, torch.zeros_like(y), torch.zeros_like(y)])
    g = torch.autograd.grad((W * y).sum(), x, create_graph=True)[0]
    h = torch.autograd.grad((V * g).sum(), x, allow_unused=True)[0] if g.requires_grad else None
    return torch.stack([y, g, torch.zeros_like(y) if h is None else h])


def main():
    tensors = {"x": POINTS, "other": OTHER, "w": W, "v": V}
    for name, m in MASKED.items():
        orders = [lambda x, u=u: u(m(x)) for u in UNARIES] + [lambda x, u=u: m(u(x)) for u in UNARIES]
        tensors[name] = torch.stack([derivatives(f) for f in orders])
    save_file({k: t.detach().float().contiguous() for k, t in tensors.items()}, Path(__file__).with_name("masks.safetensors"))
    numbers = torch.stack([tensors[name] for name in MASKED])
    print(f"{2 * len(MASKED) * len(UNARIES)} functions, {numbers.numel()} numbers, {numbers.isnan().sum()} of them NaN")


if __name__ == "__main__":
    main()
