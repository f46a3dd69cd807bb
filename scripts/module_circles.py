#!/usr/bin/env python3
"""Finds modules that need each other in circles: python3 scripts/module_circles.py [--depth N] FOLDER...

FOLDER is the `src` of a crate. A file needs every module that one of its paths (`crate::…`, `super::…`, in
`use` lines and elsewhere) leads to, re-exports followed; what stands in `#[cfg(test)]` does not count. A
parent and its children may need each other. Beside that, the modules of one folder, each with all that lies
below it, must need each other in one direction only. --depth 1 looks at the modules of the crate's root
alone, 2 at those inside them as well, and so on.

Prints a circle a line, with the files that close it, and exits 1 where there is one. Needs Python 3.11 and
nothing else.
"""

import argparse
import re
import sys
from collections import defaultdict
from pathlib import Path


def modules(folder):
    """Files by module path; the root is ()."""
    found = {}
    for file in sorted(folder.rglob("*.rs")):
        parts = list(file.relative_to(folder).with_suffix("").parts)
        if parts[-1] in ("mod", "lib", "main") and (len(parts) > 1 or parts[-1] == "lib"):
            parts.pop()
        if parts != ["main"] and parts[:1] != ["bin"]:
            found[tuple(parts)] = file
    return found


def code(text):
    """Without comments, text literals and test modules."""
    text = re.sub(r'r#"(?:[^"]|"(?!#))*"#|"(?:\\.|[^"\\])*"|//[^\n]*', '""', text)
    while test := re.search(r"#\[cfg\(test\)\]\s*(?:pub(?:\([^)]*\))? )?(?:mod|fn|impl)\b[^{;]*([{;])", text):
        end, open_braces = test.end(), test[1] == "{"
        while open_braces and end < len(text):
            open_braces += {"{": 1, "}": -1}.get(text[end], 0)
            end += 1
        text = text[: test.start()] + text[end:]
    return text


def expanded(path):
    """`a::{b, c::d}` as a::b and a::c::d."""
    head, brace, rest = path.partition("{")
    if not brace:
        return [re.sub(r"\bas\b.*", "", path).replace(" ", "").strip()]
    parts, level, start, inner = [], 0, 0, rest.rsplit("}", 1)[0]
    for at, char in enumerate(inner + ","):
        level += {"{": 1, "}": -1}.get(char, 0)
        if char == "," and level == 0:
            parts.append(inner[start:at])
            start = at + 1
    return [path for part in parts if part.strip() for path in expanded(head.strip() + part.strip())]


def paths(text):
    """Every path of a file that begins at the crate or at a parent, and those that `use` lines begin at a child."""
    for use in re.finditer(r"\buse\s+([^;]+);", text):
        yield from expanded(" ".join(use[1].split()))
    rest = re.sub(r"\buse\s+[^;]+;", "", text)
    yield from (path[0] for path in re.finditer(r"\b(?:crate|super)(?:::\w+)+", rest))


class Crate:
    def __init__(self, folder):
        self.files = modules(folder)
        self.text = {module: code(file.read_text()) for module, file in self.files.items()}
        self.exports = {module: self.exported(module) for module in self.files}

    def exported(self, module):
        """Names that a module re-exports, with the paths that they stand for; the name `*` for all of a module."""
        names = defaultdict(list)
        for use in re.finditer(r"\bpub(?:\([^)]*\))?\s+use\s+([^;]+);", self.text[module]):
            for path in expanded(" ".join(use[1].split())):
                names[path.split("::")[-1]].append(path)
        return names

    def absolute(self, path, module):
        """A path as module names from the root; None where it leads out of the crate."""
        at, names = list(module), path.split("::")
        if names[0] == "crate":
            at, names = [], names[1:]
        elif names[0] in ("self", "super"):
            while names and names[0] in ("self", "super"):
                if names.pop(0) == "super" and at:
                    at.pop()
        elif (*module, names[0]) not in self.files:
            return None
        return at + names

    def owner(self, path, module, seen=frozenset()):
        """The module that a path leads to."""
        names = self.absolute(path, module)
        if names is None:
            return None
        at = 0
        while at < len(names) and tuple(names[: at + 1]) in self.files:
            at += 1
        found, rest = tuple(names[:at]), names[at:]
        if rest and (found, rest[0]) not in seen:
            for target in self.exports[found].get(rest[0], []):
                owner = self.owner(target, found, seen | {(found, rest[0])})
                if owner is not None:
                    return owner
        return found

    def needs(self):
        """Pairs of modules, the first of which needs the second."""
        for module, text in self.text.items():
            for path in set(paths(text)):
                owner = self.owner(path, module)
                if owner is not None and owner != module:
                    yield module, owner


def circle(graph):
    """A circle of a graph, if there is one."""
    done, way = set(), []

    def visit(node):
        if node in way:
            return way[way.index(node) :] + [node]
        if node in done:
            return None
        way.append(node)
        for next_node in sorted(graph[node]):
            if found := visit(next_node):
                return found
        way.pop()
        done.add(node)
        return None

    for node in sorted(graph):
        if found := visit(node):
            return found
    return None


def main():
    arguments = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    arguments.add_argument("--depth", type=int, default=99, help="levels of folders to look at")
    arguments.add_argument("folders", nargs="+", type=Path)
    given = arguments.parse_args()
    circles = 0
    for folder in given.folders:
        crate = Crate(folder)
        if () not in crate.files:
            sys.exit(f"{folder} has no lib.rs")
        graphs = defaultdict(lambda: defaultdict(dict))
        for module, needed in crate.needs():
            common = 0
            while common < min(len(module), len(needed)) and module[common] == needed[common]:
                common += 1
            # One lies below the other: a parent and its own.
            if common < min(len(module), len(needed)) and common < given.depth:
                pair = (module[: common + 1], needed[: common + 1])
                graphs[module[:common]][pair[0]].setdefault(pair[1], (module, needed))
                graphs[module[:common]].setdefault(pair[1], {})
        for parent, graph in sorted(graphs.items()):
            # Each circle that is found is opened at its first step, so that others behind it show as well.
            while way := circle({node: set(to) for node, to in graph.items()}):
                steps = [graph[a].pop(b) for a, b in zip(way, way[1:], strict=False)]
                names = " -> ".join("::".join(node) for node in way)
                files = ", ".join(f"{'::'.join(a)} needs {'::'.join(b) or 'the root'}" for a, b in steps)
                print(f"{folder}: {names} ({files})")
                circles += 1
        print(f"{folder}: {len(crate.files)} files, {sum(map(len, graphs.values()))} modules that need others")
    sys.exit(1 if circles else 0)


if __name__ == "__main__":
    main()
