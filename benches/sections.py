"""Documents whose tables are measured: each stands between `<!-- name -->` and `<!-- end -->`, and is
replaced where it was measured anew; the text around them is a template's."""

import re
import sys


def pattern(name):
    return re.compile(rf"(<!-- {name} -->\n)(.*?)(<!-- end -->)", re.DOTALL)


def filled(template, before, bodies):
    """The template with `bodies`, text by name; the other sections keep what the document has in `before`."""
    for name in re.findall(r"<!-- (?!end )(\S+) -->", template):
        kept = pattern(name).search(before)
        body = f"\n{bodies[name].strip()}\n\n" if name in bodies else kept.group(2) if kept else ""
        template = pattern(name).sub(lambda found: found.group(1) + body + found.group(3), template)
    return template


def put(path, template, bodies):
    """Writes `path` anew with `bodies` in their sections."""
    before = path.read_text() if path.exists() else ""
    beside = path.with_name(path.name + ".part")
    beside.write_text(filled(template.read_text(), before, bodies))
    beside.replace(path)


def write(path, template, sections, only):
    """Writes `path` after each section. `sections` maps names to functions that measure and return lines; those not in
    `only`, where it names any, keep what the file has."""
    for name, measure in sections.items():
        if not only or name in only:
            print(name, file=sys.stderr)
            put(path, template, {name: "\n".join(measure())})
