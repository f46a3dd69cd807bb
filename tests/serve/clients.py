"""`ganomede serve` as clients of other makers meet it.

    clients.py PROGRAM WORK [--brief] [--load SECONDS] [--pictures DIR]

trains a small model with PROGRAM in the folder WORK, serves it, and checks

* tritonclient, unchanged: health, metadata, inference of pixels and of files, with and without binary data,
  equal to `score --json` of the same images bit for bit;
* schemathesis against /openapi.json: thousands of requests, no answer that the document does not describe;
* Chromium on the page, at a desk's width and at a phone's, light and dark: no error, no overflow;
* a load of 32 clients beside the same model in a loop, kill -9 under it, memory, a graceful stop.

`--brief` takes a tenth of schemathesis' requests, and two of the page's four screens.
"""

import argparse
import http.client
import io
import json
import os
import pathlib
import signal
import statistics
import subprocess
import sys
import threading
import time

import numpy as np
import tritonclient.http as triton
from PIL import Image


def run(program, *words):
    done = subprocess.run([program, *map(str, words)], capture_output=True, text=True)
    if done.returncode:
        sys.exit(f"{' '.join(map(str, words))}: {done.stderr}")
    return done.stdout


class Served:
    """A server on a free port."""

    def __init__(self, program, *words):
        words = [program, "serve", *map(str, words), "--listen", "127.0.0.1:0", "--device", "cpu", "--json"]
        self.log = open(pathlib.Path(WORK) / "serve.log", "w")
        self.process = subprocess.Popen(words, stdout=subprocess.PIPE, stderr=self.log, text=True)
        text = ""
        while not text or text.count("{") != text.count("}"):
            line = self.process.stdout.readline()
            if not line:
                sys.exit(f"the server did not start: {open(self.log.name).read()}")
            text += line
        self.address = json.loads(text)["listening"]

    def memory(self):
        """Kibibytes in memory."""
        status = pathlib.Path(f"/proc/{self.process.pid}/status").read_text()
        return int(next(line for line in status.splitlines() if line.startswith("VmRSS")).split()[1])

    def stop(self):
        self.process.send_signal(signal.SIGTERM)
        code = self.process.wait(timeout=60)
        assert code == 0, f"a server that is told to stop ends with {code}"


def post(address, path, body, kind="application/octet-stream"):
    host, port = address.split(":")
    connection = http.client.HTTPConnection(host, int(port), timeout=120)
    connection.request("POST", path, body, {"Content-Type": kind})
    response = connection.getresponse()
    answer = json.loads(response.read())
    connection.close()
    return response.status, answer


def clients(served, images, expected):
    client = triton.InferenceServerClient(served.address)
    assert client.is_server_live() and client.is_server_ready() and client.is_model_ready("parts")
    metadata = client.get_model_metadata("parts")
    assert metadata["inputs"][0]["name"] == "image", metadata
    pixels = [np.asarray(Image.open(path).convert("L"))[..., None] for path in images]
    batch = np.stack(pixels)
    for binary in (True, False):
        given = triton.InferInput("image", batch.shape, "UINT8")
        given.set_data_from_numpy(batch, binary_data=binary)
        wanted = [triton.InferRequestedOutput(name, binary_data=binary) for name in ("score", "anomalous", "map")]
        found = client.infer("parts", [given], outputs=wanted)
        assert found.as_numpy("score").tolist() == expected, "other scores than `score` prints"
        assert found.as_numpy("map").shape == (len(images), 32, 32)
        assert found.as_numpy("anomalous").dtype == bool
    files = np.array([path.read_bytes() for path in images], dtype=np.object_)
    given = triton.InferInput("file", files.shape, "BYTES")
    given.set_data_from_numpy(files, binary_data=True)
    assert client.infer("parts", [given]).as_numpy("score").tolist() == expected
    sixteen = batch.astype(np.uint16) * 257
    given = triton.InferInput("image", sixteen.shape, "UINT16")
    given.set_data_from_numpy(sixteen)
    close = client.infer("parts", [given]).as_numpy("score")
    np.testing.assert_allclose(close, expected, rtol=1e-3)
    try:
        client.infer("none", [given])
        raise AssertionError("a model that is not there answered")
    except triton.InferenceServerException as error:
        assert "no model 'none'" in str(error), error
    client.close()
    print(f"tritonclient: {len(images)} images, binary, JSON and files: bits equal to `score --json`")


