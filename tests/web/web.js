// What `ganomede export --web` writes, replayed by web/ganomede.js in Node on Dawn: Chrome's WebGPU, another
// compiler and, with SwiftShader, another driver than the command line's. Usage:
//
//     node web.js PROGRAM FOLDER MODULES [SYSTEM,…]   the built `ganomede`, a place to work in, node_modules
//
// 1. The scores of every system that scores in one pass equal the command line's on the same PNGs: the first
//    such score of each system, all of them where ALL_SCORES is set.
// 2. So does a latent search of 50 steps.
// 3. A document that is not what it says is refused before anything is allocated.
import assert from "node:assert/strict";
import { execFileSync } from "node:child_process";
import { createHash } from "node:crypto";
import { mkdirSync, readdirSync, readFileSync, rmSync, existsSync } from "node:fs";
import path from "node:path";
import { pathToFileURL } from "node:url";

import { Refusal, check, load, preprocess } from "../../web/ganomede.js";
import { pixels } from "./png.js";

const [program, folder, modules, some] = process.argv.slice(2);
/** Systems that are looked at; all of them, unless some are named. */
const only = some?.split(",");
const { create, globals } = await import(pathToFileURL(path.resolve(modules, "webgpu/index.js")).href);
Object.assign(globalThis, globals);
const gpu = create([]);
const adapter = await gpu.requestAdapter();
assert.ok(adapter, "no adapter: VK_DRIVER_FILES names a driver's file");
console.log(`adapter: ${adapter.info.vendor} ${adapter.info.architecture} ${adapter.info.description}`);
const device = await adapter.requestDevice();
/** Largest difference of two scores, in relation to the score. */
const CLOSE = 1e-4;

const run = (...args) => {
  const env = { ...process.env, GANOMEDE_DEVICE: "cpu" };
  return execFileSync(program, args, {
    env,
    encoding: "utf8",
    maxBuffer: 1 << 28,
    stdio: ["ignore", "pipe", "pipe"],
  });
};
const json = (...args) => JSON.parse(run(...args, "--json"));
const from = (dir) => async (name) => new Uint8Array(readFileSync(path.join(dir, name))).buffer;
const open = (dir) => load(from(dir), { device });
const base = (file) => path.basename(file);

/** Scores of the same files by both. */
async function compared(model, answers, found) {
  let worst = 0;
  for (const answer of answers) {
    const other = await found(answer.path);
    const apart = Math.abs(other.score - answer.score) / Math.max(Math.abs(answer.score), 1e-6);
    assert.ok(apart <= CLOSE, `${model} ${base(answer.path)}: ${other.score} here, ${answer.score} there`);
    if (answer.percentile !== undefined && answer.percentile !== null) {
      assert.ok(
        Math.abs(other.percentile - answer.percentile) < 100 / 8,
        `${model}: percentile ${other.percentile}, ${answer.percentile}`,
      );
    }
    worst = Math.max(worst, apart);
  }
  return worst;
}

mkdirSync(folder, { recursive: true });
const parts = path.join(folder, "parts");
if (!existsSync(parts))
  run("data", "synth", "retina", "--out", parts, "--train", "48", "--test", "6", "--size", "50");
const pictures = readdirSync(path.join(parts, "test"), { recursive: true })
  .map((name) => path.join(parts, "test", name))
  .filter((name) => name.endsWith(".png"))
  .slice(0, 5);
assert.ok(pictures.length === 5, "five test images");
const photos = path.join(parts, "test");

// 1. Scores of one pass, of every system.
const tiny = [
  "--size",
  "32",
  "--width",
  "4",
  "--latent",
  "8",
  "--batch",
  "8",
  "--steps",
  "6",
  "--search-steps",
  "5",
  "--val-fraction",
  "0.2",
];
const systems = json("systems");
const list = systems.systems ?? systems;
let [scored, largest] = [0, 0];
for (const { name, scores } of list.filter((system) => !only || only.includes(system.name))) {
  const file = path.join(folder, `${name}.safetensors`);
  try {
    if (!existsSync(file)) run("train", name, "--data", parts, "--out", file, ...tiny);
  } catch (error) {
    // A system of series or tables only.
    if (/form is/.test(error.stderr)) continue;
    throw error;
  }
  for (const score of scores.map((s) => s.name ?? s)) {
    const dir = path.join(folder, `${name}-${score}`);
    rmSync(dir, { recursive: true, force: true });
    run("export", "--web", dir, file, "--score", score);
    const document = JSON.parse(readFileSync(path.join(dir, "program.json"), "utf8"));
    if (document.score.search) continue;
    const began = performance.now();
    const model = await open(dir);
    const loaded = performance.now() - began;
    const { images } = json("score", file, photos, "--score", score);
    const worst = await compared(`${name} ${score}`, images.slice(0, 5), (file) =>
      model.score(pixels(readFileSync(file))),
    );
    model.destroy();
    console.log(
      `${name} ${score}: ${images.slice(0, 5).length} scores within ${worst.toExponential(1)}, loaded in ${loaded.toFixed(0)} ms`,
    );
    scored++;
    largest = Math.max(largest, worst);
    if (!process.env.ALL_SCORES) break;
  }
}
console.log(`one pass: ${scored} scores of systems, largest relative difference ${largest.toExponential(1)}`);

