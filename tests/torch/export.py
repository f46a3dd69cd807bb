"""What `export --torch` writes, in torch: the same scores, verdicts and maps as the command line's, and back
as a model file with the same bits.

Run `python3 tests/torch/export.py GANOMEDE DIR [SYSTEM…]` with the packages of
`tests/torch/requirements.txt`. Every system with a score of one pass is trained for a few steps and exported;
its module is run on images of its networks' size and of others, gray and in colour, alone and in batches.
Series and tables likewise. ALL_SCORES=1 in the environment takes every score of one pass in place of each
system's first.
"""

import csv
import importlib.util
import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import torch

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
from runtimes import Checks, calibration, picture, write_png  # noqa: E402

FITS = ["stretch", "crop", "pad"]
SIZE = (24, 32)  # height and width of the networks


def module(folder):
    """The network.py of an export, and its model."""
    spec = importlib.util.spec_from_file_location(f"network_{folder.name}", folder / "network.py")
    network = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(network)
    return network, network.load()


def comes_back(ganomede, model, folder, network, torch_model):
    """The state dict, as safetensors and by torch.save, makes the same model; one that learned makes another."""
    for name, path in (("safe", folder / "model.safetensors"), ("saved", folder.parent / f"{folder.name}.pth")):
        if name == "saved":
            torch.save(torch_model.state_dict(), path)
        back = folder.parent / f"{folder.name}-{name}.safetensors"
        ganomede("import", path, "--like", model, "--out", back)
        tensors = [weights(file) for file in (model, back)]
        assert tensors[0].keys() == tensors[1].keys()
        for key, (shape, data) in tensors[0].items():
            assert tensors[1][key] == (shape, data), f"{key} comes back with other bits"


def weights(path):
    """Tensors of a model file as shapes and bytes."""
    data = path.read_bytes()
    length = int.from_bytes(data[:8], "little")
    header = json.loads(data[8 : 8 + length])
    own = {name: tensor for name, tensor in header.items() if name[:2] != "__" and name[:12] != "calibration."}
    return {
        name: (tensor["shape"], data[8 + length + tensor["data_offsets"][0] : 8 + length + tensor["data_offsets"][1]])
        for name, tensor in own.items()
    }


def learns(network, model, x):
    """A step down the score's gradient changes parameters, and nothing else."""
    parameters = list(model.parameters())
    if not parameters:
        return
    before = {name: value.clone() for name, value in model.state_dict().items()}
    optimiser = torch.optim.SGD(parameters, 1e-3)
    model(x)["score"].mean().backward()
    assert any(p.grad is not None and bool(p.grad.abs().max() > 0) for p in parameters), "nothing has a gradient"
    optimiser.step()
    changed = {name for name, value in model.state_dict().items() if not torch.equal(value, before[name])}
    assert changed and changed <= set(network.PARAMETERS), changed
    model.load_state_dict(before)


def check_images(ganomede, system, number, folder, sets, size, more, errors):
    """One system, with settings that differ from one to the next."""
    fit, colour, standardise = FITS[number % 3], ["gray", "rgb"][number % 2], number % 4 > 1
    model = folder / f"{system}.safetensors"
    settings = ["--size", f"{size[1]}x{size[0]}", "--channels", colour, "--fit", fit, "--width", 4, "--latent", 8]
    settings += ["--standardise"] if standardise else []
    settings += ["--map-relative", "--map-smooth", 1.7] if system in ("ae", "pca") else []
    settings += ["--steps", 8, "--batch", 8, "--val-fraction", 0.3, *more]
    ganomede("train", system, "--data", folder.parent / "normal", "--out", model, *settings)
    names = [score["name"] for score in ganomede("systems", system)["scores"]]
    asked = names if os.environ.get("ALL_SCORES") and not more else names[:1]
    # All others of it are searched.
    for name in ["pd"] if system == "anogan" else asked:
        score = ["--score", name] if name != names[0] else []
        place = folder / f"{system}-{name}"
        said = ganomede("export", "--torch", place, model, *score)
        assert "network.py" in said["files"] and "score" in said["outputs"], said
        network, torch_model = module(place)
        assert network.SYSTEM == system and network.SHAPE == ([1, 3][number % 2], *size)
        known = calibration(model)["threshold"] if not score else None
        assert network.THRESHOLD == known, (network.THRESHOLD, known)
        has_maps = "map" in said["outputs"]
        paths = [path for paths, _ in sets for path in paths]
        maps = folder / f"{system}-maps"
        shutil.rmtree(maps, ignore_errors=True)
        wanted = ganomede("score", model, *paths, *score, *(["--maps", maps, "--maps-raw"] if has_maps else []))["images"]
        by_path = {answer["path"]: answer for answer in wanted}
        for paths, pixels in sets:
            answers = [by_path[str(path)] for path in paths]
            for batch in (pixels, pixels[:1], pixels[:, :, :, 0] if pixels.shape[3] == 1 else pixels):
                found = network.judge(torch_model, batch.copy())
                errors.see("score", found["score"], [answer["score"] for answer in answers[: len(batch)]])
                for map, answer in zip(found["map"] if has_maps else [], answers):
                    own = np.load(answer["map_raw"])
                    errors.see("map", map, own, np.nanmax(np.abs(own)))
        learns(network, torch_model, network.prepare(sets[0][1]))
        comes_back(ganomede, model, place, network, torch_model)
        # As a script, on an array.
        array = folder / "asked.npy"
        np.save(array, sets[0][1])
        lines = subprocess.run(
            [sys.executable, place / "network.py", array], capture_output=True, text=True, check=True
        ).stdout.splitlines()
        answers = [by_path[str(path)] for path in sets[0][0]]
        errors.see("script", [float(line.split()[1]) for line in lines], [answer["score"] for answer in answers])
        if known is not None:
            assert all(line.split()[2] in ("normal", "anomalous") for line in lines), lines
    return f"{fit}, {colour}{', standardised' if standardise else ''}"


