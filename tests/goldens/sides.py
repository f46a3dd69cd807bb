"""Five training steps of a DCGAN on images of 48x80 and of a GANomaly on images of 33x50 (width x height),
from PyTorch in float64.

Run `python3 tests/goldens/sides.py` (torch, safetensors) to write `sides.safetensors` beside this file.
Networks, parameter names and layouts are those of `src/models/{dcgan,ganomaly}.rs`: gray images, width 4,
latent 8, kernel 4, batch 3. Sides are halved rounding up while the smaller one stays 4 or more: 80x48, 40x24,
20x12, 10x6 (height x width) and 50x33, 25x17, 13x9, 7x5. A convolution has one zero before and one after an
even side, one before and two after an odd one; its transpose, padding 1, loses the last row of an odd side.
Steps, losses and Adam are those of `dcgan.py` and `gan_systems.py`.

Tensors, under `dcgan/` and `ganomaly/`: `before/NAME` and `after/NAME` for parameters and running statistics;
`x`, the batch of every step; for step t `t/LOSS`, and `t/z` of the DCGAN; `score/NAME` of GANomaly, in eval
mode after the last step.
"""

from pathlib import Path

import torch
import torch.nn.functional as F
from safetensors.torch import save_file
from torch import nn

WIDTH, LATENT, BATCH, STEPS = 4, 8, 3, 5


