#!/usr/bin/env python3
"""Times scoring beside ONNX Runtime and PyTorch, on the CPU, with two threads each.

`scoring.py GANOMEDE BENCH` trains tiny models, exports them, and writes two tables into docs/benchmarks.md:

* images in memory to scores and verdicts, in batches of 1 and 64, beside ONNX Runtime on the graph that
  `export --onnx` wrote, without its map;
* a folder of JPEG files to scores, from the start of the process, beside PyTorch's DataLoader with two workers
  (Pillow decodes) and the network that `export --torch` wrote.

Each round runs both one right after the other; a time is the median of the rounds' medians, a ratio the
median of the rounds' ratios. Needs torch, pillow, numpy, onnx and onnxruntime.
"""

import argparse
import datetime
import json
import os
import platform
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np

PEERS = Path(__file__).resolve().parent
sys.path.append(str(PEERS.parent))

from sections import write  # noqa: E402 (found by the line before)

SYSTEMS = ["ganomaly", "f-anogan", "ae"]
SIZE, WIDTH, THREADS = 64, 64, 2

READER = """
import json, sys
from pathlib import Path
import numpy as np, torch
from PIL import Image

place, folder, size = Path(sys.argv[1]), Path(sys.argv[2]), int(sys.argv[3])
sys.path.insert(0, str(place))
import network

class Files(torch.utils.data.Dataset):
    def __init__(self):
        self.paths = sorted(folder.rglob("*.jpg"))

    def __len__(self):
        return len(self.paths)

    def __getitem__(self, i):
        with Image.open(self.paths[i]) as image:
            small = image.convert("L").resize((size, size), Image.BILINEAR)
            return torch.from_numpy(np.asarray(small)[..., None].copy())

torch.set_num_threads(THREADS)
model = network.load()
count, total = 0, 0.0
with torch.inference_mode():
    for batch in torch.utils.data.DataLoader(Files(), 64, num_workers=2):
        scores = network.judge(model, batch.numpy())["score"]
        count, total = count + len(scores), total + float(sum(scores))
print(json.dumps({"images": count, "mean": total / count}))
"""


def run(command, **settings):
    command = [str(word) for word in command]
    environment = {**os.environ, "RAYON_NUM_THREADS": str(THREADS), "OMP_NUM_THREADS": str(THREADS)}
    done = subprocess.run(command, capture_output=True, text=True, env=environment, **settings)
    if done.returncode != 0:
        sys.exit(f"error: {' '.join(command)} ended with {done.returncode}: {done.stderr}")
    return done.stdout


def trained(program, system, folder):
    """A model of a few steps, its ONNX graph without the map, and its PyTorch module."""
    import onnx.utils

    model, graph, module = folder / f"{system}.safetensors", folder / f"{system}.onnx", folder / f"{system}-torch"
    data = ["--data", "builtin:retina:train=256,test=8", "--size", SIZE, "--width", WIDTH, "--steps", 4, "--batch", 16]
    run([program, "train", system, *data, "--out", model, "--device", "cpu"])
    run([program, "export", "--onnx", graph, model])
    run([program, "export", "--torch", module, model])
    whole = onnx.load(graph)
    names = [output.name for output in whole.graph.output]
    inputs = [entry.name for entry in whole.graph.input]
    short = folder / f"{system}-scores.onnx"
    onnx.utils.extract_model(graph, short, inputs, [name for name in names if name != "map"])
    return model, short, module


def onnx_times(graph, batch, runs):
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads, options.inter_op_num_threads = THREADS, 1
    options.log_severity_level = 3
    session = onnxruntime.InferenceSession(graph, options, providers=["CPUExecutionProvider"])
    pixels = np.random.default_rng(0).integers(0, 256, (batch, SIZE, SIZE, 1), np.uint8)
    asked = {session.get_inputs()[0].name: pixels}
    times = []
    for _ in range(runs + 2):
        start = time.perf_counter()
        session.run(None, asked)
        times.append(1e3 * (time.perf_counter() - start))
    return statistics.median(times[2:])


