#!/usr/bin/env python3
"""Reads with TensorBoard's own reader what `train --log` writes: losses as in steps.jsonl, samples,
histograms.

Usage: read.py PROGRAM
"""

import json
import subprocess
import sys
import tempfile
from pathlib import Path

from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

TRAIN = "train anogan --data builtin:retina:train=80,test=12 --size 16 --width 4 --search-steps 3 --batch 16"


def train(program, folder, *more):
    words = [program, *TRAIN.split(), "--out", folder / "m.safetensors", "--log", folder / "log", *more]
    subprocess.run(words, check=True, capture_output=True, stdin=subprocess.DEVNULL)


def main():
    program = str(Path(sys.argv[1]).resolve())
    with tempfile.TemporaryDirectory(prefix="tensorboard-") as folder:
        folder = Path(folder)
        train(program, folder, "--steps", "9")
        train(program, folder, "--steps", "14", "--resume")
        lines = [json.loads(line) for line in (folder / "log/steps.jsonl").read_text().splitlines()]
        assert [line["step"] for line in lines] == list(range(1, 15)), lines
        read = EventAccumulator(str(folder / "log"), size_guidance={"scalars": 0, "images": 0, "histograms": 0})
        read.Reload()
        tags = read.Tags()
        losses = [tag for tag in tags["scalars"] if tag.startswith("losses/")]
        assert sorted(losses) == sorted(f"losses/{name}" for name in lines[0]["losses"]), tags
        for tag in losses:
            told = [(line["step"], line["losses"][tag.removeprefix("losses/")]) for line in lines]
            events = [(event.step, event.value) for event in read.Scalars(tag)]
            assert len(events) == len(told), (events, told)
            assert all(a == b and abs(v - w) <= 1e-6 * abs(w) for (a, v), (b, w) in zip(events, told)), (events, told)
        image = read.Images("samples")[-1]
        assert image.step == 14 and image.width > 16 and image.encoded_image_string.startswith(b"\x89PNG"), image
        assert len(tags["histograms"]) > 10, tags
        for tag in tags["histograms"]:
            histogram = read.Histograms(tag)[-1].histogram_value
            assert histogram.num == sum(histogram.bucket) > 1, histogram
            assert histogram.min <= histogram.sum / histogram.num <= histogram.max, histogram
    print(f"{len(losses)} losses of {len(lines)} steps, samples, {len(tags['histograms'])} histograms: read back")


main()
