"""PyTorch's time for what `ganomede bench step` and `ganomede bench search` measure.

The networks are those of src/models/dcgan.rs: 4x4 kernels of stride 2, width w to 8w, a bias only where no
batch norm follows. A step is the usual DCGAN loop: D on real and on detached fake images, Adam; then G
through the updated D, Adam, with one generator forward for both. A z-step is AnoGAN's: G and D in eval mode,
0.9 |x - G(z)| + 0.1 |f(x) - f(G(z))| summed, gradient in z alone, Adam on z; f(x) is computed once, before.
Losses are read back after each step.

Prints one JSON document: ms_min and ms_median are wall time, cpu_ms the processor time of all threads for
each run; first_step_ms is the time from the start of the process (PyTorch's import included) to the first
loss.
"""

import argparse
import json
import resource
import statistics
import sys
import time

STARTED = time.perf_counter()

import torch
import torch.nn.functional as F
from torch import nn


def channels_at(width, level):
    return width * 2 ** min(level, 3)


class Generator(nn.Module):
    def __init__(self, size, channels, width, latent):
        super().__init__()
        levels = size.bit_length() - 3
        self.top = channels_at(width, levels - 1)
        self.project = nn.Linear(latent, 16 * self.top, bias=False)
        self.project_bn = nn.BatchNorm2d(self.top)
        layers = []
        for level in range(levels - 1, 0, -1):
            to = channels_at(width, level - 1)
            layers += [nn.ConvTranspose2d(channels_at(width, level), to, 4, 2, 1, bias=False), nn.BatchNorm2d(to), nn.ReLU(True)]
        self.up = nn.Sequential(*layers)
        self.output = nn.ConvTranspose2d(width, channels, 4, 2, 1)

    def forward(self, z):
        h = F.relu(self.project_bn(self.project(z).view(-1, self.top, 4, 4)), True)
        return torch.tanh(self.output(self.up(h)))


class Discriminator(nn.Module):
    def __init__(self, size, channels, width):
        super().__init__()
        levels = size.bit_length() - 3
        layers = [nn.Conv2d(channels, width, 4, 2, 1), nn.LeakyReLU(0.2, True)]
        for level in range(1, levels):
            to = channels_at(width, level)
            layers += [nn.Conv2d(channels_at(width, level - 1), to, 4, 2, 1, bias=False), nn.BatchNorm2d(to), nn.LeakyReLU(0.2, True)]
        self.features = nn.Sequential(*layers)
        self.output = nn.Linear(16 * channels_at(width, levels - 1), 1)

    def forward(self, x):
        return self.output(self.features(x).flatten(1))


def initialise(module):
    if isinstance(module, (nn.Conv2d, nn.ConvTranspose2d, nn.Linear)):
        nn.init.normal_(module.weight, 0, 0.02)
    elif isinstance(module, nn.BatchNorm2d):
        nn.init.normal_(module.weight, 1, 0.02)


def training_step(args, g, d):
    """The step of the usual DCGAN loop, a function of the real images."""
    adam = {"lr": 2e-4, "betas": (0.5, 0.999), "fused": args.fused}
    g_adam, d_adam = torch.optim.Adam(g.parameters(), **adam), torch.optim.Adam(d.parameters(), **adam)
    ones, zeros = torch.ones(args.batch, 1), torch.zeros(args.batch, 1)
    bce = F.binary_cross_entropy_with_logits

    def step(x):
        fake = g(torch.rand(args.batch, args.latent) * 2 - 1)
        d_adam.zero_grad()
        loss_d = bce(d(x), ones) + bce(d(fake.detach()), zeros)
        loss_d.backward()
        d_adam.step()
        g_adam.zero_grad()
        # Every DCGAN loop also computes gradients of D's weights here, which the next zero_grad throws away;
        # --freeze leaves them out.
        d.requires_grad_(not args.freeze)
        loss_g = bce(d(fake), ones)
        loss_g.backward()
        d.requires_grad_(True)
        g_adam.step()
        return loss_d.item() + loss_g.item()

    return step


def search_step(args, g, d, x):
    g.eval().requires_grad_(False)
    d.eval().requires_grad_(False)
    z = (torch.rand(args.batch, args.latent) * 2 - 1).requires_grad_()
    adam = torch.optim.Adam([z], lr=0.05)
    with torch.no_grad():
        features = d.features(x)

    def step():
        adam.zero_grad()
        image = g(z)
        loss = 0.9 * (x - image).abs().sum() + 0.1 * (features - d.features(image)).abs().sum()
        loss.backward()
        adam.step()
        return loss.item()

    return step


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("what", choices=["step", "search"])
    for name, value in [("size", 64), ("channels", 1), ("width", 64), ("latent", 100), ("batch", 64), ("runs", 10), ("threads", 2)]:
        parser.add_argument(f"--{name}", type=int, default=value)
    parser.add_argument("--freeze", action="store_true", help="step: no gradients of D's weights in the generator's half")
    parser.add_argument("--channels-last", action="store_true", help="memory format that oneDNN may prefer")
    parser.add_argument("--bf16", action="store_true", help="autocast to bfloat16")
    parser.add_argument("--fused", action="store_true", help="step: Adam in one pass over all parameters")
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    torch.manual_seed(0)
    g = Generator(args.size, args.channels, args.width, args.latent).apply(initialise)
    d = Discriminator(args.size, args.channels, args.width).apply(initialise)
    x = torch.rand(args.batch, args.channels, args.size, args.size) * 2 - 1
    if args.channels_last:
        g, d, x = (v.to(memory_format=torch.channels_last) for v in (g, d, x))
    if args.bf16:
        autocast = lambda module: torch.autocast("cpu", dtype=torch.bfloat16)(module.forward)
        g.forward, d.forward, d.features.forward = (autocast(module) for module in (g, d, d.features))
    if args.what == "step":
        train = training_step(args, g, d)
        step = lambda: train(x)
    else:
        step = search_step(args, g, d, x)
    step()
    first = 1e3 * (time.perf_counter() - STARTED)
    step()
    times, processor = [], time.process_time()
    for _ in range(args.runs):
        before = time.perf_counter()
        step()
        times.append(1e3 * (time.perf_counter() - before))
    processor = 1e3 * (time.process_time() - processor) / args.runs
    median = statistics.median(times)
    print(json.dumps({
        "peer": f"PyTorch {torch.__version__} CPU",
        "what": args.what,
        "size": args.size,
        "width": args.width,
        "batch": args.batch,
        "threads": args.threads,
        "runs": args.runs,
        "ms_min": min(times),
        "ms_median": median,
        "cpu_ms": processor,
        "first_step_ms": first,
        "process_peak_bytes": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * (1 if sys.platform == "darwin" else 1024),
        "images_per_second": 1e3 * args.batch / median,
    }))


if __name__ == "__main__":
    main()
