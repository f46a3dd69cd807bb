"""Training steps and scores of NSA and DRAEM on given synthetic samples, and the losses that they are made
of, from PyTorch in float64.

Run `python3 tests/goldens/synthetic.py` (torch, safetensors) to write `synthetic.safetensors` beside this
file. Networks, parameter names and layouts are those of `src/models/{nsa,resnet18,draem}.rs`, sides being
halved and restored by the rule of `src/models/config.rs`. Batch norm is in train mode, momentum 0.1; Adam has
lr 2e-4 (DRAEM 2e-5), betas (0.5, 0.999), eps 1e-8.

The first steps of Adam are as large for a gradient that rounding made as for any other. Of DRAEM at 2e-4
PyTorch in float32 was 0.6 % from itself in float64 at the third step; at 2e-5 and with these numbers the two
are 7e-6 apart, and 4e-4 where the weights are changed by 1e-6.

Systems are `nsa` (gray 40x33, width 2), `nsa-fine` (colour 17x24 without the pool, width 2) and `draem`
(colour 33x24, width 1), batches of 4, 3 steps. `SYSTEM/x/T`, `SYSTEM/defective/T`, `SYSTEM/label/T` or
`SYSTEM/mask/T`: the batch of step T, of `x` the first alone where training does not read it;
`SYSTEM/before/NAME`: parameters and running statistics; `SYSTEM/T/LOSS`; `SYSTEM/score/NAME` and
`SYSTEM/map`: of `x/0` in eval mode after the last step.

Losses: `ssim/a`, `ssim/b`, `ssim/g` and the map `ssim/y` with the gradients of <g, y>, `ssim/da`, `ssim/db`;
the same of `focal` (`a` logits, `b` targets) and `bce`.
"""

import math
from pathlib import Path

import torch
import torch.nn.functional as F
from safetensors.torch import save_file
from torch import nn

BATCH, STEPS = 4, 3


def zeros(side, kernel):
    """Zeros around a side that a convolution of stride 2 halves, before and after."""
    total = max(0, 2 * math.ceil(side / 2) + kernel - side - 2)
    return total // 2, (total + 1) // 2


class Down(nn.Conv2d):
    """Stride 2, sides rounded up."""

    def __init__(self, a, b, kernel):
        super().__init__(a, b, kernel, 2, bias=False)

    def forward(self, x):
        (top, bottom), (left, right) = (zeros(side, self.kernel_size[0]) for side in x.shape[2:])
        return super().forward(F.pad(x, (left, right, top, bottom)))


class Up(nn.ConvTranspose2d):
    """From halved sides to `extent`."""

    def __init__(self, a, b, kernel):
        super().__init__(a, b, kernel, 2, bias=False)

    def forward(self, x, extent):
        y = F.pad(F.conv_transpose2d(x, self.weight, stride=2), (0, 1, 0, 1))
        (top, _), (left, _) = (zeros(side, self.kernel_size[0]) for side in extent)
        return y[:, :, top : top + extent[0], left : left + extent[1]]