// 2. Searches of 50 steps, from the prior and from E(x).
for (const [name, ...more] of [
  ["anogan", "--search-steps", "50"],
  ["f-anogan", "--refine", "50"],
]) {
  if (only && !only.includes(name)) continue;
  const [file, dir] = [path.join(folder, `${name}.safetensors`), path.join(folder, `${name}-search`)];
  run("export", "--web", dir, file, ...more);
  const model = await open(dir);
  const { images } = json("score", file, photos, ...more);
  const steps = [];
  const worst = await compared(`${name} search`, images.slice(0, 3), async (file) => {
    const found = await model.search(pixels(readFileSync(file)), {
      every: 25,
      onStep: (step) => void steps.push(step.step),
    });
    assert.equal(found.map.length, 32 * 32);
    assert.equal(found.reconstruction.length, 32 * 32);
    return found;
  });
  assert.deepEqual(steps.slice(0, 2), [25, 50]);
  // λ moves the search, and whoever watches ends it.
  const query = pixels(readFileSync(images[0].path));
  const stopped = await model.search(query, { every: 5, onStep: ({ step }) => step < 10 });
  assert.equal(stopped.step, 10);
  if (name === "anogan") {
    const [none, all] = [
      await model.search(query, { lambda: 0, steps: 5 }),
      await model.search(query, { lambda: 1, steps: 5 }),
    ];
    assert.ok(Math.abs(none.loss - none.parts.residual) < 1e-4 * none.loss, "λ = 0 leaves the residual");
    assert.ok(Math.abs(all.loss - all.parts.discrimination) < 1e-4 * all.loss, "λ = 1 the discrimination");
    assert.equal((await model.read("z")).length, 8);
    assert.equal((await model.read("search.z")).length, 8);
  }
  model.destroy();
  console.log(`${name}: 3 searches of 50 steps within ${worst.toExponential(1)}`);
}

// Trainings: 20 steps of anogan, and two of each part of f-anogan's critic and generator, from the same start on
// the same batches. Differences grow with the steps: losses are compared within a thousandth.
for (const [name, steps] of [
  ["anogan", 20],
  ["f-anogan", 10],
]) {
  if (only && !only.includes(name)) continue;
  const [dir, file, log] = [`${name}-train`, `${name}-trained.safetensors`, `${name}-log`].map((n) =>
    path.join(folder, n),
  );
  const data = [
    "--data",
    "builtin:retina:train=200,test=4",
    "--size",
    "32",
    "--width",
    "4",
    "--latent",
    "8",
    "--batch",
    "8",
  ];
  const limits = ["--steps", String(steps), "--search-steps", "2", "--checkpoint-every", "0"];
  run("train", name, ...data, ...limits, "--out", file, "--log", log);
  run("export", "--web", dir, "--train", name, ...data);
  const lines = readFileSync(path.join(log, "steps.jsonl"), "utf8")
    .trim()
    .split("\n")
    .map((line) => JSON.parse(line));
  const model = await open(dir);
  const first = lines.filter(({ stage }) => stage === lines[0].stage);
  assert.ok(first.length >= 5, `${first.length} logged steps`);
  let worst = 0;
  const began = performance.now();
  await model.train({
    steps: first.length,
    onStep: ({ step, losses }) => {
      for (const [loss, value] of Object.entries(first[step - 1].losses)) {
        const apart = Math.abs(losses[loss] - value) / Math.max(Math.abs(value), 0.1);
        assert.ok(apart < 1e-3, `${name} step ${step}: ${loss} is ${losses[loss]} here, ${value} there`);
        worst = Math.max(worst, apart);
      }
    },
  });
  const rate = (1000 * first.length) / (performance.now() - began);
  const images = await model.sample();
  assert.ok(images.length === 16 * 32 * 32 && images.every((v) => v >= -1 && v <= 1));
  await assert.rejects(model.score(new Float32Array(32 * 32)), TypeError);
  model.destroy();
  console.log(
    `${name}: ${first.length} steps of training within ${worst.toExponential(1)}, ${rate.toFixed(1)} steps a second`,
  );
}

