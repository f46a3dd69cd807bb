#!/usr/bin/env python3
"""Checks how texts look and which words they use: python3 scripts/words_check.py [--fix] [FILE...]

* Lines of Markdown, of comments (Rust, WGSL, Python, TOML, shell) and of Python's docstrings end at the column that
  .editorconfig names as max_line_length. Code blocks, tables, written sections (`<!-- name -->` to `<!-- end -->` or
  `<!-- /name -->`), references (`[name]: address`) and a word that alone is too long are excepted. --fix fills
  paragraphs with such lines again; a paragraph with aligned columns is left to be done by hand.
* Words that a reader from the field would stumble over (WORDS) do not occur: each has the field's word beside it.
* No doc comment of Rust is one word alone: it says a shape, a unit or a range, or the item is private.

Prints file:line: what, and exits 1 where something was found. Needs Python 3.9 and nothing else.
"""

import argparse
import ast
import re
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
WIDTH = int(re.search(r"^max_line_length = (\d+)", (ROOT / ".editorconfig").read_text(), flags=re.M).group(1))
MARKS = {".rs": ("///", "//!", "//"), ".wgsl": ("//",), ".py": ("#",), ".toml": ("#",), ".sh": ("#",)}

# Files that are not looked at, and why.
SKIPPED = {
    "scripts/words_check.py": "names the words itself",
}

# What is not said, a regular expression that matches whole words of any case, and what the field says.
WORDS = {
    r"amiss": "wrong",
    r"are dear|dearer|dearest": "expensive",
    r"dispatch(es|ing)? (of )?nothing|launch(es)? of nothing": "empty dispatch, empty launch",
    r"foretold|foretells?|foretelling|predicated": "predicted, predicts",
    r"heed(s|ed)?": "checks, handles",
    r"in truth": "really",
    r"(is|are) no numbers?": "is NaN, is not finite; of text: is not a number",
    r"likeliest": "most likely",
    r"likeness(es)?": "closest image",
    r"nameless": "unnamed",
    r"reckon(s|ed)?": "counted, estimated",
    r"spoilt": "corrupted, distorted",
    r"systems? by (its|their) word": "a system's name",
    r"thrice": "three times",
    r"vouch(es)?": "guarantees, trusts",
}

# Places where such a word is right: (file, word as it stands there): why.
ALLOWED = {}

ITEM = re.compile(r"^\s*([*+-]|\d+[.)]|\[[ x]\])\s+")
REFERENCE = re.compile(r"^\s*\[[^\]]+\]: ")
# A line of a comment that begins a field of a header: `Dispatch: …`.
FIELD = re.compile(r"^[A-Z][\w ]{0,20}: ")


def is_start(word):
    """Whether a line that begins with this word would be read as an item, heading, quote or table."""
    return re.match(r"([*+-]|\d+[.)]|=+|-+)$", word) or word[0] in "|#>"


def fill(words, first, rest, width):
    """Lines of at most `width` columns; the first begins with `first`, the others with `rest`."""
    glued = []
    for word in words:
        if glued and is_start(word):
            glued[-1] += " " + word
        else:
            glued.append(word)
    lines, line = [], first + glued[0]
    for word in glued[1:]:
        if len(line) + 1 + len(word) <= width:
            line += " " + word
        else:
            lines.append(line)
            line = rest + word
    return [*lines, line]


def wrapped(lines, prefix, fields):
    """The lines of a text that stands behind `prefix`, with paragraphs that are too wide filled again, and the numbers of
    lines that are too wide and could not be: (lines, numbers)."""
    width = WIDTH - len(prefix)
    out, left, at, fence, written = [], [], 0, None, False
    while at < len(lines):
        line, text = lines[at], lines[at].strip()
        if fence is None and re.match(r"<!-- [\w-]+ -->$", text):
            written = text != "<!-- end -->"
        elif text.startswith("<!-- /"):
            written = False
        opened = re.match(r"(```+|~~~+)", text)
        if fence or opened:
            fence = None if fence and text.startswith(fence) else fence or opened.group(1)
        plain = not (fence or opened or written or not text or text[0] in "|#<" or REFERENCE.match(line))
        # Indented code.
        plain = plain and not (re.match(r" {4}", line) and (not out or not out[-1].strip()))
        if not plain:
            if text.startswith("#") and prefix == "" and not fence and len(line) > width:
                left.append(at)
            out.append(line)
            at += 1
            continue
        item = ITEM.match(line)
        first = item.group(0) if item else re.match(r"\s*", line).group(0)
        rest = " " * len(first)
        end, aligned = at + 1, False
        while end < len(lines):
            text = lines[end].strip()
            indent = len(lines[end]) - len(lines[end].lstrip())
            begins = ITEM.match(lines[end]) or REFERENCE.match(lines[end]) or text.startswith(("|", "#", "<!--", "```", '"""'))
            if not text or begins or (fields and FIELD.match(text)):
                break
            if indent > len(rest):
                aligned = True
            elif indent < len(rest) and item is None:
                break
            end += 1
        paragraph = lines[at:end]
        wide = [at + i for i, one in enumerate(paragraph) if len(one) > width and len(one.split()) > 1 + bool(item)]
        aligned = aligned or any(re.search(r"\S {2,}\S", one[len(first) :]) or one.endswith("\\") for one in paragraph)
        if wide and not aligned:
            filled = fill(" ".join([lines[at][len(first) :], *paragraph[1:]]).split(), first, rest, width)
            left += [at + min(i, len(paragraph) - 1) for i, one in enumerate(filled) if len(one) > width and len(one.split()) > 2]
            paragraph = filled
        else:
            left += wide
        out += paragraph
        at = end
    return out, left