def conv(a, b, kernel):
    return nn.Conv2d(a, b, kernel, 1, kernel // 2, bias=False)


class Block(nn.Module):
    def __init__(self, a, b, first, shortcut=None):
        super().__init__()
        self.conv1, self.bn1 = first(a, b, 3), nn.BatchNorm2d(b)
        self.conv2, self.bn2 = conv(b, b, 3), nn.BatchNorm2d(b)
        self.name = shortcut
        if shortcut:
            self.add_module(shortcut, nn.Sequential(first(a, b, 1), nn.BatchNorm2d(b)))

    def forward(self, x, *extent):
        h = self.bn2(self.conv2(F.relu(self.bn1(self.conv1(x, *extent)))))
        if self.name:
            first, norm = getattr(self, self.name)
            x = norm(first(x, *extent))
        return F.relu(h + x)


class EncoderDecoder(nn.Module):
    def __init__(self, channels, w, pools):
        super().__init__()
        self.pools = pools
        self.conv1, self.bn1 = Down(channels, w, 7), nn.BatchNorm2d(w)
        for i in range(4):
            a, b = max(w << i >> 1, w), w << i
            first = Block(a, b, Down, "downsample") if i else Block(a, b, conv)
            self.add_module(f"layer{i + 1}", nn.Sequential(first, Block(b, b, conv)))
        self.nin = nn.Sequential(conv(8 * w, 4 * w, 1), nn.ReLU(), conv(4 * w, 2 * w, 1), nn.ReLU())
        for i in range(3):
            block = Block(max(2 * w >> i, 1), max(w >> i, 1), Up, "upsample")
            self.add_module(f"uplayer{i + 1}", nn.Sequential(block))
        self.convtranspose1 = Up(max(w >> 2, 1), 1, 7)

    def forward(self, x):
        extents = [x.shape[2:]]
        h = F.relu(self.bn1(self.conv1(x)))
        extents.append(h.shape[2:])
        if self.pools:
            (top, bottom), (left, right) = (zeros(side, 3) for side in h.shape[2:])
            h = F.max_pool2d(F.pad(h, (left, right, top, bottom), value=-math.inf), 3, 2)
        for layer in (self.layer1, self.layer2, self.layer3, self.layer4):
            extents.append(h.shape[2:])
            h = layer(h)
        h = self.nin(h)
        for i, layer in enumerate((self.uplayer1, self.uplayer2, self.uplayer3)):
            h = layer[0](h, extents[-1 - i])
        if self.pools:
            h = F.interpolate(h, extents[1], mode="bilinear", align_corners=True)
        return self.convtranspose1(h, extents[0])


def peak(found, side):
    side = side // 2 * 2 + 1
    return F.avg_pool2d(found, side, 1, side // 2).flatten(1).amax(1)


class Nsa(nn.Module):
    LABEL = "label"

    def __init__(self, channels, width, pools):
        super().__init__()
        self.network = EncoderDecoder(channels, width, pools)

    def losses(self, _, defective, label):
        return {"segmentation": F.binary_cross_entropy_with_logits(self.network(defective), label)}

    def total(self, losses):
        return losses["segmentation"]

    def scores(self, x):
        found = torch.sigmoid(self.network(x))
        return {"mean": found.flatten(1).mean(1), "peak": peak(found, min(x.shape[2:]) // 8)}, found[:, 0]


class Chain(nn.Module):
    def __init__(self, *channels):
        super().__init__()
        self.count = len(channels) - 1
        for i, (a, b) in enumerate(zip(channels, channels[1:])):
            self.add_module(f"conv{i}", conv(a, b, 3))
            self.add_module(f"bn{i}", nn.BatchNorm2d(b))

    def forward(self, x):
        for i in range(self.count):
            x = F.relu(getattr(self, f"bn{i}")(getattr(self, f"conv{i}")(x)))
        return x


class Hourglass(nn.Module):
    """The published decoders, written out; `up` and `db` as there."""

    def __init__(self, a, b, widths, ups, dbs, skips):
        super().__init__()
        self.levels, self.skips = len(widths), skips
        for i, (x, w) in enumerate(zip([a, *widths], widths)):
            self.add_module(f"block{i + 1}", Chain(x, w, w))
        for i, (up, db) in enumerate(zip(ups, dbs)):
            self.add_module(f"up{i + 1}", Chain(*up))
            self.add_module(f"db{i + 1}", Chain(*db))
        self.output = nn.Conv2d(dbs[-1][-1], b, 3, 1, 1)

    def forward(self, x):
        seen = []
        for i in range(self.levels):
            h = self.block1(x) if i == 0 else getattr(self, f"block{i + 1}")(F.max_pool2d(h, 2, ceil_mode=True))
            seen.append(h)
        for i in range(1, self.levels):
            skip = seen[self.levels - 1 - i]
            h = F.interpolate(h, skip.shape[2:], mode="bilinear", align_corners=True)
            h = getattr(self, f"up{i}")(h)
            h = getattr(self, f"db{i}")(torch.cat([h, skip], 1) if self.skips else h)
        return self.output(h)


def gaussian_ssim(a, b):
    """DRAEM's code for values of [0, 1]."""
    taps = torch.tensor([math.exp(-((k - 5) ** 2) / (2 * 1.5**2)) for k in range(11)], dtype=torch.float64)
    taps = taps / taps.sum()
    channels = a.shape[1]
    window = torch.outer(taps, taps).expand(channels, 1, 11, 11)

    def mean(x):
        return F.conv2d(x, window, padding=5, groups=channels)

    ma, mb = mean(a), mean(b)
    va, vb, ab = mean(a * a) - ma**2, mean(b * b) - mb**2, mean(a * b) - ma * mb
    return (2 * ma * mb + 0.01**2) * (2 * ab + 0.03**2) / ((ma**2 + mb**2 + 0.01**2) * (va + vb + 0.03**2))


def focal(logits, targets, gamma=2.0):
    """Lin et al., equation 4, without alpha."""
    p = torch.softmax(logits, 1)
    p = torch.where(targets > 0.5, p[:, 1:], p[:, :1])
    return -((1 - p) ** gamma) * p.log()


class Draem(nn.Module):
    LABEL = "mask"

    def __init__(self, channels, w):
        super().__init__()
        v = 2 * w
        ups = [(8 * v, 8 * v), (4 * v, 4 * v), (2 * v, 2 * v), (v, v)]
        dbs = [(8 * v, 8 * v, 4 * v), (4 * v, 4 * v, 2 * v), (2 * v, 2 * v, v), (v, v, v)]
        self.reconstructive = Hourglass(channels, channels, [v, 2 * v, 4 * v, 8 * v, 8 * v], ups, dbs, False)
        ups = [(8 * w, 8 * w), (8 * w, 4 * w), (4 * w, 2 * w), (2 * w, w), (w, w)]
        dbs = [(16 * w, 8 * w, 8 * w), (12 * w, 4 * w, 4 * w), (6 * w, 2 * w, 2 * w), (3 * w, w, w), (2 * w, w, w)]
        widths = [w, 2 * w, 4 * w, 8 * w, 8 * w, 8 * w]
        self.discriminative = Hourglass(2 * channels, 2, widths, ups, dbs, True)

    def apply_to(self, x):
        made = self.reconstructive(x)
        return made, self.discriminative(torch.cat([made, x], 1))

    def losses(self, x, defective, mask):
        x, defective = (x + 1) / 2, (defective + 1) / 2
        made, logits = self.apply_to(defective)
        return {
            "square": F.mse_loss(made, x),
            "ssim": 1 - gaussian_ssim(made, x).mean(),
            "segmentation": focal(logits, mask).mean(),
        }

    def total(self, losses):
        return sum(losses.values())

    def scores(self, x):
        _, logits = self.apply_to((x + 1) / 2)
        found = torch.softmax(logits, 1)[:, 1:]
        return {"mean": found.flatten(1).mean(1), "peak": peak(found, 21)}, found[:, 0]


SYSTEMS = {
    "nsa": (lambda: Nsa(1, 2, True), (1, 40, 33), 2e-4, 14),
    "nsa-fine": (lambda: Nsa(3, 2, False), (3, 17, 24), 2e-4, 15),
    "draem": (lambda: Draem(3, 1), (3, 33, 24), 2e-5, 16),
}


def main():
    generator = torch.Generator()

    def draw(*shape, uniform=False):
        kind = torch.rand if uniform else torch.randn
        return kind(shape, generator=generator, dtype=torch.float64).float().double()

    tensors = {}
    for name, (make, shape, lr, seed) in SYSTEMS.items():
        generator.manual_seed(seed)
        model = make().double()
        for key, value in model.state_dict().items():
            if key.endswith("num_batches_tracked"):
                continue
            if key.endswith("running_mean") or key.endswith("bias"):
                new = 0.1 * draw(*value.shape)
            elif key.endswith("running_var"):
                new = 0.5 + draw(*value.shape, uniform=True)
            elif value.dim() == 1:
                new = 1 + 0.1 * draw(*value.shape)
            else:
                new = draw(*value.shape) * math.sqrt(2 / value[0].numel())
            value.copy_(new.float().double())
            tensors[f"{name}/before/{key}"] = value.clone()
        optimiser = torch.optim.Adam(model.parameters(), lr=lr, betas=(0.5, 0.999))
        model.train()
        for t in range(STEPS):
            x = (2 * draw(BATCH, *shape, uniform=True) - 1).float().double()
            here = F.interpolate(draw(BATCH, 1, 4, 4, uniform=True), shape[1:], mode="nearest") > 0.7
            defective = torch.where(here, (0.6 * draw(BATCH, *shape)).clamp(-1, 1), x).float().double()
            truth = here.double()
            if model.LABEL == "label":
                truth = (truth * draw(BATCH, 1, *shape[1:], uniform=True)).float().double()
            tensors |= {f"{name}/defective/{t}": defective, f"{name}/{model.LABEL}/{t}": truth}
            if t == 0 or model.LABEL == "mask":
                tensors[f"{name}/x/{t}"] = x
            losses = model.losses(x, defective, truth)
            tensors |= {f"{name}/{t}/{key}": value.reshape(1) for key, value in losses.items()}
            optimiser.zero_grad()
            model.total(losses).backward()
            optimiser.step()
        model.eval()
        scores, found = model.scores(tensors[f"{name}/x/0"])
        tensors |= {f"{name}/score/{key}": value for key, value in scores.items()} | {f"{name}/map": found}

    pairs = {
        "ssim": (gaussian_ssim, draw(2, 3, 9, 14, uniform=True), draw(2, 3, 9, 14, uniform=True)),
        "focal": (focal, 3 * draw(2, 2, 5, 7), (draw(2, 1, 5, 7) > 0).double()),
        "bce": (
            lambda a, b: F.binary_cross_entropy_with_logits(a, b, reduction="none"),
            3 * draw(2, 1, 5, 7),
            draw(2, 1, 5, 7, uniform=True),
        ),
    }
    for name, (loss, a, b) in pairs.items():
        a, b = (t.float().double().requires_grad_() for t in (a, b))
        y = loss(a, b)
        g = draw(*y.shape)
        found = torch.autograd.grad((g * y).sum(), [a, b], allow_unused=True)
        tensors |= {f"{name}/a": a, f"{name}/b": b, f"{name}/g": g, f"{name}/y": y, f"{name}/da": found[0]}
        if found[1] is not None and name == "ssim":
            tensors[f"{name}/db"] = found[1]
    path = Path(__file__).with_name("synthetic.safetensors")
    save_file({k: v.detach().float().contiguous().clone() for k, v in tensors.items()}, path)
    print(f"{len(tensors)} tensors, {path.stat().st_size} bytes")


if __name__ == "__main__":
    main()
