"""Documents whose tables are measured: each stands between `<!-- name -->` and `<!-- end -->`, and is replaced where it
was measured anew; the text around them is a template's."""

import re
import sys


def pattern(name):
    return re.compile(rf"(<!-- {name} -->\n)(.*?)(<!-- end -->)", re.DOTALL)


def write(path, template, sections, only):
    """Writes `path` from `template`. `sections` maps names to functions that measure and return lines; those not in
    `only`, where it names any, keep what the file has."""
    text = template.read_text()
    before = path.read_text() if path.exists() else ""
    for name, measure in sections.items():
        if not only or name in only:
            print(name, file=sys.stderr)
            body = "\n" + "\n".join(measure()) + "\n\n"
        else:
            kept = pattern(name).search(before)
            body = kept.group(2) if kept else ""
        text = pattern(name).sub(lambda found: found.group(1) + body + found.group(3), text)
    beside = path.with_name(path.name + ".part")
    beside.write_text(text)
    beside.replace(path)
