"""What `export --onnx` writes, in onnxruntime: the same scores, percentiles, verdicts and maps as the command
line's.

Run `python3 tests/onnx/export.py GANOMEDE DIR [SYSTEM…]` with the packages of `tests/onnx/requirements.txt`.
Every system with a score of one pass is trained for a few steps and exported; its graph is checked, its
shapes are inferred, and it is run on images of 8 and 16 bits, gray and in colour, of other sizes than its
networks', alone and in batches. Series and tables likewise. Then searches, by the loop that is written beside
their graphs. ALL_SCORES=1 in the environment takes every score of one pass in place of each system's first.
"""

import csv
import importlib.util
import json
import os
import shutil
import sys
from pathlib import Path

import numpy as np
import onnx
import onnxruntime

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
from runtimes import Checks, calibration, picture, write_png  # noqa: E402

FITS = ["stretch", "crop", "pad"]
SIZE = (24, 32)  # height and width of the networks


def queries(folder, rng):
    """Images of several sizes, kinds and depths, three of each."""
    kinds = [
        (SIZE, 1, np.uint8),
        ((57, 40), 1, np.uint8),
        ((17, 90), 3, np.uint8),
        ((64, 48), 1, np.uint16),
        ((20, 25), 3, np.uint16),
    ]
    sets = []
    for number, ((height, width), channels, dtype) in enumerate(kinds):
        pixels = [picture(rng, height, width, channels, dtype) for _ in range(3)]
        paths = [folder / f"{number}{letter}.png" for letter in "abc"]
        for path, image in zip(paths, pixels):
            write_png(path, image)
        sets.append((paths, np.stack(pixels)))
    return sets


def opened(path):
    """A graph that is well formed, with shapes that fit together, in a session."""
    graph = onnx.load(path)
    onnx.checker.check_model(graph, full_check=True)
    onnx.shape_inference.infer_shapes(graph, check_type=True, strict_mode=True, data_prop=True)
    assert graph.opset_import[0].version >= 18
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 2
    options.log_severity_level = 3  # that the threshold may be overridden is what we want
    return graph, onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"])


def verdicts(errors, found, wanted, known):
    """Percentiles and verdicts, but of scores that lie at a held-out one but for rounding."""
    knots, threshold = np.array(known["quantiles"]["knots"]), known["threshold"]
    judged = 0
    for score, percentile, anomalous, answer in zip(*found, wanted):
        if np.abs(knots - answer["score"]).min() > 1e-4 * abs(answer["score"]):
            errors.see("percentile", percentile, answer["percentile"], 100)
            judged += 1
        if abs(threshold - answer["score"]) > 1e-4 * abs(answer["score"]):
            assert bool(anomalous) == answer["anomalous"], (score, threshold)
    return judged


