#!/usr/bin/env python3
"""What the order of the test images is worth to Skip-GANomaly when batch norm stays in training mode at the
test.

    python3 benches/real/skip_order.py MODEL.safetensors CIFAR_FOLDER [CLASS]

The published repository tests in batches of its option `batchsize` (64), unshuffled, all normal images first,
with batch norm in training mode: an image is normalised with its neighbours, so batches of one kind of image
give its kind away. This script scores the same weights, those of a model that `train skip-ganomaly --data
CIFAR_FOLDER --anomalous-class CLASS --size 32 --channels rgb` made, with PyTorch: in eval mode, which is what
`ganomede eval` does; in training mode with the images shuffled; and in training mode in the repository's
order. Needs torch, numpy, safetensors and scikit-learn.
"""

import json
import sys
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from safetensors import safe_open
from sklearn.metrics import roc_auc_score
from torch import nn

BATCH = 64


class Network(nn.Module):
    """The layers that the file names, run as `src/models/skip_ganomaly.rs` does."""

    def __init__(self, tensors):
        super().__init__()
        self.tensors = tensors

    def norm(self, name, x):
        t = self.tensors
        running = (t[f"{name}.running_mean"].clone(), t[f"{name}.running_var"].clone())
        return F.batch_norm(x, *running, t[f"{name}.weight"], t[f"{name}.bias"], self.training, 0.1, 1e-5)

    def layer(self, name, x, function):
        return function(x, self.tensors[f"{name}.weight"], self.tensors.get(f"{name}.bias"), 2, 1)

    def normed(self, name, x, function):
        x = self.layer(name, x, function)
        return self.norm(f"{name}_bn", x) if f"{name}_bn.weight" in self.tensors else x

    def generate(self, x):
        levels = sum(f"generator.down{i}.weight" in self.tensors for i in range(1, 10))
        skips = []
        for i in range(1, levels + 1):
            x = self.normed(f"generator.down{i}", F.leaky_relu(x, 0.2) if i > 1 else x, F.conv2d)
            skips.append(x)
        for i in range(levels, 0, -1):
            x = x if i == levels else torch.cat([skips[i - 1], x], 1)
            x = self.normed(f"generator.up{i}", F.relu(x), F.conv_transpose2d)
        return torch.tanh(x)

    def features(self, x):
        name = "discriminator.features"
        x = F.leaky_relu(self.normed(f"{name}.input", x, F.conv2d), 0.2)
        i = 1
        while f"{name}.down{i}.weight" in self.tensors:
            x = F.leaky_relu(self.normed(f"{name}.down{i}", x, F.conv2d), 0.2)
            i += 1
        return x.flatten(1) @ self.tensors[f"{name}.output.weight"].T

    def forward(self, x):
        made = self.generate(x)
        image, latent = x - made, self.features(x) - self.features(made)
        return 0.9 * image.square().flatten(1).mean(1) + 0.1 * latent.square().mean(1)


def main():
    model, folder = sys.argv[1], Path(sys.argv[2])
    anomalous = int(sys.argv[3]) if len(sys.argv) > 3 else 6
    with safe_open(model, "pt") as file:
        tensors = {name: file.get_tensor(name).float() for name in file.keys()}
        header = json.loads(file.metadata()["ganomede"])["header"]
    assert header["system"] == "skip-ganomaly", header["system"]
    files = sorted(folder.glob("test_batch*.bin")) or sys.exit(f"error: no test_batch*.bin in {folder}")
    rows = np.concatenate([np.fromfile(file, np.uint8).reshape(-1, 3073) for file in files])
    truth = rows[:, 0] == anomalous
    images = torch.from_numpy(rows[:, 1:].reshape(-1, 3, 32, 32).astype(np.float32)) / 127.5 - 1

    network = Network(tensors)
    print(f"{(~truth).sum()} normal and {truth.sum()} anomalous test images, the same weights")
    shuffled = np.random.default_rng(0).permutation(len(truth))
    normals_first = np.argsort(truth, kind="stable")
    for what, training, order in [
        ("eval mode", False, shuffled),
        ("training mode, shuffled", True, shuffled),
        ("training mode, normal images first", True, normals_first),
    ]:
        network.train(training)
        with torch.no_grad():
            scores = torch.cat([network(images[order[at : at + BATCH]]) for at in range(0, len(order), BATCH)])
        print(f"{what}: AUROC {roc_auc_score(truth[order], scores.numpy()):.3f}")


main()
