#!/bin/sh
# Draws docs/demo.png: searches of scans with the model of `ganomede demo`, a kind of finding a row.
# Usage: scripts/demo-picture.sh [PROGRAM]
set -eu
cd "$(dirname "$0")/.."
ganomede=${1:-target/release/ganomede}
at=target/demo-picture
rm -rf "$at"
"$ganomede" demo --report "$at"
"$ganomede" data synth retina --out "$at/scans" --train 1 --test 8 --size 64
first() { ls "$at/scans/test/$1"/*.png | head -n 1; }
"$ganomede" search "$at/retina.safetensors" \
    "$(first subretinal_fluid)" "$(first intraretinal_fluid)" "$(first hyperreflective_foci)" "$(first drusen)" \
    "$(first good)" --search-steps 200 --stages 6 --film docs/demo.png
