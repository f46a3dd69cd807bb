#!/usr/bin/env python3
"""Licences and sources of all crates, held to deny.toml.

    licences.py

says in a second what `cargo deny check bans licenses sources` says of this project, from `cargo metadata`:
each crate's licence is allowed, each comes from crates.io or this repository, none is asked for by `*`. For
where cargo-deny would have to be built first, which takes minutes: continuous integration.
"""

import json
import re
import subprocess
import sys
import tomllib
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
CRATES_IO = "registry+https://github.com/rust-lang/crates.io-index"


def allows(expression, allowed):
    """Whether an SPDX expression can be met: `OR` needs one side, `AND` both; `A/B` is how `A OR B` was written."""
    words = re.findall(r"[()]|[^\s()]+", expression.replace("/", " OR "))
    words = [word for word in words if word]
    at = 0

    def one():
        nonlocal at
        if at >= len(words):
            raise ValueError("it ends too early")
        word = words[at]
        at += 1
        if word == "(":
            value = either()
            if at >= len(words) or words[at] != ")":
                raise ValueError("a bracket is not closed")
            at += 1
            return value
        if at + 1 < len(words) and words[at] == "WITH":
            word = f"{word} WITH {words[at + 1]}"
            at += 2
        return word in allowed

    def both():
        nonlocal at
        value = one()
        while at < len(words) and words[at] == "AND":
            at += 1
            value = one() and value
        return value

    def either():
        nonlocal at
        value = both()
        while at < len(words) and words[at] == "OR":
            at += 1
            value = both() or value
        return value

    value = either()
    if at < len(words):
        raise ValueError(f"'{words[at]}' has no place in it")
    return value


def main():
    allowed = set(tomllib.loads((ROOT / "deny.toml").read_text())["licenses"]["allow"])
    command = ["cargo", "metadata", "--format-version", "1", "--all-features", "--locked"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    if done.returncode:
        sys.exit(f"error: {' '.join(command)}: {done.stderr.strip()}")
    packages = json.loads(done.stdout)["packages"]
    faults = []
    for package in packages:
        name = f"{package['name']} {package['version']}"
        if package["license"] is None:
            faults.append(f"{name} names no licence")
        else:
            try:
                if not allows(package["license"], allowed):
                    faults.append(f"{name} is under {package['license']}, which deny.toml does not allow")
            except ValueError as error:
                faults.append(f"{name}: its licence '{package['license']}' cannot be read: {error}")
        if package["source"] not in (None, CRATES_IO):
            faults.append(f"{name} comes from {package['source']}, not from crates.io")
        if package["source"] is None:
            faults += [
                f"{name} asks for any version of {of['name']}; name one"
                for of in package["dependencies"]
                if of["req"] == "*" and of.get("path") is None
            ]
    # The reader of expressions, on what crates write.
    for text, meets in [
        ("MIT OR Apache-2.0", True), ("MIT/Apache-2.0", True), ("(MIT OR GPL-3.0) AND Zlib", True),
        ("GPL-3.0", False), ("MIT AND GPL-3.0", False), ("Apache-2.0 WITH LLVM-exception OR GPL-3.0", True),
        ("Apache-2.0 WITH GCC-exception-3.1", False),
    ]:
        assert allows(text, {"MIT", "Apache-2.0", "Zlib", "Apache-2.0 WITH LLVM-exception"}) == meets, text
    for fault in faults:
        print(fault, file=sys.stderr)
    print(f"{len(packages)} crates, {len(faults)} findings")
    sys.exit(bool(faults))


if __name__ == "__main__":
    main()
