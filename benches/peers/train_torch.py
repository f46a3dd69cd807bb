"""Trains DCGAN on one digit of MNIST with PyTorch, as `ganomede train anogan --val-fraction 0` does.

Reads the two gzipped IDX files of the training set, keeps the images of one class, resizes them from 28x28 to
the size asked for, scales them to -1..1, trains for whole epochs of full batches in a new order each, and
writes the weights of both networks. Networks and step are those of dcgan_torch.py. Prints one JSON document:
ms is the time from the start of the process, PyTorch's import included, to the file written.
"""

import argparse
import gzip
import json
import time
from pathlib import Path

STARTED = time.perf_counter()

import numpy as np
import torch
import torch.nn.functional as F

from dcgan_torch import Discriminator, Generator, initialise, training_step


def idx(path):
    """An IDX file of bytes as an array."""
    data = gzip.decompress(path.read_bytes())
    dimensions = data[3]
    shape = np.frombuffer(data, ">u4", dimensions, 4)
    return np.frombuffer(data, np.uint8, offset=4 + 4 * dimensions).reshape(shape)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True, help="folder of the IDX files")
    parser.add_argument("--out", type=Path, required=True, help="file of the weights")
    for name, value in [("digit", 1), ("epochs", 5), ("size", 32), ("width", 64), ("latent", 100), ("batch", 64), ("threads", 2)]:
        parser.add_argument(f"--{name}", type=int, default=value)
    args = parser.parse_args()
    args.freeze = False
    torch.set_num_threads(args.threads)
    torch.manual_seed(0)
    images = idx(args.data / "train-images-idx3-ubyte.gz")
    images = images[idx(args.data / "train-labels-idx1-ubyte.gz") == args.digit]
    images = torch.from_numpy(images).unsqueeze(1).float() / 127.5 - 1
    images = F.interpolate(images, size=(args.size, args.size), mode="bilinear", antialias=True)
    g = Generator(args.size, 1, args.width, args.latent).apply(initialise)
    d = Discriminator(args.size, 1, args.width).apply(initialise)
    step = training_step(args, g, d)
    steps = 0
    for _ in range(args.epochs):
        for batch in torch.randperm(len(images)).split(args.batch):
            if len(batch) == args.batch:
                loss = step(images[batch])
                steps += 1
    torch.save({"generator": g.state_dict(), "discriminator": d.state_dict()}, args.out)
    print(json.dumps({
        "peer": f"PyTorch {torch.__version__} CPU",
        "what": "train",
        "images": len(images),
        "steps": steps,
        "loss": loss,
        "ms": 1e3 * (time.perf_counter() - STARTED),
    }))


if __name__ == "__main__":
    main()
