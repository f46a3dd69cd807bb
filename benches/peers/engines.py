"""How each engine is asked for the work: a training step, a z-step, single operations, a whole training.

Every engine runs in processes of its own and answers with JSON documents, a line each. A program's document holds
ms_median and ms_min, first_step_ms (process start to the first loss) and process_peak_bytes; `operations` gives a document
for each operation by its name.
"""

import json
import os
import subprocess
import sys
import tempfile
from contextlib import contextmanager
from pathlib import Path

import tables

ROOT = Path(__file__).resolve().parents[2]
PEERS = ROOT / "benches/peers"
SIZE = 64


class Failed(Exception):
    """A process that ended with an error or without an answer."""


@contextmanager
def environment(threads):
    """What every engine runs under: so many threads, and caches of shaders and tuning that start empty."""
    with tempfile.TemporaryDirectory() as folder:
        yield os.environ | {
            "RAYON_NUM_THREADS": str(threads),
            "GANOMEDE_CACHE": f"{folder}/ganomede",
            "MESA_SHADER_CACHE_DIR": f"{folder}/mesa",
        }


def run(command, threads, quiet=False):
    """Standard output of a command that succeeds."""
    command = [str(word) for word in command]
    with environment(threads) as env:
        errors = subprocess.DEVNULL if quiet else None
        done = subprocess.run(command, cwd=ROOT, env=env, stdout=subprocess.PIPE, stderr=errors, text=True)
    if done.returncode != 0:
        raise Failed(f"{' '.join(command)} ended with {done.returncode}")
    return done.stdout


def documents(text):
    return [json.loads(line) for line in text.splitlines() if line.startswith("{")]


def by_name(lines):
    return {line["what"]: line for line in lines}


def sizes(width, batch, runs):
    return ["--size", SIZE, "--width", width, "--batch", batch, "--runs", runs]


class Ganomede:
    def __init__(self, device, binary, bench, threads):
        self.device, self.binary, self.bench, self.threads = device, binary, bench, threads
        self.title = f"Ganomede `{device}`"

    def program(self, what, width, batch, runs):
        command = [self.binary, "bench", what, "--device", self.device, "--json", *sizes(width, batch, runs)]
        return json.loads(run(command, self.threads))

    def operations(self, runs):
        return by_name(documents(run([self.bench, runs, self.device], self.threads)))

    def close(self):
        pass


class Torch:
    title = "PyTorch"

    def __init__(self, python, threads):
        self.python, self.threads = python, threads

    def script(self, name, *arguments):
        return documents(run([self.python, PEERS / name, *arguments, "--threads", self.threads], self.threads))

    def program(self, what, width, batch, runs):
        return self.script("dcgan_torch.py", what, *sizes(width, batch, runs))[0]

    def operations(self, runs):
        return by_name(self.script("ops_torch.py", "--runs", runs))

    def close(self):
        pass


class Crate:
    """A peer in the package `rust`, in a new process for each piece of work."""

    def __init__(self, title, peer, binary, threads):
        self.title, self.peer, self.binary, self.threads = title, peer, binary, threads

    def ask(self, *words):
        return documents(run([self.binary, self.peer, *words], self.threads))

    def program(self, what, width, batch, runs):
        return self.ask(what, *sizes(width, batch, runs))[0]

    def operations(self, runs):
        return by_name(self.ask("ops", "--runs", runs))

    def close(self):
        pass


class Served(Crate):
    """A peer that does all its work in one process, so that it tunes its kernels once."""

    process = None

    def operations(self, runs):
        """One by one: what ends the process costs one row."""
        found = []
        for row in range(tables.OPERATIONS):
            try:
                found += self.ask("ops", "--row", row, "--runs", runs)
            except Failed as error:
                print(f"warning: {error}", file=sys.stderr)
        return by_name(found)

    def ask(self, *words):
        if self.process is None:
            self.surroundings = environment(self.threads)
            self.process = subprocess.Popen(
                [str(self.binary), self.peer, "-"],
                cwd=ROOT,
                env=self.surroundings.__enter__(),
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                text=True,
            )
        lines = []
        try:
            self.process.stdin.write(" ".join(str(word) for word in words) + "\n")
            self.process.stdin.flush()
            while (line := self.process.stdout.readline()) not in ("", "\n"):
                lines.append(line)
        except BrokenPipeError:
            line = ""
        if line == "":
            self.close()
            raise Failed(f"{self.peer} ended at: {' '.join(str(word) for word in words)}")
        return documents("".join(lines))

    def close(self):
        if self.process is not None:
            self.process.stdin.close()
            self.process.wait()
            self.process = None
            self.surroundings.__exit__(None, None, None)


def bench_binary(cargo):
    """Path of the built benchmark of single operations."""
    command = [cargo, "bench", "--locked", "--no-run", "--bench", "peers", "--message-format", "json"]
    done = subprocess.run(command, cwd=ROOT, stdout=subprocess.PIPE, text=True)
    if done.returncode != 0:
        sys.exit("error: cargo bench --no-run --bench peers failed")
    paths = (json.loads(line).get("executable") for line in done.stdout.splitlines() if line.startswith("{"))
    return Path([path for path in paths if path][-1])
