"""The gradient penalty of WGAN-GP and its weight gradients, from PyTorch's double backward in float64.

Run `python3 tests/goldens/penalty.py` (torch, safetensors) to write `penalty.safetensors` beside this file.

    P = 10 * mean over samples of (||d critic(x) / dx||_2 - 1)^2

for two critics over x [3, 2, 16, 16]: `plain` (three convolutions k4 s2 p1 with leaky ReLU 0.2, then a linear
layer) and `norm` (the same with layer norm over (C, H, W), one gamma and beta for each channel, eps 1e-5,
after the second and third convolution). Tensors: `CRITIC/x`, `CRITIC/penalty`, `CRITIC/norms`, `CRITIC/pI`
and `CRITIC/gI` for parameter I and its gradient, in order of use, `CRITIC/gx` for the gradient with respect
to x.
"""

from pathlib import Path

import torch
import torch.nn.functional as F
from safetensors.torch import save_file

CHANNELS = [2, 4, 6, 5]


def parameters(norm, generator):
    """Weight and bias of each convolution, gamma and beta of each norm, weight and bias of the linear layer."""

    def draw(*shape, mean=0.0, std=0.2):
        p = mean + std * torch.randn(shape, generator=generator, dtype=torch.float64)
        return p.float().double().requires_grad_()

    out = []
    for i in range(3):
        out += [draw(CHANNELS[i + 1], CHANNELS[i], 4, 4), draw(CHANNELS[i + 1])]
        if norm and i > 0:
            out += [draw(CHANNELS[i + 1], mean=1.0), draw(CHANNELS[i + 1])]
    return out + [draw(1, CHANNELS[3] * 4), draw(1)]


def critic(x, p, norm):
    p = iter(p)
    for i in range(3):
        x = F.conv2d(x, next(p), next(p), stride=2, padding=1)
        if norm and i > 0:
            gamma, beta = next(p), next(p)
            x = F.layer_norm(x, x.shape[1:], eps=1e-5) * gamma.view(1, -1, 1, 1) + beta.view(1, -1, 1, 1)
        x = F.leaky_relu(x, 0.2)
    return F.linear(x.flatten(1), next(p), next(p))


def main():
    tensors = {}
    for name, norm in (("plain", False), ("norm", True)):
        generator = torch.Generator().manual_seed(1704)
        p = parameters(norm, generator)
        x = torch.randn(3, 2, 16, 16, generator=generator, dtype=torch.float64).float().double().requires_grad_()
        (gradient,) = torch.autograd.grad(critic(x, p, norm).sum(), x, create_graph=True)
        norms = gradient.flatten(1).norm(dim=1)
        penalty = 10 * (norms - 1).square().mean()
        grads = torch.autograd.grad(penalty, [*p, x], allow_unused=True)
        grads = [torch.zeros_like(v) if g is None else g for g, v in zip(grads, [*p, x])]
        print(name, penalty.item(), norms.tolist())
        tensors |= {f"{name}/x": x, f"{name}/penalty": penalty, f"{name}/norms": norms, f"{name}/gx": grads[-1]}
        for i, (value, g) in enumerate(zip(p, grads)):
            tensors[f"{name}/p{i}"], tensors[f"{name}/g{i}"] = value, g
    path = Path(__file__).with_name("penalty.safetensors")
    save_file({k: v.detach().float().contiguous().clone() for k, v in tensors.items()}, path)
    print(f"{len(tensors)} tensors, {path.stat().st_size} bytes")


if __name__ == "__main__":
    main()
