#!/usr/bin/env python3
"""How the pages look: opens report.html of built-in data in Chromium, on a wide screen and a phone, light and
dark, and printed, and fails on what overflows, is cut, blank, out of place or too faint, on errors and on
anything fetched.

`--made DIR` looks at pages that are there instead: every report.html below the folder. `--pictures DIR` keeps
what was seen as PNG and PDF. Chromium is the system's (`chromium`, or what CHROMIUM names).
"""

import argparse
import os
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

import pymupdf
from playwright.sync_api import sync_playwright

HERE = Path(__file__).resolve().parent
ROOT = HERE.parent.parent
LOOK = (HERE / "page.js").read_text()
WIDTHS = {1400: 900, 390: 844}
SCHEMES = ["light", "dark"]
LIMITS = {
    "contrast": 4.5,  # of text, as WCAG AA asks
    "leastPictures": 0.6,  # of a card's width that its longest row of pictures takes
    "unevenness": 1,  # of the rows of one card
}
# Screens of a phone that the page of an evaluation may take: it has five classes of six images each.
LONGEST_ON_PHONE = 12
SMALL = "--size 16 --width 4 --search-steps 3".split()
# Folder, and the commands that make a page in it; {at} is the folder.
PAGES = {
    "report": ["demo --steps 60 --test-images 48 --report {at} --size 32 --width 8 --search-steps 10"],
    "no-masks": [
        "data synth retina --out {at}/parts-without-masks_line-3/hyperreflective_and_other_findings --train 60 --test 12 --size 32",
        "bash -c 'rm -r {at}/parts-without-masks_line-3/*/ground_truth'",
        "train pca --data {at}/parts-without-masks_line-3/hyperreflective_and_other_findings --size 32 --out {at}/model.safetensors",
        "eval {at}/model.safetensors --data {at}/parts-without-masks_line-3/hyperreflective_and_other_findings --report {at}",
    ],
    "chance": ["compare --systems pca,ae,anogan --data builtin:retina:train=80,test=12 --steps 2 --report {at} SMALL"],
    "many": [
        "compare --systems pca,ae,vae,acae,memae,ganomaly,skip-ganomaly,egbad,deep-svdd --data "
        "builtin:retina:train=80,test=12 --steps 5 --report {at} SMALL"
    ],
    "series": [
        "train ae --signal --data builtin:telemetry:train=800,test=600 --out {at}/model.safetensors --steps 30 SMALL",
        "eval {at}/model.safetensors --data builtin:telemetry:train=800,test=600 --report {at}",
    ],
}


def make(folder, program):
    for page, commands in PAGES.items():
        at = folder / page
        at.mkdir()
        for command in commands:
            command = command.replace("{at}", str(at)).replace("SMALL", " ".join(SMALL))
            words = ["bash", "-c", command[9:-1]] if command.startswith("bash") else [program, *command.split()]
            ended = subprocess.run(words, capture_output=True, text=True, stdin=subprocess.DEVNULL)
            if ended.returncode != 0:
                sys.exit(f"error: {command} ended with {ended.returncode}: {ended.stderr[-2000:]}")


def printed(page, path):
    """Faults of the page on paper: a heading at the end of a sheet, or text that is cut at its side."""
    page.emulate_media(media="print")
    headings = page.eval_on_selector_all("h2,h3", "all => all.map(h => h.innerText.trim()).filter(Boolean)")
    page.pdf(path=path, format="A4", margin={side: "12mm" for side in ["top", "bottom", "left", "right"]})
    page.emulate_media(media="screen")
    faults = []
    with pymupdf.open(path) as document:
        for number, sheet in enumerate(document, 1):
            blocks = sheet.get_text("dict")["blocks"]
            lines = [
                (line["bbox"], "".join(span["text"] for span in line["spans"]).strip(), all("Bold" in s["font"] for s in line["spans"]))
                for block in blocks if block["type"] == 0 for line in block["lines"]
            ]
            bottoms = [line[0][3] for line in lines]
            bottoms += [block["bbox"][3] for block in blocks if block["type"] == 1]
            for box, text, is_bold in lines:
                if text in headings and is_bold and max(bottoms) - box[3] < 4:
                    faults.append(f"the heading \"{text}\" ends sheet {number} of paper")
                if box[2] > sheet.rect.width + 1:
                    faults.append(f"cut at the side of sheet {number} of paper: \"{text[:50]}\"")
    return faults


