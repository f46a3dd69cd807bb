"""Optimisers and normalising layers over several steps, from PyTorch in float64.

Run `python3 tests/goldens/nn.py` (torch, safetensors) to write `nn.safetensors` beside this file.

Optimisers take the same eight gradients `g0 ... g7` [5, 3] from the same start `p`; `NAME/p` is where they
end, `NAME/cosine` where three of them end under `CosineAnnealingLR`. Batch norm sees the three batches `x0
... x2` [4, 3, 2, 5] in train mode, then the first again in eval mode: `bn/y0 ... y2`, `bn/eval`, and its
running statistics `bn/mean`, `bn/var`. Layer norm over (C, H, W) sees the first: `ln/y`. `pass/KEY` are the
running statistics `a` and `b` of two batch norms with a doubling between, `bn_b(2·bn_a(x))`, after
`torch.optim.swa_utils.update_bn` over the three batches.
"""

from pathlib import Path

import torch
import torch.nn.functional as F
from safetensors.torch import save_file

OPTIMISERS = {
    "adam": lambda p: torch.optim.Adam(p, lr=0.01, betas=(0.9, 0.999)),
    "adam_wgan": lambda p: torch.optim.Adam(p, lr=0.02, betas=(0.0, 0.9)),
    "adam_decay": lambda p: torch.optim.Adam(p, lr=0.01, betas=(0.5, 0.999), weight_decay=0.1),
    "rmsprop": lambda p: torch.optim.RMSprop(p, lr=0.01, alpha=0.9),
    "sgd": lambda p: torch.optim.SGD(p, lr=0.05),
    "sgd_momentum": lambda p: torch.optim.SGD(p, lr=0.05, momentum=0.9),
}


def main():
    generator = torch.Generator().manual_seed(8)

    def draw(*shape):
        return torch.randn(shape, generator=generator, dtype=torch.float64).float().double()

    tensors = {"p": draw(5, 3)}
    tensors |= {f"g{t}": draw(5, 3) for t in range(8)}
    for name, make in OPTIMISERS.items():
        p = tensors["p"].clone().requires_grad_()
        optimiser = make([p])
        for t in range(8):
            p.grad = tensors[f"g{t}"].clone()
            optimiser.step()
        tensors[f"{name}/p"] = p
    for name in ("adam", "rmsprop", "sgd_momentum"):
        p = tensors["p"].clone().requires_grad_()
        optimiser = OPTIMISERS[name]([p])
        schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimiser, T_max=8)
        for t in range(8):
            p.grad = tensors[f"g{t}"].clone()
            optimiser.step()
            schedule.step()
        tensors[f"{name}/cosine"] = p
    weight, bias, mean, var = 1 + 0.1 * draw(3).float().double(), draw(3), torch.zeros(3).double(), torch.ones(3).double()
    weight = weight.float().double()
    tensors |= {"weight": weight, "bias": bias}
    for t in range(3):
        x = (draw(4, 3, 2, 5) * (1 + t) + t).float().double()
        tensors[f"x{t}"] = x
        tensors[f"bn/y{t}"] = F.batch_norm(x, mean, var, weight, bias, training=True, momentum=0.1, eps=1e-5)
    tensors["bn/eval"] = F.batch_norm(tensors["x0"], mean, var, weight, bias, training=False, eps=1e-5)
    tensors |= {"bn/mean": mean, "bn/var": var}
    normal = F.layer_norm(tensors["x0"], (3, 2, 5), eps=1e-5)
    tensors["ln/y"] = normal * weight.view(1, -1, 1, 1) + bias.view(1, -1, 1, 1)
    norms = torch.nn.ModuleDict({k: torch.nn.BatchNorm2d(3, dtype=torch.float64) for k in "ab"})
    for norm in norms.values():
        norm.weight.data, norm.bias.data = weight.clone(), bias.clone()

    class Twice(torch.nn.Module):
        def __init__(self):
            super().__init__()
            self.norms = norms

        def forward(self, x):
            return self.norms["b"](2 * self.norms["a"](x))

    torch.optim.swa_utils.update_bn([tensors[f"x{t}"] for t in range(3)], Twice())
    for key, norm in norms.items():
        tensors |= {f"pass/{key}.mean": norm.running_mean, f"pass/{key}.var": norm.running_var}
    path = Path(__file__).with_name("nn.safetensors")
    save_file({k: v.detach().float().contiguous().clone() for k, v in tensors.items()}, path)
    print(f"{len(tensors)} tensors, {path.stat().st_size} bytes")


if __name__ == "__main__":
    main()