def processor():
    lines = Path("/proc/cpuinfo").read_text().splitlines() if Path("/proc/cpuinfo").exists() else []
    names = [line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.processor() or platform.machine()


def measured(arguments, *engines):
    """Where and when, in a line."""
    rounds = f"{arguments.rounds} round{'s' if arguments.rounds > 1 else ''}"
    return f"{', '.join(engines)} on {processor()}; {THREADS} threads; {datetime.date.today()}; {rounds}."


def in_memory(arguments, models):
    import onnxruntime

    lines = [measured(arguments, run([arguments.program, "--version"]).strip(), f"ONNX Runtime {onnxruntime.__version__}"), ""]
    lines += ["| 64×64, width 64 | Ganomede | ONNX Runtime | ratio | target |", "| --- | ---: | ---: | ---: | ---: |"]
    for system, (model, graph, _) in models.items():
        for batch, runs, target in ((64, 10, 0.6), (1, 100, 0.8)):
            ours, theirs = [], []
            for _ in range(arguments.rounds):
                ours.append(json.loads(run([arguments.bench, model, batch, runs]))["ms_median"])
                theirs.append(onnx_times(graph, batch, runs))
            ratio = statistics.median(a / b for a, b in zip(ours, theirs))
            times = [f"{statistics.median(times):.3g} ms" for times in (ours, theirs)]
            cells = [f"`{system}`, batch {batch}", *times, f"{ratio:.2f}", f"≤ {target}"]
            lines.append(f"| {' | '.join(cells)} |")
    return lines


def jpegs(folder, count):
    from PIL import Image

    folder.mkdir()
    rng = np.random.default_rng(1)
    base = np.kron(rng.integers(60, 200, (16, 16), np.uint8), np.ones((16, 16), np.uint8))
    for i in range(count):
        noisy = np.clip(np.roll(base, i * 7, axis=i % 2) + rng.normal(0, 6, base.shape), 0, 255).astype(np.uint8)
        Image.fromarray(noisy).save(folder / f"{i:05}.jpg", quality=90)


def in_files(arguments, models, place):
    import torch

    folder = place / "jpegs"
    jpegs(folder, arguments.images)
    lines = [measured(arguments, run([arguments.program, "--version"]).strip(), f"PyTorch {torch.__version__}"), ""]
    lines += ["| JPEG files to scores, whole processes | Ganomede | PyTorch | ratio | target |", "| --- | ---: | ---: | ---: | ---: |"]
    for system, (model, _, module) in models.items():
        ours, theirs = [], []
        for _ in range(arguments.rounds):
            start = time.perf_counter()
            said = json.loads(run([arguments.program, "score", model, folder, "--json", "--device", "cpu"]))
            ours.append(time.perf_counter() - start)
            start = time.perf_counter()
            reader = READER.replace("THREADS", str(THREADS))
            found = json.loads(run([sys.executable, "-c", reader, module, folder, SIZE]))
            theirs.append(time.perf_counter() - start)
            scores = [image["score"] for image in said["images"]]
            mean = sum(scores) / len(scores)
            # Decoders and resizing differ a little.
            if len(scores) != found["images"] or abs(mean - found["mean"]) > 0.05 * abs(mean):
                sys.exit(f"error: {system} scores {len(scores)} images {mean}, PyTorch {found}")
        ratio = statistics.median(a / b for a, b in zip(ours, theirs))
        times = [f"{statistics.median(times):.1f} s" for times in (ours, theirs)]
        cells = [f"`{system}`, {arguments.images:,} files of 256×256", *times, f"{ratio:.2f}", "≤ 0.6"]
        lines.append(f"| {' | '.join(cells)} |")
    return lines


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("program", type=Path)
    parser.add_argument("bench", type=Path, help="what `cargo bench --no-run --bench scoring` names")
    parser.add_argument("--images", type=int, default=10_000)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--write", type=Path, default=PEERS.parents[1] / "docs" / "benchmarks.md")
    parser.add_argument("--only", nargs="*", choices=["scores", "files"], help="these tables alone; the other keeps what it has")
    arguments = parser.parse_args()
    arguments.program, arguments.bench = arguments.program.resolve(), arguments.bench.resolve()
    with tempfile.TemporaryDirectory() as folder:
        models = {system: trained(arguments.program, system, Path(folder)) for system in SYSTEMS}
        sections = {"scores": lambda: in_memory(arguments, models), "files": lambda: in_files(arguments, models, Path(folder))}
        write(arguments.write, PEERS / "benchmarks.template.md", sections, arguments.only)


if __name__ == "__main__":
    main()