def look(browser, file, pictures):
    faults = []
    name = file.parent.name
    for width, height in WIDTHS.items():
        for scheme in SCHEMES:
            context = browser.new_context(viewport={"width": width, "height": height}, color_scheme=scheme)
            page = context.new_page()
            said = []
            page.on("console", lambda m: said.append(f"console: {m.text}") if m.type in ("error", "warning") else None)
            page.on("pageerror", lambda e: said.append(f"script: {e}"))
            page.on("request", lambda r: said.append(f"fetched: {r.url[:80]}")
                    if not r.url.startswith("data:") and r.url != file.as_uri() else None)
            page.goto(file.as_uri())
            page.eval_on_selector_all("img", "all => Promise.all(all.map(i => { i.loading = 'eager'; return i.decode(); }))")
            found = page.evaluate(LOOK, LIMITS)
            tall = page.evaluate("document.documentElement.scrollHeight")
            if width < 600 and tall > LONGEST_ON_PHONE * height:
                found.append(f"{tall} pixels long, {tall / height:.1f} screens of a phone")
            if pictures:
                page.screenshot(path=pictures / f"{name}-{width}-{scheme}.png", full_page=True)
            first = page.query_selector(".tiles img,.system img")
            if first:
                first.click()
                if not page.query_selector("dialog[open] img"):
                    found.append("a click on a picture does not enlarge it")
                else:
                    inside = page.evaluate(LOOK, LIMITS)
                    found += [f"enlarged: {fault}" for fault in inside if fault not in found]
                    if pictures:
                        page.screenshot(path=pictures / f"{name}-{width}-{scheme}-enlarged.png")
                    page.keyboard.press("Escape")
                    if page.query_selector("dialog[open]"):
                        found.append("what was enlarged does not close")
            if width > 600 and scheme == "light":
                path = (pictures or file.parent) / f"{name}.pdf"
                found += printed(page, path)
                if not pictures:
                    path.unlink()
            faults += [f"{name}, {width} pixels, {scheme}: {fault}" for fault in found + said]
            context.close()
    return faults


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--program", default=str(ROOT / "target/release/ganomede"), help="the built program")
    parser.add_argument("--made", type=Path, help="look at the pages below this folder")
    parser.add_argument("--keep", type=Path, help="make the pages in this new folder, and keep them")
    parser.add_argument("--pictures", type=Path, help="keep pictures of the pages here")
    options = parser.parse_args()
    chromium = os.environ.get("CHROMIUM") or shutil.which("chromium") or shutil.which("chromium-browser")
    if not chromium:
        sys.exit("error: there is no Chromium; install the system's package, or let CHROMIUM name the program")
    if options.pictures:
        options.pictures.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix="pages-") as folder:
        at = options.made or options.keep or Path(folder)
        if options.keep:
            options.keep.mkdir(parents=True)
        if not options.made:
            make(at, str(Path(options.program).resolve()))
        files = sorted(at.resolve().glob("**/report.html"))
        if not files:
            sys.exit(f"error: no report.html below {at}")
        with sync_playwright() as playwright:
            browser = playwright.chromium.launch(executable_path=chromium, args=["--no-sandbox"])
            faults = [fault for file in files for fault in look(browser, file, options.pictures)]
            browser.close()
    for fault in faults:
        print(fault)
    print(f"{len(files)} pages, {len(WIDTHS) * len(SCHEMES)} screens each and paper: {len(faults)} faults")
    sys.exit(1 if faults else 0)


main()
