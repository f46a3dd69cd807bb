"""Five training steps of a small DCGAN, from PyTorch in float64.

Run `python3 tests/goldens/dcgan.py` (torch, safetensors) to write `dcgan.safetensors` beside this file. The
networks, parameter names and layouts are those of `src/models/dcgan.rs`: 16x16 colour images, width 8, latent
16, kernel 4, batch 8. A step:

    D: BCE(D(x), 1) + BCE(D(G(z).detach()), 0), Adam on D
    G: BCE(D(G(z)), 1) with the same fakes through the updated D, Adam on G

with Adam lr 2e-4, betas (0.5, 0.999), eps 1e-8 and batch norm in train mode throughout (momentum 0.1,
unbiased running variance): D's running statistics see three batches a step, G's one.

Tensors: `before/NAME` and `after/NAME` for parameters and running statistics; for step t `t/x`, `t/z`,
`t/loss_d`, `t/loss_g`.
"""

from pathlib import Path

import torch
import torch.nn.functional as F
from safetensors.torch import save_file
from torch import nn

SIZE, CHANNELS, WIDTH, LATENT, BATCH, STEPS = 16, 3, 8, 16, 8, 5


class Generator(nn.Module):
    def __init__(self):
        super().__init__()
        self.project = nn.Linear(LATENT, 2 * WIDTH * 16, bias=False)
        self.project_bn = nn.BatchNorm2d(2 * WIDTH)
        self.up1 = nn.ConvTranspose2d(2 * WIDTH, WIDTH, 4, 2, 1, bias=False)
        self.up1_bn = nn.BatchNorm2d(WIDTH)
        self.output = nn.ConvTranspose2d(WIDTH, CHANNELS, 4, 2, 1)

    def forward(self, z):
        h = F.relu(self.project_bn(self.project(z).view(-1, 2 * WIDTH, 4, 4)))
        h = F.relu(self.up1_bn(self.up1(h)))
        return torch.tanh(self.output(h))


class Discriminator(nn.Module):
    def __init__(self):
        super().__init__()
        self.input = nn.Conv2d(CHANNELS, WIDTH, 4, 2, 1)
        self.down1 = nn.Conv2d(WIDTH, 2 * WIDTH, 4, 2, 1, bias=False)
        self.down1_bn = nn.BatchNorm2d(2 * WIDTH)
        self.output = nn.Linear(2 * WIDTH * 16, 1)

    def forward(self, x):
        h = F.leaky_relu(self.input(x), 0.2)
        h = F.leaky_relu(self.down1_bn(self.down1(h)), 0.2)
        return self.output(h.flatten(1))


def bce(logits, target):
    return F.binary_cross_entropy_with_logits(logits, torch.full_like(logits, target))


def main():
    torch.manual_seed(20260730)
    networks = nn.ModuleDict({"generator": Generator(), "discriminator": Discriminator()}).double()
    tensors = {}

    def states(prefix):
        for name, value in networks.state_dict().items():
            if not name.endswith("num_batches_tracked"):
                tensors[f"{prefix}/{name}"] = value.detach().clone()

    with torch.no_grad():
        for name, p in networks.named_parameters():
            if "_bn.weight" in name:
                p.copy_(1 + 0.1 * torch.randn_like(p))
            elif name.endswith("bias"):
                p.copy_(0.1 * torch.randn_like(p))
            else:
                p.copy_(0.1 * torch.randn_like(p))
            p.copy_(p.float())  # both sides start from the same numbers
    states("before")
    g, d = networks["generator"], networks["discriminator"]
    adam = {"lr": 2e-4, "betas": (0.5, 0.999), "eps": 1e-8}
    g_adam, d_adam = torch.optim.Adam(g.parameters(), **adam), torch.optim.Adam(d.parameters(), **adam)
    grid = torch.linspace(-3, 3, SIZE).double()
    for t in range(STEPS):
        phase = 6 * torch.rand(BATCH, CHANNELS, 1, 1).double()
        x = torch.sin(phase + grid.view(-1, 1) * torch.randn(BATCH, 1, 1, 1).double() + grid)
        x, z = (v.float().double() for v in (x, torch.randn(BATCH, LATENT)))
        fake = g(z)
        loss_d = bce(d(x), 1.0) + bce(d(fake.detach()), 0.0)
        d_adam.zero_grad()
        loss_d.backward()
        d_adam.step()
        loss_g = bce(d(fake), 1.0)
        g_adam.zero_grad()
        loss_g.backward()
        g_adam.step()
        for name, value in (("x", x), ("z", z), ("loss_d", loss_d), ("loss_g", loss_g)):
            tensors[f"{t}/{name}"] = value.detach()
        print(t, loss_d.item(), loss_g.item())
    states("after")
    path = Path(__file__).with_name("dcgan.safetensors")
    save_file({k: v.float().contiguous().clone() for k, v in tensors.items()}, path)
    print(f"{len(tensors)} tensors, {path.stat().st_size} bytes")


if __name__ == "__main__":
    main()
