#!/usr/bin/env python3
"""Times Ganomede and its peers in turn and writes docs/benchmarks.md.

Each round runs every row in both engines of a comparison, one right after the other, so that both meet the same machine.
Parts: `cpu` is this program's CPU device against PyTorch, with burn's flex backend and candle for orientation; `gpu` its
GPU path against burn's wgpu backend on the same adapter; `train` a whole training on MNIST against PyTorch, where --mnist
says where the set lies; `build` a clean release build. Nothing is kept between runs: tuning and shader caches start empty.
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
from engines import PEERS, ROOT, Crate, Failed, Ganomede, Served, Torch, bench_binary, run

PARTS = ["cpu", "gpu", "train", "build"]
WITHOUT = ["torch", "flex", "candle", "burn-wgpu"]


def say(text):
    print(f"{datetime.datetime.now():%H:%M:%S} {text}", file=sys.stderr, flush=True)


def measure(engines, rounds, runs, extra=(), one_run=()):
    """{row: {title: [document of each round]}}; engines in `extra` take part in the first round only."""
    rows = defaultdict(lambda: defaultdict(list))

    def ask(engine, work):
        try:
            return work(engine)
        except Failed as error:
            if engine is engines[0]:
                sys.exit(f"error: {error}")
            say(f"warning: {error}; its row stays empty")
            return None

    for number in range(rounds):
        taking_part = [*engines, *(extra if number == 0 else ())]
        for row, (what, width, batch) in tables.PROGRAMS:
            say(f"round {number + 1} of {rounds}: {row}")
            repeats = 1 if (what, width, batch) in one_run else runs
            for engine in taking_part:
                if found := ask(engine, lambda engine: engine.program(what, width, batch, repeats)):
                    rows[row][engine.title].append(found)
        for engine in taking_part:
            say(f"round {number + 1} of {rounds}: single operations, {engine.title}")
            for what, found in (ask(engine, lambda engine: engine.operations(runs)) or {}).items():
                rows[tables.operation_row(what)][engine.title].append(found)
    for engine in [*engines, *extra]:
        engine.close()
    return rows


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
    args.parts = set(args.only or PARTS[:3]) | ({"build"} if args.build else set())
    if not args.ganomede.exists():
        parser.error(f"{args.ganomede} does not exist; run cargo build --release, or give --ganomede")
    if not {"flex", "candle", "burn-wgpu"} <= set(args.without) and args.parts & {"cpu", "gpu"} and not args.crates.exists():
        parser.error(f"{args.crates} does not exist; see benches/peers/README.md, or give --without flex candle burn-wgpu")
    if "torch" not in args.without and args.parts & {"cpu", "train"}:
        if subprocess.run([args.python, "-c", "import torch"], stderr=subprocess.DEVNULL).returncode != 0:
            parser.error(f"{args.python} cannot import torch; see benches/peers/README.md, or give --without torch")
    return args


def sections(args):
    """What each placeholder of the template becomes, after each part: what is done survives an end by impatience."""
    cargo_bench = bench_binary(args.cargo) if args.parts & {"cpu", "gpu"} else None
    torch = Torch(args.python, args.threads)
    text = defaultdict(lambda: "Not measured in this run.")
    wanted = lambda name, engine: [] if name in args.without else [engine]
    parts, columns = [], []

    def compare(part, peers, extra, rounds, runs, one_run=()):
        ours = Ganomede(part, args.ganomede, cargo_bench, args.threads)
        rows = measure([ours, *peers], rounds, runs, extra, one_run)
        titles = [engine.title for engine in [ours, *peers, *extra]]
        adapter = rows[tables.HEAVIEST][ours.title][0]["adapter"]
        found, verdicts = tables.ratios(rows, part, ours.title, peers[0].title if peers else "no peer")
        text[part] = "\n\n".join([machine(args, adapter, names(rows), rounds, runs), found, verdicts.text()])
        parts.append(rows)
        columns.extend(titles)
        text["side"] = tables.side_by_side(parts, columns)

    if "cpu" in args.parts:
        flex = wanted("flex", Crate("burn `flex`", "burn-flex", args.crates, args.threads))
        candle = wanted("candle", Crate("candle", "candle", args.crates, args.threads))
        compare("cpu", wanted("torch", torch), [*flex, *candle], args.rounds, args.runs)
        yield text
    if "train" in args.parts and "torch" not in args.without:
        text["train"] = "Not measured in this run: no folder of MNIST was given (`--mnist DIR`)."
        if args.mnist:
            text["train"] = tables.training(whole_training(args, torch))
            yield text
    if "build" in args.parts:
        rust = subprocess.run(["rustc", "--version"], stdout=subprocess.PIPE, text=True).stdout.strip()
        text["build"] = f"{rust}, {args.threads} cores.\n\n{tables.build(*clean_build(args))}"
        yield text
    if "gpu" in args.parts:
        burn = wanted("burn-wgpu", Served("burn `wgpu`", "burn-wgpu", args.crates, args.threads))
        compare("gpu", burn, [], args.gpu_rounds, args.gpu_runs, one_run=[tables.HEAVY])
    yield text


def main():
    args = arguments()
    template = (PEERS / "benchmarks.template.md").read_text()
    for text in sections(args):
        page = template
        for name in ["cpu", "gpu", "side", "train", "build"]:
            page = page.replace("{" + name + "}", text[name])
        if args.write:
            beside = args.write.with_name(args.write.name + ".part")
            beside.write_text(page)
            beside.replace(args.write)
    if not args.write:
        print(page)


if __name__ == "__main__":
    main()
