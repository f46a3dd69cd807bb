"""Markdown tables of what was measured.

A row is a piece of work; it holds, for each engine, the documents of its rounds. A time is the median of the
rounds' medians, a ratio the median of the rounds' ratios: ours / theirs, smaller is better. A peer that took
longer than it was given has at least that time (`>`), and the ratio is at most what follows from it (`<`).
"""

import statistics

HEAVY = ("step", 64, 64)

PROGRAMS = [
    ("training step, width 64, batch 64", HEAVY),
    ("training step, width 32, batch 64", ("step", 32, 64)),
    ("z-step, width 64, batch 64", ("search", 64, 64)),
    ("z-step, width 32, batch 64", ("search", 32, 64)),
    ("z-step, width 64, batch 1", ("search", 64, 1)),
    ("z-step, width 32, batch 1", ("search", 32, 1)),
]
# Stands for all single operations in the order of the work.
OPERATIONS_ROW = ("single operations", None)
# Light work first, where a peer may not come to an end with the heavy one: by then it has done the rest.
LIGHT_FIRST = [*PROGRAMS[1::2][::-1], OPERATIONS_ROW, *PROGRAMS[0::2][::-1]]

# What a new process takes for the heaviest program.
START = "start"

# How many single operations the package `rust` has.
OPERATIONS = 10

# Largest ratios aimed at, by the start of a row's name; first_s is an absolute time.
TARGETS = {
    "cpu": {"training step": 0.42, "z-step": 0.38, "conv": 0.45, "batch norm": 0.4, "gemm": 0.95, "peak_memory": 0.2, "first_s": 1.0},
    "gpu": {"training step": 0.15, "z-step": 0.15, "conv": 0.15, "batch norm": 0.3, "peak_memory": 0.5, "first_s": 4.0},
}
TRAINING_RATIO = 0.4
BUILD_S, BINARY_MB = 180, 25


def digits(value):
    return f"{value:.3g}" if value < 100 else f"{value:,.0f}"


def milliseconds(value):
    return f"{digits(value)} ms"


def megabytes(value):
    return f"{value / 1e6:,.0f} MB"


def seconds(value):
    return f"{value / 1e3:.2f} s" if value < 1e5 else f"{value / 1e3:.0f} s"


def operation_row(name):
    return name if name.startswith("gemm") else f"{name}, forward + gradients"


# What is shown of the start of the heaviest program.
EXTRAS = [
    ("peak memory of the process, training step, width 64", "process_peak_bytes", megabytes, "peak_memory"),
    ("process start to the first loss, width 64", "first_step_ms", seconds, "first_s"),
]


class Verdicts:
    """Targets met, of how many."""

    def __init__(self):
        self.met = self.of = 0

    def judge(self, found, target):
        """The cell of what was found, or of at most that; nothing where that does not say whether the target is met."""
        if found is None or (found[1] and found[0] > target):
            return ""
        return self.cell(found[0] <= target)

    def cell(self, reached):
        self.met, self.of = self.met + reached, self.of + 1
        return "met" if reached else "**not met**"

    def text(self):
        return f"{self.met} of {self.of} targets are met."


def table(head, rows):
    """A Markdown table; all named columns but the first are numbers."""
    rule = ["---:" if name and column > 0 else "---" for column, name in enumerate(head)]
    return "\n".join(f"| {' | '.join(cells)} |" for cells in [head, rule, *rows])


def value(row, engine, field, pick=statistics.median):
    """Median over the rounds of what an engine measured and whether it took longer than that, or None."""
    found = [document for document in row.get(engine, []) if document.get(field) is not None]
    if not found:
        return None
    return pick([document[field] for document in found]), any(field in document.get("exceeds", []) for document in found)


def ratio(row, ours, theirs, field):
    """Median over the rounds of ours / theirs and whether it is less than that, or None."""
    pairs = [(a, b) for a, b in zip(row.get(ours, []), row.get(theirs, [])) if a.get(field) and b.get(field)]
    if not pairs:
        return None
    return statistics.median(a[field] / b[field] for a, b in pairs), any(field in b.get("exceeds", []) for _, b in pairs)


def least_ratio(row, ours, theirs):
    least, other = (value(row, engine, "ms_min", min) for engine in (ours, theirs))
    return None if least is None or other is None else (least[0] / other[0], other[1])


def shown(found, show, beyond="> "):
    return "–" if found is None else (beyond if found[1] else "") + show(found[0])


def rounded(found):
    return found and (round(found[0], 2), found[1])


def shown_ratio(found):
    return shown(found and (max(found[0], 0.01) if found[1] else found[0], found[1]), "{:.2f}".format, "< ")


def ratios(rows, part, ours, theirs):
    """The table of one engine against one peer, with targets, and how many are met."""
    targets, verdicts, out = TARGETS[part], Verdicts(), []
    for name, row in rows.items():
        if name == START:
            continue
        target = next((target for start, target in targets.items() if name.startswith(start)), None)
        found = ratio(row, ours, theirs, "ms_median")
        verdict = verdicts.judge(rounded(found), target) if target else ""
        times = [shown(value(row, engine, "ms_median"), milliseconds) for engine in (ours, theirs)]
        ratios = [shown_ratio(found), shown_ratio(least_ratio(row, ours, theirs))]
        out.append([name, *times, *ratios, f"≤ {target}" if target else "", verdict])
    for name, field, show, target in EXTRAS:
        row = rows.get(START, {})
        found, mine = ratio(row, ours, theirs, field), value(row, ours, field)
        target, absolute = targets[target], target == "first_s"
        verdict = verdicts.judge(mine and (mine[0] / 1e3, mine[1]) if absolute else rounded(found), target)
        values = [shown(value(row, engine, field), show) for engine in (ours, theirs)]
        out.append([name, *values, shown_ratio(found), "", f"≤ {target}{' s' if absolute else ''}", verdict])
    return table(["work", ours, theirs, "ratio", "of the least", "target", ""], out), verdicts


def side_by_side(rows, engines):
    """The medians of all engines."""
    names = [name for name in rows if name != START]
    out = [[name, *(shown(value(rows[name], engine, "ms_median"), digits) for engine in engines)] for name in names]
    for name, field, show, _ in EXTRAS:
        out.append([name, *(shown(value(rows.get(START, {}), engine, field), show) for engine in engines)])
    return table(["median ms", *engines], out)


def training(rounds):
    """The whole training: pairs of our seconds and theirs."""
    ours, theirs = (statistics.median(times) for times in zip(*rounds))
    found = statistics.median(a / b for a, b in rounds)
    verdict = Verdicts().cell(round(found, 2) <= TRAINING_RATIO)
    name = "`train anogan`, MNIST digit 1, 5 epochs at 32×32, width 64, batch 64: process start to model file"
    row = [name, f"{ours:.1f} s", f"{theirs:.1f} s", f"{found:.2f}", f"≤ {TRAINING_RATIO}", verdict]
    return table(["work", "Ganomede `cpu`", "PyTorch", "ratio", "target", ""], [row])


def build(took, size):
    """A clean build: seconds and bytes of the stripped binary."""
    rows = [
        ["clean release build, dependencies included", f"{took:.0f} s", f"≤ {BUILD_S} s", Verdicts().cell(took <= BUILD_S)],
        ["binary, stripped", f"{size / 1e6:.1f} MB", f"≤ {BINARY_MB} MB", Verdicts().cell(size <= BINARY_MB * 1e6)],
    ]
    return table(["", "measured", "target", ""], rows)
