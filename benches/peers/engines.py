"""How each engine is asked for the work: a training step, a z-step, single operations, a whole training.

Every engine runs in processes of its own and answers with JSON documents, a line each. A program's document
holds ms_median and ms_min, first_step_ms (process start to the first loss) and process_peak_bytes;
`operations` gives a document for each operation by its name. What took too long has the limit in place of the
time, and the field's name in `exceeds`.
"""

import json
import os
import queue
import subprocess
import sys
import tempfile
import threading
import time
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import tables

ROOT = Path(__file__).resolve().parents[2]
PEERS = ROOT / "benches/peers"
SIZE = 64


class Failed(Exception):
    """A process that ended with an error or without an answer."""


class Slow(Failed):
    """A process that did not answer in time and was ended; `peak_bytes` is the most memory that it had held until then."""

    def __init__(self, what, seconds, peak_bytes):
        super().__init__(f"{what} took more than {seconds:.0f} s")
        self.seconds, self.peak_bytes = seconds, peak_bytes


@dataclass
class Limits:
    """What a peer that tunes its kernels may take, in seconds."""

    tuning: float  # for a piece of work, until it runs as it will
    run: float  # for one run after that
    first: float  # from the start of a process to the first loss
    end: float = float("inf")  # by the clock of time.monotonic, for everything

    def left(self, seconds):
        """The least of `seconds` and of what is left of everything."""
        left = min(seconds, self.end - time.monotonic())
        if left < 1:
            raise Failed("no time is left")
        return left


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


def sizes(width, batch, runs):
    known = {"--size": SIZE, "--width": width, "--batch": batch, "--runs": runs}
    return [word for pair in known.items() if pair[1] is not None for word in pair]


class Engine:
    """One that answers each question in a process of its own."""

    def start(self, what, width, batch):
        """The first loss of a new process, and the memory that it takes: a program with one timed run."""
        return self.program(what, width, batch, 1)

    def close(self):
        pass


class Ganomede(Engine):
    def __init__(self, device, binary, bench, threads):
        self.device, self.binary, self.bench, self.threads = device, binary, bench, threads
        self.title = f"Ganomede `{device}`"

    def program(self, what, width, batch, runs):
        command = [self.binary, "bench", what, "--device", self.device, "--json", *sizes(width, batch, runs)]
        return json.loads(run(command, self.threads))

    def operations(self, runs):
        yield from documents(run([self.bench, runs, self.device], self.threads))


class Torch(Engine):
    title = "PyTorch"

    def __init__(self, python, threads):
        self.python, self.threads = python, threads

    def script(self, name, *arguments):
        return documents(run([self.python, PEERS / name, *arguments, "--threads", self.threads], self.threads))

    def start(self, what, width, batch):
        return self.script("dcgan_torch.py", what, *sizes(width, batch, 1))[0]

    def program(self, what, width, batch, runs):
        """The faster of what a user writes first and of what is said to be fastest."""
        best = ["--channels-last", *(["--freeze", "--fused"] if what == "step" else [])]
        ways = [self.script("dcgan_torch.py", what, *sizes(width, batch, runs), *way)[0] for way in ([], best)]
        return min(ways, key=lambda way: way["ms_median"])

    def operations(self, runs):
        """Likewise for single operations."""
        ways = [self.script("ops_torch.py", "--runs", runs, *way) for way in ([], ["--channels-last"])]
        yield from (min(row, key=lambda way: way["ms_median"]) for row in zip(*ways))


class Crate(Engine):
    """A peer in the package `rust`, in a new process for each piece of work."""

    def __init__(self, title, peer, binary, threads):
        self.title, self.peer, self.binary, self.threads = title, peer, binary, threads

    def ask(self, *words):
        return documents(run([self.binary, self.peer, *words], self.threads))

    def program(self, what, width, batch, runs):
        return self.ask(what, *sizes(width, batch, runs))[0]

    def operations(self, runs):
        yield from self.ask("ops", "--runs", runs)


# Runs of a peer before those that it times.
WARM = 2


