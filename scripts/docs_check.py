#!/usr/bin/env python3
"""Checks what README and docs say against the program: python3 scripts/docs_check.py [--slow] [--program P]

* Every link to a file or heading of the project leads somewhere, and every file that a document or a comment
  names is there; the changelog alone may name what is gone.
* Every system has what docs/adding-a-system.md lists.
* Every command that a Markdown file shows is in scripts/docs_commands.toml, which says how it is checked:
  `run` runs it as it stands, or, where it takes minutes and --slow is not given, with what `quick` replaces;
  `slow` runs it with --slow only; `parse` checks its arguments alone, where it needs data or devices that not
  everybody has. Commands of one file run in order in one folder, so that a model which one trains is there
  for the next.
* What the file claims of the output of a command that runs as it stands holds: `claims` are regular
  expressions that the output has to match; where one has a group, the number in it has to lie in `range`.
* Every table of measurements is as its command writes it: the text around it is its template's, its columns
  are those that the command writes today, its rows are what the command above it names, and pages that repeat
  figures have them.
* Every command and subcommand of the program has an example in its help, and the arguments of that example
  are taken.

Prints one line a command and exits 1 where something does not hold. Needs Python 3.11 and nothing else.
"""

import argparse
import importlib.util
import json
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


# A path from the root, from its crate, or beside the file that names it.
PATH = r"(?:src|kernels|shaders|datasets|host|cli|tests|docs|scripts|benches|fuzz|examples)/[\w./*-]+"
# What is made and ignored; guides call what a reader writes `my…`, NAME or null.
MADE = {"fuzz/artifacts/", "fuzz/corpus/"}


def check_paths():
    """Files that documents and comments name; how many."""
    kinds = ["*.md", "*.rs", "*.wgsl", "*.py", "*.sh", "*.toml", ".ci/run", "Makefile"]
    listed = subprocess.run(["git", "ls-files", *kinds], cwd=ROOT, capture_output=True, text=True, check=True)
    count = 0
    for name in listed.stdout.splitlines():
        if name == "CHANGELOG.md":
            continue
        text = (ROOT / name).read_text()
        if name.endswith(".md"):
            named = re.findall(rf"`({PATH})`", text)
        else:
            named = re.findall(rf"(?://|#).*?[\s`(]({PATH}\.(?:rs|wgsl|py|md|sh|toml))\b", text)
        for path in named:
            count += 1
            near = [ROOT, ROOT / Path(name).parts[0], (ROOT / name).parent]
            if path in MADE or re.search(r"/(my[-_]|NAME/|null/)", path):
                continue
            if not any(list(folder.glob(path.rstrip("/"))) for folder in near):
                fail(name, f"{path} is not there")
    return count


def check_systems(program):
    """What every system has beside its file; how many systems."""
    code, output = run([program, "systems", "--json"], ROOT)
    if code != 0:
        fail("ganomede systems --json", f"ended with {code}: {output[-800:]}")
        return 0
    names = [system["name"] for system in json.loads(output)]
    readme, figures = (ROOT / "README.md").read_text(), (ROOT / "scripts/figures.sh").read_text()
    tests = "".join(path.read_text() for path in [*(ROOT / "tests").glob("*.rs"), *(ROOT / "tests/common").rglob("*.rs")])
    for name in names:
        page = ROOT / f"docs/systems/{name}.md"
        for there, what in [
            ((ROOT / f"src/models/{name.replace('-', '_')}.rs").exists(), "no file in src/models"),
            (page.exists() and "<!-- measured -->" in page.read_text(), "no page in docs/systems with measured rows"),
            (page.with_suffix(".svg").exists(), "no picture in docs/systems"),
            (f"(docs/systems/{name}.md)" in readme, "no row in README.md"),
            (re.search(rf"[ \n]{name}[ ;\n]", figures), "no line in scripts/figures.sh"),
            (f'"{name}"' in tests, "no test that names it"),
        ]:
            if not there:
                fail(name, what + "; docs/adding-a-system.md says what a system needs")
    for page in (ROOT / "docs/systems").glob("*.md"):
        if page.stem not in names:
            fail(page.relative_to(ROOT), "is of no system")
    return len(names)


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


def module(path):
    """A script of the project as a module."""
    sys.path.insert(0, str((ROOT / path).parent))
    spec = importlib.util.spec_from_file_location(Path(path).stem, ROOT / path)
    loaded = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(loaded)
    return loaded


def table(text):
    """Heads and rows of the first table, as lists of cells."""
    cells = [[cell.strip() for cell in line.strip("|").split("|")] for line in text.splitlines() if line.startswith("|")]
    return cells[0], cells[2:]


