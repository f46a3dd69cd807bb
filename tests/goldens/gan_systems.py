"""Training steps and scores of GANomaly, Skip-GANomaly, ADAE, DAGAN and BeatGAN, and EGBAD's scores, from
PyTorch in float64.

Run `python3 tests/goldens/gan_systems.py` (torch, safetensors) to write `gan_systems.safetensors` beside this
file. Networks, parameter names and layouts are those of
`src/models/{ganomaly,skip_ganomaly,adae,dagan,egbad,beatgan}.rs`: gray images of 16x16, latent 8, batch 4,
kernel 4; width 4, or 2 where there are U-Nets; BeatGAN has windows of 64 points of 4 channels and width 2. In
a step both losses are computed from the weights before it, then Adam moves G and D (lr 2e-4, betas (0.5,
0.999), eps 1e-8); BeatGAN's D moves first. Batch norm is in train mode, momentum 0.1. GANomaly takes 20
steps, BeatGAN 10, the others
5. EGBAD draws random numbers in training: its scores alone are here.

Tensors: `x/T`, the batch of step T; `SYSTEM/before/NAME` for parameters and running statistics;
`SYSTEM/T/LOSS`; and `SYSTEM/score/NAME`, the scores of batch 0 in eval mode after the last step.
"""

from pathlib import Path

import torch
import torch.nn.functional as F
from safetensors.torch import save_file
from torch import nn

SIZE, LATENT, BATCH = 16, 8, 4


def down(a, b, bias=False):
    return nn.Conv2d(a, b, 4, 2, 1, bias=bias)


def up(a, b, bias=False):
    return nn.ConvTranspose2d(a, b, 4, 2, 1, bias=bias)


class Encoder(nn.Module):
    """Pyramid::unbiased of two levels."""

    def __init__(self, w, outputs):
        super().__init__()
        self.input, self.down1, self.down1_bn = down(1, w), down(w, 2 * w), nn.BatchNorm2d(2 * w)
        self.output = nn.Linear(2 * w * 16, outputs, bias=False)

    def features(self, x):
        return F.leaky_relu(self.down1_bn(self.down1(F.leaky_relu(self.input(x), 0.2))), 0.2)

    def forward(self, x):
        return self.output(self.features(x).flatten(1))


class Decoder(nn.Module):
    """Generator::unbiased of two levels."""

    def __init__(self, w):
        super().__init__()
        self.project, self.project_bn = nn.Linear(LATENT, 2 * w * 16, bias=False), nn.BatchNorm2d(2 * w)
        self.up1, self.up1_bn, self.output = up(2 * w, w), nn.BatchNorm2d(w), up(w, 1)

    def forward(self, z):
        h = F.relu(self.project_bn(self.project(z).unflatten(1, (-1, 4, 4))))
        return torch.tanh(self.output(F.relu(self.up1_bn(self.up1(h)))))


class UNet(nn.Module):
    """Four levels, down to one pixel; the skips are concatenated as pix2pix has them."""

    def __init__(self, w):
        super().__init__()
        c = [1, w, 2 * w, 4 * w, 8 * w]
        for i in range(1, 5):
            self.add_module(f"down{i}", down(c[i - 1], c[i]))
            if 1 < i < 4:
                self.add_module(f"down{i}_bn", nn.BatchNorm2d(c[i]))
            self.add_module(f"up{i}", up(c[i] * (1 if i == 4 else 2), c[i - 1], bias=i == 1))
            if i > 1:
                self.add_module(f"up{i}_bn", nn.BatchNorm2d(c[i - 1]))

    def forward(self, x):
        d1 = self.down1(x)
        d2 = self.down2_bn(self.down2(F.leaky_relu(d1, 0.2)))
        d3 = self.down3_bn(self.down3(F.leaky_relu(d2, 0.2)))
        u = self.up4_bn(self.up4(F.relu(self.down4(F.leaky_relu(d3, 0.2)))))
        u = self.up3_bn(self.up3(F.relu(torch.cat([d3, u], 1))))
        u = self.up2_bn(self.up2(F.relu(torch.cat([d2, u], 1))))
        return torch.tanh(self.up1(F.relu(torch.cat([d1, u], 1))))


def bce(logits, target):
    return F.binary_cross_entropy_with_logits(logits, torch.full_like(logits, target))


def same(h):
    """TensorFlow's "SAME" padding of kernel 3 with stride 2."""
    return F.pad(h, (0, 1, 0, 1))