class Tuned(Engine):
    """A peer in the package `rust` that tunes its kernels when it first meets a shape: one process does all the work, each piece
    twice, first to tune and then for the clock. A piece that takes longer than it may ends the process, and
    with it what was tuned."""

    process = None

    def __init__(self, title, peer, binary, threads, limits):
        self.title, self.peer, self.binary, self.threads, self.limits = title, peer, binary, threads, limits

    def program(self, what, width, batch, runs):
        return self.tuned(runs, what, *sizes(width, batch, None))

    def operations(self, runs):
        """One by one: what ends the process costs one row."""
        for row in range(tables.OPERATIONS):
            try:
                yield self.tuned(runs, "ops", "--row", row)
            except Failed as error:
                print(f"warning: {error}", file=sys.stderr)

    def start(self, what, width, batch):
        self.close()
        limit = self.limits.left(self.limits.first)
        try:
            return self.ask(limit, what, *sizes(width, batch, 1))
        except Slow as slow:
            exceeds = ["first_step_ms", "process_peak_bytes"]
            return {"first_step_ms": 1e3 * limit, "process_peak_bytes": slow.peak_bytes, "exceeds": exceeds}

    def tuned(self, runs, *words):
        tuning = self.ask(self.limits.left(self.limits.tuning), *words, "--runs", 1)
        try:
            found = self.ask(self.limits.left(self.limits.run * (WARM + runs)), *words, "--runs", runs)
        except Slow as slow:
            ms = 1e3 * slow.seconds / (WARM + runs)
            found = {"what": tuning["what"], "ms_median": ms, "ms_min": ms, "exceeds": ["ms_median", "ms_min"]}
        # The process has done other work before: neither is this one's.
        return {name: value for name, value in found.items() if name not in ("first_step_ms", "process_peak_bytes")}

    def ask(self, seconds, *words):
        """The answer to one line, which must come in so many seconds."""
        line = " ".join(str(word) for word in words)
        if self.process is None:
            self.open()
        lines, end = [], time.monotonic() + seconds
        try:
            self.process.stdin.write(line + "\n")
            self.process.stdin.flush()
            while (answer := self.answers.get(timeout=max(end - time.monotonic(), 0))).strip():
                lines.append(answer)
        except (BrokenPipeError, queue.Empty) as error:
            peak = peak_bytes(self.process.pid)
            self.close()
            slow = isinstance(error, queue.Empty)
            raise Slow(f"{self.peer}: {line}", seconds, peak) if slow else Failed(f"{self.peer} ended at: {line}")
        if answer == "":
            self.close()
            raise Failed(f"{self.peer} ended at: {line}")
        return documents("".join(lines))[0]

    def open(self):
        self.surroundings = environment(self.threads)
        self.process = subprocess.Popen(
            [str(self.binary), self.peer, "-"],
            cwd=ROOT,
            env=self.surroundings.__enter__(),
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        self.answers = queue.SimpleQueue()
        threading.Thread(target=forward, args=(self.process.stdout, self.answers), daemon=True).start()

    def close(self):
        if self.process is not None:
            self.process.kill()
            self.process.wait()
            self.process = None
            self.surroundings.__exit__(None, None, None)


def forward(lines, answers):
    """Puts lines into a queue, which can be waited for with a limit; an empty one is the end."""
    for line in lines:
        answers.put(line)
    answers.put("")


def peak_bytes(pid):
    """Most memory that a process has held so far, where the system says it."""
    try:
        lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    except OSError:
        return None
    return next((1024 * int(line.split()[1]) for line in lines if line.startswith("VmHWM:")), None)


def bench_binary(cargo):
    """Path of the built benchmark of single operations."""
    command = [cargo, "bench", "--locked", "--no-run", "--bench", "peers", "--message-format", "json"]
    done = subprocess.run(command, cwd=ROOT, stdout=subprocess.PIPE, text=True)
    if done.returncode != 0:
        sys.exit("error: cargo bench --no-run --bench peers failed")
    paths = (json.loads(line).get("executable") for line in done.stdout.splitlines() if line.startswith("{"))
    return Path([path for path in paths if path][-1])
