"""Deep SVDD's four stages, from PyTorch in float64.

Run `python3 tests/goldens/deep_svdd.py` (torch, safetensors) to write `deep_svdd.safetensors` beside this
file. The networks are those of `src/models/nets.rs` under `lenet`, after lukasruff/Deep-SVDD-PyTorch: 16x16
gray images, width 16 (blocks of 8 and 16 channels), latent 32, batch 10, five batches that are an epoch and
repeat. No biases, batch norm without weights and with eps 1e-4, leaky ReLU 0.1.

    range     least and greatest value of the contrast-normalised images
    pretrain  20 steps on sum of squares per image, mean over the batch, Adam with weight decay 5e-4
    centre    mean of the features in eval mode, components kept 0.1 from 0
    svdd      20 steps on the one-class objective, Adam with weight decay 5e-7

with Adam lr 1e-4, betas (0.9, 0.999), eps 1e-8; the step size is a tenth from epoch 2 (step 10) of pretrain
and svdd on, so that its fall is covered.

Tensors: `x/B` of batch B; `before/NAME` and `after/NAME` of `encoder.*` and `decoder.*`; `range` (low, high),
`centre`, `pretrain` and `svdd` (losses of the 20 steps), `scores` of the first batch at the end.
"""

from pathlib import Path

import torch
import torch.nn.functional as F
from safetensors.torch import save_file
from torch import nn

SIZE, WIDTH, LATENT, BATCH, BATCHES, STEPS, DROP = 16, 16, 32, 10, 5, 20, 2
CHANNELS = [WIDTH // 2, WIDTH]


def norm(channels):
    return nn.BatchNorm2d(channels, eps=1e-4, affine=False)


class Encoder(nn.Module):
    def __init__(self):
        super().__init__()
        a, b = CHANNELS
        self.conv1 = nn.Conv2d(1, a, 5, bias=False, padding=2)
        self.bn1 = norm(a)
        self.conv2 = nn.Conv2d(a, b, 5, bias=False, padding=2)
        self.bn2 = norm(b)
        self.fc = nn.Linear(b * 16, LATENT, bias=False)

    def forward(self, x):
        h = F.max_pool2d(F.leaky_relu(self.bn1(self.conv1(x)), 0.1), 2)
        h = F.max_pool2d(F.leaky_relu(self.bn2(self.conv2(h)), 0.1), 2)
        return self.fc(h.flatten(1))


class Decoder(nn.Module):
    def __init__(self):
        super().__init__()
        a, b = CHANNELS
        self.bn0 = nn.BatchNorm1d(LATENT, eps=1e-4, affine=False)
        self.deconv1 = nn.ConvTranspose2d(LATENT // 16, b, 5, bias=False, padding=2)
        self.bn1 = norm(b)
        self.deconv2 = nn.ConvTranspose2d(b, a, 5, bias=False, padding=2)
        self.bn2 = norm(a)
        self.output = nn.ConvTranspose2d(a, 1, 5, bias=False, padding=2)

    def forward(self, z):
        h = F.leaky_relu(self.bn0(z).view(-1, LATENT // 16, 4, 4), 0.1)
        h = F.interpolate(F.leaky_relu(self.bn1(self.deconv1(h)), 0.1), scale_factor=2)
        h = F.interpolate(F.leaky_relu(self.bn2(self.deconv2(h)), 0.1), scale_factor=2)
        return torch.sigmoid(self.output(h))


def contrast(x):
    x = x - x.mean((1, 2, 3), keepdim=True)
    return x / x.abs().mean((1, 2, 3), keepdim=True)


def main():
    torch.manual_seed(20261123)
    networks = nn.ModuleDict({"encoder": Encoder(), "decoder": Decoder()}).double()
    encoder, decoder = networks["encoder"], networks["decoder"]
    tensors = {}

    def states(prefix):
        for name, value in networks.state_dict().items():
            if not name.endswith("num_batches_tracked"):
                tensors[f"{prefix}/{name}"] = value.detach().clone()

    with torch.no_grad():
        for p in networks.parameters():
            p.copy_(p.float())  # both sides start from the same numbers
    states("before")

    grid = torch.linspace(-3, 3, SIZE).double()
    batches = []
    for b in range(BATCHES):
        phase = 6 * torch.rand(BATCH, 1, 1, 1).double()
        x = torch.sin(phase + grid.view(-1, 1) * torch.randn(BATCH, 1, 1, 1).double() + grid)
        x = (x + 0.1 * torch.randn(x.shape).double()).clamp(-1, 1).float().double()
        tensors[f"x/{b}"] = x
        batches.append(x)
    every = torch.cat([contrast(x) for x in batches])
    low, high = every.min(), every.max()
    tensors["range"] = torch.stack([low, high])
    batches = [(contrast(x) - low) / (high - low) for x in batches]

    def train(parameters, decay, loss_of):
        adam = torch.optim.Adam(parameters, lr=1e-4, betas=(0.9, 0.999), eps=1e-8, weight_decay=decay)
        schedule = torch.optim.lr_scheduler.MultiStepLR(adam, milestones=[DROP], gamma=0.1)
        losses = []
        for t in range(STEPS):
            loss = loss_of(batches[t % BATCHES])
            adam.zero_grad()
            loss.backward()
            adam.step()
            if (t + 1) % BATCHES == 0:
                schedule.step()
            losses.append(loss.detach())
        return torch.stack(losses)

    networks.train()
    tensors["pretrain"] = train(
        networks.parameters(), 5e-4, lambda x: ((decoder(encoder(x)) - x) ** 2).sum((1, 2, 3)).mean()
    )
    networks.eval()
    with torch.no_grad():
        c = torch.cat([encoder(x) for x in batches]).mean(0)
        c[(c.abs() < 0.1) & (c < 0)] = -0.1
        c[(c.abs() < 0.1) & (c >= 0)] = 0.1
    tensors["centre"] = c
    networks.train()
    tensors["svdd"] = train(encoder.parameters(), 5e-7, lambda x: ((encoder(x) - c) ** 2).sum(1).mean())
    networks.eval()
    with torch.no_grad():
        tensors["scores"] = ((encoder(batches[0]) - c) ** 2).sum(1)
    states("after")
    print(tensors["pretrain"], tensors["svdd"], c, tensors["range"], tensors["scores"])
    path = Path(__file__).with_name("deep_svdd.safetensors")
    save_file({k: v.float().contiguous().clone() for k, v in tensors.items()}, path)
    print(f"{len(tensors)} tensors, {path.stat().st_size} bytes")


if __name__ == "__main__":
    main()
