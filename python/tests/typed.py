"""Read by mypy: the stubs say what the package does."""

import numpy as np
import numpy.typing as npt

import ganomede
from ganomede import engine

detector: ganomede.AE = ganomede.AE(size=(64, 48), epochs=2, precision="bf16").fit("parts/")
scores: npt.NDArray[np.float64] = detector.decision_function(["a.png", "b.png"])
labels: npt.NDArray[np.int64] = detector.predict(np.zeros((3, 64, 48), np.uint8))
other: ganomede.Detector = ganomede.Detector("pca").fit(np.zeros((3, 2)))
threshold: float = ganomede.load("model.safetensors").threshold_

tape = engine.Tape()
x: engine.Tensor = tape.input("x", (2,))
same: engine.Tensor = x == 1.0
tape.output("y", (2.0 * x + 1.0).sum())
found: dict[str, npt.NDArray[np.float32]] = tape.compile().run(x=[1, 2])
