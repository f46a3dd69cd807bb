#!/usr/bin/env python3
"""Trains systems on real image sets, evaluates them and puts their rows into the table of docs/results.md.

The sets are not part of the project; benches/real/README.md says where each comes from and how it must lie in
the folder given as --data. A row is the last step of one training with the seed of the command, scored with
batch norm in eval mode; those of KDD99 are mean ± standard deviation over three seeds, interval and threshold
those of the first.
"""

import argparse
import fnmatch
import json
import os
import re
import subprocess
import sys
import tempfile
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
TABLE = re.compile(r"(<!-- real -->\n)(.*?)(<!-- /real -->)", re.DOTALL)
DIGITS = re.compile(r"(<!-- digits -->\n)(.*?)(<!-- /digits -->)", re.DOTALL)
HEAD = [
    "| row | set | system | score | AUROC | 95 % interval | AUPR | best F1 (oracle) | F1 at the share of anomalies (oracle) | recall, false alarms at the threshold | training | published |",
    "|---|---|---|---|--:|:-:|--:|--:|--:|--:|--:|--:|",
]

MNIST_ANOGAN = "--size 32 --width 32 --epochs 60 --val-fraction 0.02 --search-steps 500"
MNIST_AE = "--size 32 --width 16 --latent 16 --epochs 20 --val-fraction 0.05"
MNIST_SVDD = "--size 32 --epochs 60 --val-fraction 0.05"
MNIST_KNN = "--size 32 -O features=gradients -O images=8192 --val-fraction 0.05"

# AUROC of one digit against the rest, mean over the ten digits: what papers say.
MNIST_PUBLISHED = [
    ("DCAE (Ruff et al. 2018)", 0.897),
    ("AnoGAN (Ruff et al. 2018)", 0.913),
    ("Deep SVDD (Ruff et al. 2018)", 0.948),
    ("OCGAN (Perera et al. 2019)", 0.975),
    ("MemAE (Gong et al. 2019)", 0.975),
    ("HRN (Hu et al. 2020)", 0.976),
]


def mnist(system, settings, published, evaluate=""):
    """Rows of one digit against the rest, with the figures of the Deep SVDD paper's table, of the digits from 0 on."""
    return {
        f"mnist-{digit}-{system}": Row(
            f"MNIST, {digit} against the rest", "mnist", system, f"--normal-class {digit}", settings, figure, evaluate
        )
        for digit, figure in enumerate(published)
    }


class Row:
    def __init__(self, title, folder, system, classes, settings, published="", evaluate="", scores=("",), form=""):
        self.title, self.folder, self.system, self.classes = title, folder, system, classes
        self.settings, self.published, self.evaluate, self.scores = settings, published, evaluate, scores
        # What the data are where they are no images: --table. Settings that are empty are the system's own.
        self.form = form


ROWS = {
    **mnist("anogan", MNIST_ANOGAN, [0.966, 0.992, 0.850, 0.887, 0.894, 0.883, 0.947, 0.935, 0.849, 0.924], "--limit-test 1000"),
    **mnist("ae", MNIST_AE, [0.976, 0.983, 0.854, 0.867, 0.865, 0.782, 0.946, 0.923, 0.865, 0.904]),
    **mnist("knn", MNIST_KNN, [""] * 10),
    **mnist("deep-svdd", MNIST_SVDD, [0.980, 0.997, 0.917, 0.919, 0.949, 0.885, 0.983, 0.946, 0.939, 0.965]),
    "mnist-without-2-ganomaly": Row(
        "MNIST, 2 left out", "mnist", "ganomaly", "--anomalous-class 2", "--size 32 --width 32 --epochs 5", 0.951,
        scores=("", "instance"),
    ),
    "cifar-without-frog-ganomaly": Row(
        "CIFAR-10, frogs left out", "cifar10", "ganomaly", "--anomalous-class 6",
        "--size 32 --channels rgb --width 32 --epochs 15", 0.683, scores=("", "instance"),
    ),
    "cifar-without-frog-skip-ganomaly": Row(
        "CIFAR-10, frogs left out", "cifar10", "skip-ganomaly", "--anomalous-class 6",
        "--size 32 --channels rgb --width 32 --epochs 15", 0.931, scores=("", "instance"),
    ),
    "crack-anogan": Row("concrete cracks", "concrete_crack", "anogan", "", "--size 64 --width 32 --steps 4000 --search-steps 200"),
    "crack-f-anogan": Row(
        "concrete cracks", "concrete_crack", "f-anogan", "",
        "--size 64 --width 32 --steps 8000 --augment flip --lr 2e-4 -O gan-share=0.35 -O encoder-lr=3e-4", 0.995,
        scores=("", "residual"),
    ),
    **{
        f"kdd99-{system}": Row(
            "KDD99, attacks normal", "kdd99/kddcup.data_10_percent.gz", system, "", "", f"F1 {figure}", "--seeds 3", form="--table"
        )
        for system, figure in [("memae", 0.964), ("egbad", 0.937)]
    },
}