def schema(served, examples):
    host, port = served.address.split(":")
    connection = http.client.HTTPConnection(host, int(port), timeout=60)
    connection.request("GET", "/openapi.json")
    document = json.loads(connection.getresponse().read())
    connection.close()
    # Names that nobody serves would all get 404.
    document["components"]["parameters"]["model"]["schema"]["enum"] = ["parts"]
    path = pathlib.Path(WORK) / "openapi.json"
    path.write_text(json.dumps(document))
    command = [
        pathlib.Path(sys.executable).parent / "schemathesis", "run", path.resolve(), "--url", f"http://{served.address}",
        "--max-examples", str(examples), "--seed", "1", "--workers", "2", "--no-color",
        # An image of one pixel, or a tensor of other channels than the model's, is refused as documented.
        "--exclude-checks", "positive_data_acceptance",
    ]
    # It keeps what it saw in the folder that it runs in.
    done = subprocess.run(command, capture_output=True, text=True, cwd=WORK)
    (pathlib.Path(WORK) / "schemathesis.txt").write_text(done.stdout + done.stderr)
    if done.returncode:
        sys.exit(done.stdout[-6000:])
    found = [line.strip() for line in done.stdout.splitlines() if "generated" in line or "Tested:" in line]
    print("schemathesis:", "; ".join(found))


def page(served, images, pictures, screens):
    from playwright.sync_api import sync_playwright

    switches = [
        "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-background-networking",
        "--disable-component-update", "--disable-sync",
    ]
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path="/usr/bin/chromium", args=switches)
        for width, scheme in screens:
            context = browser.new_context(viewport={"width": width, "height": 900}, color_scheme=scheme)
            tab = context.new_page()
            problems = []
            tab.on("console", lambda message: message.type in ("error", "warning") and problems.append(message.text))
            tab.on("pageerror", lambda error: problems.append(str(error)))
            tab.goto(f"http://{served.address}/")
            tab.wait_for_selector("#work:not([hidden])")
            tab.set_input_files("#files", [str(path) for path in images])
            tab.locator("#results .stack").nth(len(images) - 1).wait_for()
            apart = tab.evaluate(
                "[...document.querySelectorAll('.stack')].map(s => [...s.children].map(e => e.getBoundingClientRect()))"
                ".filter(([a, b]) => Math.abs(a.top - b.top) + Math.abs(a.height - b.height) > 1).length"
            )
            assert apart == 0, f"{apart} maps do not lie over their image"
            before = tab.inner_text("#summary")
            tab.locator("#threshold").fill("1000")
            high = tab.inner_text("#summary")
            assert high.startswith("0 of"), high
            tab.locator("#threshold").fill("500")
            assert tab.inner_text("#summary") == before
            wide = tab.evaluate("document.documentElement.scrollWidth - document.documentElement.clientWidth")
            assert wide <= 0, f"{wide} pixels too wide at {width}"
            unnamed = tab.evaluate(
                "[...document.querySelectorAll('input, select, img')]"
                ".filter(e => !(e.labels?.length || e.alt || e.ariaLabel)).map(e => e.outerHTML)"
            )
            assert not unnamed, unnamed
            assert not problems, problems
            if pictures:
                tab.screenshot(path=f"{pictures}/serve-{width}-{scheme}.png", full_page=True)
            context.close()
        browser.close()
    seen = ", ".join(f"{width} {scheme}" for width, scheme in screens)
    print(f"Chromium: {len(images)} images, {seen}: no error, no overflow")


