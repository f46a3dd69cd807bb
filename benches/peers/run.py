#!/usr/bin/env python3
"""Times Ganomede and PyTorch on the CPU in turn and writes docs/benchmarks.md.

Each round runs every row in both engines, one right after the other, so that both meet the same machine. A row's time
is the median of its rounds' medians, its ratio the median of its rounds' ratios (ours / theirs, smaller is better).
"""

import argparse
import datetime
import json
import os
import platform
import statistics
import subprocess
import sys
from collections import defaultdict
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
PEERS = ROOT / "benches/peers"

# Largest ratios aimed at, by the start of a row's name; `s` is an absolute time.
TARGETS = {
    "training step": 0.67,
    "z-step": 0.6,
    "conv": 0.8,
    "batch norm": 0.5,
    "peak memory": 0.25,
}
FIRST_STEP_S = 1.0

PROGRAMS = [
    ("training step, width 64, batch 64", "step", 64, 64),
    ("training step, width 32, batch 64", "step", 32, 64),
    ("z-step, width 64, batch 64", "search", 64, 64),
    ("z-step, width 32, batch 64", "search", 32, 64),
    ("z-step, width 64, batch 1", "search", 64, 1),
    ("z-step, width 32, batch 1", "search", 32, 1),
]


def run(command, **environment):
    done = subprocess.run(command, cwd=ROOT, env=os.environ | environment, stdout=subprocess.PIPE, text=True)
    if done.returncode != 0:
        sys.exit(f"error: {' '.join(map(str, command))} ended with {done.returncode}")
    return done.stdout


def lines(text):
    return [json.loads(line) for line in text.splitlines() if line.startswith("{")]


def measure(args):
    """{row: [(ours, theirs) of each round]}, each a dictionary of what was measured."""
    rows = defaultdict(list)
    threads = str(args.threads)
    for number in range(args.rounds):
        print(f"round {number + 1} of {args.rounds}", file=sys.stderr)
        for row, what, width, batch in PROGRAMS:
            sizes = ["--size", "64", "--width", str(width), "--batch", str(batch), "--runs", str(args.runs)]
            ours = run([args.ganomede, "bench", what, "--device", "cpu", "--json", *sizes], RAYON_NUM_THREADS=threads)
            theirs = run([args.python, PEERS / "dcgan_torch.py", what, "--threads", threads, *sizes])
            rows[row].append((json.loads(ours), json.loads(theirs)))
        ours = run([args.cargo, "bench", "--locked", "--quiet", "--bench", "peers", "--", str(args.runs)], RAYON_NUM_THREADS=threads)
        theirs = run([args.python, PEERS / "ops_torch.py", "--threads", threads, "--runs", str(args.runs)])
        ours, theirs = ({line["what"]: line for line in lines(text)} for text in (ours, theirs))
        for row in ours:
            name = row if row.startswith("gemm") else f"{row}, forward + gradients"
            rows[name].append((ours[row], theirs[row]))
    return rows


def table(rows):
    """Lines of a Markdown table, and how many targets are met of how many."""
    out = ["| work | Ganomede | PyTorch | ratio | of the least | target | |", "|---|---:|---:|---:|---:|---:|---|"]
    met = []

    def digits(value):
        return f"{value:.3g}" if value < 100 else f"{value:.0f}"

    def line(name, ours, theirs, ratio, least, target, reached, shown):
        verdict = "" if reached is None else ("met" if reached else "**not met**")
        met.extend([] if reached is None else [reached])
        out.append(f"| {name} | {ours} | {theirs} | {ratio:.2f} | {least} | {shown if target else ''} | {verdict} |")

    def pairs_of(pairs, field):
        return [(ours[field], theirs[field]) for ours, theirs in pairs]

    def median_ratio(pairs):
        return statistics.median(ours / theirs for ours, theirs in pairs)

    for row, pairs in rows.items():
        medians, least = pairs_of(pairs, "ms_median"), pairs_of(pairs, "ms_min")
        target = next((target for name, target in TARGETS.items() if row.startswith(name)), None)
        ratio = median_ratio(medians)
        ours, theirs = (f"{digits(statistics.median(times))} ms" for times in zip(*medians))
        reached = None if target is None else round(ratio, 2) <= target
        line(row, ours, theirs, ratio, f"{min(o for o, _ in least) / min(t for _, t in least):.2f}", target, reached, f"≤ {target}")
    step = rows[PROGRAMS[0][0]]
    peaks = pairs_of(step, "process_peak_bytes")
    ours, theirs = (f"{statistics.median(bytes) / 1e6:.0f} MB" for bytes in zip(*peaks))
    target = TARGETS["peak memory"]
    line("peak memory of the process, training step, width 64", ours, theirs, median_ratio(peaks), "", target, round(median_ratio(peaks), 2) <= target, f"≤ {target}")
    firsts = pairs_of(step, "first_step_ms")
    seconds = statistics.median(ours for ours, _ in firsts) / 1e3
    ours, theirs = (f"{statistics.median(times) / 1e3:.2f} s" for times in zip(*firsts))
    line("process start to the first loss, width 64", ours, theirs, median_ratio(firsts), "", True, seconds <= FIRST_STEP_S, f"≤ {FIRST_STEP_S} s")
    return out, sum(met), len(met)


def machine(rows, args):
    ours, theirs = rows[PROGRAMS[0][0]][0]
    version = run([args.ganomede, "--version"]).strip()
    commit = subprocess.run(["git", "rev-parse", "--short", "HEAD"], cwd=ROOT, stdout=subprocess.PIPE, text=True).stdout.strip()
    return (
        f"{version}{f' ({commit})' if commit else ''} and {theirs['peer']} on {ours['adapter']}, {platform.system()} "
        f"{platform.machine()}; {args.threads} threads each; {datetime.date.today()}; {args.rounds} rounds of {args.runs} runs."
    )


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    target = os.environ.get("CARGO_TARGET_DIR", ROOT / "target")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--runs", type=int, default=5, help="timed runs of a row in each round")
    parser.add_argument("--threads", type=int, default=os.cpu_count())
    parser.add_argument("--ganomede", default=Path(target) / "release/ganomede", help="the binary")
    parser.add_argument("--cargo", default=os.environ.get("CARGO", "cargo"))
    parser.add_argument("--python", default=sys.executable, help="a Python that has torch")
    parser.add_argument("--write", type=Path, help="file to write in place of standard output")
    args = parser.parse_args()
    if args.rounds < 1 or args.runs < 1:
        sys.exit("error: --rounds and --runs are at least 1")
    if not Path(args.ganomede).exists():
        sys.exit(f"error: {args.ganomede} does not exist; run cargo build --release, or give --ganomede")
    if subprocess.run([args.python, "-c", "import torch"], stderr=subprocess.DEVNULL).returncode != 0:
        sys.exit(f"error: {args.python} has no torch; see benches/peers/README.md")
    rows = measure(args)
    body, met, of = table(rows)
    text = (PEERS / "benchmarks.template.md").read_text()
    text = text.replace("{machine}", machine(rows, args)).replace("{table}", "\n".join(body)).replace("{met}", f"{met} of {of}")
    if args.write:
        beside = args.write.with_name(args.write.name + ".part")
        beside.write_text(text)
        beside.replace(args.write)
    else:
        print(text)


if __name__ == "__main__":
    main()