def rms(a, b):
    return (a - b).square().flatten(1).mean(1).sqrt()


class Ganomaly(nn.Module):
    STEPS = 20

    def __init__(self):
        super().__init__()
        parts = {"encoder1": Encoder(4, LATENT), "decoder": Decoder(4), "encoder2": Encoder(4, LATENT)}
        self.generator, self.discriminator = nn.ModuleDict(parts), Encoder(4, 1)

    def generate(self, x):
        g = self.generator
        z = g["encoder1"](x)
        made = g["decoder"](z)
        return made, z, g["encoder2"](made)

    def losses(self, x):
        d = self.discriminator
        made, z, z_made = self.generate(x)
        real, fake = d.features(x), d.features(made)
        adv, con, enc = F.mse_loss(real, fake), F.l1_loss(x, made), F.mse_loss(z, z_made)
        verdict = [d.output(f.flatten(1)) for f in (real, fake)]
        loss_d = 0.5 * (bce(verdict[0], 1.0) + bce(verdict[1], 0.0))
        return {"loss_g": adv + 50 * con + enc, "loss_d": loss_d, "adv": adv, "con": con, "enc": enc}

    def scores(self, x):
        _, z, z_made = self.generate(x)
        apart = z - z_made
        return {"code": apart.square().mean(1), "paper": apart.abs().sum(1), "norm": apart.norm(dim=1)}


class SkipGanomaly(nn.Module):
    STEPS = 5

    def __init__(self):
        super().__init__()
        self.generator = UNet(2)
        parts = {"features": Encoder(2, LATENT), "verdict": nn.Linear(LATENT, 1, bias=False)}
        self.discriminator = nn.ModuleDict(parts)

    def losses(self, x):
        d = self.discriminator
        made = self.generator(x)
        real, fake = d["features"](x), d["features"](made)
        adv, con, lat = bce(d["verdict"](fake), 1.0), F.l1_loss(x, made), F.mse_loss(real, fake)
        loss_d = bce(d["verdict"](real), 1.0) + bce(d["verdict"](fake), 0.0)
        return {"loss_g": adv + 50 * con + lat, "loss_d": loss_d, "adv": adv, "con": con, "lat": lat}

    def scores(self, x):
        made = self.generator(x)
        image, latent = (x - made).flatten(1), self.discriminator["features"](x) - self.discriminator["features"](made)
        code = 0.9 * image.square().mean(1) + 0.1 * latent.square().mean(1)
        return {"code": code, "paper": 0.9 * image.abs().sum(1) + 0.1 * latent.norm(dim=1)}


class Adae(nn.Module):
    STEPS = 5

    def __init__(self):
        super().__init__()
        self.generator, self.discriminator = nn.Sequential(), nn.Sequential()
        for net in (self.generator, self.discriminator):
            net.add_module("encoder", Encoder(4, LATENT))
            net.add_module("decoder", Decoder(4))

    def losses(self, x):
        made = self.generator(x)
        real = F.l1_loss(x, self.discriminator(x))
        fake = F.l1_loss(made, self.discriminator(made))
        return {"loss_g": F.l1_loss(x, made) + fake, "loss_d": real - fake, "real": real, "fake": fake}

    def scores(self, x):
        return {"adae": (x - self.discriminator(self.generator(x))).flatten(1).norm(dim=1)}


class Dagan(nn.Module):
    STEPS = 5

    def __init__(self):
        super().__init__()
        self.generator, self.discriminator = UNet(2), UNet(2)

    def losses(self, x):
        made = self.generator(x)
        real, fake = self.discriminator(x), self.discriminator(made)
        adv, gcon, dcon = rms(real, fake).mean(), rms(x, made).mean(), rms(x, real).mean()
        return {"loss_g": adv + 40 * gcon, "loss_d": dcon - adv, "adv": adv, "gcon": gcon, "dcon": dcon}

    def scores(self, x):
        return {"dagan": (x - self.generator(x)).flatten(1).norm(dim=1)}