def load(program, what, model, images, seconds):
    """Images a second of 32 clients on this machine, beside the same model in a loop."""
    served = Served(program, f"parts={model}")
    bodies = [path.read_bytes() for path in images]
    loop = []
    many = pathlib.Path(WORK) / "many"
    many.mkdir(exist_ok=True)
    for i in range(1024):
        target = many / f"{i:04}.png"
        if not target.exists():
            target.write_bytes(bodies[i % len(bodies)])

    def in_a_loop():
        begun = time.monotonic()
        run(program, "score", model, many, "--device", "cpu", "--json")
        whole = time.monotonic() - begun
        begun = time.monotonic()
        run(program, "score", model, images[0], "--device", "cpu", "--json")
        loop.append(1023 / max(whole - (time.monotonic() - begun), 1e-3))

    rates, times = [], []
    stop_at = [0.0]

    def ask(i):
        host, port = served.address.split(":")
        connection = http.client.HTTPConnection(host, int(port), timeout=120)
        while time.monotonic() < stop_at[0]:
            begun = time.monotonic()
            connection.request("POST", "/score", bodies[i % len(bodies)], {"Content-Type": "image/png"})
            response = connection.getresponse()
            answer = json.loads(response.read())
            assert response.status == 200, answer
            times.append(time.monotonic() - begun)
            i += 1
        connection.close()

    at_first = None
    for _ in range(3):
        in_a_loop()
        count, begun = len(times), time.monotonic()
        stop_at[0] = begun + seconds / 3
        threads = [threading.Thread(target=ask, args=(i,)) for i in range(32)]
        [thread.start() for thread in threads]
        [thread.join() for thread in threads]
        rates.append((len(times) - count) / (time.monotonic() - begun))
        at_first = at_first or served.memory()
    times.sort()
    growth = served.memory() / at_first
    print(
        f"load, {what}: 32 clients {statistics.median(rates):.0f} images/s, a loop {statistics.median(loop):.0f}: "
        f"{statistics.median(rates) / statistics.median(loop):.2f}; p50 {1e3 * times[len(times) // 2]:.0f} ms, "
        f"p99 {1e3 * times[len(times) * 99 // 100]:.0f} ms; {len(times)} requests, memory {growth:.2f} of that "
        f"after the first third ({served.memory() // 1024} MB)"
    )
    served.stop()


def killed(program, model, images):
    """A server that is killed under load: clients see the end, and the next server starts at once."""
    served = Served(program, f"parts={model}")
    failures = []

    def ask():
        try:
            while True:
                post(served.address, "/score", images[0].read_bytes())
        except (OSError, http.client.HTTPException) as error:
            failures.append(error)

    threads = [threading.Thread(target=ask) for _ in range(8)]
    [thread.start() for thread in threads]
    time.sleep(1)
    served.process.kill()
    [thread.join(timeout=30) for thread in threads]
    assert len(failures) == 8 and not any(thread.is_alive() for thread in threads), "a client hangs"
    again = Served(program, f"parts={model}")
    status, _ = post(again.address, "/score", images[0].read_bytes())
    assert status == 200
    again.stop()
    print("kill -9 under load: 8 clients ended, the next server answered, SIGTERM ends with 0")


def main():
    global WORK
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("program")
    parser.add_argument("work")
    parser.add_argument("--brief", action="store_true", help="in half a minute what matters most")
    parser.add_argument("--load", type=float, metavar="SECONDS", help="also measure a load of this length")
    parser.add_argument("--pictures", metavar="DIR", help="keep pictures of the page there")
    args = parser.parse_args()
    WORK, program = args.work, os.path.abspath(args.program)
    work = pathlib.Path(WORK)
    work.mkdir(parents=True, exist_ok=True)
    if args.pictures:
        os.makedirs(args.pictures, exist_ok=True)
    data = work / "parts"
    if not data.exists():
        run(program, "data", "synth", "casting", "--out", data, "--train", 60, "--test", 8, "--size", 64)
    model = work / "parts.safetensors"
    run(
        program, "train", "ae", "--data", data, "--size", 32, "--width", 16, "--latent", 16, "--steps", 40,
        "--batch", 16, "--device", "cpu", "--out", model,
    )
    images = sorted(path for path in (data / "test").rglob("*.png"))
    rows = json.loads(run(program, "score", model, *images, "--device", "cpu", "--json"))["images"]
    served = Served(program, f"parts={model}")
    clients(served, images, [row["score"] for row in rows])
    schema(served, 10 if args.brief else 100)
    screens = [(1400, "light"), (390, "dark"), (1400, "dark"), (390, "light")]
    page(served, images, args.pictures, screens[: 2 if args.brief else 4])
    served.stop()
    if args.load:
        load(program, "ae 32×32, width 16", model, images, args.load)
        wide = work / "wide.safetensors"
        run(
            program, "train", "ae", "--data", data, "--size", 64, "--width", 64, "--steps", 5, "--batch", 16,
            "--device", "cpu", "--out", wide,
        )
        load(program, "ae 64×64, width 64", wide, images, args.load)
    killed(program, model, images)


if __name__ == "__main__":
    main()
