#!/bin/sh
# Draws the networks of every system for its page in docs/systems; cli/tests/figures.rs holds the pictures
# against the program.
# Usage: scripts/figures.sh [PROGRAM]
set -eu
cd "$(dirname "$0")/.."
ganomede=${1:-target/release/ganomede}
draw() { # NAME ARGUMENTS...
    name=$1
    shift
    "$ganomede" explain "$@" --size 32 --svg "docs/systems/$name.svg"
}
for system in anogan f-anogan ganomaly skip-ganomaly egbad memae adae dagan ae vae acae deep-svdd pca gmm \
    feature-gaussian knn nsa draem; do
    draw "$system" "$system"
done
"$ganomede" explain beatgan --size 64 --form signal --width 32 --svg docs/systems/beatgan.svg
draw f-anogan-resnet f-anogan --option nets=resnet
