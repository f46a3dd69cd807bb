#!/usr/bin/env python3
"""README, documents, course and pages as one static site: site.py OUT [--program P]

Every Markdown file of the project becomes a page beside what it links to; links between them stay links. With
`--program` the pages of an export are made into OUT/pages, so that the course's pages open beside its
lessons. What no page of the site is (sources) becomes a link to the repository. Fails on a link that leads
nowhere.
"""

import argparse
import html
import posixpath
import re
import shutil
import subprocess
import sys
from pathlib import Path

from markdown_it import MarkdownIt

ROOT = Path(__file__).resolve().parent.parent.parent
HERE = Path(__file__).resolve().parent
SOURCES = re.search(r'^repository = "([^"]+)"', (ROOT / "Cargo.toml").read_text(), flags=re.M).group(1)
# Pages of the site, and what makes them.
EXPORTS = {
    "tape": ["--tape"],
    "kernels": ["--kernels"],
    "toy": ["--toy"],
    "train": "--train anogan --data builtin:digits:train=512 --data builtin:retina:train=512 --size 32 --width 16 "
    "--batch 32 --failures --record 10".split(),
}
KEPT = {".svg", ".png", ".gif", ".jpg"}


def tracked():
    listed = subprocess.run(["git", "ls-files"], cwd=ROOT, capture_output=True, text=True, check=True)
    return set(listed.stdout.split("\n")) - {""}


def anchor(heading):
    """As scripts/docs_check.py and the hosting sites name headings."""
    plain = re.sub(r"\[([^]]*)\]\([^)]*\)", r"\1", heading).replace("`", "")
    return re.sub(r"[^\w\- ]", "", plain.lower()).strip().replace(" ", "-")


def target_of(name):
    """Where a Markdown file's page stands."""
    path = posixpath.join(posixpath.dirname(name), "index.html" if posixpath.basename(name) == "README.md" else posixpath.basename(name)[:-3] + ".html")
    return path.lstrip("/")


