#!/usr/bin/env python3
"""Puts each system's rows of docs/results.md into its page in docs/systems, between `<!-- measured -->` and
`<!-- /measured -->`, so that a figure is written in one place. Run it after the tables have changed; --check
only compares."""

import argparse
import re
import sys
from pathlib import Path

DOCS = Path(__file__).resolve().parents[1] / "docs"
PLACE = re.compile(r"(<!-- measured -->\n)(.*?)(<!-- /measured -->)", re.DOTALL)
# The columns worth repeating, as they stand in the tables' heads, and what a page calls them.
COLUMNS = {
    "score": "score", "AUROC": "AUROC", "pixel AUROC": "pixel AUROC", "AUPRO": "AUPRO",
    "F1 at the share of anomalies (oracle)": "F1 at the share of anomalies", "plain F1": "plain F1", "PA-F1": "PA-F1", "PA%20-F1": "PA%20-F1", "published": "published",
}


def cells(line):
    return [cell.strip() for cell in line.strip().strip("|").split("|")]


def rows(text):
    """(heading, column → value) of every row of every table."""
    heading, head = "", None
    for line in text.splitlines():
        if line.startswith("## "):
            heading = line[3:].replace("`", "").replace("Every system on the", "The")
        if not line.startswith("|"):
            head = None
        elif head is None:
            head = cells(line)
        elif not set(line) <= set("|-: "):
            yield heading, dict(zip(head, cells(line)))


def sentence(heading, row):
    where = row.get("set") or heading
    found = [f"{name} {row[column]}" for column, name in COLUMNS.items() if row.get(column) not in (None, "", "–")]
    if "95 % interval" in row:
        found[found.index(f"AUROC {row['AUROC']}")] += f" ({row['95 % interval']})"
    return f"* {where[0].upper()}{where[1:]}: {', '.join(found)}."


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--check", action="store_true", help="change nothing; fail where a page is behind the tables")
    args = parser.parse_args()
    measured, behind = {}, []
    for heading, row in rows((DOCS / "results.md").read_text()):
        system = (row.get("system") or row.get("scores") or "").strip("`")
        measured.setdefault(system, []).append(sentence(heading, row))
    for page in sorted((DOCS / "systems").glob("*.md")):
        text = page.read_text()
        if not PLACE.search(text):
            sys.exit(f"error: {page} has no `<!-- measured -->` … `<!-- /measured -->` to write into")
        lines = measured.get(page.stem, [])
        new = PLACE.sub(lambda found: found.group(1) + "".join(f"{line}\n" for line in lines) + found.group(3), text)
        if new != text:
            behind.append(page.name)
            if not args.check:
                page.write_text(new)
    if args.check and behind:
        sys.exit(f"error: behind docs/results.md: {', '.join(behind)}; run scripts/measured.py")


if __name__ == "__main__":
    main()
