#!/usr/bin/env bash
# Scores a folder in N parts side by side, on one machine or on those of a --sshloginfile, by GNU parallel,
# and merges them:
#   deploy/score-parallel.sh 4 parts.safetensors new/ scores.json
# What parallel is to know beside that stands in PARALLEL, as in PARALLEL='--jobs 2 --joblog log'.
set -euo pipefail
if [ $# -ne 4 ]; then
    echo "usage: $0 N MODEL DATA OUT.json" >&2
    exit 2
fi
count=$1 model=$2 data=$3 out=$4
ganomede=${GANOMEDE:-ganomede}
parts=$(mktemp -d "$out.parts.XXXXXX")
trap 'rm -r "$parts"' EXIT
# A part that fails is tried twice more; where it fails still, nothing is merged.
seq 0 $((count - 1)) | parallel --retries 3 --halt soon,fail=1 \
    "$ganomede" score "$model" "$data" --shard {}/"$count" --out "$parts"/{}.jsonl
"$ganomede" merge "$parts"/*.jsonl --out "$out"