def halvings(sides):
    """Height and width from the images down to the bottom."""
    all = [sides]
    while min((s + 1) // 2 for s in all[-1]) >= 4:
        all.append([(s + 1) // 2 for s in all[-1]])
    return all


class Down(nn.Conv2d):
    """4x4, stride 2, onto half of each side rounded up."""

    def __init__(self, a, b, bias=False):
        super().__init__(a, b, 4, 2, bias=bias)

    def forward(self, x):
        (h, w) = x.shape[2:]
        return super().forward(F.pad(x, (1, 1 + w % 2, 1, 1 + h % 2)))


class Up(nn.ConvTranspose2d):
    """4x4, stride 2, onto exactly these sides."""

    def __init__(self, a, b, sides, bias=False):
        super().__init__(a, b, 4, 2, 1, bias=bias)
        self.sides = sides

    def forward(self, x):
        h, w = self.sides
        return super().forward(x)[:, :, :h, :w]


class Pyramid(nn.Module):
    """Three levels, a linear head of all that is left."""

    def __init__(self, sides, outputs, bias):
        super().__init__()
        (h, w), c = halvings(sides)[-1], [WIDTH, 2 * WIDTH, 4 * WIDTH]
        self.input = Down(1, c[0], bias=bias)
        self.down1, self.down1_bn = Down(c[0], c[1]), nn.BatchNorm2d(c[1])
        self.down2, self.down2_bn = Down(c[1], c[2]), nn.BatchNorm2d(c[2])
        self.output = nn.Linear(c[2] * h * w, outputs, bias=bias)

    def features(self, x):
        h = F.leaky_relu(self.input(x), 0.2)
        h = F.leaky_relu(self.down1_bn(self.down1(h)), 0.2)
        return F.leaky_relu(self.down2_bn(self.down2(h)), 0.2)

    def forward(self, x):
        return self.output(self.features(x).flatten(1))


class Generator(nn.Module):
    def __init__(self, sides, bias):
        super().__init__()
        (s0, s1, s2, s3), c = halvings(sides), [WIDTH, 2 * WIDTH, 4 * WIDTH]
        self.top = (c[2], *s3)
        self.project = nn.Linear(LATENT, c[2] * s3[0] * s3[1], bias=False)
        self.project_bn = nn.BatchNorm2d(c[2])
        self.up1, self.up1_bn = Up(c[2], c[1], s2), nn.BatchNorm2d(c[1])
        self.up2, self.up2_bn = Up(c[1], c[0], s1), nn.BatchNorm2d(c[0])
        self.output = Up(c[0], 1, s0, bias=bias)

    def forward(self, z):
        h = F.relu(self.project_bn(self.project(z).unflatten(1, self.top)))
        h = F.relu(self.up1_bn(self.up1(h)))
        h = F.relu(self.up2_bn(self.up2(h)))
        return torch.tanh(self.output(h))


def bce(logits, target):
    return F.binary_cross_entropy_with_logits(logits, torch.full_like(logits, target))


class Dcgan(nn.Module):
    SIDES = [80, 48]

    def __init__(self):
        super().__init__()
        self.generator, self.discriminator = Generator(self.SIDES, True), Pyramid(self.SIDES, 1, True)

    def step(self, x, adam_g, adam_d):
        g, d = self.generator, self.discriminator
        z = torch.randn(BATCH, LATENT).float().double()
        fake = g(z)
        loss_d = bce(d(x), 1.0) + bce(d(fake.detach()), 0.0)
        adam_d.zero_grad()
        loss_d.backward()
        adam_d.step()
        loss_g = bce(d(fake), 1.0)
        adam_g.zero_grad()
        loss_g.backward()
        adam_g.step()
        return {"z": z, "loss_d": loss_d, "loss_g": loss_g}

    def scores(self, x):
        return {}


class Ganomaly(nn.Module):
    SIDES = [50, 33]

    def __init__(self):
        super().__init__()
        self.generator = nn.ModuleDict({
            "encoder1": Pyramid(self.SIDES, LATENT, False),
            "decoder": Generator(self.SIDES, False),
            "encoder2": Pyramid(self.SIDES, LATENT, False),
        })
        self.discriminator = Pyramid(self.SIDES, 1, False)

    def generate(self, x):
        g = self.generator
        z = g["encoder1"](x)
        made = g["decoder"](z)
        return made, z, g["encoder2"](made)

    def step(self, x, adam_g, adam_d):
        d = self.discriminator
        made, z, z_made = self.generate(x)
        real, fake = d.features(x), d.features(made)
        adv, con, enc = F.mse_loss(real, fake), F.l1_loss(x, made), F.mse_loss(z, z_made)
        verdict = [d.output(f.flatten(1)) for f in (real, fake)]
        loss_g, loss_d = adv + 50 * con + enc, 0.5 * (bce(verdict[0], 1.0) + bce(verdict[1], 0.0))
        moves = [(adam, torch.autograd.grad(loss, adam.param_groups[0]["params"], retain_graph=True))
                 for adam, loss in ((adam_g, loss_g), (adam_d, loss_d))]
        for adam, gradients in moves:
            for p, gradient in zip(adam.param_groups[0]["params"], gradients):
                p.grad = gradient
            adam.step()
        return {"loss_g": loss_g, "loss_d": loss_d, "adv": adv, "con": con, "enc": enc}

    def scores(self, x):
        _, z, z_made = self.generate(x)
        apart = z - z_made
        return {"code": apart.square().mean(1), "paper": apart.abs().sum(1), "norm": apart.norm(dim=1)}


def main():
    torch.manual_seed(20261129)
    tensors = {}
    for name, new in (("dcgan", Dcgan), ("ganomaly", Ganomaly)):
        system = new().double()

        def states(prefix):
            for part, value in system.state_dict().items():
                if not part.endswith("num_batches_tracked"):
                    tensors[f"{name}/{prefix}/{part}"] = value.detach().clone()

        with torch.no_grad():
            for part, p in system.named_parameters():
                start = 1 + 0.1 * torch.randn_like(p) if "_bn.weight" in part else 0.1 * torch.randn_like(p)
                p.copy_(start.float())  # both sides start from the same numbers
        states("before")
        rows, columns = (torch.linspace(-3, 3, side).double() for side in new.SIDES)
        phase, slope = 6 * torch.rand(BATCH, 1, 1, 1).double(), torch.randn(BATCH, 1, 1, 1).double()
        x = torch.sin(phase + rows.view(-1, 1) * slope + 2 * columns).float().double()
        tensors[f"{name}/x"] = x
        adam = {"lr": 2e-4, "betas": (0.5, 0.999), "eps": 1e-8}
        adams = [torch.optim.Adam(net.parameters(), **adam) for net in (system.generator, system.discriminator)]
        for t in range(STEPS):
            found = system.step(x, *adams)
            for key, value in found.items():
                tensors[f"{name}/{t}/{key}"] = value.detach()
            print(name, t, {key: value.item() for key, value in found.items() if value.ndim == 0})
        states("after")
        system.eval()
        with torch.no_grad():
            for score, values in system.scores(x).items():
                tensors[f"{name}/score/{score}"] = values
                print(name, score, values.tolist())
    path = Path(__file__).with_name("sides.safetensors")
    save_file({k: v.float().contiguous().clone() for k, v in tensors.items()}, path)
    print(f"{len(tensors)} tensors, {path.stat().st_size} bytes")


if __name__ == "__main__":
    main()