def comments(lines, marks):
    """Blocks of whole-line comments: (first line, end, prefix, texts)."""
    pattern = re.compile(rf"^(\s*)({'|'.join(marks)})( (.*)|)$")
    at = 0
    while at < len(lines):
        found = pattern.match(lines[at])
        if not found:
            at += 1
            continue
        begin, texts = at, []
        while at < len(lines):
            one = pattern.match(lines[at])
            if not one or one.group(1, 2) != found.group(1, 2):
                break
            texts.append(one.group(4) or "")
            at += 1
        yield begin, at, found.group(1) + found.group(2), texts


def docstrings(text):
    """(first line, end) of each, from 0."""
    for node in ast.walk(ast.parse(text)):
        if isinstance(node, (ast.Module, ast.FunctionDef, ast.ClassDef)) and ast.get_docstring(node) is not None:
            value = node.body[0].value
            yield value.lineno - 1, value.end_lineno


def check_width(name, text):
    """The text with wide paragraphs filled again, and what is wide in it: (text, numbers of lines, all of them)."""
    lines = text.split("\n")
    suffix = Path(name).suffix
    if suffix == ".md":
        new, left = wrapped(lines, "", False)
        return "\n".join(new), left
    blocks = [(begin, end, mark + " ", texts) for begin, end, mark, texts in comments(lines, MARKS[suffix])]
    if suffix == ".py":
        blocks += [(begin, end, "", lines[begin:end]) for begin, end in docstrings(text)]
    left = []
    for begin, end, prefix, texts in sorted(blocks, reverse=True):
        new, wide = wrapped(texts, prefix, True)
        left += [begin + i for i in wide]
        if new != texts:
            lines[begin:end] = [(prefix + one).rstrip() for one in new]
    for number, line in enumerate(text.split("\n")):
        # Behind code: a mark that is in no string.
        behind = re.match(rf"^\s*[^\s/#].*? ({'|'.join(MARKS[suffix])}) ", line)
        if len(line) > WIDTH and behind and line[: behind.start(1)].count('"') % 2 == 0:
            left.append(number)
    return "\n".join(lines), sorted(left)


def check_words(name, text):
    for said, better in WORDS.items():
        for found in re.finditer(rf"\b({said})\b", text, flags=re.I):
            if (name, found.group(0)) not in ALLOWED:
                yield text.count("\n", 0, found.start()), f"'{found.group(0)}': the field says {better}"


def check_fillers(text):
    lines = text.split("\n")
    doc = lambda at: 0 <= at < len(lines) and lines[at].strip().startswith("///")
    for at, line in enumerate(lines):
        if re.match(r"\s*/// [^\s`\[]+\.$", line) and not doc(at - 1) and not doc(at + 1):
            yield at, f"`{line.strip()}` says nothing: a shape, a unit, a range, or make the item private"


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--fix", action="store_true", help="fill paragraphs with lines that are too wide again")
    parser.add_argument("files", nargs="*", help="these files, and not all of the project")
    args = parser.parse_args()
    kinds = ["*.md", *(f"*{suffix}" for suffix in MARKS)]
    listed = subprocess.run(["git", "ls-files", *kinds], cwd=ROOT, capture_output=True, text=True, check=True)
    names = [str(Path(file).resolve().relative_to(ROOT)) for file in args.files] or listed.stdout.splitlines()
    count = 0
    for name in names:
        if name in SKIPPED:
            continue
        text = (ROOT / name).read_text()
        found = []
        new, left = check_width(name, text)
        if args.fix and new != text:
            (ROOT / name).write_text(new)
            text = new
            new, left = check_width(name, text)
        found += [(at, f"wider than {WIDTH} columns") for at in left]
        if new != text:
            changed = next(i for i, (a, b) in enumerate(zip(text.split("\n"), new.split("\n"))) if a != b)
            found.append((changed, f"a paragraph is wider than {WIDTH} columns; --fix fills it again"))
        found += check_words(name, text)
        if name.endswith(".rs"):
            found += check_fillers(text)
        for at, what in sorted(found):
            print(f"{name}:{at + 1}: {what}")
        count += len(found)
    print(f"{len(names)} files, {count} findings")
    if not names:
        sys.exit("error: nothing was checked")
    sys.exit(1 if count else 0)


if __name__ == "__main__":
    main()
