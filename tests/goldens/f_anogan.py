"""Five training steps of a small f-AnoGAN and its scores, from PyTorch in float64.

Run `python3 tests/goldens/f_anogan.py` (torch, safetensors) to write `f_anogan.safetensors` beside this file.
The networks, parameter names and layouts are those of `src/models/dcgan.rs` (`lite`) and
`src/models/resnet.rs` (`resnet`): 16x16 gray images, width 4, latent 6, kernel 4, batch 4. Stage 1, five
times:

    critic:     mean D(G(z)) - mean D(x) + 10 * mean (||dD(x^)/dx^||_2 - 1)^2, x^ = x + alpha (G(z) - x), Adam on D
    generator:  -mean D(G(w)), Adam on G, at the second and fourth step

with Adam lr 2e-5, betas (0, 0.9), eps 1e-8, batch norm of G in train mode. Stage 2, five times:

    encoder:    mean (x - G(E(x)))^2 + mean (f(x) - f(G(E(x))))^2, RMSProp lr 5e-5, decay 0.9, eps 1e-8 on E

with G in eval mode, E in train mode. Then scores of the last batch with everything in eval mode.

Tensors, under `lite/` and `resnet/`: `before/NAME` and `after/NAME` for parameters and running statistics;
for step t `t/x`, `t/z`, `t/alpha`, `t/w` and the losses `t/loss_d`, `t/wasserstein`, `t/penalty`, `t/loss_g`,
`t/loss_e`, `t/residual`, `t/features`; `gradient/NAME` of the first step's penalty (without its weight 10)
for the critic's parameters; `score/NAME`, `reconstruction` and `map`.
"""

from pathlib import Path

import torch
import torch.nn.functional as F
from safetensors.torch import save_file
from torch import nn

SIZE, WIDTH, LATENT, BATCH, STEPS = 16, 4, 6, 4, 5
# RMSProp and Adam with b1 = 0 go by the sign of a gradient, and rounding decides that of one that is nearly
# or exactly zero, as those of biases in front of a norm are. Small steps and this seed, of 120 tried with
# PyTorch in float32, keep what rounding decides far below what the tests allow.
SEED, LR = 103, 2e-5
LEAKY = 0.2


class LiteGenerator(nn.Module):
    def __init__(self):
        super().__init__()
        self.project = nn.Linear(LATENT, 2 * WIDTH * 16, bias=False)
        self.project_bn = nn.BatchNorm2d(2 * WIDTH)
        self.up1 = nn.ConvTranspose2d(2 * WIDTH, WIDTH, 4, 2, 1, bias=False)
        self.up1_bn = nn.BatchNorm2d(WIDTH)
        self.output = nn.ConvTranspose2d(WIDTH, 1, 4, 2, 1)

    def forward(self, z):
        h = F.relu(self.project_bn(self.project(z).view(-1, 2 * WIDTH, 4, 4)))
        h = F.relu(self.up1_bn(self.up1(h)))
        return torch.tanh(self.output(h))


class LitePyramid(nn.Module):
    def __init__(self, norm, outputs):
        super().__init__()
        self.input = nn.Conv2d(1, WIDTH, 4, 2, 1)
        self.down1 = nn.Conv2d(WIDTH, 2 * WIDTH, 4, 2, 1, bias=not norm)
        if norm:
            self.down1_bn = nn.BatchNorm2d(2 * WIDTH)
        self.norm = norm
        self.output = nn.Linear(2 * WIDTH * 16, outputs)

    def features(self, x):
        h = self.down1(F.leaky_relu(self.input(x), LEAKY))
        return F.leaky_relu(self.down1_bn(h) if self.norm else h, LEAKY).flatten(1)

    def forward(self, x):
        return self.output(self.features(x))


class LayerNorm(nn.Module):
    def __init__(self, channels):
        super().__init__()
        self.weight, self.bias = nn.Parameter(torch.ones(channels)), nn.Parameter(torch.zeros(channels))

    def forward(self, x):
        return F.layer_norm(x, x.shape[1:], eps=1e-5) * self.weight.view(-1, 1, 1) + self.bias.view(-1, 1, 1)


class Block(nn.Module):
    def __init__(self, source, target, up, kind):
        super().__init__()
        middle = target if up else source
        norm = nn.BatchNorm2d if kind == "bn" else LayerNorm
        self.up, self.kind = up, kind
        setattr(self, f"{kind}1", norm(source))
        setattr(self, f"{kind}2", norm(middle))
        self.conv1 = nn.Conv2d(source, middle, 3, padding=1, bias=False)
        self.conv2 = nn.Conv2d(middle, target, 3, padding=1)
        self.shortcut = nn.Conv2d(source, target, 1)

    def forward(self, x):
        h = F.relu(getattr(self, f"{self.kind}1")(x))
        if self.up:
            h, x = (F.interpolate(v, scale_factor=2, mode="nearest") for v in (h, x))
        h = self.conv2(F.relu(getattr(self, f"{self.kind}2")(self.conv1(h))))
        if not self.up:
            h, x = F.avg_pool2d(h, 2), F.avg_pool2d(x, 2)
        return h + self.shortcut(x)


class ResidualGenerator(nn.Module):
    def __init__(self):
        super().__init__()
        self.project = nn.Linear(LATENT, 2 * WIDTH * 16)
        self.up1 = Block(2 * WIDTH, 2 * WIDTH, True, "bn")
        self.up2 = Block(2 * WIDTH, WIDTH, True, "bn")
        self.output_bn = nn.BatchNorm2d(WIDTH)
        self.output = nn.Conv2d(WIDTH, 1, 3, padding=1)

    def forward(self, z):
        h = self.up2(self.up1(self.project(z).view(-1, 2 * WIDTH, 4, 4)))
        return torch.tanh(self.output(F.relu(self.output_bn(h))))