def ganomede(args, *words):
    command = [str(args.ganomede), *words, "--device", args.device, "--json"]
    print("+", " ".join(command), file=sys.stderr)
    done = subprocess.run(command, cwd=ROOT, stdout=subprocess.PIPE, text=True)
    if done.returncode != 0:
        sys.exit(f"error: {' '.join(command)} ended with {done.returncode}")
    return json.loads(done.stdout)


def measure(args, name, row, model):
    """The table's lines of one row, one a score."""
    data = ["--data", str(args.data / row.folder), *row.classes.split()]
    trained = ganomede(args, "train", row.system, *row.form.split(), *data, *row.settings.split(), "--seed", str(args.seed), "--out", model)
    chosen = [["--score", score] if score else [] for score in row.scores]
    evaluated = [ganomede(args, "eval", model, *data, *row.evaluate.split(), *score) for score in chosen]
    return lines(name, row, trained, evaluated)


def lines(name, row, trained, evaluated):
    out = []
    for score, found in zip(row.scores, evaluated):
        def cell(key):
            """A metric, or its mean and standard deviation over seeds."""
            over = found.get("repeated", {}).get(key)
            return f"{over['mean']:.3f} ± {over['sd']:.3f}" if over else f"{found[key]:.3f}"

        at, (low, high) = found["threshold"], found["auroc_ci95"]
        published = "" if out else row.published
        out.append(
            f"| {name} | {row.title} | `{row.system}` | {score or 'its own'} | {cell('auroc')} | {low:.3f} to {high:.3f} "
            f"| {cell('aupr')} | {cell('f1_max')} | {cell('f1_at_prevalence')} | {at['recall']:.1%}, {at['false_alarm_rate']:.1%} "
            f"| {trained['steps']} steps, {trained['seconds']:.0f} s | {published} |"
        )
    return out


def digits(kept):
    """The table of all ten digits of MNIST: systems that have a row of each, and published means."""
    out = ["", "| AUROC of a digit against the rest | " + " | ".join(map(str, range(10))) + " | mean |", "|---" + "|--:" * 11 + "|"]
    for system in dict.fromkeys(row.system for key, row in ROWS.items() if key.startswith("mnist-0-")):
        rows = [kept.get(f"mnist-{digit}-{system}") for digit in range(10)]
        if all(rows):
            figures = [float(row[0].split("|")[5]) for row in rows]
            out.append(f"| `{system}` | " + " | ".join(f"{one:.3f}" for one in figures) + f" | {sum(figures) / 10:.3f} |")
    out += [f"| {paper}, published" + " | " * 11 + f"{mean:.3f} |" for paper, mean in MNIST_PUBLISHED]
    return "\n".join([*out, "", ""])


def merge(path, name, lines):
    """Puts the lines of the row `name` where they were, or last."""
    text = path.read_text()
    found = TABLE.search(text)
    if not found:
        sys.exit(f"error: {path} has no `<!-- real -->` … `<!-- /real -->` to write into")
    rows = [line for line in found.group(2).split("\n") if line.startswith("| ")][1:]
    kept = {}
    for line in rows:
        kept.setdefault(line.split("|")[1].strip(), []).append(line)
    kept[name] = lines
    ordered = [key for key in ROWS if key in kept] + [key for key in kept if key not in ROWS]
    body = "\n".join(["", *HEAD, *[line for key in ordered for line in kept[key]], "", ""])
    text = TABLE.sub(lambda whole: whole.group(1) + body + whole.group(3), text)
    text = DIGITS.sub(lambda whole: whole.group(1) + digits(kept) + whole.group(3), text)
    beside = path.with_name(path.name + ".part")
    beside.write_text(text)
    beside.replace(path)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    target = os.environ.get("CARGO_TARGET_DIR", ROOT / "target")
    parser.add_argument("--data", type=Path, help="the folder that holds the sets")
    parser.add_argument("--only", action="append", metavar="PATTERN", help="rows to measure, as mnist-*; all of them")
    parser.add_argument("--ganomede", default=Path(target) / "release/ganomede", help="the binary")
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--write", type=Path, default=ROOT / "docs/results.md")
    parser.add_argument("--list", action="store_true", help="print the commands' settings of every row, and end")
    args = parser.parse_args()
    if args.list:
        for name, row in ROWS.items():
            train = " ".join(["train", row.system, *row.form.split(), *row.classes.split(), *row.settings.split()])
            print(f"{name}: {train}; eval {row.evaluate}".strip())
        return
    if not args.data:
        sys.exit("error: --data names the folder that holds the sets; --list shows the rows")
    chosen = [name for name in ROWS if not args.only or any(fnmatch.fnmatch(name, one) for one in args.only)]
    if not chosen:
        sys.exit(f"error: no row is called {' or '.join(args.only)}; --list shows them")
    for name in chosen:
        with tempfile.TemporaryDirectory() as folder:
            measured = measure(args, name, ROWS[name], str(Path(folder) / "model.safetensors"))
        merge(args.write, name, measured)
        print("\n".join(measured))


if __name__ == "__main__":
    main()
