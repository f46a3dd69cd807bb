#!/usr/bin/env python3
"""Opens the exported pages in Chromium on SwiftShader and uses them: drops images, moves the threshold,
watches a search; on a desk and a phone, light and dark. Fails on an error in the console, on what overflows,
on anything that does not fit what Node found. `--pictures DIR` keeps what was seen.

usage: pages.py SCORE_EXPORT SEARCH_EXPORT TRAIN_EXPORT IMAGE... [--pictures DIR]
"""

import argparse
import functools
import http.server
import os
import shutil
import threading
import time
from pathlib import Path

from playwright.sync_api import sync_playwright

FLAGS = [
    "--no-sandbox",
    "--enable-unsafe-webgpu",
    "--use-webgpu-adapter=swiftshader",
    "--enable-features=Vulkan",
    "--disable-background-networking",
    "--disable-component-update",
    "--no-first-run",
]
SCREENS = {1400: 900, 390: 844}


class Quiet(http.server.SimpleHTTPRequestHandler):
    def log_message(self, *_):
        pass


def serve(folder):
    handler = functools.partial(Quiet, directory=str(folder))
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    return f"http://127.0.0.1:{server.server_port}/"


def seen(page, problems):
    page.on("console", lambda m: problems.append(m.text) if m.type in ("error",) else None)
    page.on("pageerror", lambda e: problems.append(str(e)))


def no_overflow(page, what):
    wide = page.evaluate("document.documentElement.scrollWidth - document.documentElement.clientWidth")
    assert wide <= 0, f"{what}: {wide} pixels too wide"


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("score")
    parser.add_argument("search")
    parser.add_argument("train")
    parser.add_argument("images", nargs="+")
    parser.add_argument("--pictures", type=Path)
    args = parser.parse_args()
    if args.pictures:
        args.pictures.mkdir(parents=True, exist_ok=True)
    chromium = os.environ.get("CHROMIUM") or shutil.which("chromium")
    places = {name: serve(getattr(args, name)) for name in ("score", "search", "train")}
    with sync_playwright() as play:
        browser = play.chromium.launch(executable_path=chromium, args=FLAGS)
        for width, height in SCREENS.items():
            for scheme in ("light", "dark"):
                context = browser.new_context(viewport={"width": width, "height": height}, color_scheme=scheme)
                problems = []
                page = context.new_page()
                seen(page, problems)

                def keep(name):
                    no_overflow(page, f"{name} at {width}")
                    if args.pictures:
                        page.screenshot(path=args.pictures / f"{name}-{width}-{scheme}.png", full_page=True)

                began = time.monotonic()
                page.goto(places["score"])
                page.wait_for_selector("#work:not([hidden])", timeout=120_000)
                ready = time.monotonic() - began
                page.set_input_files("#files", args.images)
                page.locator(".stack").nth(len(args.images) - 1).wait_for(timeout=120_000)
                page.locator("#summary", has_text=f"{len(args.images)} images").wait_for()
                first = page.inner_text("#summary")
                assert f"{len(args.images)} images" in first, first
                # The whole slider by keyboard: at its left end nothing new is flagged, at its right end more.
                page.focus("#rate")
                page.keyboard.press("Home")
                few = page.locator(".card.anomalous").count()
                page.keyboard.press("End")
                many = page.locator(".card.anomalous").count()
                assert few <= many, (few, many)
                assert "at most 50 %" in page.inner_text("#threshold"), page.inner_text("#threshold")
                page.uncheck("#maps")
                assert page.locator(".stack .over:visible").count() == 0
                page.check("#maps")
                keep("score")
                print(f"score, {width} {scheme}: ready after {ready:.1f} s; {first}")

                page.goto(places["search"] + "search.html")
                page.wait_for_selector("#work:not([hidden])", timeout=120_000)
                page.fill("#steps", "50")
                page.set_input_files("#files", args.images[0])
                page.locator("#status", has_text="Done.").wait_for(timeout=300_000)
                assert "Score" in page.inner_text("#summary"), page.inner_text("#summary")
                keep("search")
                print(f"search, {width} {scheme}: {page.inner_text('#summary')}")

                # Two steps take long here: one screen of each kind.
                if (width, scheme) in [(1400, "light"), (390, "dark")]:
                    page.goto(places["train"])
                    page.wait_for_selector("#work:not([hidden])", timeout=120_000)
                    page.fill("#every", "1")
                    page.click("#go")
                    page.locator("#status", has_text="Step 2").wait_for(timeout=200_000)
                    page.click("#go")
                    page.locator("#go", has_text="Train on").wait_for(timeout=60_000)
                    assert page.locator("#curves .plot").count() >= 2
                    keep("train")
                    print(f"train, {width} {scheme}: {page.inner_text('#summary')}")
                assert not problems, problems
                context.close()
        browser.close()

        # Without WebGPU a page says so, and what to do.
        browser = play.chromium.launch(executable_path=chromium, args=["--no-sandbox", "--disable-features=WebGPU", "--disable-gpu"])
        page = browser.new_page(viewport={"width": 390, "height": 844})
        page.add_init_script("Object.defineProperty(Navigator.prototype, 'gpu', { value: undefined })")
        page.goto(places["score"])
        page.wait_for_selector(".problem")
        said = page.inner_text("#status")
        assert "WebGPU" in said and "Chrome" in said, said
        no_overflow(page, "without WebGPU")
        if args.pictures:
            page.screenshot(path=args.pictures / "without-webgpu.png")
        print(f"without WebGPU: {said}")
        browser.close()


if __name__ == "__main__":
    main()
