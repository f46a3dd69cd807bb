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
# Rows, columns, inner size, and which operand is stored transposed.
PRODUCTS = [
    (1024, 1024, 1024, False, False),
    (1024, 1024, 1024, True, False),
    (1024, 1024, 1024, False, True),
    (1000, 1000, 1000, False, False),
    (64, 8192, 100, False, False),
    (512, 512, 16384, False, False),
]


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
    parser.add_argument("--channels-last", action="store_true", help="memory format of images that oneDNN may prefer")
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    torch.manual_seed(0)
    form = torch.channels_last if args.channels_last else torch.contiguous_format
    for name, function in [("conv2d", F.conv2d), ("conv_transpose2d", F.conv_transpose2d)]:
        for low, high, size in LAYERS:
            down = name == "conv2d"
            (source, to), (size_in, size_out) = ((low, high), (size, size // 2)) if down else ((high, low), (size // 2, size))
            x = noise(BATCH, source, size_in, size_in).to(memory_format=form).requires_grad_()
            w = noise(high, low, 4, 4).to(memory_format=form).requires_grad_()
            dy = noise(BATCH, to, size_out, size_out).to(memory_format=form)
            step = with_gradients(lambda: function(x, w, stride=2, padding=1), [x, w], dy)
            measure(f"{name} {source}->{to} {size_in}x{size_in}", args.runs, step)
    x, dy = (noise(BATCH, 128, 16, 16).to(memory_format=form) for _ in range(2))
    x.requires_grad_()
    norm = torch.nn.BatchNorm2d(128)
    leaves = [x, norm.weight, norm.bias]
    step = with_gradients(lambda: F.leaky_relu(norm(x), 0.2, inplace=True), leaves, dy)
    measure("batch norm + leaky ReLU 128x16x16", args.runs, step)
    for m, n, k, a_transposed, b_transposed in PRODUCTS:
        a = noise(k, m).t() if a_transposed else noise(m, k)
        b = noise(n, k).t() if b_transposed else noise(k, n)
        c = torch.empty(m, n)
        name = f"gemm {m}x{n}x{k}{', A transposed' * a_transposed}{', B transposed' * b_transposed}"
        measure(name, args.runs, lambda: torch.mm(a, b, out=c))


if __name__ == "__main__":
    main()
