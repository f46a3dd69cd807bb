"""The networks of the published repositories, as far as `ganomede import --system` reads their checkpoints,
and what they give: files in tests/torch/published, and outputs in expected.safetensors.

Run `python3 tests/torch/published.py` with the packages of `tests/torch/requirements.txt`; `tests/import.rs`
reads the files. Modules have the structure and the names of those of samet-akcay/ganomaly,
samet-akcay/skip-ganomaly, dbbbbm/f-AnoGAN-PyTorch, A03ki/f-AnoGAN and lukasruff/Deep-SVDD-PyTorch, at small
widths. Images are x[i] = sin(0.37 i), which the test computes again.
"""

from pathlib import Path

import torch
import torch.nn.functional as F
from safetensors.torch import save_file
from torch import nn

HERE = Path(__file__).parent / "published"


def images(count, channels, side):
    """Values within [-1, 1]."""
    length = count * channels * side * side
    return torch.sin(0.37 * torch.arange(length, dtype=torch.float64)).float().reshape(count, channels, side, side)


def lived_in(network, *inputs):
    """Weights and statistics as training leaves them: none of the values that networks start with."""
    generator = torch.Generator().manual_seed(5)
    for name, value in network.named_parameters():
        noise = torch.randn(value.shape, generator=generator)
        fan = value[0].numel() if value.dim() > 1 else 1
        with torch.no_grad():
            if value.dim() == 1 or "bn" in name and value.dim() == 3:
                value.copy_(0.2 * noise + (1.0 if name.endswith("weight") else 0.0))
            else:
                value.copy_(noise * (1.6 / fan) ** 0.5)
    network.train()
    for scale in (1.0, 0.7):
        network(*(scale * value for value in inputs))
    return network.eval()


class Named(nn.Sequential):
    """Layers by name, one after another."""

    def __init__(self, *layers):
        super().__init__()
        for name, layer in layers:
            self.add_module(name, layer)


def pyramid(side, channels, width, final):
    """Halvings down to 4x4, then one convolution of all that is left."""
    layers = [
        (f"initial-conv-{channels}-{width}", nn.Conv2d(channels, width, 4, 2, 1, bias=False)),
        (f"initial-relu-{width}", nn.LeakyReLU(0.2)),
    ]
    side //= 2
    while side > 4:
        layers += [
            (f"pyramid-{width}-{2 * width}-conv", nn.Conv2d(width, 2 * width, 4, 2, 1, bias=False)),
            (f"pyramid-{2 * width}-batchnorm", nn.BatchNorm2d(2 * width)),
            (f"pyramid-{2 * width}-relu", nn.LeakyReLU(0.2)),
        ]
        side, width = side // 2, 2 * width
    return [*layers, (f"final-{width}-1-conv", nn.Conv2d(width, final, 4, 1, 0, bias=False))]


class Main(nn.Module):
    """Layers under the name `main`."""

    def __init__(self, layers):
        super().__init__()
        self.main = Named(*layers)

    def forward(self, x):
        return self.main(x)


def decoder(side, channels, width, latent):
    """From 1x1 to the image."""
    width *= side // 8
    layers = [
        (f"initial-{latent}-{width}-convt", nn.ConvTranspose2d(latent, width, 4, 1, 0, bias=False)),
        (f"initial-{width}-batchnorm", nn.BatchNorm2d(width)),
        (f"initial-{width}-relu", nn.ReLU()),
    ]
    at = 4
    while at < side // 2:
        half = width // 2
        layers += [
            (f"pyramid-{width}-{half}-convt", nn.ConvTranspose2d(width, half, 4, 2, 1, bias=False)),
            (f"pyramid-{half}-batchnorm", nn.BatchNorm2d(half)),
            (f"pyramid-{half}-relu", nn.ReLU()),
        ]
        at, width = 2 * at, half
    last = (f"final-{width}-{channels}-convt", nn.ConvTranspose2d(width, channels, 4, 2, 1, bias=False))
    return [*layers, last, (f"final-{channels}-tanh", nn.Tanh())]


