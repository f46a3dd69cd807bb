#!/usr/bin/env bash
# Every image system at sides that are no powers of two, on each device: five steps, five of which two are
# resumed, scores and maps; the devices' scores of one model within 1e-3. `make check-sides`, or
#     benches/sides.sh PROGRAM [DEVICES] [SIZES]
set -euo pipefail
program=$(realpath "${1:?the program, target/release/ganomede say}")
devices=${2:-cpu gpu}
sizes=${3:-96x64 33x50 17x128 200x200}
systems="anogan f-anogan ganomaly skip-ganomaly egbad memae adae dagan beatgan ae vae acae deep-svdd pca gmm feature-gaussian knn nsa draem"
cases=$(for system in $systems; do echo "$system"; done; cat <<'OPTIONS'
f-anogan -O nets=resnet
f-anogan -O nets=resize
memae -O memory=flat
ae -O nets=lenet
ae -O nets=lenet-small -O loss=ssim
vae -O nets=lenet
deep-svdd -O nets=lenet
gmm -O features=ae -O mixtures=2
feature-gaussian -O features=critic -O neighbours=1
knn -O features=encoder -O places=64
nsa -O pool=no
OPTIONS
)
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
data=builtin:retina:train=24,test=4,seed=5
failed=0
for size in $sizes; do
    while read -r system options; do
        what="$system $options at $size"
        for device in $devices; do
            out="$work/$device"
            rm -rf "$out" && mkdir "$out"
            train() {
                # shellcheck disable=SC2086
                "$program" train "$system" $options --data $data --size "$size" --width 8 --latent 6 --batch 4 \
                    --search-steps 3 --val-fraction 0.2 --seed 7 --device "$device" "$@"
            }
            {
                train --steps 5 --out "$out/whole.safetensors" &&
                train --steps 3 --out "$out/model.safetensors" &&
                train --steps 5 --out "$out/model.safetensors" --resume
            } > "$out/log" 2>&1 || { echo "FAILED: training $what on $device"; tail -3 "$out/log"; failed=1; continue; }
            maps=$([ "$system" = deep-svdd ] || echo "--maps $out/maps")
            # The model that the first device trained, on both.
            # shellcheck disable=SC2086
            "$program" score "$work/${devices%% *}/model.safetensors" $data --device "$device" --json $maps \
                > "$out/scores.json" 2> "$out/log" || { echo "FAILED: scoring $what on $device"; tail -3 "$out/log"; failed=1; }
        done
        python3 - "$what" "$work" $devices <<'PYTHON' || failed=1
import json, pathlib, struct, sys

what, work, *devices = sys.argv[1:]


def weights(path):
    """The bytes of all tensors, which follow the header."""
    file = path.read_bytes()
    return file[8 + struct.unpack("<Q", file[:8])[0]:]


scores = {}
for device in devices:
    folder = pathlib.Path(work, device)
    try:
        scores[device] = [row["score"] for row in json.loads((folder / "scores.json").read_text())["images"]]
    except (OSError, ValueError):
        sys.exit(f"FAILED: no scores of {what} on {device}")
    # Trainings of several stages share out their steps: with more of them they are others.
    staged = what.startswith(("f-anogan", "deep-svdd"))
    if not staged and weights(folder / "whole.safetensors") != weights(folder / "model.safetensors"):
        sys.exit(f"FAILED: {what} on {device}: resuming changed bits")
    for map in folder.glob("maps/*.png"):
        width, height = struct.unpack(">II", map.read_bytes()[16:24])
        # Maps have the size of their image, and built-in images are squares of the longer side.
        side = max(int(side) for side in what.split()[-1].split("x"))
        assert [width, height] == [side, side], (what, map, width, height)
first = scores[devices[0]]
worst = max(abs(a - b) / max(abs(b), 1e-6) for other in scores.values() for a, b in zip(other, first, strict=True))
print(f"{'ok' if worst <= 1e-3 else 'FAILED'}: {what}: scores apart by {worst:.1e}")
sys.exit(worst > 1e-3)
PYTHON
    done <<< "$cases"
done
exit $failed
