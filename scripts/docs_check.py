#!/usr/bin/env python3
"""Checks what README and docs say against the program: python3 scripts/docs_check.py [--slow] [--program PATH]

* Every link to a file or heading of the project leads somewhere.
* Every command that a Markdown file shows is in scripts/docs_commands.toml, which says how it is checked: `run` runs it as
  it stands, or, where it takes minutes and --slow is not given, with what `quick` replaces; `slow` runs it with --slow
  only; `parse` checks its arguments alone, where it needs data or devices that not everybody has. Commands of one file
  run in order in one folder, so that a model which one trains is there for the next.
* What the file claims of the output of a command that runs as it stands holds: `claims` are regular expressions that the
  output has to match; where one has a group, the number in it has to lie in `range`.
* Every command and subcommand of the program has an example in its help, and the arguments of that example are taken.

Prints one line a command and exits 1 where something does not hold. Needs Python 3.11 and nothing else.
"""

import argparse
import os
import re
import shlex
import subprocess
import sys
import tempfile
import tomllib
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
CONFIG = tomllib.loads((ROOT / "scripts/docs_commands.toml").read_text())
SECONDS = 900
failures = []


def fail(where, what):
    failures.append(f"{where}: {what}")
    print(f"FAIL {where}: {what}", flush=True)


def markdown_files():
    listed = subprocess.run(["git", "ls-files", "*.md"], cwd=ROOT, capture_output=True, text=True, check=True)
    # Templates stand elsewhere than what is made of them.
    return [ROOT / line for line in listed.stdout.splitlines() if not line.endswith(".template.md")]


def without_code(text):
    return re.sub(r"^```.*?^```$", "", text, flags=re.M | re.S)


def anchors(text):
    """Headings as the hosting sites name them."""
    found = set()
    for heading in re.findall(r"^#+ +(.*)$", without_code(text), flags=re.M):
        heading = re.sub(r"\[([^]]*)\]\([^)]*\)", r"\1", heading).replace("`", "")
        found.add(re.sub(r"[^\w\- ]", "", heading.lower()).strip().replace(" ", "-"))
    return found


def check_links(file, text):
    count = 0
    for target in re.findall(r"\[[^]]*\]\(([^)\s]+)\)", re.sub(r"`[^`\n]*`", "", without_code(text))):
        if re.match(r"[a-z]+:", target):
            continue
        count += 1
        path, _, anchor = target.partition("#")
        to = (file.parent / path).resolve() if path else file
        if not to.exists():
            fail(file.relative_to(ROOT), f"the link {target} leads nowhere")
        elif anchor and to.suffix == ".md" and anchor not in anchors(to.read_text()):
            fail(file.relative_to(ROOT), f"{target}: no heading of that name")
    return count


def shown_commands(text):
    """Commands of fenced blocks: lines of `ganomede …` or `$ ganomede …` and of `cargo run …`, continued by a backslash."""
    for block in re.findall(r"^```\w*\n(.*?)^```$", text, flags=re.M | re.S):
        for line in block.replace("\\\n", " ").splitlines():
            line = line.strip().removeprefix("$ ")
            if re.match(r"(ganomede [a-z]|cargo run )", line) and not re.match(r"ganomede \d", line):
                yield " ".join(line.split("  #")[0].split())


def rule_of(command):
    matching = [rule for rule in CONFIG["rule"] if command.startswith(rule["command"])]
    return max(matching, key=lambda rule: len(rule["command"]), default=None)


def run(arguments, folder, seconds=SECONDS):
    environment = os.environ | {"GANOMEDE_DEVICE": os.environ.get("GANOMEDE_DEVICE", "cpu"), "NO_COLOR": "1"}
    ended = subprocess.run(
        arguments, cwd=folder, capture_output=True, text=True, timeout=seconds, env=environment, stdin=subprocess.DEVNULL
    )
    return ended.returncode, ended.stdout + ended.stderr