class Ganomaly(nn.Module):
    def __init__(self, side=32, channels=1, width=2, latent=8):
        super().__init__()
        self.encoder1 = Main(pyramid(side, channels, width, latent))
        self.decoder = Main(decoder(side, channels, width, latent))
        self.encoder2 = Main(pyramid(side, channels, width, latent))

    def forward(self, x):
        z = self.encoder1(x)
        made = self.decoder(z)
        return made, z, self.encoder2(made)


class GanomalyDiscriminator(nn.Module):
    def __init__(self, side=32, channels=1, width=2):
        super().__init__()
        layers = [layer for _, layer in pyramid(side, channels, width, 1)]
        self.features = nn.Sequential(*layers[:-1])
        self.classifier = nn.Sequential(layers[-1])
        self.classifier.add_module("Sigmoid", nn.Sigmoid())

    def forward(self, x):
        return self.classifier(self.features(x))


class Skip(nn.Module):
    """A block of the U-Net, with the next one inside."""

    def __init__(self, outer, inner, inside=None, image=None):
        super().__init__()
        self.is_outermost = image is not None
        down = nn.Conv2d(image or outer, inner, 4, 2, 1, bias=False)
        wide = inner if inside is None else 2 * inner
        up = nn.ConvTranspose2d(wide, outer, 4, 2, 1, bias=self.is_outermost)
        if self.is_outermost:
            layers = [down, inside, nn.ReLU(), up, nn.Tanh()]
        elif inside is None:
            layers = [nn.LeakyReLU(0.2), down, nn.ReLU(), up, nn.BatchNorm2d(outer)]
        else:
            layers = [nn.LeakyReLU(0.2), down, nn.BatchNorm2d(inner), inside, nn.ReLU(), up, nn.BatchNorm2d(outer)]
        self.model = nn.Sequential(*layers)

    def forward(self, x):
        return self.model(x) if self.is_outermost else torch.cat([x, self.model(x)], 1)


class SkipGanomaly(nn.Module):
    def __init__(self, channels=3, width=2, depth=5):
        super().__init__()
        block = Skip(8 * width, 8 * width)
        for _ in range(depth - 5):
            block = Skip(8 * width, 8 * width, block)
        for outer, inner in ((4, 8), (2, 4), (1, 2)):
            block = Skip(outer * width, inner * width, block)
        self.model = Skip(channels, width, block, image=channels)

    def forward(self, x):
        return self.model(x)


class SkipDiscriminator(nn.Module):
    def __init__(self, side=32, channels=3, width=2, latent=6):
        super().__init__()
        self.feat = Named(*pyramid(side, channels, width, latent))
        self.clas = Named(("classifier", nn.Conv2d(latent, 1, 3, 1, 1, bias=False)), ("Sigmoid", nn.Sigmoid()))

    def forward(self, x):
        f = self.feat(x)
        return self.clas(f).reshape(-1), f


