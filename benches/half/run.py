#!/usr/bin/env python3
"""Trains models with weights in f32 and in halves, compares their scores, and writes docs/half.md."""

import argparse
import datetime
import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
sys.path.append(str(ROOT / "benches"))

from sections import write  # noqa: E402 (found by the line before)

TEMPLATE = Path(__file__).with_name("half.template.md")

DATA = "builtin:retina:train=1024,test=128"
SEED = 7
# System, its steps, and what its score needs.
SYSTEMS = [
    ("anogan", 300, ["--search-steps", "100"]),
    ("ganomaly", 300, []),
    ("ae", 300, []),
]
SIZES = ["--size", "32", "--width", "32"]


def ganomede(args, *command):
    done = subprocess.run([args.ganomede, *command, "--json"], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    if done.returncode != 0:
        sys.exit(f"error: {' '.join(map(str, command))} ended with {done.returncode}: {done.stderr[-800:]}")
    return json.loads(done.stdout)


def tensors(path):
    """Bytes of the tensors of a safetensors file."""
    with open(path, "rb") as file:
        return path.stat().st_size - 8 - int.from_bytes(file.read(8), "little")


def trained(args, folder, system, steps, search, *half):
    out = folder / f"{system}{''.join(half)}.safetensors"
    command = ["train", system, "--data", DATA, *SIZES, "--steps", str(steps), "--seed", str(SEED), "--out", str(out)]
    ganomede(args, *command, *search, *half, "--device", "cpu")
    scores = ganomede(args, "score", str(out), DATA, "--device", "cpu")
    evaluation = ganomede(args, "eval", str(out), "--data", DATA, "--device", "cpu")
    return out, scores, evaluation


def where(args, machine):
    version = subprocess.run([args.ganomede, "--version"], stdout=subprocess.PIPE, text=True).stdout.strip()
    return f"{version} on {machine}; {datetime.date.today()}."


def accuracy(args):
    with tempfile.TemporaryDirectory() as folder:
        return compared(args, Path(folder))


def compared(args, folder):
    head = "| system | model MB | checkpoint MB | difference of scores, median | largest | AUROC f32 | AUROC halves | flagged otherwise |"
    rows = [head, "|---|---:|---:|---:|---:|---:|---:|---:|"]
    for system, steps, search in SYSTEMS:
        print(system, file=sys.stderr)
        whole, whole_scores, whole_eval = trained(args, folder, system, steps, search)
        half, half_scores, half_eval = trained(args, folder, system, steps, search, "--half", "--half-checkpoints")
        pairs = list(zip(whole_scores["images"], half_scores["images"]))
        assert all(a["path"] == b["path"] for a, b in pairs)
        differences = sorted(abs(a["score"] - b["score"]) / abs(a["score"]) for a, b in pairs)
        flagged = sum(a["anomalous"] != b["anomalous"] for a, b in pairs)
        checkpoint = lambda path: tensors(path.with_suffix(".checkpoint.safetensors")) / 1e6
        rows.append(
            f"| {system} | {tensors(whole) / 1e6:.2f} → {tensors(half) / 1e6:.2f} "
            f"| {checkpoint(whole):.2f} → {checkpoint(half):.2f} "
            f"| {differences[len(differences) // 2]:.1e} | {differences[-1]:.1e} "
            f"| {whole_eval['auroc']:.4f} | {half_eval['auroc']:.4f} | {flagged} of {len(pairs)} |"
        )
    steps = f"{SYSTEMS[0][1]} steps at 32×32, width 32, on `{DATA}`, seed {SEED}"
    return [f"{where(args, whole_scores['device'])} Both models of a row come from the same training: {steps}.", "", *rows]


def memory(args):
    rows = ["| batch | memory MB | in halves | 20 steps of the search, ms | in halves |", "|---:|---:|---:|---:|---:|"]
    for batch in [1, 8]:
        options = ["--width", "64", "--batch", str(batch), "--search-steps", "20", "--runs", "3", "--device", args.adapter]
        whole, half = (ganomede(args, "bench", "score", *options, *more) for more in ([], ["--half"]))
        rows.append(
            f"| {batch} | {whole['peak_bytes'] / 1e6:.1f} | {half['peak_bytes'] / 1e6:.1f} "
            f"| {whole['ms_median']:.0f} | {half['ms_median']:.0f} |"
        )
    return [where(args, whole["adapter"]), "", *rows]


def bf16(args):
    """Trainings in f32 and in bf16: what they come to, and what a step takes."""
    rows = [
        "| system | loss f32 | bf16 | AUROC f32 | bf16 | scores of one model apart, median | largest | step ms f32 | bf16 |",
        "|---|---:|---:|---:|---:|---:|---:|---:|---:|",
    ]
    with tempfile.TemporaryDirectory() as folder:
        for system, steps, search in SYSTEMS:
            print(system, file=sys.stderr)
            found = []
            for precision in ["f32", "bf16"]:
                where_to = Path(folder) / precision
                where_to.mkdir(exist_ok=True)
                options = [*search, "--precision", precision]
                out = where_to / f"{system}.safetensors"
                command = ["train", system, "--data", DATA, *SIZES, "--steps", str(steps), "--seed", str(SEED)]
                log = where_to / system
                ganomede(args, *command, *options, "--device", "cpu", "--out", str(out), "--log", str(log))
                last = json.loads((log / "steps.jsonl").read_text().splitlines()[-1])["losses"]
                loss = next(value for name, value in last.items() if name != "held_out")
                eval_ = ganomede(args, "eval", str(out), "--data", DATA, "--device", "cpu", "--precision", precision)
                found.append((loss, eval_["auroc"]))
            model = Path(folder) / "f32" / f"{system}.safetensors"
            scores = [
                [row["score"] for row in scored["images"]]
                for precision in ["f32", "bf16"]
                for scored in [ganomede(args, "score", str(model), DATA, "--device", "cpu", "--precision", precision)]
            ]
            apart = sorted(abs(a - b) / abs(a) for a, b in zip(*scores))
            networks = {"anogan": "dcgan"}.get(system, system)
            times = {"f32": [], "bf16": []}
            for _ in range(3):
                for precision, taken in times.items():
                    command = ["bench", "step", "--system", networks, "--size", "64", "--width", "64", "--runs", "5"]
                    step = ganomede(args, *command, "--device", "cpu", "--precision", precision)
                    taken.append(step["ms_median"])
                    by = step["adapter"]
            ms = {precision: sorted(taken)[1] for precision, taken in times.items()}
            (loss, auroc), (rounded_loss, rounded_auroc) = found
            rows.append(
                f"| {system} | {loss:.4g} | {rounded_loss:.4g} | {auroc:.4f} | {rounded_auroc:.4f} "
                f"| {apart[len(apart) // 2]:.1e} | {apart[-1]:.1e} | {ms['f32']:.0f} | {ms['bf16']:.0f} |"
            )
    steps = f"{SYSTEMS[0][1]} steps at 32×32, width 32, on `{DATA}`, seed {SEED}; steps at 64×64, width 64, batch 64"
    return [f"{where(args, by)} {steps}.", "", *rows]


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    target = os.environ.get("CARGO_TARGET_DIR", ROOT / "target")
    parser.add_argument("--ganomede", default=Path(target) / "release/ganomede", help="the binary")
    parser.add_argument("--adapter", default="gpu", help="the device of the memory table")
    parser.add_argument("--only", choices=["accuracy", "memory", "bf16"], action="append", help="measure this table alone")
    parser.add_argument("--write", type=Path, default=ROOT / "docs/half.md")
    args = parser.parse_args()
    if not Path(args.ganomede).exists():
        sys.exit(f"error: {args.ganomede} does not exist; run cargo build --release, or give --ganomede")
    sections = {"accuracy": lambda: accuracy(args), "memory": lambda: memory(args), "bf16": lambda: bf16(args)}
    write(args.write, TEMPLATE, sections, args.only)


if __name__ == "__main__":
    main()
