#!/usr/bin/env python3
"""Times Ganomede and its peers in turn and writes docs/benchmarks.md.

Each round runs every row in both engines of a comparison, one right after the other, so that both meet the
same machine.
Parts: `cpu` is this program's CPU device against PyTorch, with burn's flex backend and candle for
orientation; `gpu` its GPU path against burn's wgpu backend on the same adapter; `train` a whole training on
MNIST against PyTorch, where --mnist says where the set lies; `faces` the gradients of this program's
convolutions beside their forward pass; `build` a clean release build. Nothing is kept
between runs: tuning and shader caches start empty. With --write the page is written after every row, and
parts that are not run keep the tables that it has.
"""

import argparse
import datetime
import os
import platform
import shutil
import subprocess
import sys
import tempfile
import time
from collections import defaultdict
from pathlib import Path

import tables
from engines import PEERS, ROOT, Crate, Failed, Ganomede, Limits, Torch, Tuned, bench_binary, run

sys.path.append(str(ROOT / "benches"))

from sections import filled, put  # noqa: E402 (found by the line before)

TEMPLATE = PEERS / "benchmarks.template.md"

PARTS = ["cpu", "faces", "gpu", "train", "build"]
WITHOUT = ["torch", "flex", "candle", "burn-wgpu"]


def say(text):
    print(f"{datetime.datetime.now():%H:%M:%S} {text}", file=sys.stderr, flush=True)


def measure(rows, work, engines, rounds, runs, extra=()):
    """Fills {row: {title: [document of each round]}}, and yields after each row; engines in `extra` take part in the first round
    only."""

    def answers(engine, ask):
        try:
            yield from ask(engine)
        except Failed as error:
            if engine is engines[0]:
                sys.exit(f"error: {error}")
            say(f"warning: {error}; its row stays empty")

    for number in range(rounds):
        taking_part = [*engines, *(extra if number == 0 else ())]
        for row, program in [(tables.START, tables.HEAVY), *work]:
            say(f"round {number + 1} of {rounds}: {row}")
            for engine in taking_part:
                if program is None:
                    ask = lambda engine: engine.operations(runs)
                elif row == tables.START:
                    ask = lambda engine: [engine.start(*program)]
                else:
                    ask = lambda engine: [engine.program(*program, runs)]
                for found in answers(engine, ask):
                    name = tables.operation_row(found["what"]) if program is None else row
                    rows[name][engine.title].append(found)
                    if program is None:
                        yield
            yield
    for engine in [*engines, *extra]:
        engine.close()


def names(rows):
    """The engines as they call themselves."""
    found = {d["peer"]: None for row in rows.values() for ds in row.values() for d in ds if "peer" in d}
    return list(found)


def whole_training(args, torch):
    """Seconds of both for each round."""
    rounds = []
    with tempfile.TemporaryDirectory() as folder:
        for number in range(args.train_rounds):
            say(f"round {number + 1} of {args.train_rounds}: whole training")
            out = Path(folder) / f"{number}.safetensors"
            command = [args.ganomede, "train", "anogan", "--data", args.mnist, "--normal-class", 1, "--size", 32]
            command += ["--epochs", 5, "--val-fraction", 0, "--device", "cpu", "--out", out]
            started = time.perf_counter()
            run(command, args.threads, quiet=True)
            ours = time.perf_counter() - started
            theirs = torch.script("train_torch.py", "--data", args.mnist, "--out", Path(folder) / "torch.pt")[0]
            rounds.append((ours, theirs["ms"] / 1e3))
    return rounds


def faces(args, device):
    """A table row for each inner layer of DCGAN: the median over rounds of what its gradients take beside its forward pass,
    which has as many operations."""
    ours = Ganomede(device, args.ganomede, None, args.threads)
    rows = []
    for low, high, size in tables.LAYERS:
        say(f"gradients of {low}->{high} on {device}")
        rounds = []
        for _ in range(args.rounds):
            images, half = f"64x{low}x{size}x{size}", f"64x{high}x{size // 2}x{size // 2}"
            work = [("conv", images, high), ("conv_transpose", half, low), ("conv_weight", images, high)]
            rounds.append([ours.operation(what, shape, to, args.runs)["ms_median"] for what, shape, to in work])
        rows.append((f"{low}→{high} @ {size}", rounds))
    return tables.faces(device, rows)


