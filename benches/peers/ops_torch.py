"""PyTorch's times for the rows of `cargo bench --bench peers`: single operations with their gradients,
batch 64.

A row runs the operation forward and backward from a given gradient of its output; batch norm is in train
mode. Prints a JSON document a line: the least and the median of the runs, in milliseconds.
"""

import argparse
import json
import statistics
import time

import torch
import torch.nn.functional as F

BATCH = 64
LAYERS = [(64, 128, 32), (128, 256, 16), (256, 512, 8), (512, 512, 8)]


def measure(what, runs, step):
    step()
    step()
    times = []
    for _ in range(runs):
        before = time.perf_counter()
        step()
        times.append(1e3 * (time.perf_counter() - before))
    print(json.dumps({"what": what, "ms_min": min(times), "ms_median": statistics.median(times)}), flush=True)


def with_gradients(function, leaves, dy):
    def step():
        for leaf in leaves:
            leaf.grad = None
        function().backward(dy)

    return step


def noise(*shape):
    return torch.rand(*shape) - 0.5


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--runs", type=int, default=10)
    parser.add_argument("--threads", type=int, default=2)
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    torch.manual_seed(0)
    for name, function in [("conv2d", F.conv2d), ("conv_transpose2d", F.conv_transpose2d)]:
        for low, high, size in LAYERS:
            down = name == "conv2d"
            (source, to), (size_in, size_out) = ((low, high), (size, size // 2)) if down else ((high, low), (size // 2, size))
            x = noise(BATCH, source, size_in, size_in).requires_grad_()
            w = noise(high, low, 4, 4).requires_grad_()
            dy = noise(BATCH, to, size_out, size_out)
            step = with_gradients(lambda: function(x, w, stride=2, padding=1), [x, w], dy)
            measure(f"{name} {source}->{to} {size_in}x{size_in}", args.runs, step)
    x, dy = noise(BATCH, 128, 16, 16).requires_grad_(), noise(BATCH, 128, 16, 16)
    norm = torch.nn.BatchNorm2d(128)
    leaves = [x, norm.weight, norm.bias]
    step = with_gradients(lambda: F.leaky_relu(norm(x), 0.2, inplace=True), leaves, dy)
    measure("batch norm + leaky ReLU 128x16x16", args.runs, step)
    a, b, c = noise(1024, 1024), noise(1024, 1024), torch.empty(1024, 1024)
    measure("gemm 1024x1024x1024", args.runs, lambda: torch.mm(a, b, out=c))


if __name__ == "__main__":
    main()