# What `compare` writes for two systems of a second, to have the columns of today.
SMALLEST = {
    "images": "--data builtin:concrete:train=40,test=8 --size 16 --width 4 --steps 2",
    "series": "--signal --data builtin:telemetry:train=400,test=200 --size 16 --width 4 --steps 2",
}


def check_comparisons(program):
    """Checks the tables of docs/results.md that `compare` writes; how many."""
    heads = {}
    with tempfile.TemporaryDirectory(prefix="docs-check-") as folder:
        for kind, settings in SMALLEST.items():
            words = f"compare --systems pca,ae {settings} --markdown {kind}.md --section {kind}".split()
            code, output = run([program, *words], folder)
            if code != 0:
                fail(" ".join(words), f"ended with {code}: {output[-800:]}")
                continue
            heads[kind] = table(Path(folder, f"{kind}.md").read_text())[0]
    text = (ROOT / "docs/results.md").read_text()
    count = 0
    for command in shown_commands(text):
        section = re.search(r"--section (\S+)", command)
        if not section:
            continue
        where = f"docs/results.md, {section.group(1)}"
        body = re.search(rf"<!-- {section.group(1)} -->\n(.*?)<!-- /{section.group(1)} -->", text, flags=re.S)
        if not body:
            fail(where, "a command writes this section and the page has none")
            continue
        count += 1
        head, rows = table(body.group(1))
        kind = "series" if "--signal" in command else "images"
        if head != heads.get(kind):
            fail(where, f"the columns are {head}, compare writes {heads.get(kind)}; run its command again")
        asked = re.search(r"--systems (\S+)", command).group(1).split(",")
        if asked == ["all"]:
            continue
        there = {row[0].strip("`") for row in rows}
        failed = set(re.findall(r"^`([\w-]+)` failed:", body.group(1), flags=re.M))
        if missing := set(asked) - there - failed:
            fail(where, f"no row of {', '.join(sorted(missing))}; run its command again")
    return count


def check_tables(program):
    sections = module("benches/sections.py")
    count = 0
    for page, template in [
        ("docs/growth.md", "benches/growth/growth.template.md"),
        ("docs/half.md", "benches/half/half.template.md"),
        ("docs/benchmarks.md", "benches/peers/benchmarks.template.md"),
    ]:
        text, template = (ROOT / page).read_text(), (ROOT / template).read_text()
        if sections.filled(template, text, {}) != text:
            fail(page, "the text around the tables is not its template's; change the template, and the page with it")
        for name in re.findall(r"<!-- (?!end )(\S+) -->", template):
            section = sections.pattern(name).search(text)
            body = section.group(2).strip() if section else ""
            if "|" not in body and body != "Not measured in this run.":
                fail(page, f"{name} has no table")
            count += 1
    # The table of the real sets: its head, and of each row the set, the system and the published figure.
    real = module("benches/real/run.py")
    written = real.TABLE.search((ROOT / "docs/results.md").read_text()).group(2)
    if not all(line in written.splitlines() for line in real.HEAD):
        fail("docs/results.md, real", "the columns are not those that benches/real/run.py writes")
    published = {}
    for row in table(written)[1]:
        name, title, system, figure = row[0], row[1], row[2].strip("`"), row[-1]
        expected = real.ROWS.get(name)
        if expected is None:
            fail("docs/results.md, real", f"benches/real/run.py has no row {name}")
        elif (title, system) != (expected.title, expected.system):
            fail("docs/results.md, real", f"{name} is {title}, {system} and should be {expected.title}, {expected.system}")
        else:
            published.setdefault(name, []).append(figure)
    for name, row in real.ROWS.items():
        if name in published and published[name][0] != str(row.published):
            fail("docs/results.md, real", f"{name} has {published[name][0]} as published, run.py {row.published}")
    count += 1
    ended = subprocess.run(
        [sys.executable, str(ROOT / "scripts/measured.py"), "--check"], capture_output=True, text=True
    )
    if ended.returncode != 0:
        fail("docs/systems", ended.stderr.strip())
    return count + check_comparisons(program)


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
    paths = check_paths()
    systems = check_systems(program)
    tables = check_tables(program)
    helps = check_help(program)
    print(
        f"{links} links, {paths} paths, {commands} commands of documents, {tables} tables, {systems} systems, "
        f"{helps} commands with help, {len(failures)} failures"
    )
    if not (links and paths and commands and tables and systems and helps):
        sys.exit("error: nothing was checked")
    sys.exit(1 if failures else 0)


main()
