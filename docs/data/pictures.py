"""Draws the pictures of datasets/README.md and docs/defects.md: python3 docs/data/pictures.py (pillow).

Runs `ganomede data synth` (target/release, or the path given) for each generator. Images: a row of normal
ones, then for each anomaly four pairs of image and mask. Telemetry: four days of the test part, faults
shaded. Synthetic defects: what `ganomede data defects` draws on castings.
"""

import csv
import glob
import os
import subprocess
import sys
import tempfile

from PIL import Image, ImageDraw

BINARY = sys.argv[1] if len(sys.argv) > 1 else "target/release/ganomede"
HERE = os.path.dirname(os.path.abspath(__file__))
KINDS = {
    "retina": ["intraretinal_fluid", "subretinal_fluid", "hyperreflective_foci", "drusen"],
    "concrete": ["crack_hairline", "crack_wide", "crack_branching", "crack_map"],
    "casting": ["blow_hole", "scratch", "burr", "missing_material"],
}
SIDE, GAP = 64, 2


def synth(name, out, *more):
    subprocess.run([BINARY, "data", "synth", name, "--out", out, *more], check=True)


def surfaces(name, folder):
    synth(name, folder, "--train", "8", "--test", "32", "--size", str(SIDE))
    rows = [[Image.open(f) for f in sorted(glob.glob(f"{folder}/train/good/*.png"))]]
    for kind in KINDS[name]:
        row = []
        for path in sorted(glob.glob(f"{folder}/test/{kind}/*.png")):
            mask = path.replace("/test/", "/ground_truth/").replace(".png", "_mask.png")
            row += [Image.open(path), Image.open(mask)]
        rows.append(row)
    step = SIDE + GAP
    picture = Image.new("L", (8 * step - GAP, len(rows) * step - GAP), 255)
    for y, row in enumerate(rows):
        for x, image in enumerate(row):
            picture.paste(image, (x * step, y * step))
    picture.quantize(16).save(os.path.join(HERE, f"{name}.png"), optimize=True)


def telemetry(folder):
    synth("telemetry", folder)
    rows = list(csv.reader(open(f"{folder}/test.csv")))
    names, rows = rows[0][1:], rows[1:1 + 4 * 288]
    at = {row[0]: i for i, row in enumerate(rows)}
    faults = [f for f in list(csv.reader(open(f"{folder}/labels.csv")))[1:] if f[0] in at and f[1] in at]
    left, width, height, top = 92, 640, 64, 14
    picture = Image.new("RGB", (left + width, top + len(names) * (height + 6)), "white")
    draw = ImageDraw.Draw(picture)
    place = lambda i: left + i * width // len(rows)
    for start, end, kind in faults:
        draw.rectangle([place(at[start]) - 1, top, place(at[end]) + 1, picture.height], fill=(255, 205, 200))
        draw.text((place(at[start]) - 1, 1), kind, fill=(180, 30, 20))
    for c, name in enumerate(names):
        values = [float(row[c + 1]) for row in rows]
        low, span, base = min(values), max(values) - min(values), top + (c + 1) * (height + 6) - 4
        draw.line([(place(i), base - (v - low) / span * height) for i, v in enumerate(values)], fill="black")
        draw.text((2, base - height // 2 - 5), name, fill="black")
    picture.quantize(16).save(os.path.join(HERE, "telemetry.png"), optimize=True)


def defects(folder):
    sheet = f"{folder}.png"
    draw = ["data", "defects", "builtin:casting:train=40,test=0", "--preview", sheet, "--images", "5", "--size", str(SIDE)]
    subprocess.run([BINARY, *draw], check=True)
    Image.open(sheet).convert("L").quantize(16).save(os.path.join(HERE, "defects.png"), optimize=True)


with tempfile.TemporaryDirectory() as place:
    for name in KINDS:
        surfaces(name, f"{place}/{name}")
    telemetry(f"{place}/telemetry")
    defects(f"{place}/defects")
