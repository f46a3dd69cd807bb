#!/usr/bin/env bash
# Trains by `mpirun` and by one process that accumulates, and holds the files against each other bit for bit:
# tests/ranks/ranks.sh PROGRAM WORK. PROGRAM was built with `--features mpi`.
set -euo pipefail
program=$(realpath "$1")
mkdir -p "$2"
cd "$2"
rm -f -- *.safetensors *.toml *.txt
export GANOMEDE_DEVICE=cpu RAYON_NUM_THREADS=1
# Root in a container, and more ranks than cores.
export OMPI_ALLOW_RUN_AS_ROOT=1 OMPI_ALLOW_RUN_AS_ROOT_CONFIRM=1
mpirun=(mpirun --oversubscribe --bind-to none --mca mpi_yield_when_idle 1)
settings=(--data builtin:retina:train=80,test=4 --size 16 --width 4 --latent 8 --val-fraction 0.2
    --search-steps 2)

# Values of all tensors of a file, whatever its header says.
tensors() {
    python3 - "$1" <<'PYTHON'
import hashlib, json, struct, sys
data = open(sys.argv[1], "rb").read()
size = struct.unpack("<Q", data[:8])[0]
names = sorted(name for name in json.loads(data[8 : 8 + size]) if name != "__metadata__")
print(len(names), hashlib.sha256(data[8 + size :]).hexdigest())
PYTHON
}
same() {
    a=$(tensors "$1") b=$(tensors "$2")
    if [ "$a" != "$b" ]; then
        echo "error: $1 and $2 differ: $a, $b" >&2
        exit 1
    fi
    echo "$1 and $2 have the same bits"
}

for system in anogan ganomaly f-anogan; do
    "$program" train "$system" "${settings[@]}" --batch 8 --accumulate 2 --steps 8 --out "$system-one.safetensors"
    "${mpirun[@]}" -n 2 "$program" train "$system" "${settings[@]}" --batch 8 --steps 8 --out "$system-two.safetensors"
    same "$system-one.safetensors" "$system-two.safetensors"
    same "$system-one.checkpoint.safetensors" "$system-two.checkpoint.safetensors"
done
# Three ranks of two parts, and one of six.
"$program" train ae "${settings[@]}" --batch 4 --accumulate 6 --steps 4 --out six-one.safetensors
"${mpirun[@]}" -n 3 "$program" train ae "${settings[@]}" --batch 4 --accumulate 2 --steps 4 --out six-three.safetensors
same six-one.safetensors six-three.safetensors

echo "== resumed with the same ranks, and with others"
"${mpirun[@]}" -n 2 "$program" train ganomaly "${settings[@]}" --batch 8 --steps 3 --out resumed.safetensors
"${mpirun[@]}" -n 2 "$program" train ganomaly "${settings[@]}" --batch 8 --steps 8 --resume --out resumed.safetensors
same ganomaly-two.safetensors resumed.safetensors
"${mpirun[@]}" -n 3 "$program" train ganomaly "${settings[@]}" --batch 8 --steps 10 --resume --out resumed.safetensors 2> others.txt
grep "in 2 parts, and they now come in 3" others.txt

echo "== Ctrl-C"
long=("${mpirun[@]}" -n 2 "$program" train ganomaly "${settings[@]}" --batch 8 --steps 1000000)
"${long[@]}" --checkpoint-every 0 --out stopped.safetensors 2> stopped.txt & run=$!
until grep -q "steps; loss" stopped.txt; do sleep 0.1; done
# As a terminal or a scheduler tells `mpirun`, which tells the ranks.
kill -TERM $run
if wait $run; then echo "error: it ended well" >&2; exit 1; fi
"$program" info stopped.checkpoint.safetensors | grep "steps of 8"

echo "== a rank that dies"
"${long[@]}" --checkpoint-every 5 --out died.safetensors 2> died.txt & run=$!
until [ -e died.checkpoint.safetensors ]; do sleep 0.1; done
kill -KILL "$(pgrep -P $run -x ganomede | tail -1)"
if wait $run; then echo "error: it ended well" >&2; exit 1; fi
grep -m 1 "rank [01]" died.txt
"$program" info died.checkpoint.safetensors > /dev/null
"${mpirun[@]}" -n 2 "$program" train ganomaly "${settings[@]}" --batch 8 --steps 3 --resume --out died.safetensors
echo "== all as it should be"
