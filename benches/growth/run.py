#!/usr/bin/env python3
"""Measures how memory grows with the size of images and search time with the batch, and writes
docs/growth.md.

Every point runs in a process of its own.
"""

import argparse
import datetime
import json
import os
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
sys.path.append(str(ROOT / "benches"))

from sections import write  # noqa: E402 (found by the line before)

TEMPLATE = Path(__file__).with_name("growth.template.md")

SIZES = [32, 64, 128, 256]
# Width and batch of the memory tables; a software adapter takes minutes for what a CPU does in seconds.
NETWORKS = {"cpu": (64, 64), "gpu": (16, 8)}
BATCHES = {"cpu": [1, 2, 4, 8, 16, 32, 64, 128], "gpu": [1, 2, 4, 8, 16, 32, 64]}
WIDTHS = {"cpu": [32, 64], "gpu": [32]}
# A batch fills the device where twice as many queries go less than this much faster, each.
FULL = 0.02
NEAR = 0.05


def bench(args, what, device, **sizes):
    options = [text for name, value in sizes.items() for text in (f"--{name}", str(value))]
    command = [args.ganomede, "bench", what, "--device", device, "--json", *options]
    done = subprocess.run(command, cwd=ROOT, stdout=subprocess.PIPE, text=True)
    if done.returncode != 0:
        sys.exit(f"error: {' '.join(map(str, command))} ended with {done.returncode}")
    return json.loads(done.stdout)


def where(args, timing):
    version = subprocess.run([args.ganomede, "--version"], stdout=subprocess.PIPE, text=True).stdout.strip()
    threads = f", {timing['threads']} threads" if timing["threads"] else ""
    return f"{version} on {timing['adapter']}{threads}; {datetime.date.today()}."


def mb(value):
    return f"{value / 1e6:,.1f}"


def memory(args, device):
    width, batch = NETWORKS[device]
    head = "| program | size | predicted MB | allocated MB | measured MB | measured / predicted |"
    out, worst = [head, "|---|---:|---:|---:|---:|---:|"], 0
    for what, name in [("step", "training step"), ("search", "z-step")]:
        for size in SIZES:
            timing = bench(args, what, device, size=size, width=width, batch=batch, runs=1)
            predicted, held, measured = (timing[f"{kind}_bytes"] for kind in ("predicted", "peak", "measured"))
            off = measured / predicted - 1
            worst = max(worst, abs(off))
            out.append(f"| {name} | {size} | {mb(predicted)} | {mb(held)} | {mb(measured)} | {off:+.1%} |")
    verdict = f"The largest difference is {worst:.1%}: the target is {'met' if worst <= NEAR else '**not met**'}."
    return [f"Width {width}, batch {batch}. {where(args, timing)}", "", *out, "", verdict]


def search(args, device):
    out, verdicts = [], []
    columns = {}
    for width in WIDTHS[device]:
        times = []
        for batch in BATCHES[device]:
            runs = args.runs if device == "cpu" else max(args.runs // 3, 1)
            timing = bench(args, "search", device, size=64, width=width, batch=batch, runs=runs)
            times.append(timing["ms_median"] / batch)
        columns[width] = times
        pairs = list(zip(times, times[1:]))
        full = next((i for i, (a, b) in enumerate(pairs) if b > a * (1 - FULL)), len(pairs))
        falls = all(b < a for a, b in pairs[:full])
        verdicts.append(
            f"Width {width}: {'falls' if falls else '**does not fall**'} from batch 1 to "
            f"{BATCHES[device][full]}, {times[0] / times[full]:.1f} times."
        )
    out.append("| batch | " + " | ".join(f"ms per query, width {w}" for w in columns) + " |")
    out.append("|---:|" + "---:|" * len(columns))
    for i, batch in enumerate(BATCHES[device]):
        out.append(f"| {batch} | " + " | ".join(f"{times[i]:.3f}" for times in columns.values()) + " |")
    return [where(args, timing), "", *out, "", *verdicts]


SECTIONS = [f"{name}-{device}" for name in ["memory", "search"] for device in ["cpu", "gpu"]]


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    target = os.environ.get("CARGO_TARGET_DIR", ROOT / "target")
    parser.add_argument("--runs", type=int, default=10, help="timed runs of a point of the search")
    parser.add_argument("--ganomede", default=Path(target) / "release/ganomede", help="the binary")
    parser.add_argument("--only", choices=SECTIONS, action="append", help="measure this table, leave the others")
    parser.add_argument("--write", type=Path, default=ROOT / "docs/growth.md")
    args = parser.parse_args()
    if not Path(args.ganomede).exists():
        sys.exit(f"error: {args.ganomede} does not exist; run cargo build --release, or give --ganomede")
    measures = {"memory": memory, "search": search}
    table = lambda kind, device: lambda: measures[kind](args, device)
    write(args.write, TEMPLATE, {name: table(*name.split("-")) for name in SECTIONS}, args.only)


if __name__ == "__main__":
    main()
