"""The latent search of an exported model: python3 search.py IMAGE…, with numpy, onnxruntime and Pillow.

Prints a line of JSON for each image. The graphs lie beside this file:

    input.onnx          decoded pixels → x, what the networks see
    prepare.onnx        x and the start of the searches → the state of the searches
    step.onnx           the state → the state after a step: a gradient step on z by Adam
    finish.onnx         the state and the pixels → score, percentile, anomalous, loss, reconstruction, map
    generator.onnx      z → image
    discriminator.onnx  x → features

Made by ganomede; change it as you like.
"""

import json
import sys
from pathlib import Path

import numpy as np
import onnxruntime

HERE = Path(__file__).resolve().parent
SETTINGS = json.loads((HERE / "search.json").read_text())


class Graph:
    def __init__(self, name):
        options = onnxruntime.SessionOptions()
        options.log_severity_level = 3  # that the threshold may be overridden is what we want
        path, providers = HERE / f"{name}.onnx", ["CPUExecutionProvider"]
        self.session = onnxruntime.InferenceSession(path, options, providers=providers)
        self.inputs = [value.name for value in self.session.get_inputs()]
        self.outputs = [value.name for value in self.session.get_outputs()]

    def __call__(self, values):
        given = {name: values[name] for name in self.inputs}
        return dict(zip(self.outputs, self.session.run(None, given)))


def philox(counter, key):
    """A block of Philox 4×32-10, random numbers that are a function of a counter and a key."""
    c, (k0, k1) = list(counter), key
    for _ in range(10):
        a, b = c[0] * 0xD2511F53, c[2] * 0xCD9E8D57
        c = [(b >> 32) ^ c[1] ^ k0, b & 0xFFFFFFFF, (a >> 32) ^ c[3] ^ k1, a & 0xFFFFFFFF]
        k0, k1 = (k0 + 0x9E3779B9) & 0xFFFFFFFF, (k1 + 0xBB67AE85) & 0xFFFFFFFF
    return c


def start(x, restart):
    """Where the search of an image starts: a number of the prior that is a function of the seed, the restart and the
    bits of the image's own pixels, so that it depends on no other image."""
    stream = 0x811C9DC5
    for word in [*np.ascontiguousarray(x, np.float32).view(np.uint32).ravel().tolist(), restart]:
        stream = ((stream ^ word) * 0x01000193) & 0xFFFFFFFF
    length, numbers = SETTINGS["latent"], []
    for block in range(-(-length // 4)):
        unit = [(word >> 8) / 2**24 for word in philox([block, stream, 0, 0], SETTINGS["key"])]
        if SETTINGS["start"] == "normal":
            for u, v in (unit[:2], unit[2:]):
                radius, angle = np.sqrt(-2 * np.log(u + 2**-24)), 2 * np.pi * v
                numbers += [radius * np.cos(angle), radius * np.sin(angle)]
        else:
            numbers += [2 * u - 1 for u in unit]
    return np.array(numbers[:length], np.float32)


def search(images):
    """What is found in a batch of decoded pixels [n, h, w, c]: by name, an entry for each image."""
    x, restarts = GRAPHS["input"]({"image": images})["x"], SETTINGS["restarts"]
    given = {"image.x": np.repeat(x, restarts, 0), "image": np.repeat(images, restarts, 0)}
    if SETTINGS["start"] != "encoder":
        given["start"] = np.stack([start(one, restart) for one in x for restart in range(restarts)])

    def after(values):
        return {name.removeprefix("next."): value for name, value in values.items()}

    state = after(GRAPHS["prepare"](given))
    for _ in range(SETTINGS["steps"]):
        state.update(after(GRAPHS["step"](state)))
    # Asked for only where the score has no calibration: nothing is anomalous then.
    given["threshold"] = np.array(np.inf, np.float32)
    found = GRAPHS["finish"]({**state, **given})
    best = [i * restarts + int(found["loss"][i * restarts :][:restarts].argmin()) for i in range(len(images))]
    return {name: values[best] for name, values in found.items()}


GRAPHS = {name: Graph(name) for name in ["input", "prepare", "step", "finish"]}

if __name__ == "__main__":
    from PIL import Image

    for path in sys.argv[1:]:
        with Image.open(path) as image:
            pixels = np.asarray(image)
        pixels = pixels[None, ..., None] if pixels.ndim == 2 else pixels[None]
        if SETTINGS["pixels"] == "float":
            pixels = (pixels / np.iinfo(pixels.dtype).max).astype(np.float32)
        found = search(pixels)
        says = ["score", "residual", "discrimination"]
        says += ["percentile", "anomalous"] if "percentile" in found else []
        print(json.dumps({"path": path, **{name: found[name][0].item() for name in says}}))