def clean_build(args):
    """Seconds of a release build from nothing, and bytes of the stripped binary."""
    say("clean build")
    subprocess.run([args.cargo, "fetch", "--locked"], cwd=ROOT, check=True)
    with tempfile.TemporaryDirectory() as folder:
        started = time.perf_counter()
        subprocess.run(
            [args.cargo, "build", "--release", "--locked", "--quiet"],
            cwd=ROOT,
            env=os.environ | {"CARGO_TARGET_DIR": folder, "CARGO_INCREMENTAL": "0"},
            check=True,
        )
        took = time.perf_counter() - started
        binary = Path(folder) / "release" / Path(args.ganomede).name
        if shutil.which("strip"):
            subprocess.run(["strip", binary], check=True)
        return took, binary.stat().st_size


def machine(args, adapter, peers, rounds, runs):
    version = subprocess.run([args.ganomede, "--version"], stdout=subprocess.PIPE, text=True).stdout.strip()
    commit = subprocess.run(["git", "rev-parse", "--short", "HEAD"], cwd=ROOT, stdout=subprocess.PIPE, text=True).stdout.strip()
    engines = ", ".join([f"{version}{f' ({commit})' if commit else ''}", *peers])
    times = f"{rounds} round{'s' if rounds > 1 else ''} of {runs} run{'s' if runs > 1 else ''}"
    system = f"{platform.system()} {platform.machine()}"
    return f"{engines} on {adapter}, {system}; {args.threads} threads; {datetime.date.today()}; {times}."


def arguments():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    target = Path(os.environ.get("CARGO_TARGET_DIR", ROOT / "target")) / "release"
    crates = Path(os.environ.get("CARGO_TARGET_DIR", PEERS / "rust/target")) / "release"
    parser.add_argument("--only", choices=PARTS, nargs="+", help="parts to run; all but `build` otherwise")
    parser.add_argument("--build", action="store_true", help="also time a clean release build, two or three minutes")
    parser.add_argument("--without", choices=WITHOUT, nargs="+", default=[], help="peers to leave out")
    parser.add_argument("--rounds", type=int, default=3, help="of the part cpu")
    parser.add_argument("--runs", type=int, default=5, help="timed runs of a row in each round of the part cpu")
    parser.add_argument("--gpu-rounds", type=int, default=1)
    parser.add_argument("--gpu-runs", type=int, default=3)
    parser.add_argument("--gpu-minutes", type=float, default=20, help="rows that a peer has not begun after these stay empty")
    parser.add_argument("--tuning-limit", type=float, default=600, help="seconds that a peer may tune one row")
    parser.add_argument("--run-limit", type=float, default=60, help="seconds of one timed run of a peer")
    parser.add_argument("--first-limit", type=float, default=60, help="seconds from a peer's start to its first loss on the adapter")
    parser.add_argument("--train-rounds", type=int, default=1)
    parser.add_argument("--mnist", type=Path, default=os.environ.get("MNIST"), help="folder of MNIST's IDX files [env: MNIST]")
    parser.add_argument("--threads", type=int, default=os.cpu_count())
    parser.add_argument("--ganomede", type=Path, default=target / "ganomede", help="the binary")
    parser.add_argument("--crates", type=Path, default=crates / "peers", help="the binary of benches/peers/rust")
    parser.add_argument("--cargo", default=os.environ.get("CARGO", "cargo"))
    parser.add_argument("--python", default=sys.executable, help="a Python that has torch")
    parser.add_argument("--write", type=Path, help="file to write in place of standard output")
    args = parser.parse_args()
    if min(args.rounds, args.runs, args.gpu_rounds, args.gpu_runs, args.train_rounds, args.threads) < 1:
        parser.error("numbers of rounds, runs and threads are at least 1")
    args.parts = set(args.only or PARTS[:4]) | ({"build"} if args.build else set())
    if not args.ganomede.exists():
        parser.error(f"{args.ganomede} does not exist; run cargo build --release, or give --ganomede")
    if not {"flex", "candle", "burn-wgpu"} <= set(args.without) and args.parts & {"cpu", "gpu"} and not args.crates.exists():
        parser.error(f"{args.crates} does not exist; see benches/peers/README.md, or give --without flex candle burn-wgpu")
    if "torch" not in args.without and args.parts & {"cpu", "train"}:
        if subprocess.run([args.python, "-c", "import torch"], stderr=subprocess.DEVNULL).returncode != 0:
            parser.error(f"{args.python} cannot import torch; see benches/peers/README.md, or give --without torch")
    return args