class Beatgan(nn.Module):
    """Windows of 64 points of 4 channels: the same numbers as the images of the others, four rows of pixels to a channel."""

    STEPS = 10

    def __init__(self):
        super().__init__()
        c = [4, 2, 4, 8, 16]

        def encoder(outputs):
            layers = {"input": nn.Conv1d(c[0], c[1], 4, 2, 1, bias=False)}
            for i in range(1, 4):
                layers[f"down{i}"] = nn.Conv1d(c[i], c[i + 1], 4, 2, 1, bias=False)
                layers[f"down{i}_bn"] = nn.BatchNorm1d(c[i + 1])
            return nn.ModuleDict(layers | {"output": nn.Linear(4 * c[4], outputs, bias=False)})

        decoder = {"project": nn.Linear(LATENT, 4 * c[4], bias=False), "project_bn": nn.BatchNorm1d(c[4])}
        for i in range(1, 4):
            decoder[f"up{i}"] = nn.ConvTranspose1d(c[5 - i], c[4 - i], 4, 2, 1, bias=False)
            decoder[f"up{i}_bn"] = nn.BatchNorm1d(c[4 - i])
        decoder["output"] = nn.ConvTranspose1d(c[1], c[0], 4, 2, 1, bias=False)
        self.generator = nn.ModuleDict({"encoder": encoder(LATENT), "decoder": nn.ModuleDict(decoder)})
        self.discriminator = encoder(1)

    @staticmethod
    def features(net, x):
        h = F.leaky_relu(net["input"](x), 0.2)
        for i in range(1, 4):
            h = F.leaky_relu(net[f"down{i}_bn"](net[f"down{i}"](h)), 0.2)
        return h

    def generate(self, x):
        e, d = self.generator["encoder"], self.generator["decoder"]
        z = e["output"](self.features(e, x).flatten(1))
        h = F.relu(d["project_bn"](d["project"](z).unflatten(1, (-1, 4))))
        for i in range(1, 4):
            h = F.relu(d[f"up{i}_bn"](d[f"up{i}"](h)))
        return torch.tanh(d["output"](h))

    def step(self, x, adam_g, adam_d):
        """First D, then G through the D just updated; the same x̂ for both."""
        x, d = x.view(BATCH, 4, 64), self.discriminator
        made = self.generate(x)
        verdict = [d["output"](self.features(d, h).flatten(1)) for h in (x, made.detach())]
        loss_d = bce(verdict[0], 1.0) + bce(verdict[1], 0.0)
        adam_d.zero_grad()
        loss_d.backward()
        adam_d.step()
        rec, adv = F.mse_loss(made, x), F.mse_loss(self.features(d, made), self.features(d, x))
        adam_g.zero_grad()
        (rec + adv).backward()
        adam_g.step()
        return {"loss_g": rec + adv, "loss_d": loss_d, "rec": rec, "adv": adv}

    def scores(self, x):
        x = x.view(BATCH, 4, 64)
        apart = (x - self.generate(x)).flatten(1)
        return {"code": apart.square().mean(1), "paper": apart.norm(dim=1)}