def arguments_of(command, program):
    # What is shown after a pipe or into a file is somebody else's.
    words = shlex.split(re.split(r" [|>] ", command)[0] if command.startswith("ganomede") else command)
    return [program, *words[1:]] if words[0] == "ganomede" else words


def check_claims(where, rule, output):
    for claim in rule.get("claims", []):
        found = re.search(claim["matches"], output, flags=re.M)
        if not found:
            fail(where, f"the output does not match {claim['matches']!r}:\n{output[-1500:]}")
        elif "range" in claim:
            low, high = claim["range"]
            if not low <= float(found.group(1)) <= high:
                fail(where, f"{found.group(0)!r} is outside {low} to {high}")


def check_commands(file, text, program, slow):
    name = file.relative_to(ROOT)
    commands = list(shown_commands(text))
    if not commands:
        return 0
    with tempfile.TemporaryDirectory(prefix="docs-check-") as folder:
        for given in CONFIG.get("given", []):
            if given["file"] == str(name):
                for command in given["commands"]:
                    code, output = run(arguments_of(command, program), folder)
                    if code != 0:
                        fail(name, f"preparing, {command} ended with {code}: {output[-800:]}")
        for command in commands:
            rule = rule_of(command)
            if rule is None:
                fail(name, f"`{command}` is not in scripts/docs_commands.toml")
                continue
            how = rule["check"]
            whole = slow or "quick" not in rule
            if how == "slow" and not slow:
                how = "parse"
            shorter = command
            for old, new in ({} if whole else rule["quick"]).items():
                if old not in shorter:
                    fail(name, f"`{command}` has no {old!r} to replace")
                shorter = shorter.replace(old, new)
            if how == "parse":
                code, output = run([*arguments_of(shorter, program), "--help"], folder)
            else:
                code, output = run(arguments_of(shorter, program), ROOT if shorter.startswith("cargo") else folder)
                if whole and code == 0:
                    check_claims(f"{name}: {command}", rule, output)
            print(f"{'ok  ' if code == 0 else 'FAIL'} {how:5} {name}: {shorter}", flush=True)
            if code != 0:
                fail(f"{name}: {shorter}", f"ended with {code}: {output[-800:]}")
    return len(commands)


def subcommands(program, path):
    _, text = run([program, *path, "--help"], ROOT)
    listed = re.search(r"^Commands:\n((?:  .*\n|\n)+)", text, flags=re.M)
    names = re.findall(r"^  ([a-z][a-z-]*)", listed.group(1), flags=re.M) if listed else []
    return text, [name for name in names if name != "help"]


def check_help(program, path=()):
    text, names = subcommands(program, path)
    count = 0
    for name in names:
        count += check_help(program, (*path, name))
    if names or not path:
        return count
    examples = [
        " ".join(line.split("  #")[0].split())
        for line in text.replace("\\\n", " ").splitlines()
        if re.match(r"\s+ganomede " + " ".join(path) + r"(\s|$)", line)
    ]
    if not examples:
        fail("ganomede " + " ".join(path) + " --help", "has no example")
    for example in examples:
        code, output = run([*arguments_of(example, program), "--help"], ROOT)
        if code != 0:
            fail(example, f"its arguments are not taken: {output[-400:]}")
    return count + 1


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--slow", action="store_true", help="also what takes minutes")
    parser.add_argument("--program", default=str(ROOT / "target/release/ganomede"), help="the built program")
    parser.add_argument("--only", default="", help="files whose path contains this")
    options = parser.parse_args()
    program = str(Path(options.program).resolve())
    links = commands = 0
    for file in markdown_files():
        text = file.read_text()
        links += check_links(file, text)
        if options.only in str(file):
            commands += check_commands(file, text, program, options.slow)
    helps = check_help(program)
    print(f"{links} links, {commands} commands of documents, {helps} commands with help, {len(failures)} failures")
    if not (links and commands and helps):
        sys.exit("error: nothing was checked")
    sys.exit(1 if failures else 0)


main()