class Conv(nn.Module):
    """A convolution that keeps the side, under the name `conv`."""

    def __init__(self, fewer, more, kernel, bias=True):
        super().__init__()
        self.conv = nn.Conv2d(fewer, more, kernel, padding=kernel // 2, bias=bias)

    def forward(self, x):
        return self.conv(x)


class Halved(nn.Module):
    """Means of 2x2 before or after such a convolution."""

    def __init__(self, fewer, more, kernel, first):
        super().__init__()
        self.conv, self.first = Conv(fewer, more, kernel), first

    def forward(self, x):
        return self.conv(F.avg_pool2d(x, 2)) if self.first else F.avg_pool2d(self.conv(x), 2)


class Doubled(nn.Module):
    """Pixels twice, before such a convolution."""

    def __init__(self, fewer, more, kernel, bias=True):
        super().__init__()
        self.conv = Conv(fewer, more, kernel, bias)

    def forward(self, x):
        return self.conv(x.repeat_interleave(2, 2).repeat_interleave(2, 3))


class Block(nn.Module):
    def __init__(self, fewer, more, side=None):
        super().__init__()
        if side is None:
            self.bn1, self.bn2 = nn.BatchNorm2d(fewer), nn.BatchNorm2d(more)
            self.conv_shortcut, self.conv_1 = Doubled(fewer, more, 1), Doubled(fewer, more, 3, bias=False)
            self.conv_2 = Conv(more, more, 3)
        else:
            self.bn1, self.bn2 = (nn.LayerNorm([fewer, side, side]) for _ in range(2))
            self.conv_shortcut, self.conv_1 = Halved(fewer, more, 1, True), Conv(fewer, fewer, 3, bias=False)
            self.conv_2 = Halved(fewer, more, 3, False)

    def forward(self, x):
        h = self.conv_1(F.relu(self.bn1(x)))
        return self.conv_shortcut(x) + self.conv_2(F.relu(self.bn2(h)))


class Generator(nn.Module):
    def __init__(self, width=1, latent=16):
        super().__init__()
        self.width = width
        self.ln1 = nn.Linear(latent, 4 * 4 * 8 * width)
        for i, (fewer, more) in enumerate(((8, 8), (8, 4), (4, 2), (2, 1)), 1):
            self.add_module(f"rb{i}", Block(fewer * width, more * width))
        self.bn = nn.BatchNorm2d(width)
        self.conv1 = Conv(width, 3, 3)

    def forward(self, z):
        h = self.ln1(z).reshape(-1, 8 * self.width, 4, 4)
        for block in (self.rb1, self.rb2, self.rb3, self.rb4):
            h = block(h)
        return torch.tanh(self.conv1(F.relu(self.bn(h))))


def downwards(module, name, width):
    for i, (fewer, more, side) in enumerate(((1, 2, 64), (2, 4, 32), (4, 8, 16), (8, 8, 8)), 1):
        module.add_module(f"{name}{i}", Block(fewer * width, more * width, side))


class Critic(nn.Module):
    def __init__(self, width=1):
        super().__init__()
        self.conv1 = Conv(3, width, 3)
        downwards(self, "rb", width)
        self.ln1 = nn.Linear(4 * 4 * 8 * width, 1)

    def features(self, x):
        h = self.conv1(x)
        for block in (self.rb1, self.rb2, self.rb3, self.rb4):
            h = block(h)
        return h.flatten(1)

    def forward(self, x):
        return self.ln1(self.features(x)).reshape(-1)


class Encoder(nn.Module):
    def __init__(self, width=1, latent=16):
        super().__init__()
        self.conv_in = nn.Conv2d(3, width, 3, padding=1)
        downwards(self, "res", width)
        self.fc = nn.Linear(4 * 4 * 8 * width, latent)

    def forward(self, x):
        h = self.conv_in(x)
        for block in (self.res1, self.res2, self.res3, self.res4):
            h = block(h)
        return torch.tanh(self.fc(h.flatten(1)))


class ResizeGenerator(nn.Module):
    """A linear layer, and convolutions of pixels that were doubled twice."""

    def __init__(self, side, channels, width, latent):
        super().__init__()
        top, self.bottom = 8 * width, side // 4
        self.l1 = nn.Sequential(nn.Linear(latent, top * self.bottom**2))
        layers = [nn.BatchNorm2d(top)]
        for wide in (top, top // 2):
            layers += [nn.Upsample(scale_factor=2), nn.Conv2d(top, wide, 3, padding=1)]
            layers += [nn.BatchNorm2d(wide, eps=0.8), nn.LeakyReLU(0.2)]
        self.conv_blocks = nn.Sequential(*layers, nn.Conv2d(top // 2, channels, 3, padding=1), nn.Tanh())

    def forward(self, z):
        return self.conv_blocks(self.l1(z).unflatten(1, (-1, self.bottom, self.bottom)))


class ResizePyramid(nn.Module):
    """Four halvings, with norms behind the activations; the critic's head, or the encoder's with its tanh."""

    def __init__(self, side, channels, width, *head):
        super().__init__()
        layers, fewer = [], channels
        for more in (width, 2 * width, 4 * width, 8 * width):
            layers += [nn.Conv2d(fewer, more, 3, 2, 1), nn.LeakyReLU(0.2), nn.Dropout2d(0.25)]
            layers += [nn.BatchNorm2d(more, eps=0.8)] if more > width else []
            fewer = more
        self.model = nn.Sequential(*layers)
        outputs, *rest = head
        self.adv_layer = nn.Sequential(nn.Linear(fewer * (side // 16) ** 2, outputs), *rest)

    def features(self, x):
        return self.model(x).flatten(1)

    def forward(self, x):
        return self.adv_layer(self.features(x))


class Lenet(nn.Module):
    """Deep SVDD's networks: of MNIST with the norms `bn`, of CIFAR-10 with `bn2d`."""

    def __init__(self, channels, norms, side, latent):
        super().__init__()
        self.norms = norms
        for i, (fewer, more) in enumerate(zip(channels, channels[1:]), 1):
            self.add_module(f"conv{i}", nn.Conv2d(fewer, more, 5, padding=2, bias=False))
            self.add_module(f"{norms}{i}", nn.BatchNorm2d(more, eps=1e-4, affine=False))
        self.count = len(channels) - 1
        self.fc1 = nn.Linear(channels[-1] * (side // 2**self.count) ** 2, latent, bias=False)

    def forward(self, x):
        for i in range(1, self.count + 1):
            h = getattr(self, f"{self.norms}{i}")(getattr(self, f"conv{i}")(x))
            x = F.max_pool2d(F.leaky_relu(h), 2)
        return self.fc1(x.flatten(1))


def normalised(x, low, high):
    """Global contrast normalisation of pixels within [0, 1], scaled by the range of the normal class."""
    x = (x + 1) / 2
    x = x - x.mean((1, 2, 3), keepdim=True)
    return (x / x.abs().mean((1, 2, 3), keepdim=True) - low) / (high - low)


def main():
    HERE.mkdir(exist_ok=True)
    expected = {}

    def per_sample(x):
        return x.square().flatten(1).mean(1)

    x = images(3, 1, 32)
    g, d = lived_in(Ganomaly(), x), lived_in(GanomalyDiscriminator(), x)
    torch.save({"epoch": 15, "state_dict": g.state_dict()}, HERE / "ganomaly-netG.pth")
    torch.save({"epoch": 15, "state_dict": d.state_dict()}, HERE / "ganomaly-netD.pth")
    made, z, z_made = g(x)
    expected["ganomaly.reconstruction"] = made
    expected["ganomaly.score"] = per_sample(z - z_made)
    expected["ganomaly.norm"] = (z - z_made).square().flatten(1).sum(1).sqrt()

    x = images(2, 3, 32)
    g, d = lived_in(SkipGanomaly(), x), lived_in(SkipDiscriminator(), x)
    # As a training on several GPUs saves it, and in double precision.
    parallel = {f"module.{name}": value for name, value in g.state_dict().items()}
    torch.save({"epoch": 3, "state_dict": parallel}, HERE / "skip-ganomaly-netG.pth")
    torch.save({"epoch": 3, "state_dict": d.double().state_dict()}, HERE / "skip-ganomaly-netD.pth")
    made, d = g(x), d.float()
    expected["skip-ganomaly.reconstruction"] = made
    expected["skip-ganomaly.score"] = 0.9 * per_sample(x - made) + 0.1 * per_sample(d(x)[1] - d(made)[1])

    # At 128x128, where channels go on doubling, in halves.
    x = images(1, 1, 128)
    g = lived_in(Ganomaly(side=128, width=1), x).half()
    torch.save({"epoch": 15, "state_dict": g.state_dict()}, HERE / "ganomaly-128-netG.pth")
    made, z, z_made = g.float()(x)
    expected["ganomaly-128.reconstruction"] = made
    expected["ganomaly-128.score"] = per_sample(z - z_made)
    g = lived_in(SkipGanomaly(channels=1, width=1, depth=7), x).half()
    d = lived_in(SkipDiscriminator(side=128, channels=1, width=1), x).half()
    torch.save({"epoch": 3, "state_dict": g.state_dict()}, HERE / "skip-ganomaly-128-netG.pth")
    torch.save({"epoch": 3, "state_dict": d.state_dict()}, HERE / "skip-ganomaly-128-netD.pth")
    made, d = g.float()(x), d.float()
    expected["skip-ganomaly-128.reconstruction"] = made
    expected["skip-ganomaly-128.score"] = 0.9 * per_sample(x - made) + 0.1 * per_sample(d(x)[1] - d(made)[1])

    x = images(1, 3, 64)
    networks = {"netG": Generator(), "netE": Encoder(), "netD": Critic()}
    latents = torch.randn(4, 16, generator=torch.Generator().manual_seed(2))
    for name, network in networks.items():
        lived_in(network, latents if name == "netG" else images(4, 3, 64))
        # Weights in halves are what the network computes with from here on.
        network.half()
        torch.save(network.state_dict(), HERE / f"f-anogan-{name}.pth")
        network.float()
    made = networks["netG"](networks["netE"](x))
    features = [networks["netD"].features(image) for image in (x, made)]
    expected["f-anogan.reconstruction"] = made
    expected["f-anogan.score"] = per_sample(x - made) + per_sample(features[0] - features[1])
    expected["f-anogan.critic"] = -networks["netD"](x)
    expected["f-anogan.z-distance"] = per_sample(networks["netE"](x) - networks["netE"](made))

    # A03ki's files have no ending.
    side, channels, width, latent = 48, 3, 2, 5
    x = images(2, channels, side)
    generator = ResizeGenerator(side, channels, width, latent)
    encoder = ResizePyramid(side, channels, width, latent, nn.Tanh())
    critic = ResizePyramid(side, channels, width, 1)
    (HERE / "resize").mkdir(exist_ok=True)
    for name, network in (("generator", generator), ("encoder", encoder), ("discriminator", critic)):
        lived_in(network, latents[:, :latent] if name == "generator" else x)
        network.half()
        torch.save(network.state_dict(), HERE / "resize" / name)
        network.float()
    made = generator(encoder(x))
    expected["f-anogan-resize.reconstruction"] = made
    expected["f-anogan-resize.score"] = per_sample(x - made) + per_sample(critic.features(x) - critic.features(made))
    expected["f-anogan-resize.residual"] = per_sample(x - made)
    expected["f-anogan-resize.critic"] = -critic(x).flatten()
    expected["f-anogan-resize.z-distance"] = per_sample(encoder(x) - encoder(made))

    for name, network, side, radius in (
        ("mnist", Lenet([1, 8, 4], "bn", 28, 32), 28, 0.0),
        ("cifar10", Lenet([3, 4, 8, 16], "bn2d", 32, 16), 32, 1.5),
    ):
        x = normalised(images(3, network.conv1.in_channels, side), -2.5, 4.0)
        lived_in(network, x)
        centre = network(x).mean(0).mul(0.9).tolist()
        # The autoencoder of pretraining has the same encoder, and is not read.
        saved = {"R": radius, "c": centre, "net_dict": network.state_dict(), "ae_net_dict": {"conv1.weight": torch.ones(1)}}
        torch.save(saved, HERE / f"deep-svdd-{name}.tar")
        distance = (network(x) - torch.tensor(centre)).square().sum(1)
        expected[f"deep-svdd-{name}.score"] = distance - radius**2

    # What is refused.
    torch.save({"w": torch.ones(2)}, HERE / "legacy.pth", _use_new_zipfile_serialization=False)
    torch.jit.save(torch.jit.trace(nn.Linear(1, 1), torch.ones(1)), str(HERE / "script.pth"))
    torch.save(nn.Linear(1, 1), HERE / "module.pth")
    expected = {name: value.detach().contiguous() for name, value in expected.items()}
    save_file(expected, HERE / "expected.safetensors")


if __name__ == "__main__":
    torch.manual_seed(1)
    main()