class Egbad(nn.Module):
    """Eval mode alone: dropout is left out. Width 4: levels 2, maps of 4x4 at the bottom."""

    STEPS = 0

    def __init__(self):
        super().__init__()
        w = 4

        def stack(**layers):
            return nn.ModuleDict({name[1:]: layer for name, layer in layers.items()})

        self.encoder = stack(
            _0=nn.Conv2d(1, w // 2, 3, 1, 1),
            _1=nn.Conv2d(w // 2, w, 3, 2, bias=False), _1_bn=nn.BatchNorm2d(w),
            _2=nn.Conv2d(w, 2 * w, 3, 2, bias=False), _2_bn=nn.BatchNorm2d(2 * w),
            _3=nn.Linear(2 * w * 16, LATENT),
        )
        self.generator = stack(
            _0=nn.Linear(LATENT, 16 * w, bias=False), _0_bn=nn.BatchNorm1d(16 * w),
            _1=nn.Linear(16 * w, 2 * w * 16, bias=False), _1_bn=nn.BatchNorm1d(2 * w * 16),
            _2=up(2 * w, w), _2_bn=nn.BatchNorm2d(w),
            _3=up(w, 1, bias=True),
        )
        self.discriminator = nn.ModuleDict({
            "x": stack(_0=down(1, w, bias=True), _1=down(w, w), _1_bn=nn.BatchNorm2d(w)),
            "z": stack(_0=nn.Linear(LATENT, 8 * w)),
            "f": stack(_0=nn.Linear(16 * w + 8 * w, 16 * w)),
            "verdict": stack(_0=nn.Linear(16 * w, 1)),
        })

    def encode(self, x):
        e, leaky = self.encoder, lambda h: F.leaky_relu(h, 0.1)
        h = leaky(e["0"](x))
        h = leaky(e["1_bn"](e["1"](same(h))))
        h = leaky(e["2_bn"](e["2"](same(h))))
        return e["3"](h.flatten(1))

    def generate(self, z):
        g = self.generator
        h = F.relu(g["0_bn"](g["0"](z)))
        h = F.relu(g["1_bn"](g["1"](h))).unflatten(1, (-1, 4, 4))
        return torch.tanh(g["3"](F.relu(g["2_bn"](g["2"](h)))))

    def judge(self, x, z):
        d, leaky = self.discriminator, lambda h: F.leaky_relu(h, 0.1)
        h = leaky(d["x"]["1_bn"](d["x"]["1"](leaky(d["x"]["0"](x)))))
        f = leaky(d["f"]["0"](torch.cat([h.flatten(1), leaky(d["z"]["0"](z))], 1)))
        return f, d["verdict"]["0"](f)

    def scores(self, x):
        z = self.encode(x)
        made = self.generate(z)
        (f, _), (f_made, logit) = self.judge(x, z), self.judge(made, z)
        residual = (x - made).flatten(1).abs().sum(1)
        fm = 0.9 * residual + 0.1 * (f - f_made).abs().sum(1)
        return {"fm": fm, "cross-e": 0.9 * residual + 0.1 * (F.softplus(logit) - logit)[:, 0]}


def step(system, x, adam_g, adam_d):
    """Both losses from the same weights, then both networks move."""
    losses, adams = system.losses(x), {"loss_g": adam_g, "loss_d": adam_d}
    gradients = {
        loss: torch.autograd.grad(losses[loss], adam.param_groups[0]["params"], retain_graph=True)
        for loss, adam in adams.items()
    }
    for loss, adam in adams.items():
        for p, g in zip(adam.param_groups[0]["params"], gradients[loss]):
            p.grad = g
        adam.step()
    return losses


SYSTEMS = {
    "ganomaly": Ganomaly,
    "skip-ganomaly": SkipGanomaly,
    "adae": Adae,
    "dagan": Dagan,
    "egbad": Egbad,
    "beatgan": Beatgan,
}


def main():
    torch.manual_seed(20260731)
    tensors = {}
    grid = torch.linspace(-3, 3, SIZE).double()
    batches = []
    for t in range(20):
        phase = 6 * torch.rand(BATCH, 1, 1, 1).double()
        x = torch.sin(phase + grid.view(-1, 1) * torch.randn(BATCH, 1, 1, 1).double() + grid)
        batches.append(x.float().double())
        tensors[f"x/{t}"] = batches[t]
    for name, new in SYSTEMS.items():
        system = new().double()
        with torch.no_grad():
            for part, p in system.named_parameters():
                start = 1 + 0.1 * torch.randn_like(p) if "_bn.weight" in part else 0.2 * torch.randn_like(p)
                p.copy_(start.float())  # both sides start from the same numbers
            if new.STEPS == 0:
                for part, b in system.named_buffers():
                    if part.endswith("running_mean"):
                        b.copy_((0.1 * torch.randn_like(b)).float())
                    elif part.endswith("running_var"):
                        b.copy_((0.5 + torch.rand_like(b)).float())
        for part, value in system.state_dict().items():
            if not part.endswith("num_batches_tracked"):
                tensors[f"{name}/before/{part}"] = value.detach().clone()
        adam = {"lr": 2e-4, "betas": (0.5, 0.999), "eps": 1e-8}
        adams = [torch.optim.Adam(net.parameters(), **adam) for net in (system.generator, system.discriminator)]
        for t in range(new.STEPS):
            losses = system.step(batches[t], *adams) if new is Beatgan else step(system, batches[t], *adams)
            for loss, value in losses.items():
                tensors[f"{name}/{t}/{loss}"] = value.detach()
            print(name, t, {k: round(v.item(), 5) for k, v in losses.items()})
        system.eval()
        with torch.no_grad():
            for score, values in system.scores(batches[0]).items():
                tensors[f"{name}/score/{score}"] = values
                print(name, score, values.tolist())
    path = Path(__file__).with_name("gan_systems.safetensors")
    save_file({k: v.float().contiguous().clone() for k, v in tensors.items()}, path)
    print(f"{len(tensors)} tensors, {path.stat().st_size} bytes")


if __name__ == "__main__":
    main()