def check_series(ganomede, system, folder, rng, errors):
    """A single window is its own series."""
    size, rows = 32, 400
    t = np.arange(rows)
    values = np.stack([5e3 + 40 * np.sin(t / 5) + rng.normal(0, 3, rows), rng.normal(0, 1e-3, rows)], -1)

    def write(path, values):
        with open(path, "w", newline="") as file:
            csv.writer(file).writerows([["speed", "current"], *values.tolist()])

    series, model, place = folder / "series.csv", folder / f"{system}-series.safetensors", folder / f"{system}-series"
    write(series, values)
    command = ["train", system, "--signal", "--data", series, "--train-part", "0.9", "--size", size, "--out", model]
    ganomede(*command, "--width", 4, "--latent", 8, "--steps", 8, "--batch", 8)
    ganomede("export", "--torch", place, model)
    network, torch_model = module(place)
    for start in (100, 130):
        query = values[start : start + size] + np.where(rng.random((size, 2)) > 0.9, [30, 2e-3], 0)
        asked = folder / "asked.csv"
        write(asked, query)
        wanted = ganomede("score", model, asked)["series"][0]
        found = network.judge(torch_model, query.T[None])
        errors.see("points", found["points"][0], wanted["scores"])
    comes_back(ganomede, model, place, network, torch_model)


def check_table(ganomede, system, folder, rng, errors):
    """Rows of a table with a large offset, a constant column and a far value."""
    rows = 200
    values = np.stack(
        [1.7e9 + rng.normal(0, 50, rows), rng.normal(0, 1, rows), np.full(rows, 3.0), rng.uniform(0, 1e-6, rows)], -1
    )

    def write(path, values):
        with open(path, "w", newline="") as file:
            csv.writer(file).writerows([["a", "b", "c", "d", "label"], *[[*row, "normal"] for row in values.tolist()]])

    table, model, place = folder / "table.csv", folder / f"{system}-table.safetensors", folder / f"{system}-table"
    write(table, values)
    command = ["train", system, "--table", "--data", table, "--out", model, "--val-fraction", 0.2]
    ganomede(*command, "--latent", 2, "--steps", 8, "--batch", 16)
    ganomede("export", "--torch", place, model)
    network, torch_model = module(place)
    query = values[:7] + rng.normal(0, 1, (7, 4)) * [20, 0.5, 0, 1e-7]
    query[6, 1] = 25
    asked = folder / "asked.csv"
    write(asked, query)
    wanted = ganomede("score", model, asked)["images"]
    for count in (7, 1):
        found = network.judge(torch_model, query[:count])
        errors.see("rows", found["score"], [answer["score"] for answer in wanted[:count]])
    comes_back(ganomede, model, place, network, torch_model)


def main(program, folder, only):
    run = Checks(program, folder, only)
    folder, rng = run.folder, run.rng
    sets = []
    for number, ((height, width), channels) in enumerate([(SIZE, 1), (SIZE, 3), ((57, 40), 1), ((17, 90), 3)]):
        pixels = [picture(rng, height, width, channels, np.uint8) for _ in range(3)]
        paths = [folder / "queries" / f"{number}{letter}.png" for letter in "abc"]
        for path, image in zip(paths, pixels):
            write_png(path, image)
        sets.append((paths, np.stack(pixels)))
    models = folder / "models"
    for number, system in enumerate(run.systems):
        run(system, check_images, system, number, models, sets, SIZE, [])
    # Sides that halve unevenly, and networks that are not the usual ones.
    for number, (system, *more) in enumerate(
        [
            ("skip-ganomaly", "--kernel", 5),
            ("ganomaly", "--kernel", 5, "--score", "instance"),
            ("f-anogan", "-O", "nets=resnet"),
            ("f-anogan", "-O", "nets=resnet-port"),
            ("f-anogan", "-O", "nets=resize"),
            ("ae", "-O", "nets=lenet", "-O", "loss=ssim"),
            ("deep-svdd", "-O", "nets=lenet", "-O", "objective=soft-boundary"),
        ]
    ):
        name = f"{system} at 33x50, {' '.join(map(str, more))}"
        run(name, check_images, system, number, models, sets, (33, 50), more)
    for system in ["ae", "beatgan", "deep-svdd", "pca"]:
        run(f"{system} of series", check_series, system, models, rng)
    for system in ["memae", "gmm", "pca"]:
        run(f"{system} of tables", check_table, system, models, rng)
    run.end()


if __name__ == "__main__":
    torch.set_num_threads(2)
    main(sys.argv[1], sys.argv[2], sys.argv[3:])