// The same pixels as the command line sees, whatever the size: compared through a score that is the pixels' own.
{
  const gray = { width: 3, height: 2, channels: 1, data: [0, 51, 102, 153, 204, 255] };
  const same = preprocess({ height: 2, width: 3, channels: 1, fit: "stretch", standardise: false }, gray);
  assert.deepEqual(
    Array.from(same.values),
    Array.from(Float32Array.from(gray.data, (u) => Math.fround(Math.fround((2 * u) / 255) - 1))),
  );
  const padded = preprocess(
    { height: 4, width: 4, channels: 3, fit: "pad", standardise: false },
    { width: 4, height: 2, channels: 1, data: Array(8).fill(255) },
  );
  assert.deepEqual(Array.from(padded.values.slice(0, 16)), [0, 0, 0, 0, 1, 1, 1, 1, 1, 1, 1, 1, 0, 0, 0, 0]);
  assert.deepEqual(padded.frame, { x: 0, y: -1, width: 4, height: 4 });
  assert.throws(
    () =>
      preprocess({ height: 4, width: 4, channels: 3, fit: "pad", standardise: false }, { ...gray, width: 4 }),
    TypeError,
  );
}

// 3. Hostile documents.
{
  const name = only?.[0] ?? "anogan";
  const dir = path.join(folder, `${name}-search`);
  const source = existsSync(dir)
    ? dir
    : readdirSync(folder)
        .map((n) => path.join(folder, n))
        .find((n) => existsSync(path.join(n, "program.json")));
  const honest = readFileSync(path.join(source, "program.json"), "utf8");
  check(JSON.parse(honest));
  const main = (d) => Object.values(d.programs)[0];
  const wrongs = {
    "another format": (d) => (d.format = "other"),
    "another version": (d) => (d.version = 2),
    "no programs": (d) => delete d.programs,
    "a length beyond all": (d) => (main(d).buffers[0].len = 1e12),
    "a length of none": (d) => (main(d).buffers[0].len = 0),
    "a length of text": (d) => (main(d).buffers[0].len = "9"),
    "half a length": (d) => (main(d).buffers[0].len = 1.5),
    "a binding beyond its buffer": (d) =>
      (main(d).launches[0].bind[0][1] = main(d).buffers[main(d).launches[0].bind[0][0]].len + 1),
    "a binding of no buffer": (d) => (main(d).launches[0].bind[0][0] = 1e6),
    "a negative buffer": (d) => (main(d).launches[0].bind[0][0] = -1),
    "a binding too few": (d) => main(d).launches[0].bind.pop(),
    "a pipeline that is not there": (d) => (main(d).launches[0].pipeline = d.pipelines.length),
    "a buffer that is read and written": (d) =>
      main(d).launches.forEach((l) => l.bind.forEach((part) => (part[0] = l.bind[0][0]))),
    "words too few": (d) => d.pipelines.forEach((p) => (p.params += 4)),
    "words that are none": (d) =>
      main(d)
        .launches.find((l) => l.params.length > 0)
        .params.fill(-1),
    "parameters that fill no vec4": (d) => (d.pipelines[0].params = 3),
    "no workgroups": (d) => (main(d).launches[0].groups = [0, 1, 1]),
    "too many workgroups": (d) => (main(d).launches[0].groups = [65536, 1, 1]),
    "a million launches": (d) => (main(d).launches = Array(1e6).fill(main(d).launches[0])),
    "launches that add up": (d) => {
      for (let i = 0; i < 9; i++)
        d.programs[`p${i}`] = {
          buffers: main(d).buffers,
          unread: {},
          launches: Array(60000).fill(main(d).launches[0]),
        };
    },
    "buffers that add up": (d) =>
      main(d).buffers.push(...Array(40).fill({ len: 32 << 20, role: "temporary" })),
    "a state that is not there": (d) =>
      Object.values(d.programs).forEach((p) =>
        p.buffers.filter((b) => b.role === "state").forEach((b) => (b.state = 1e6)),
      ),
    "a state of another length": (d) => d.states.forEach((s) => (s.len += 1)),
    "a name twice": (d) => (d.states[1].name = d.states[0].name),
    "a file elsewhere": (d) => (d.files["../secret"] = d.files[d.weights]),
    "a file that is not listed": (d) => (d.pipelines[0].module = "__proto__"),
    "weights that are not listed": (d) => (d.weights = "constructor"),
    "a hash that is none": (d) => (d.files[d.weights].sha256 = "0"),
    "a constant that is none": (d) => (d.pipelines[0].constants = { A: null }),
    "a binding of another kind": (d) => (d.pipelines[0].bindings = "x"),
    "nine bindings": (d) => (d.pipelines[0].bindings = "rrrrrrrrr"),
    "a score of no input": (d) => (d.input = null),
    "a size of none": (d) => (d.input.height = 0),
    "a size of another": (d) => (d.input.height += 1),
    "two channels": (d) => (d.input.channels = 2),
    "a fit that is none": (d) => (d.input.fit = "squeeze"),
    "a score that is not there": (d) => (d.score.parts = ["nothing"]),
    "scores that fall": (d) =>
      (d.score.threshold = { value: 0, source: "", held_out: { count: 2, knots: [2, 1] } }),
    "no document": (d) => Object.keys(d).forEach((key) => delete d[key]),
  };
  for (const [what, spoil] of Object.entries(wrongs)) {
    const document = JSON.parse(honest);
    spoil(document);
    assert.throws(() => check(document), Refusal, what);
  }
  for (const other of [null, [], 1, "text", { format: "ganomede-web" }])
    assert.throws(() => check(other), Refusal);
  // Every number, text and list of it, spoilt one after the other: refused, or as good as before; nothing else.
  let [tried, refused] = [0, 0];
  const walk = (value, at) => {
    if (value === null || typeof value !== "object") return [at];
    return Object.entries(value).flatMap(([key, item]) => walk(item, [...at, key]));
  };
  const places = walk(JSON.parse(honest), []);
  const every = Math.max(Math.floor(places.length / 400), 1);
  for (let i = 0; i < places.length; i += every) {
    for (const wrong of [null, -1, 4294967296, "x", [], {}]) {
      const document = JSON.parse(honest);
      const last = places[i].at(-1);
      const holder = places[i].slice(0, -1).reduce((value, key) => value[key], document);
      holder[last] = wrong;
      tried++;
      try {
        check(document);
      } catch (error) {
        assert.ok(error instanceof Refusal, `${places[i].join(".")} = ${JSON.stringify(wrong)}: ${error}`);
        refused++;
      }
    }
  }
  assert.ok(refused > tried / 2, `${refused} of ${tried} refused`);
  // Files that are not those of the document.
  const get = from(source);
  const spoilt = (name, how) =>
    load(async (asked) => (asked === name ? how(await get(asked)) : get(asked)), { device });
  const shader = JSON.parse(honest).pipelines[0].module;
  const flipped = (bytes) => {
    const copy = new Uint8Array(bytes.slice(0));
    copy[copy.length >> 1] ^= 1;
    return copy.buffer;
  };
  await assert.rejects(spoilt("model.safetensors", flipped), Refusal);
  await assert.rejects(spoilt(shader, flipped), Refusal);
  await assert.rejects(
    spoilt(shader, (bytes) => bytes.slice(1)),
    Refusal,
  );
  await assert.rejects(
    spoilt("program.json", (bytes) => bytes.slice(0, 100)),
    Refusal,
  );
  await assert.rejects(load(get, { device, sha256: "0".repeat(64) }), Refusal);
  // Files that are those of the document, and wrong all the same: text that is no shader, weights that are none.
  const rewritten = (name, bytes) => {
    const document = JSON.parse(honest);
    document.files[name] = { bytes: bytes.length, sha256: createHash("sha256").update(bytes).digest("hex") };
    const files = { "program.json": Buffer.from(JSON.stringify(document)), [name]: bytes };
    return load(async (asked) => (files[asked] ? new Uint8Array(files[asked]).buffer : get(asked)), {
      device,
    });
  };
  for (const bytes of ["", "fn main() {", "@compute @workgroup_size(1) fn other() {}"])
    await assert.rejects(rewritten(shader, Buffer.from(bytes)), Refusal);
  for (const bytes of ["", "\xff".repeat(64), "\x02\0\0\0\0\0\0\0{}"])
    await assert.rejects(rewritten("model.safetensors", Buffer.from(bytes, "latin1")), Refusal);
  console.log(
    `hostile: ${Object.keys(wrongs).length} documents refused, ${refused} of ${tried} single changes refused and no other error`,
  );
}

// A lost device is said.
{
  const own = await (await gpu.requestAdapter()).requestDevice();
  const dir = readdirSync(folder)
    .map((n) => path.join(folder, n))
    .find((n) => existsSync(path.join(n, "program.json")));
  const model = await load(from(dir), { device: own });
  own.destroy();
  await model.lost;
  await assert.rejects(model.score(new Float32Array(32 * 32)), /lost/);
}
console.log("web: all well");
process.exit(0);
