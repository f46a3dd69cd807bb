#!/usr/bin/env bash
# Times Ganomede and PyTorch on the CPU in turn and prints the ratios of their medians.
# ROUNDS rounds (3) of RUNS runs (5) each; SIZE, WIDTH, BATCH as given; GANOMEDE names the binary.
set -euo pipefail
cd "$(dirname "$0")/../.."

ROUNDS=${ROUNDS:-3} RUNS=${RUNS:-5} SIZE=${SIZE:-64} WIDTH=${WIDTH:-64} BATCH=${BATCH:-64}
GANOMEDE=${GANOMEDE:-${CARGO_TARGET_DIR:-target}/release/ganomede}
THREADS=${THREADS:-$(nproc)}
PYTHON=${PYTHON:-python3}

if [ ! -x "$GANOMEDE" ]; then
    echo "error: $GANOMEDE does not exist; run cargo build --release, or set GANOMEDE" >&2
    exit 1
fi
if ! "$PYTHON" -c 'import torch' 2>/dev/null; then
    echo "error: $PYTHON has no torch; see benches/peers/README.md" >&2
    exit 1
fi

lines=$(mktemp)
trap 'rm -f "$lines"' EXIT

pair() { # step|search, batch
    local sizes=(--size "$SIZE" --width "$WIDTH" --batch "$2" --runs "$RUNS")
    for _ in $(seq "$ROUNDS"); do
        RAYON_NUM_THREADS=$THREADS "$GANOMEDE" bench "$1" --device cpu --json "${sizes[@]}" |
            "$PYTHON" -c "import json, sys; print('$1 $2 ganomede', json.dumps(json.load(sys.stdin)))" >>"$lines"
        "$PYTHON" benches/peers/dcgan_torch.py "$1" --threads "$THREADS" "${sizes[@]}" |
            sed "s/^/$1 $2 pytorch /" >>"$lines"
    done
}
pair step "$BATCH"
pair search "$BATCH"
pair search 1

"$PYTHON" - "$lines" <<'PYTHON'
import json
import statistics
import sys
from collections import defaultdict

times = defaultdict(lambda: defaultdict(lambda: defaultdict(list)))
for line in open(sys.argv[1]):
    what, batch, engine, document = line.split(" ", 3)
    document = json.loads(document)
    for field in ("ms_median", "ms_min", "cpu_ms"):
        if document.get(field) is not None:
            times[what, batch][field][engine].append(document[field])
print(f"{'program':12} {'batch':>5}  {'time':18} {'ganomede':>10} {'pytorch':>10} {'ratio':>6}")
for (what, batch), fields in times.items():
    for field, name in (("ms_median", "ms, median"), ("ms_min", "ms, least"), ("cpu_ms", "ms of processor")):
        ours, theirs = fields[field]["ganomede"], fields[field]["pytorch"]
        if ours and theirs:
            ours, theirs = (min if field == "ms_min" else statistics.median)(ours), (min if field == "ms_min" else statistics.median)(theirs)
            print(f"{what:12} {batch:>5}  {name:18} {ours:10.1f} {theirs:10.1f} {theirs / ours:6.2f}")
print("ratio: how many times faster Ganomede is")
PYTHON