def sections(args):
    """The texts of the page's sections that are measured, by name, again after every row: what is done survives an end by
    impatience."""
    cargo_bench = bench_binary(args.cargo) if args.parts & {"cpu", "gpu"} else None
    torch = Torch(args.python, args.threads)
    text = {}
    wanted = lambda name, engine: [] if name in args.without else [engine]

    def compare(part, work, peers, extra, rounds, runs):
        ours = Ganomede(part, args.ganomede, cargo_bench, args.threads)
        rows = defaultdict(lambda: defaultdict(list))
        for _ in measure(rows, work, [ours, *peers], rounds, runs, extra):
            adapter = rows[tables.START][ours.title][0]["adapter"]
            found, verdicts = tables.ratios(rows, part, ours.title, peers[0].title if peers else "no peer")
            text[part] = "\n\n".join([machine(args, adapter, names(rows), rounds, runs), found, verdicts.text()])
            if extra:
                text["side"] = tables.side_by_side(rows, [engine.title for engine in [ours, *peers, *extra]])
            yield text

    if "cpu" in args.parts:
        flex = wanted("flex", Crate("burn `flex`", "burn-flex", args.crates, args.threads))
        candle = wanted("candle", Crate("candle", "candle", args.crates, args.threads))
        peers, extra = wanted("torch", torch), [*flex, *candle]
        work = [*tables.PROGRAMS, tables.OPERATIONS_ROW]
        yield from compare("cpu", work, peers, extra, args.rounds, args.runs)
    if "faces" in args.parts:
        ours = Ganomede("cpu", args.ganomede, None, args.threads)
        adapter = ours.operation("pointwise", "1024", None, 1)["adapter"]
        found = [machine(args, adapter, [], args.rounds, args.runs)]
        for device in ["cpu", "gpu"]:
            try:
                found.append(faces(args, device))
            except Failed as error:
                say(f"warning: {error}; no gradients of {device}")
            text["faces"] = "\n\n".join(found)
            yield text
    if "train" in args.parts and "torch" not in args.without and args.mnist:
        text["train"] = tables.training(whole_training(args, torch))
        yield text
    if "build" in args.parts:
        rust = subprocess.run(["rustc", "--version"], stdout=subprocess.PIPE, text=True).stdout.strip()
        text["build"] = f"{rust}, {args.threads} cores.\n\n{tables.build(*clean_build(args))}"
        yield text
    if "gpu" in args.parts:
        end = time.monotonic() + 60 * args.gpu_minutes
        limits = Limits(args.tuning_limit, args.run_limit, args.first_limit, end)
        burn = wanted("burn-wgpu", Tuned("burn `wgpu`", "burn-wgpu", args.crates, args.threads, limits))
        yield from compare("gpu", tables.LIGHT_FIRST, burn, [], args.gpu_rounds, args.gpu_runs)


def main():
    args = arguments()
    text = {}
    for text in sections(args):
        if args.write:
            put(args.write, TEMPLATE, text)
    if not args.write:
        print(filled(TEMPLATE.read_text(), "", text))


if __name__ == "__main__":
    main()
