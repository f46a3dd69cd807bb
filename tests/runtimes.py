"""What the scripts that run exports in other runtimes share: the program, pictures, and errors."""

import json
import shutil
import struct
import subprocess
import sys
import time
import zlib
from pathlib import Path

import numpy as np

TOLERANCE = 1e-4  # of scores, relative; of maps, of the largest value


class Command:
    """The program, on the processor."""

    def __init__(self, program):
        self.program = program

    def __call__(self, *arguments, fails=False):
        command = [self.program, *map(str, arguments), "--device", "cpu", "--seed", "1", "--json"]
        done = subprocess.run(command, capture_output=True, text=True)
        if fails:
            assert done.returncode == 2, (command, done.returncode, done.stderr)
            return done.stderr
        assert done.returncode == 0, f"{' '.join(command)}: {done.stderr}"
        return json.loads(done.stdout)


def write_png(path, pixels):
    """An array [h, w, c] of 8 or 16 bits, gray or in colour."""
    height, width, channels = pixels.shape
    bits = 8 * pixels.dtype.itemsize

    def chunk(kind, data):
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    rows = pixels.astype(pixels.dtype.newbyteorder(">")).reshape(height, -1)
    data = b"".join(b"\0" + row.tobytes() for row in rows)
    header = struct.pack(">IIBBBBB", width, height, bits, {1: 0, 3: 2}[channels], 0, 0, 0)
    path.write_bytes(
        b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(data)) + chunk(b"IEND", b"")
    )


def picture(rng, height, width, channels, dtype):
    """Something with structure: waves, a bright spot, noise."""
    y, x = np.mgrid[0:height, 0:width]
    most = np.iinfo(dtype).max
    planes = []
    for _ in range(channels):
        a, b, c = rng.uniform(0.05, 0.6, 3)
        wave = 0.4 + 0.25 * np.sin(a * x + b * y) + 0.1 * np.cos(c * x)
        spot = rng.uniform(-0.5, 0.6) * np.exp(-((y - height * c) ** 2 + (x - width * b) ** 2) / 30)
        planes.append(wave + spot + rng.normal(0, 0.03, (height, width)))
    return np.round(np.clip(np.stack(planes, -1), 0, 1) * most).astype(dtype)


def calibration(model):
    """What a model file says of held-out scores."""
    data = model.read_bytes()
    (length,) = struct.unpack("<Q", data[:8])
    header = json.loads(json.loads(data[8 : 8 + length])["__metadata__"]["ganomede"])
    return header["header"]["calibration"]


class Errors:
    """The largest relative errors, by what was compared."""

    def __init__(self):
        self.largest = {}

    def see(self, what, got, wanted, scale=None):
        got, wanted = np.asarray(got, np.float64), np.asarray(wanted, np.float64)
        assert got.shape == wanted.shape, (what, got.shape, wanted.shape)
        assert np.array_equal(np.isnan(got), np.isnan(wanted)), f"{what}: NaN lies elsewhere"
        scale = np.maximum(np.abs(wanted), 1e-12) if scale is None else scale
        apart = np.nan_to_num(np.abs(got - wanted) / scale)
        worst = float(apart.max(initial=0))
        self.largest[what] = max(worst, self.largest.get(what, 0))
        assert worst <= TOLERANCE, f"{what}: {worst:.2e} apart: {got.ravel()[:4]} and {wanted.ravel()[:4]}"


class Checks:
    """A folder to work in, the program's systems, and checks of them by name, of which some may fail."""

    def __init__(self, program, folder, only):
        self.folder, self.only, self.failed = Path(folder).resolve(), only, []
        shutil.rmtree(self.folder, ignore_errors=True)
        for name in ("normal", "models", "queries"):
            (self.folder / name).mkdir(parents=True)
        self.ganomede, self.rng = Command(program), np.random.default_rng(7)
        for number in range(40):
            pixels = picture(self.rng, 40, 44, [1, 3][number % 2], np.uint8)
            write_png(self.folder / "normal" / f"{number}.png", pixels)
        self.systems = [system["name"] for system in self.ganomede("systems")]
        assert len(self.systems) > 15 and set(only) <= set(self.systems), self.systems

    def __call__(self, name, check, *arguments):
        """Runs a check, unless others alone are wanted, and says how far apart the two were."""
        if self.only and name.split()[0] not in self.only:
            return
        started, errors, about = time.monotonic(), Errors(), ""
        try:
            about = check(self.ganomede, *arguments, errors) or ""
        except Exception as error:
            self.failed.append(name)
            print(f"{name}: {type(error).__name__}: {error}", flush=True)
        figures = ", ".join(f"{what} {worst:.1e}" for what, worst in errors.largest.items())
        print(f"{name}: {figures} ({time.monotonic() - started:.1f} s) {about}", flush=True)

    def end(self):
        """Ends the script with what failed."""
        if self.failed:
            sys.exit(f"failed: {', '.join(self.failed)}")
