"""What several tests use."""

import json
import os
import shutil
import subprocess

import numpy as np
import pytest
from PIL import Image

#: Read by mypy, never run.
collect_ignore = ["typed.py"]


@pytest.fixture(scope="session")
def program():
    """The command line: GANOMEDE, or what PATH has. Without one the tests fail: equality with it is the point."""
    found = os.environ.get("GANOMEDE") or shutil.which("ganomede")
    assert found, "set GANOMEDE to the program (make python builds it)"

    def run(*args, ok=(0,)):
        ended = subprocess.run([found, *map(str, args)], capture_output=True, text=True, timeout=300)
        assert ended.returncode in ok, ended.stderr
        return json.loads(ended.stdout) if "--json" in args else ended.stdout

    return run


def part(rng, defect=False, size=40):
    """A gray picture of a disc with a gradient; a defect is a dark scratch."""
    y, x = np.mgrid[:size, :size]
    disc = np.hypot(x - size / 2, y - size / 2 + rng.normal(0, 0.5)) < size * 0.35
    pixels = 60 + 2 * x + 90 * disc + rng.normal(0, 4, (size, size))
    if defect:
        row = rng.integers(size // 3, 2 * size // 3)
        pixels[row : row + 3, size // 4 : 3 * size // 4] -= 120
    return np.clip(pixels, 0, 255).astype(np.uint8)


@pytest.fixture(scope="session")
def parts():
    """60 normal pictures, 20 more, and 20 with a defect."""
    rng = np.random.default_rng(7)
    normal = np.stack([part(rng) for _ in range(80)])
    return normal[:60], normal[60:], np.stack([part(rng, True) for _ in range(20)])


@pytest.fixture(scope="session")
def folder(parts, tmp_path_factory):
    """The same as files, in the folders of MVTec."""
    root = tmp_path_factory.mktemp("parts")
    for name, pictures in zip(["train/good", "test/good", "test/scratch"], parts):
        (root / name).mkdir(parents=True)
        for i, pixels in enumerate(pictures):
            Image.fromarray(pixels).save(root / name / f"{i:03}.png")
    return root