class ResidualPyramid(nn.Module):
    def __init__(self, kind, outputs):
        super().__init__()
        self.input = nn.Conv2d(1, WIDTH, 3, padding=1)
        self.down1 = Block(WIDTH, 2 * WIDTH, False, kind)
        self.down2 = Block(2 * WIDTH, 2 * WIDTH, False, kind)
        self.output = nn.Linear(2 * WIDTH * 16, outputs)

    def features(self, x):
        return self.down2(self.down1(self.input(x))).flatten(1)

    def forward(self, x):
        return self.output(self.features(x))


def images(generator):
    """Smooth waves of random phase and tilt."""
    grid = torch.linspace(-3, 3, SIZE).double()
    phase, tilt = 6 * torch.rand(BATCH, 1, 1, 1, generator=generator), torch.randn(BATCH, 1, 1, 1, generator=generator)
    return torch.sin(phase + grid.view(-1, 1) * tilt + grid).float().double()


def run(kind, g, d, e):
    generator = torch.Generator().manual_seed(SEED)
    networks = nn.ModuleDict({"generator": g, "critic": d, "encoder": e}).double()
    tensors = {}

    def keep(name, value):
        tensors[f"{kind}/{name}"] = value.detach().clone()

    def states(prefix):
        for name, value in networks.state_dict().items():
            if not name.endswith("num_batches_tracked"):
                keep(f"{prefix}/{name}", value)

    with torch.no_grad():
        for name, p in networks.named_parameters():
            noise = torch.randn(p.shape, generator=generator)
            is_gamma = p.dim() == 1 and name.endswith("weight")
            p.copy_(1 + 0.1 * noise if is_gamma else 0.15 * noise)
    states("before")
    adam = {"lr": LR, "betas": (0.0, 0.9), "eps": 1e-8}
    g_adam, d_adam = torch.optim.Adam(g.parameters(), **adam), torch.optim.Adam(d.parameters(), **adam)
    rmsprop = torch.optim.RMSprop(e.parameters(), lr=5e-5, alpha=0.9, eps=1e-8)

    def draw(*shape):
        return torch.randn(shape, generator=generator).double()

    batches = [images(generator) for _ in range(STEPS)]
    for t, x in enumerate(batches):
        z, alpha = draw(BATCH, LATENT), torch.rand(BATCH, generator=generator).double()
        keep(f"{t}/x", x), keep(f"{t}/z", z), keep(f"{t}/alpha", alpha)
        fake = g(z).detach()
        between = (x + alpha.view(-1, 1, 1, 1) * (fake - x)).requires_grad_()
        (gradient,) = torch.autograd.grad(d(between).sum(), between, create_graph=True)
        penalty = ((gradient.flatten(1).square().sum(1) + 1e-12).sqrt() - 1).square().mean()
        if t == 0:
            named = dict(d.named_parameters())
            grads = torch.autograd.grad(penalty, list(named.values()), retain_graph=True, allow_unused=True)
            for (name, p), value in zip(named.items(), grads):
                keep(f"gradient/{name}", torch.zeros_like(p) if value is None else value)
        wasserstein = d(x).mean() - d(fake).mean()
        loss_d = -wasserstein + 10 * penalty
        d_adam.zero_grad()
        loss_d.backward()
        d_adam.step()
        keep(f"{t}/loss_d", loss_d), keep(f"{t}/wasserstein", wasserstein), keep(f"{t}/penalty", penalty)
        if t % 2 == 1:
            w = draw(BATCH, LATENT)
            loss_g = -d(g(w)).mean()
            g_adam.zero_grad()
            loss_g.backward()
            g_adam.step()
            keep(f"{t}/w", w), keep(f"{t}/loss_g", loss_g)
        print(kind, t, loss_d.item(), penalty.item())

    g.eval()
    for t, x in enumerate(batches):
        image = g(torch.tanh(e(x)))
        residual, features = F.mse_loss(image, x), F.mse_loss(d.features(image), d.features(x))
        loss_e = residual + features
        rmsprop.zero_grad()
        loss_e.backward()
        rmsprop.step()
        keep(f"{t}/loss_e", loss_e), keep(f"{t}/residual", residual), keep(f"{t}/features", features)
        print(kind, t, loss_e.item(), features.item())
    states("after")

    e.eval()
    x = batches[-1]
    z = torch.tanh(e(x))
    image = g(z)

    def mean(v):
        return v.flatten(1).square().mean(1)

    keep("score/residual", mean(x - image))
    keep("score/f-anogan", mean(x - image) + mean(d.features(x) - d.features(image)))
    keep("score/z-distance", mean(z - torch.tanh(e(image))))
    keep("score/critic", -d(x).view(-1))
    keep("reconstruction", image)
    keep("map", (x - image).abs().mean(1))
    return tensors


def main():
    tensors = run("lite", LiteGenerator(), LitePyramid(False, 1), LitePyramid(True, LATENT))
    tensors |= run("resnet", ResidualGenerator(), ResidualPyramid("ln", 1), ResidualPyramid("bn", LATENT))
    path = Path(__file__).with_name("f_anogan.safetensors")
    save_file({k: v.float().contiguous().clone() for k, v in tensors.items()}, path)
    print(f"{len(tensors)} tensors, {path.stat().st_size} bytes")


if __name__ == "__main__":
    main()