class Site:
    def __init__(self, out):
        self.out, self.files, self.problems, self.copied = out, tracked(), [], set()
        self.pages = sorted(name for name in self.files if name.endswith(".md") and not name.endswith(".template.md"))
        self.titles = {name: self.title(name) for name in self.pages}
        self.markdown = MarkdownIt("commonmark", {"html": True}).enable(["table", "strikethrough"])
        self.layout = (HERE / "layout.html").read_text()

    def title(self, name):
        found = re.search(r"^# +(.*)$", (ROOT / name).read_text(), flags=re.M)
        return found.group(1).replace("`", "") if found else name

    def link(self, name, to):
        """A link of a page as it stands in the site."""
        if re.match(r"[a-z]+:|#|//", to):
            return to
        path, _, at = to.partition("#")
        whole = posixpath.normpath(posixpath.join(posixpath.dirname(name), path))
        at = f"#{at}" if at else ""
        here = posixpath.dirname(target_of(name)) or "."
        if whole in self.titles:
            return posixpath.relpath(target_of(whole), here) + at
        if (ROOT / whole).is_dir() and f"{whole}/README.md" in self.titles:
            return posixpath.relpath(target_of(f"{whole}/README.md"), here) + at
        if whole in self.files and Path(whole).suffix in KEPT:
            self.copied.add(whole)
            return posixpath.relpath(whole, here)
        if whole in self.files or (ROOT / whole).is_dir():
            return f"{SOURCES}/blob/main/{whole}{at}"
        self.problems.append(f"{name}: {to} leads nowhere")
        return to

    def body(self, name):
        own = re.compile(r'(\b(?:href|src|srcset)=")([^"]+)(")')
        tokens = self.markdown.parse((ROOT / name).read_text())
        for i, token in enumerate(tokens):
            if token.type == "heading_open":
                token.attrSet("id", anchor(tokens[i + 1].content))
            for child in [token, *(token.children or [])]:
                for attribute in ("href", "src"):
                    if child.attrGet(attribute):
                        child.attrSet(attribute, self.link(name, child.attrGet(attribute)))
                if child.type in ("html_block", "html_inline"):
                    child.content = own.sub(lambda m: m[1] + self.link(name, m[2]) + m[3], child.content)
        made = self.markdown.renderer.render(tokens, self.markdown.options, {})
        made = made.replace("<pre>", '<pre tabindex="0">')
        return re.sub(r"<table>.*?</table>", lambda m: f'<div class="scroll" tabindex="0">{m.group(0)}</div>', made, flags=re.S)

    def navigation(self, name):
        """Links of the left column: the start, the course, documents, kernels, systems, and the pages."""
        here = posixpath.dirname(target_of(name)) or "."
        parts = []
        groups = {
            "Start": ["README.md", "docs/how-anogan-works.md", "docs/which-system.md", "docs/results.md"],
            "Course": ["docs/course/README.md", *(p for p in self.pages if p.startswith("docs/course/"))],
            "Documents": ["ARCHITECTURE.md", *(p for p in self.pages if re.match(r"docs/[^/]+\.md$", p))],
            "Kernels": [p for p in self.pages if p.startswith("docs/kernels/")],
            "Systems": [p for p in self.pages if p.startswith("docs/systems/")],
        }
        seen = set()
        for group, names in groups.items():
            items = []
            for one in names:
                if one in seen or one not in self.titles:
                    continue
                seen.add(one)
                current = ' aria-current="page"' if one == name else ""
                items.append(f'<li><a href="{posixpath.relpath(target_of(one), here)}"{current}>{html.escape(self.titles[one])}</a></li>')
            is_open = " open" if name in names or group in ("Start", "Course") else ""
            parts.append(f"<details{is_open}><summary>{group}</summary><ul>{''.join(items)}</ul></details>")
        pages = "".join(
            f'<li><a href="{posixpath.relpath(f"pages/{page}/index.html", here)}">{page}</a></li>' for page in EXPORTS if (self.out / "pages" / page).exists()
        )
        if pages:
            parts.insert(1, f"<details open><summary>Pages that run on your GPU</summary><ul>{pages}</ul></details>")
        return "\n".join(parts)

    def write(self):
        for name in self.pages:
            to = self.out / target_of(name)
            to.parent.mkdir(parents=True, exist_ok=True)
            here = posixpath.dirname(target_of(name)) or "."
            fields = {
                "title": html.escape(self.titles[name]),
                "style": posixpath.relpath("site.css", here),
                "navigation": self.navigation(name),
                "body": self.body(name),
            }
            to.write_text(re.sub(r"\{\{(\w+)\}\}", lambda m: fields[m.group(1)], self.layout))
        shutil.copy(HERE / "site.css", self.out / "site.css")
        for name in self.copied:
            (self.out / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(ROOT / name, self.out / name)


def check(out):
    """Every link of every page leads to a file of the site, and every anchor to a heading."""
    problems, count = [], 0
    for page in sorted(out.rglob("*.html")):
        if (out / "pages") in page.parents:
            continue
        for to in re.findall(r'\b(?:href|src)="([^"]+)"', page.read_text()):
            if re.match(r"[a-z]+:|//", to):
                continue
            path, _, at = html.unescape(to).partition("#")
            file = (page.parent / path).resolve() if path else page
            count += 1
            if not file.exists():
                problems.append(f"{page.relative_to(out)}: {to} leads nowhere")
            elif at and file.suffix == ".html" and f'id="{at}"' not in file.read_text():
                problems.append(f"{page.relative_to(out)}: {to} has no heading")
    return count, problems


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("out", type=Path)
    parser.add_argument("--program", help="the built ganomede, for the pages that run on a GPU")
    args = parser.parse_args()
    shutil.rmtree(args.out, ignore_errors=True)
    args.out.mkdir(parents=True)
    if args.program:
        (args.out / "pages").mkdir()
        for name, options in EXPORTS.items():
            command = [args.program, "export", "--web", str(args.out / "pages" / name), *options]
            subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
    site = Site(args.out)
    site.write()
    count, problems = check(args.out)
    problems = site.problems + problems
    print(f"{len(site.pages)} pages, {len(site.copied)} pictures, {count} links, in {args.out}")
    for problem in problems:
        print(f"FAIL {problem}", file=sys.stderr)
    sys.exit(1 if problems else 0)


if __name__ == "__main__":
    main()
