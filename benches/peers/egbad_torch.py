"""EGBAD on a folder of images in PyTorch, from the tables of docs/systems/egbad.md: what its residual is
worth.

    python3 benches/peers/egbad_torch.py DATA [--lr 2e-4] [--cycle 10] [--steps 600]

DATA is laid out as MVTec's: train/good, test/good, test/OTHER. Needs torch, numpy and pillow. Images are
gray, 32x32, width 16, latent 64, batches of 64, one thread, seed 0. It prints the AUROC of the residual and
of the score `fm`, and what G(E(x)) leaves of the good test images as a share of what the mean training image
leaves: for averaged weights with the running statistics that training blended (`published`), for averaged
weights with statistics of their own (`pass`), and beside them the controls without any network.
"""

import argparse
import copy
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from PIL import Image
from torch import nn

SIDE, WIDTH, LATENT, BATCH = 32, 16, 64, 64


def images(folder):
    def one(path):
        image = Image.open(path).convert("L").resize((SIDE, SIDE), Image.BOX)
        return np.asarray(image, dtype=np.float32) / 127.5 - 1

    return torch.tensor(np.stack([one(path) for path in sorted(folder.glob("*"))])[:, None])


def leaky():
    return nn.LeakyReLU(0.1)


def encoder(w=WIDTH):
    return nn.Sequential(
        nn.Conv2d(1, w // 2, 3, 1, 1), leaky(),
        nn.Conv2d(w // 2, w, 3, 2, 1), nn.BatchNorm2d(w), leaky(),
        nn.Conv2d(w, 2 * w, 3, 2, 1), nn.BatchNorm2d(2 * w), leaky(),
        nn.Flatten(), nn.Linear(2 * w * 64, LATENT),
    )


def generator(w=WIDTH):
    return nn.Sequential(
        nn.Linear(LATENT, 16 * w), nn.BatchNorm1d(16 * w), nn.ReLU(),
        nn.Linear(16 * w, 128 * w), nn.BatchNorm1d(128 * w), nn.ReLU(), nn.Unflatten(1, (2 * w, 8, 8)),
        nn.ConvTranspose2d(2 * w, w, 4, 2, 1), nn.BatchNorm2d(w), nn.ReLU(),
        nn.ConvTranspose2d(w, 1, 4, 2, 1), nn.Tanh(),
    )


class Discriminator(nn.Module):
    def __init__(self, w=WIDTH):
        super().__init__()
        self.x = nn.Sequential(
            nn.Conv2d(1, w, 4, 2, 1), leaky(), nn.Dropout(0.5),
            nn.Conv2d(w, w, 4, 2, 1), nn.BatchNorm2d(w), leaky(), nn.Dropout(0.5), nn.Flatten(),
        )
        self.z = nn.Sequential(nn.Linear(LATENT, 8 * w), leaky(), nn.Dropout(0.5))
        self.f = nn.Sequential(nn.Linear(64 * w + 8 * w, 16 * w), leaky(), nn.Dropout(0.5))
        self.verdict = nn.Linear(16 * w, 1)

    def forward(self, x, z):
        f = self.f(torch.cat([self.x(x), self.z(z)], 1))
        return self.verdict(f)[:, 0], f


def start(module):
    if isinstance(module, (nn.Conv2d, nn.ConvTranspose2d, nn.Linear)):
        nn.init.normal_(module.weight, 0, 0.02)
        nn.init.zeros_(module.bias)


def auroc(good, bad):
    scores = torch.cat([good, bad]).numpy()
    ranks = np.empty(len(scores))
    ranks[np.argsort(scores, kind="stable")] = np.arange(len(scores))
    return (ranks[len(good):].sum() - len(bad) * (len(bad) - 1) / 2) / len(good) / len(bad)


def with_own_statistics(nets, train, cycle):
    e, g, d = copy.deepcopy(nets)
    for net in (e, g, d):
        for layer in net.modules():
            if isinstance(layer, (nn.BatchNorm1d, nn.BatchNorm2d)):
                layer.reset_running_stats()
                layer.momentum = None
        net.train()
    with torch.no_grad():
        for x in train.split(BATCH)[: len(train) // BATCH]:
            code, z = e(x), torch.randn(BATCH, LATENT)
            d(x, code)
            d(g(z), z)
            if cycle:
                g(code)
    return e, g, d


def report(name, nets, train, good, bad):
    e, g, d = copy.deepcopy(nets)
    for net in (e, g, d):
        net.eval()
    residuals, scores = [], []
    with torch.no_grad():
        for x in (good, bad):
            code = e(x)
            made = g(code)
            residuals.append((x - made).abs().flatten(1).sum(1))
            scores.append(0.9 * residuals[-1] + 0.1 * (d(x, code)[1] - d(made, code)[1]).abs().sum(1))
        left = ((good - g(e(good))) ** 2).sum() / ((good - train.mean(0)) ** 2).sum()
    print(f"{name}: residual {auroc(*residuals):.3f}, fm {auroc(*scores):.3f}, left {left:.2f}", flush=True)


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("data", type=Path)
    parser.add_argument("--lr", type=float, default=2e-4)
    parser.add_argument("--cycle", type=float, default=10.0)
    parser.add_argument("--steps", type=int, default=600)
    args = parser.parse_args()
    torch.set_num_threads(1)
    torch.manual_seed(0)
    train, good = images(args.data / "train/good"), images(args.data / "test/good")
    others = [folder for folder in sorted((args.data / "test").iterdir()) if folder.name != "good"]
    bad = torch.cat([images(folder) for folder in others])
    norm, bright = (lambda x: x.abs().flatten(1).sum(1)), (lambda x: x.flatten(1).mean(1))
    print(f"controls: norm {auroc(norm(good), norm(bad)):.3f}, brightness {auroc(bright(good), bright(bad)):.3f}")

    e, g, d = nets = encoder(), generator(), Discriminator()
    for net in nets:
        net.apply(start)
    of_e, of_g, of_d = (torch.optim.Adam(net.parameters(), args.lr, betas=(0.5, 0.999)) for net in nets)
    averages = copy.deepcopy(nets)
    one, zero, bce = torch.ones(BATCH), torch.zeros(BATCH), F.binary_cross_entropy_with_logits
    for step in range(args.steps):
        x, z = train[torch.randint(len(train), (BATCH,))], torch.randn(BATCH, LATENT)
        code, fake = e(x), g(z)
        loss_d = bce(d(x, code.detach())[0], one) + bce(d(fake.detach(), z)[0], zero)
        of_d.zero_grad()
        loss_d.backward()
        of_d.step()
        loss = bce(d(x, code)[0], zero) + bce(d(fake, z)[0], one)
        if args.cycle:
            loss = loss + args.cycle * F.l1_loss(g(code), x)
        of_e.zero_grad()
        of_g.zero_grad()
        loss.backward()
        of_e.step()
        of_g.step()
        decay = min(0.999, step / (step + 1))
        with torch.no_grad():
            for average, net in zip(averages, nets):
                for a, p in zip(average.parameters(), net.parameters()):
                    a.lerp_(p, 1 - decay)
                for a, b in zip(average.buffers(), net.buffers()):
                    a.copy_(b)
        if step + 1 in (2, args.steps // 4, args.steps):
            print(f"step {step + 1}: L_D {loss_d.item():.3f}")
            report("  published", averages, train, good, bad)
            report("  pass", with_own_statistics(averages, train, args.cycle), train, good, bad)


if __name__ == "__main__":
    main()