def check_images(ganomede, system, number, folder, sets, errors):
    """One system, with settings that differ from one to the next."""
    fit, colour, standardise = FITS[number % 3], ["gray", "rgb"][number % 2], number % 4 > 1
    kinds = ["uint8", "float"] if number % 5 == 0 else [["uint8", "float"][number // 3 % 2]]
    model = folder / f"{system}.safetensors"
    settings = ["--size", f"{SIZE[1]}x{SIZE[0]}", "--channels", colour, "--fit", fit, "--width", 4, "--latent", 8]
    settings += ["--standardise"] if standardise else []
    settings += ["--map-relative", "--map-smooth", 1.7] if system in ("ae", "pca") else []
    settings += ["--steps", 8, "--batch", 8, "--val-fraction", 0.3]
    ganomede("train", system, "--data", folder.parent / "normal", "--out", model, *settings)
    names = [score["name"] for score in ganomede("systems", system)["scores"]]
    about = f"{fit}, {colour}{', standardised' if standardise else ''}, {' and '.join(kinds)}"
    asked = names if os.environ.get("ALL_SCORES") else names[:1]
    # All others of it are searched.
    for name in ["pd"] if system == "anogan" else asked:
        score = ["--score", name] if name != names[0] else []
        check_score(ganomede, system, model, score, kinds, fit, number == 0, sets, errors)
    return about


def check_score(ganomede, system, model, score, kinds, fit, at_length, sets, errors):
    folder = model.parent
    known = calibration(model) if not score else None
    paths = [path for paths, _ in sets for path in paths]
    maps = folder / f"{system}-maps"
    shutil.rmtree(maps, ignore_errors=True)
    has_maps = "map" in ganomede("export", "--onnx", folder / f"{system}.onnx", model, *score)["outputs"]
    wanted = ganomede("score", model, *paths, *score, *(["--maps", maps, "--maps-raw"] if has_maps else []))["images"]
    by_path = {answer["path"]: answer for answer in wanted}
    judged = 0
    for kind in kinds:
        path = folder / f"{system}.onnx"
        said = ganomede("export", "--onnx", path, model, "--pixels", kind, *score)
        graph, session = opened(path)
        assert [i.name for i in graph.graph.output] == said["outputs"]
        meta = {p.key: p.value for p in graph.metadata_props}
        assert meta["system"] == system and json.loads(meta["preprocessing"])["fit"] == fit
        assert not known or float(meta["threshold"]) == known["threshold"]
        for paths, pixels in sets:
            if kind == "uint8" and pixels.dtype != np.uint8:
                continue
            image = pixels if kind == "uint8" else (pixels / np.iinfo(pixels.dtype).max).astype(np.float32)
            answers = [by_path[str(path)] for path in paths]
            feeds = {} if known else {"threshold": np.array(answers[0]["score"] * 0.999, np.float32)}
            for batch in [image, image[:1], np.resize(image, (64, *image.shape[1:]))][: 3 if at_length else 2]:
                found = dict(zip(said["outputs"], session.run(None, {"image": batch, **feeds})))
                count = min(len(batch), 3)
                errors.see("score", found["score"][:count], [a["score"] for a in answers[:count]])
                again = np.resize(found["score"][:count], len(batch))
                errors.see("score", found["score"], again)
                if known:
                    judged += verdicts(
                        errors, [found[o] for o in ("score", "percentile", "anomalous")], answers[:count], known
                    )
                if has_maps:
                    for map, answer in zip(found["map"], answers[:count]):
                        own = np.load(answer["map_raw"])
                        errors.see("map", map, own, np.nanmax(np.abs(own)))
            # The threshold is the caller's.
            middle = np.sort(found["score"])[len(found["score"]) // 2]
            for threshold in [middle, np.nextafter(middle, np.float32(np.inf))]:
                given = {"image": batch, "threshold": np.array(threshold, np.float32)}
                again = session.run(["score", "anomalous"], given)
                assert np.array_equal(again[1], again[0] >= threshold)
    assert not known or judged > 5, f"{judged} percentiles were compared"


def check_series(ganomede, system, folder, rng, errors):
    """Windows of a series of two channels, and a whole series by the windows that cover its points."""
    size, rows = 32, 400
    t = np.arange(rows)
    values = np.stack([5e3 + 40 * np.sin(t / 5) + rng.normal(0, 3, rows), rng.normal(0, 1e-3, rows)], -1)

    def write(path, values):
        with open(path, "w", newline="") as file:
            csv.writer(file).writerows([["speed", "current"], *values.tolist()])

    series, model = folder / "series.csv", folder / f"{system}-series.safetensors"
    write(series, values)
    command = ["train", system, "--signal", "--data", series, "--train-part", "0.9", "--size", size, "--out", model]
    ganomede(*command, "--width", 4, "--latent", 8, "--steps", 8, "--batch", 8)
    path = folder / f"{system}-series.onnx"
    said = ganomede("export", "--onnx", path, model)
    assert said["inputs"] == ["window", "threshold"] and "map" not in said["outputs"]
    _, session = opened(path)
    query = values[100 : 100 + size + 20] + np.where(rng.random((size + 20, 2)) > 0.9, [30, 2e-3], 0)
    asked = folder / "asked.csv"
    write(asked, query)
    wanted = ganomede("score", model, asked)["series"][0]
    windows = np.lib.stride_tricks.sliding_window_view(query, size, 0)
    found = session.run(["score"], {"window": windows})[0]
    points, counts = np.zeros(len(query)), np.zeros(len(query))
    for start, window in enumerate(found):
        points[start : start + size] += window
        counts[start : start + size] += 1
    errors.see("points", points / counts, wanted["scores"])
    # A single window is its own series.
    write(asked, query[:size])
    wanted = ganomede("score", model, asked)["series"][0]
    found = session.run(["score", "percentile", "anomalous"], {"window": windows[:1]})
    errors.see("points", found[0][0], wanted["scores"])
    known = calibration(model)
    answers = [
        {"score": score, "percentile": percentile, "anomalous": score >= known["threshold"]}
        for score, percentile in zip(wanted["scores"], wanted["percentiles"])
    ]
    assert verdicts(errors, [f[0] for f in found], answers, known) > 5


def check_search(ganomede, system, more, options, folder, rng, errors):
    """The graphs of a search, by the loop beside them. Images are of the networks' own size: then the pixels that the
    networks see have the same bits, and so has the start of the search, which is a function of these."""
    model, graphs = folder / f"{system}-search.safetensors", folder / f"{system}-search"
    command = ["train", system, "--data", folder.parent / "normal", "--out", model, "--size", f"{SIZE[1]}x{SIZE[0]}"]
    ganomede(*command, "--width", 4, "--latent", 8, "--steps", 8, "--batch", 8, "--search-steps", 10, *options)
    said = ganomede("export", "--onnx", graphs, model, *more)
    for name in said["files"]:
        if name.endswith(".onnx"):
            opened(graphs / name)
    pixels = np.stack([picture(rng, *SIZE, 1, np.uint8) for _ in range(3)])
    paths = [folder / f"search-{letter}.png" for letter in "abc"]
    for path, image in zip(paths, pixels):
        write_png(path, image)
    wanted = ganomede("score", model, *paths, *more, "--maps", folder / "search-maps", "--maps-raw")["images"]
    spec = importlib.util.spec_from_file_location("search", graphs / "search.py")
    loop = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(loop)
    for images in (pixels, pixels[:1]):
        found = loop.search(images)
        errors.see("score", found["score"], [answer["score"] for answer in wanted[: len(images)]])
        assert ("percentile" in found) == (not more)
        if not more:
            judged = [found[name] for name in ("score", "percentile", "anomalous")]
            verdicts(errors, judged, wanted[: len(images)], calibration(model))
        for map, answer in zip(found["map"], wanted):
            own = np.load(answer["map_raw"])
            errors.see("map", map, own, np.nanmax(np.abs(own)))
    # The networks alone: what the search ended with.
    image = loop.Graph("generator")({"z": np.zeros((2, 8), np.float32)})["image"]
    features = loop.Graph("discriminator")({"x": image})["features"]
    assert image.shape == (2, 1, *SIZE) and features.shape[0] == 2 and np.array_equal(features[0], features[1])


def check_table(ganomede, system, folder, rng, errors):
    """Rows of a table with a large offset, a constant column and a far value."""
    rows = 200
    values = np.stack(
        [1.7e9 + rng.normal(0, 50, rows), rng.normal(0, 1, rows), np.full(rows, 3.0), rng.uniform(0, 1e-6, rows)], -1
    )

    def write(path, values):
        with open(path, "w", newline="") as file:
            csv.writer(file).writerows([["a", "b", "c", "d", "label"], *[[*row, "normal"] for row in values.tolist()]])

    table, model = folder / "table.csv", folder / f"{system}-table.safetensors"
    write(table, values)
    command = ["train", system, "--table", "--data", table, "--out", model, "--val-fraction", 0.2]
    ganomede(*command, "--latent", 2, "--steps", 8, "--batch", 16)
    path = folder / f"{system}-table.onnx"
    said = ganomede("export", "--onnx", path, model)
    assert said["inputs"] == ["row", "threshold"]
    graph, session = opened(path)
    columns = json.loads({p.key: p.value for p in graph.metadata_props}["preprocessing"])["columns"]
    assert columns[:4] == ["a", "b", "c", "d"], columns
    query = values[:7] + rng.normal(0, 1, (7, 4)) * [20, 0.5, 0, 1e-7]
    query[6, 1] = 25
    asked = folder / "asked.csv"
    write(asked, query)
    wanted = ganomede("score", model, asked)["images"]
    for count in (7, 1):
        found = session.run(["score", "percentile", "anomalous"], {"row": query[:count]})
        errors.see("rows", found[0], [answer["score"] for answer in wanted[:count]])
        verdicts(errors, found, wanted[:count], calibration(model))


def main(program, folder, only):
    run = Checks(program, folder, only)
    folder, rng = run.folder, run.rng
    sets = queries(folder / "queries", rng)
    models = folder / "models"
    for number, system in enumerate(run.systems):
        run(system, check_images, system, number, models, sets)
    for system in ["ae", "beatgan", "deep-svdd", "pca"]:
        run(f"{system} of series", check_series, system, models, rng)
    for system in ["memae", "gmm", "pca"]:
        run(f"{system} of tables", check_table, system, models, rng)
    run("anogan search", check_search, "anogan", [], [], models, rng)
    two = ["--score", "reference", "--restarts", 2]
    run("anogan search from two starts", check_search, "anogan", two, [], models, rng)
    run("f-anogan search", check_search, "f-anogan", ["--refine", 6], [], models, rng)
    resize = ["-O", "nets=resize"]
    run("f-anogan search, nets=resize", check_search, "f-anogan", ["--refine", 6], resize, models, rng)
    run.end()


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2], sys.argv[3:])
