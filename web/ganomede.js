// @ts-check
/**
 * ganomede.js: replays programs that `ganomede export --web` wrote, on the reader's own GPU.
 *
 *     import { load } from "./ganomede.js";
 *     const model = await load("./");            // a folder, or a function from file names to bytes
 *     const found = await model.score(file);     // a Blob, a picture on the page, or pixels
 *     console.log(found.score, found.anomalous, found.percentile);
 *
 * A program is a list of launches over planned buffers; nothing is left to decide, so this module checks,
 * allocates, compiles and replays. It trusts no file: every length, offset and name of `program.json` is
 * checked before anything is allocated, and every other file has its SHA-256 in it. docs/web.md has the
 * format.
 *
 * @module ganomede
 */

/** @import { Document, Found, Frame, ImageLike, InputInfo, Pixels, ProgramInfo, ScoreInfo, SearchOptions, Source, Step,
    ThresholdInfo, TrainInfo, TrainOptions } from "./types.js" */

/** A file that cannot be what it says: damaged, of another version, or hostile. */
export class Refusal extends Error {
  name = "Refusal";
}

/** A GPU that is not there, has too little memory, or was lost. */
export class DeviceError extends Error {
  name = "DeviceError";
}

/** What no document goes beyond. */
const MOST = {
  document: 64 << 20,
  file: 1 << 30,
  module: 1 << 20,
  len: 32 << 20,
  bytes: 2 ** 32,
  launches: 65536,
  knots: 4096,
};

// ---------------------------------------------------------------------------------------------------------
// Checks: a rule throws where a value breaks it

/** @typedef {(value: any, where: string) => void} Rule */

/** @type {(ok: unknown, where: string, what: string) => asserts ok} */
function need(ok, where, what) {
  if (!ok) throw new Refusal(`program.json: ${where} ${what}; export the model again`);
}

/** @type {(test: (value: any) => unknown, what: string) => Rule} */
const rule = (test, what) => (value, where) =>
  need(test(value), where, `is ${String(JSON.stringify(value)).slice(0, 40)}, not ${what}`);
/** @type {(least: number, most: number) => Rule} */
const whole = (least, most) =>
  rule((n) => Number.isInteger(n) && n >= least && n <= most, `a whole number of ${least} to ${most}`);
/** @type {(...words: any[]) => Rule} */
const oneOf = (...words) => rule((word) => words.includes(word), words.join(" or "));
const finite = rule(Number.isFinite, "a number");
const text = rule((t) => typeof t === "string" && t.length < 4096, "a text");
/** @type {(pattern: RegExp) => Rule} */
const like = (pattern) => rule((t) => typeof t === "string" && pattern.test(t), `like ${pattern}`);
const flag = oneOf(true, false);
const object = rule((o) => o && typeof o === "object" && !Array.isArray(o), "an object");
/** @type {(item: Rule) => Rule} */
const orNull = (item) => (value, where) => value === null || item(value, where);
/** @type {(item: Rule, most: number, least?: number) => Rule} */
const list =
  (item, most, least = 0) =>
  (values, where) => {
    rule((a) => Array.isArray(a) && a.length >= least && a.length <= most, `a list of up to ${most}`)(
      values,
      where,
    );
    values.forEach((/** @type {any} */ value, /** @type {number} */ i) => item(value, `${where} ${i}`));
  };
/** @type {(item: Rule, key?: Rule) => Rule} */
const table =
  (item, key = text) =>
  (values, where) => {
    object(values, where);
    for (const name of Object.keys(values)) {
      key(name, where);
      item(values[name], `${where} ${name}`);
    }
  };
/** @type {(fields: Record<string, Rule>) => Rule} */
const record = (fields) => (value, where) => {
  object(value, where);
  for (const name of Object.keys(fields)) fields[name](value[name], `${where} ${name}`.trim());
};

const word = whole(0, 0xffffffff);
const len = whole(1, MOST.len);
const pair = (/** @type {Rule} */ item) => list(item, 2, 2);
const file = record({ bytes: whole(0, MOST.file), sha256: like(/^[0-9a-f]{64}$/) });
const input = record({
  height: whole(1, 4096),
  width: whole(1, 4096),
  channels: oneOf(1, 3),
  fit: oneOf("stretch", "crop", "pad"),
  standardise: flag,
});
const score = record({
  name: text,
  parts: list(text, 16),
  reconstruction: flag,
  map: orNull(
    record({
      smooth: rule((n) => n >= 0 && n <= 64, "0 to 64"),
      relative: orNull(pair(text)),
      range: orNull(pair(finite)),
      threshold: orNull(finite),
    }),
  ),
  threshold: orNull(
    record({
      value: finite,
      source: text,
      held_out: record({ count: whole(1, 2 ** 40), knots: list(finite, MOST.knots, 1) }),
    }),
  ),
  search: orNull(
    record({
      steps: whole(1, 1e6),
      restarts: whole(1, 1024),
      lambda: finite,
      lr: finite,
      latent: whole(1, 65536),
      start: oneOf("encoder", "uniform", "normal"),
      key: pair(word),
    }),
  ),
});
const train = record({
  batch: whole(1, 65536),
  count: whole(1, 65536),
  images: text,
  key: pair(word),
  stages: list(
    record({
      name: text,
      parts: list(record({ program: text, every: whole(1, 1e6), losses: list(text, 64) }), 16, 1),
    }),
    16,
    1,
  ),
  sampler: orNull(
    record({ count: whole(1, 4096), latent: whole(1, 65536), prior: oneOf("uniform", "normal") }),
  ),
});
const program = record({
  buffers: list(record({ len, role: oneOf("input", "output", "state", "temporary", "scratch") }), 65536),
  launches: list(
    record({
      scope: text,
      pipeline: word,
      groups: list(whole(1, 65535), 3, 3),
      bind: list(pair(word), 8, 1),
      params: list(word, 16384),
    }),
    MOST.launches,
  ),
  unread: table(len),
});
const document = record({
  format: oneOf("ganomede-web"),
  version: oneOf(1),
  written_by: text,
  system: text,
  title: text,
  paper: text,
  weights: text,
  files: table(file, like(/^[A-Za-z0-9][A-Za-z0-9._-]{0,99}$/)),
  input: orNull(input),
  score: orNull(score),
  train: orNull(train),
  states: list(record({ name: text, len, stored: flag }), 16384),
  pipelines: list(
    record({
      module: text,
      entry: text,
      constants: table(finite),
      params: rule((n) => Number.isInteger(n / 4) && n >= 0 && n <= 16384, "a multiple of 4"),
      bindings: like(/^[rw]{1,8}$/),
    }),
    4096,
  ),
  programs: table(program),
});

/**
 * Checks a document from its first field to its last; what comes back can be replayed.
 * @param {any} value
 * @returns {Document}
 */
export function check(value) {
  document(value, "");
  /** @type {Document} */
  const d = value;
  const named = (/** @type {string} */ name) => Object.hasOwn(d.files, name);
  need(named(d.weights), "weights", "is not among the files");
  need(new Set(d.states.map((s) => s.name)).size === d.states.length, "states", "have a name twice");
  d.pipelines.forEach(({ module }, i) => {
    need(
      named(module) && d.files[module].bytes <= MOST.module,
      `pipelines ${i} module`,
      "is no file of a shader",
    );
  });
  let [launches, bytes] = [0, sum(d.states.map((s) => size(s.len)))];
  for (const [name, p] of Object.entries(d.programs)) {
    checkProgram(p, name, d);
    launches += p.launches.length;
    bytes += sum(p.buffers.map((b) => (b.role === "state" ? 0 : size(b.len))));
  }
  need(launches <= MOST.launches, "programs", `have ${launches} launches, more than ${MOST.launches}`);
  need(bytes <= MOST.bytes, "buffers", `take ${bytes} bytes, more than ${MOST.bytes}`);
  need(d.input || !(d.score || d.train), "input", "is null");
  if (d.score) checkScore(d, d.score);
  if (d.train) checkTrain(d, d.train);
  return d;
}

/** Names, states, and each launch against its pipeline and buffers. @param {ProgramInfo} p @param {string} name @param {Document} d */
function checkProgram(p, name, d) {
  const names = new Set(Object.keys(p.unread));
  p.buffers.forEach((b, i) => {
    const where = `${name} buffers ${i}`;
    if (b.role === "input" || b.role === "output") {
      text(b.name, `${where} name`);
      need(!names.has(`${b.name}`), `${where} name`, "is that of another");
      names.add(`${b.name}`);
    } else if (b.role === "state") {
      whole(0, d.states.length - 1)(b.state, `${where} state`);
      need(b.len === d.states[Number(b.state)].len, `${where} len`, "is not that of its state");
    }
  });
  p.launches.forEach((launch, i) => {
    const where = `${name} launches ${i}`;
    need(launch.pipeline < d.pipelines.length, `${where} pipeline`, "does not exist");
    const { bindings, params } = d.pipelines[launch.pipeline];
    need(launch.bind.length === bindings.length, `${where} bind`, `has not ${bindings.length} parts`);
    need(launch.params.length === params, `${where} params`, `are not ${params} words`);
    const uses = new Map();
    launch.bind.forEach(([buffer, length], k) => {
      need(buffer < p.buffers.length, `${where} bind ${k}`, "names no buffer");
      whole(1, p.buffers[buffer].len)(length, `${where} bind ${k} length`);
      const both = (uses.get(buffer) ?? "") + bindings[k];
      need(
        both.length === 1 || !both.includes("w"),
        `${where} bind ${k}`,
        "writes a buffer that is bound twice",
      );
      uses.set(buffer, both);
    });
  });
}

/**
 * A rule that a program has a buffer of this role, name and length.
 * @param {Document} d @returns {(name: string, role: string, value: string, length?: number) => void}
 */
const hasBuffer =
  ({ programs }) =>
  (name, role, value, length = 1) => {
    need(Object.hasOwn(programs, name), "programs", `lack ${name}`);
    const { buffers, unread } = programs[name];
    const found =
      buffers.find((b) => b.role === role && b.name === value)?.len ?? (role === "input" ? unread[value] : 0);
    need(found === length, name, `has no ${role} ${value} of ${length} elements`);
  };

/** Whether the programs have what training asks of them. @param {Document} d @param {TrainInfo} train */
function checkTrain(d, { batch, count, images, stages, sampler }) {
  const { channels, height, width } = d.input;
  const has = hasBuffer(d);
  need(Object.hasOwn(d.files, images), "train images", "is not among the files");
  need(count % batch === 0, "train count", "is no multiple of the batch");
  for (const { program, losses } of stages.flatMap((stage) => stage.parts)) {
    need(Object.hasOwn(d.programs, program), "programs", `lack ${program}`);
    const inputs = d.programs[program].buffers.filter((b) => b.role === "input");
    if (inputs.length > 0) has(program, "input", "x", batch * channels * height * width);
    if (losses.length > 0) has(program, "output", "losses", losses.length);
  }
  if (sampler) {
    has("sample", "input", "z", sampler.count * sampler.latent);
    has("sample", "output", "images", sampler.count * channels * height * width);
  }
}

/** Whether the programs have what scoring asks of them. @param {Document} d @param {ScoreInfo} score */
function checkScore(d, { parts, map, reconstruction, threshold, search }) {
  const { channels, height, width } = d.input;
  const area = height * width;
  const has = hasBuffer(d);
  const last = search ? "finish" : "score";
  has(search ? "prepare" : "score", "input", "x", channels * area);
  ["score", ...parts].forEach((part) => has(last, "output", part));
  if (reconstruction) has(last, "output", "reconstruction", channels * area);
  if (map) has(last, "output", "map", area);
  if (threshold) {
    const { count, knots } = threshold.held_out;
    need(knots.length === Math.min(count, MOST.knots), "score threshold knots", "do not fit their count");
    need(
      knots.every((knot, i) => i === 0 || knots[i - 1] <= knot),
      "score threshold knots",
      "do not ascend",
    );
  }
  if (search) {
    if (search.start !== "encoder") has("prepare", "input", "z", search.latent);
    ["lambda", "lr", "steps"].forEach((name) => has("step", "input", name));
    has("finish", "input", "lambda");
    has("finish", "output", "loss");
    has("finish", "output", "z", search.latent);
  }
}

/** Bytes of a buffer: whole vec4s, as shaders read them. @param {number} elements */
const size = (elements) => Math.ceil(elements / 4) * 16;
/** @param {number[] | Float32Array} numbers */
const sum = (numbers) => {
  let total = 0;
  for (const n of numbers) total += n;
  return total;
};

// ---------------------------------------------------------------------------------------------------------
// Files

/** @param {ArrayBuffer} bytes */
async function sha256(bytes) {
  if (!globalThis.crypto?.subtle)
    throw new DeviceError("this page is not in a secure context: serve it over https, or from localhost");
  const digest = new Uint8Array(await crypto.subtle.digest("SHA-256", bytes));
  return Array.from(digest, (byte) => byte.toString(16).padStart(2, "0")).join("");
}

/**
 * How files are fetched: below a folder's address, or by a function.
 * @param {Source} source
 * @returns {(name: string, most: number) => Promise<ArrayBuffer>}
 */
function fetcher(source) {
  return async (name, most) => {
    /** @type {ArrayBuffer} */
    let bytes;
    if (typeof source === "function") {
      bytes = await source(name);
    } else {
      const base = new URL(source, globalThis.location?.href);
      const answer = await fetch(new URL(name, base.href.endsWith("/") ? base : `${base.href}/`));
      if (!answer.ok) throw new Refusal(`${name}: the server says ${answer.status}`);
      if (Number(answer.headers.get("content-length") ?? 0) > most)
        throw new Refusal(`${name} is longer than ${most} bytes`);
      bytes = await answer.arrayBuffer();
    }
    if (bytes.byteLength > most) throw new Refusal(`${name} is longer than ${most} bytes`);
    return bytes;
  };
}

/**
 * Tensors of a safetensors file as 32-bit floats, those of 16 bits widened.
 * @param {ArrayBuffer} bytes @param {string} file @returns {(name: string, len: number) => Float32Array}
 */
function tensors(bytes, file) {
  const refuse = (/** @type {string} */ what) => new Refusal(`${file} ${what}; export the model again`);
  const view = new DataView(bytes);
  const header = bytes.byteLength >= 8 ? Number(view.getBigUint64(0, true)) : Infinity;
  if (!(header <= bytes.byteLength - 8)) throw refuse("is cut short");
  /** @type {Record<string, any>} */
  let entries;
  try {
    entries = JSON.parse(new TextDecoder().decode(new Uint8Array(bytes, 8, header)));
  } catch {
    throw refuse("has no header");
  }
  return (name, len) => {
    const entry = Object.hasOwn(entries, name) ? entries[name] : null;
    const [from, to] = Array.isArray(entry?.data_offsets) ? entry.data_offsets : [];
    const width = entry?.dtype === "F32" ? 4 : 2;
    if (
      !["F32", "F16"].includes(entry?.dtype) ||
      !Number.isInteger(from) ||
      to - from !== len * width ||
      from < 0 ||
      8 + header + to > bytes.byteLength
    )
      throw refuse(`has no tensor '${name.slice(0, 80)}' of ${len} numbers`);
    const part = bytes.slice(8 + header + from, 8 + header + to);
    return width === 4 ? new Float32Array(part) : Float32Array.from(new Uint16Array(part), widened);
  };
}

/** The value of an IEEE 754 half. @param {number} half */
function widened(half) {
  const [sign, exponent, fraction] = [half >> 15 ? -1 : 1, (half >> 10) & 31, half & 1023];
  if (exponent === 31) return fraction ? NaN : sign * Infinity;
  return sign * (exponent ? 2 ** (exponent - 25) * (1024 + fraction) : 2 ** -24 * fraction);
}

// ---------------------------------------------------------------------------------------------------------
// Images: the same pixels as datasets/src/preprocess.rs makes, each sum rounded where it rounds

const f32 = Math.fround;

/** The taps of a triangle filter with antialias. @param {number} start @param {number} length @param {number} size */
function taps(start, length, size) {
  const scale = length / size;
  const support = Math.max(scale, 1);
  return Array.from({ length: size }, (_, i) => {
    const centre = (i + 0.5) * scale;
    const first = Math.max(Math.floor(centre - support + 0.5), 0);
    const last = Math.min(Math.floor(centre + support + 0.5), length);
    const weights = [];
    for (let s = first; s < last; s++) weights.push(Math.max(1 - Math.abs((s + 0.5 - centre) / support), 0));
    const total = sum(weights);
    const rounded = weights.map((w) => f32(w / total));
    while (rounded.at(-1) === 0) rounded.pop();
    return { first: start + first, weights: rounded };
  });
}

/** The part of an image that is kept. @param {InputInfo} input @param {number} width @param {number} height */
function kept(input, width, height) {
  if (input.fit !== "crop") return { x: 0, y: 0, width, height };
  /** @type {(across: number, to: number, from: number) => number} */
  const part = (across, to, from) => Math.max(Math.floor((across * to) / from), 1);
  const cut = {
    width: Math.min(width, part(height, input.width, input.height)),
    height: Math.min(height, part(width, input.height, input.width)),
  };
  return { x: (width - cut.width) >> 1, y: (height - cut.height) >> 1, ...cut };
}

/** The part of the input that it fills. @param {InputInfo} input @param {{width: number, height: number}} of */
function filled(input, of) {
  if (input.fit !== "pad") return { x: 0, y: 0, width: input.width, height: input.height };
  /** @type {(side: number, to: number, from: number) => number} */
  const side = (side, to, from) => Math.max(Math.floor((2 * side * to + from) / (2 * from)), 1);
  const width = Math.min(input.width, side(of.width, input.height, of.height));
  const height = Math.min(input.height, side(of.height, input.width, of.width));
  return { x: (input.width - width) >> 1, y: (input.height - height) >> 1, width, height };
}

/**
 * What the networks see of an image, bit for bit what the command line makes of the same 8-bit pixels.
 * @param {InputInfo} input @param {Pixels} pixels @returns {{values: Float32Array, frame: Frame}}
 */
export function preprocess(input, pixels) {
  const { width, height, channels, data } = pixels;
  if (
    ![1, 2, 3, 4].includes(channels) ||
    !(width >= 1 && height >= 1) ||
    data.length !== width * height * channels
  ) {
    throw new TypeError(
      `an image of ${width}×${height} with ${channels} channels has not ${data.length} samples`,
    );
  }
  const from = kept(input, width, height);
  const to = filled(input, from);
  const [rows, columns] = [taps(from.y, from.height, to.height), taps(0, from.width, to.width)];
  const values = new Float32Array(input.channels * input.height * input.width);
  const row = new Float32Array(from.width * channels);
  const pixel = new Float32Array(channels);
  /** @type {(u: number) => number} */
  const scaled = (u) => Math.min(Math.max(f32(f32(f32(2 * u) / 255) - 1), -1), 1);
  const [red, green, blue] = [f32(0.299), f32(0.587), f32(0.114)];
  rows.forEach((vertical, y) => {
    row.fill(0);
    vertical.weights.forEach((weight, k) => {
      const start = ((vertical.first + k) * width + from.x) * channels;
      for (let i = 0; i < row.length; i++) row[i] += f32(weight * data[start + i]);
    });
    columns.forEach((horizontal, x) => {
      pixel.fill(0);
      horizontal.weights.forEach((weight, k) => {
        for (let c = 0; c < channels; c++)
          pixel[c] += f32(weight * row[(horizontal.first + k) * channels + c]);
      });
      for (let c = 0; c < input.channels; c++) {
        const u =
          channels < 3
            ? pixel[0]
            : input.channels === 3
              ? pixel[c]
              : f32(f32(f32(red * pixel[0]) + f32(green * pixel[1])) + f32(blue * pixel[2]));
        values[(c * input.height + to.y + y) * input.width + to.x + x] = scaled(u);
      }
    });
  });
  /** @type {(start: number, length: number, at: number, part: number, all: number) => number[]} */
  const reach = (start, length, at, part, all) => [start - (at * length) / part, (all * length) / part];
  const [x, across] = reach(from.x, from.width, to.x, to.width, input.width);
  const [y, down] = reach(from.y, from.height, to.y, to.height, input.height);
  return { values, frame: { x, y, width: across, height: down } };
}

/** Mean 0 and one contrast, as src/models/standardise.rs; also the way back. @param {Float32Array} values */
function standardised(values) {
  const mean = sum(values) / values.length;
  const variance = sum(Array.from(values, (v) => (v - mean) * (v - mean))) / values.length;
  const scale = 3 * Math.max(Math.sqrt(variance), 1 / 255);
  /** @type {(v: number) => number} */
  const clipped = (v) => Math.min(Math.max(f32(v), -1), 1);
  return {
    values: values.map((v) => clipped((v - mean) / scale)),
    restore: (/** @type {Float32Array} */ made) => made.map((v) => clipped(v * scale + mean)),
  };
}

/** A map smoothed by a Gaussian, mirrored at its borders. @param {Float32Array} map @param {number} width @param {number} sigma */
function smoothed(map, width, sigma) {
  const radius = sigma > 0 ? Math.trunc(4 * sigma + 0.5) : 0;
  if (radius === 0) return map;
  const height = map.length / width;
  let kernel = Array.from({ length: 2 * radius + 1 }, (_, i) => Math.exp(-0.5 * ((i - radius) / sigma) ** 2));
  const total = sum(kernel);
  kernel = kernel.map((w) => w / total);
  /** @type {(i: number, n: number) => number} */
  const mirrored = (i, n) => {
    const at = ((i % (2 * n)) + 2 * n) % (2 * n);
    return at < n ? at : 2 * n - 1 - at;
  };
  /** @type {(from: Float32Array, at: (x: number, y: number, k: number) => number) => Float32Array} */
  const pass = (from, at) =>
    from.map((_, i) =>
      kernel.reduce((total, w, k) => total + w * from[at(i % width, Math.floor(i / width), k - radius)], 0),
    );
  const along = pass(map, (x, y, k) => y * width + mirrored(x + k, width));
  return pass(along, (x, y, k) => mirrored(y + k, height) * width + x);
}

// ---------------------------------------------------------------------------------------------------------
// Judging, as src/eval/quantiles.rs

/** The rank of a kept score. @type {(i: number, count: number, n: number) => number} */
const rank = (i, count, n) =>
  n === 1 ? count : 1 + Math.floor((i * (count - 1) + Math.floor((n - 1) / 2)) / (n - 1));

/** The next number above. @param {number} value */
function above(value) {
  const [float, bits] = [new Float64Array([value]), new BigInt64Array(1)];
  bits[0] = new BigInt64Array(float.buffer)[0];
  if (value === 0) return Number.MIN_VALUE;
  bits[0] += value > 0 ? 1n : -1n;
  return new Float64Array(bits.buffer)[0];
}

/** The score that a new normal image reaches with at most this probability. @param {ThresholdInfo} info @param {number} rate */
export function thresholdOf({ held_out: { count, knots } }, rate) {
  const k = Math.max(Math.ceil((count + 1) * (1 - rate) - 1e-9), 1);
  const found = knots.findIndex((_, i) => rank(i, count, knots.length) >= k);
  return above(knots[found < 0 ? knots.length - 1 : found]);
}

/** The percentage of held-out normal images that score lower. @param {ThresholdInfo} info @param {number} score */
export function percentileOf({ held_out: { count, knots } }, score) {
  const lower = knots.findIndex((knot) => knot >= score);
  const n = lower < 0 ? knots.length : lower;
  return n === 0 ? 0 : (100 * rank(n - 1, count, knots.length)) / count;
}

// ---------------------------------------------------------------------------------------------------------
// Starts of a search: Philox 4×32-10 with the image's own pixels as the stream

/** Low and high word of a product. @param {number} a @param {number} b */
function product(a, b) {
  const wide = BigInt(a) * BigInt(b);
  return [Number(wide & 0xffffffffn), Number(wide >> 32n)];
}

/** @param {number[]} c @param {number[]} key */
function philox(c, [k0, k1]) {
  for (let round = 0; round < 10; round++) {
    const [a, b] = [product(0xd2511f53, c[0]), product(0xcd9e8d57, c[2])];
    c = [(b[1] ^ c[1] ^ k0) >>> 0, b[0], (a[1] ^ c[3] ^ k1) >>> 0, a[0]];
    [k0, k1] = [(k0 + 0x9e3779b9) >>> 0, (k1 + 0xbb67ae85) >>> 0];
  }
  return c;
}

/**
 * Numbers of a prior. @param {string} prior @param {number[]} key @param {number} stream @param {number} len
 * @param {number} [step]
 */
function drawn(prior, key, stream, len, step = 0) {
  /** @type {(word: number) => number} */
  const unit = (word) => (word >>> 8) / 2 ** 24;
  const z = new Float32Array(len);
  for (let block = 0; 4 * block < len; block++) {
    const words = philox([block, stream, step, 0], key);
    const turned = words.map((word, i) => {
      if (prior !== "normal") return 2 * unit(word) - 1;
      const [u, v] = [unit(words[i & ~1]) + 2 ** -24, unit(words[i | 1]) * 2 * Math.PI];
      return Math.sqrt(-2 * Math.log(u)) * (i % 2 ? Math.sin(v) : Math.cos(v));
    });
    z.set(turned.slice(0, len - 4 * block), 4 * block);
  }
  return z;
}

/** The stream of an image's start. @param {Float32Array} x @param {number} restart */
function streamOf(x, restart) {
  const words = [...new Uint32Array(x.buffer, x.byteOffset, x.length), restart];
  return words.reduce((hash, word) => Math.imul(hash ^ word, 0x01000193) >>> 0, 0x811c9dc5);
}

// ---------------------------------------------------------------------------------------------------------
// The device

/** A device, with its faults in words. */
class Gpu {
  /** @param {GPUDevice} device @param {string} adapter */
  constructor(device, adapter) {
    this.device = device;
    this.adapter = adapter;
    /** Launches in a submission; follows the time that one takes, so that no driver takes work for a hang. */
    this.pace = 32;
    /** @type {string | null} */
    this.lost = null;
    /** @type {Promise<string>} */
    this.gone = device.lost.then(({ reason, message }) => (this.lost = `${reason} ${message}`.trim()));
  }

  /** @param {GPU | undefined} gpu @param {GPUDevice | undefined} device */
  static async open(gpu, device) {
    if (device) return new Gpu(device, "a device of the page");
    if (!gpu)
      throw new DeviceError(
        "this browser has no WebGPU: use Chrome or Edge 113, Firefox 141 or Safari 26, or newer, over https or from localhost",
      );
    const adapter = await gpu.requestAdapter({ powerPreference: "high-performance" });
    if (!adapter)
      throw new DeviceError(
        "no GPU that WebGPU may use: allow hardware acceleration in the browser's settings, or look at chrome://gpu",
      );
    const { vendor, architecture, description } = adapter.info ?? {};
    return new Gpu(
      await adapter.requestDevice(),
      description || [vendor, architecture].filter(Boolean).join(" ") || "a GPU",
    );
  }

  /** Runs work, and says what the device objects to. @template T @param {string} what @param {() => T | Promise<T>} work @returns {Promise<T>} */
  async guarded(what, work) {
    this.alive();
    this.device.pushErrorScope("out-of-memory");
    this.device.pushErrorScope("validation");
    let result, thrown;
    try {
      result = await work();
    } catch (error) {
      thrown = error;
    }
    const [invalid, memory] = [await this.device.popErrorScope(), await this.device.popErrorScope()];
    this.alive();
    if (memory)
      throw new DeviceError(
        `${what}: the GPU has too little memory; close other pages, or export a smaller model`,
      );
    if (invalid || thrown)
      throw new Refusal(`${what}: ${invalid?.message ?? /** @type {Error} */ (thrown).message}`);
    return /** @type {T} */ (result);
  }

  alive() {
    if (this.lost !== null) throw new DeviceError(`the GPU was lost (${this.lost}); reload the page`);
  }

  /** @param {number} len */
  buffer(len) {
    const { COPY_DST, COPY_SRC, STORAGE } = GPUBufferUsage;
    return this.device.createBuffer({ size: size(len), usage: STORAGE | COPY_SRC | COPY_DST });
  }

  /** @param {GPUBuffer} buffer @param {number} len @returns {Promise<Float32Array>} */
  async read(buffer, len) {
    const staging = this.device.createBuffer({
      size: 4 * len,
      usage: GPUBufferUsage.COPY_DST | GPUBufferUsage.MAP_READ,
    });
    try {
      const encoder = this.device.createCommandEncoder();
      encoder.copyBufferToBuffer(buffer, 0, staging, 0, 4 * len);
      this.device.queue.submit([encoder.finish()]);
      await staging.mapAsync(GPUMapMode.READ);
      return new Float32Array(staging.getMappedRange().slice(0));
    } catch (error) {
      await Promise.race([this.gone, new Promise((resolve) => setTimeout(resolve, 50))]);
      this.alive();
      throw error;
    } finally {
      staging.destroy();
    }
  }
}

/** A program on a device: buffers, parameters and bind groups, made once. */
class Program {
  /**
   * @param {Gpu} gpu @param {ProgramInfo} info @param {GPUBuffer[]} states
   * @param {{pipeline: GPUComputePipeline, layout: GPUBindGroupLayout}[]} pipelines
   */
  constructor(gpu, info, states, pipelines) {
    this.gpu = gpu;
    this.info = info;
    const { device } = gpu;
    this.buffers = info.buffers.map((b) =>
      b.role === "state" ? states[Number(b.state)] : gpu.buffer(b.len),
    );
    // All parameter words in one buffer, each launch's where the device can bind them.
    const align = device.limits.minUniformBufferOffsetAlignment;
    let end = 0;
    const offsets = info.launches.map(({ params }) => {
      const at = end;
      end += Math.ceil((4 * params.length) / align) * align;
      return at;
    });
    const words = new Uint32Array(Math.max(end, 16) / 4);
    info.launches.forEach(({ params }, i) => words.set(params, offsets[i] / 4));
    const arena = device.createBuffer({
      size: words.byteLength,
      usage: GPUBufferUsage.UNIFORM | GPUBufferUsage.COPY_DST,
    });
    device.queue.writeBuffer(arena, 0, words);
    this.own = [arena, ...this.buffers.filter((_, i) => info.buffers[i].role !== "state")];
    this.steps = info.launches.map((launch, i) => {
      const { pipeline, layout } = pipelines[launch.pipeline];
      /** @type {GPUBindGroupEntry[]} */
      const entries = launch.bind.map(([buffer, len], k) => ({
        binding: k + 1,
        resource: { buffer: this.buffers[buffer], size: size(len) },
      }));
      if (launch.params.length > 0)
        entries.push({
          binding: 0,
          resource: { buffer: arena, offset: offsets[i], size: 4 * launch.params.length },
        });
      return { pipeline, group: device.createBindGroup({ layout, entries }), groups: launch.groups };
    });
  }

  /** @param {string} role @param {string} name */
  find(role, name) {
    return this.info.buffers.findIndex((b) => b.role === role && b.name === name);
  }

  /** Writes an input. @param {string} name @param {ArrayLike<number>} values */
  write(name, values) {
    const at = this.find("input", name);
    if (at < 0 && Object.hasOwn(this.info.unread, name)) return;
    if (at < 0 || this.info.buffers[at].len !== values.length)
      throw new TypeError(`no input ${name} of ${values.length} numbers`);
    this.gpu.device.queue.writeBuffer(this.buffers[at], 0, Float32Array.from(values));
  }

  /** Reads an output. @param {string} name */
  read(name) {
    const at = this.find("output", name);
    if (at < 0) throw new TypeError(`no output ${name}`);
    return this.gpu.read(this.buffers[at], this.info.buffers[at].len);
  }

  /** Replays it, in submissions of a tenth of a second. @param {number} [times] */
  async run(times = 1) {
    const { gpu, steps } = this;
    const total = times * steps.length;
    for (let done = 0; done < total;) {
      gpu.alive();
      const count = Math.min(gpu.pace, total - done);
      const encoder = gpu.device.createCommandEncoder();
      const pass = encoder.beginComputePass();
      for (let i = done; i < done + count; i++) {
        const { pipeline, group, groups } = steps[i % steps.length];
        pass.setPipeline(pipeline);
        pass.setBindGroup(0, group);
        pass.dispatchWorkgroups(groups[0], groups[1], groups[2]);
      }
      pass.end();
      const began = performance.now();
      gpu.device.queue.submit([encoder.finish()]);
      await gpu.device.queue.onSubmittedWorkDone();
      const took = performance.now() - began;
      if (took < 50 && count === gpu.pace) gpu.pace = Math.min(gpu.pace * 2, 4096);
      if (took > 150) gpu.pace = Math.max(gpu.pace >> 1, 1);
      done += count;
    }
    gpu.alive();
  }
}

// ---------------------------------------------------------------------------------------------------------
// The model

/** A model ready to score. Calls wait for each other: there is one set of buffers. */
export class Model {
  /**
   * @param {Gpu} gpu @param {Document} info @param {Record<string, Program>} programs @param {GPUBuffer[]} states
   * @param {(name: string, len: number) => Float32Array} tensor @param {Float32Array | null} images
   */
  constructor(gpu, info, programs, states, tensor, images) {
    this.images = images;
    /** Steps of training done. */
    this.steps = 0;
    this.gpu = gpu;
    this.info = info;
    this.programs = programs;
    this.states = states;
    this.normal =
      info.score?.map?.relative?.map((name) => tensor(name, info.input.height * info.input.width)) ?? null;
    /** @type {Promise<unknown>} */
    this.turn = Promise.resolve();
  }

  /** The adapter in words. */
  get adapter() {
    return this.gpu.adapter;
  }

  /** How it scores. @returns {ScoreInfo} */
  get scoring() {
    if (!this.info.score) throw new TypeError("this export trains; export a model to score");
    return this.info.score;
  }

  /** Fulfilled with the reason when the GPU is lost. */
  get lost() {
    return this.gpu.gone;
  }

  /** @template T @param {() => Promise<T>} work @returns {Promise<T>} */
  next(work) {
    const mine = this.turn.then(work, work);
    this.turn = mine.catch(() => {});
    return mine;
  }

  /**
   * Scores an image: by one pass, or by a search where the score is searched.
   * @param {ImageLike} image
   * @returns {Promise<Found>}
   */
  async score(image) {
    if (this.scoring.search) return this.search(image);
    return this.next(async () => {
      const seen = await this.see(image);
      const began = performance.now();
      this.programs.score.write("x", seen.x);
      await this.programs.score.run();
      return this.found(this.programs.score, seen, began);
    });
  }

  /**
   * Searches the latent of an image. The options are read again before every look, so that sliders may move
   * `lambda` and `lr` while it goes on; `onStep` sees what is found every `every` steps, and ends the search by
   * returning false.
   * @param {ImageLike} image
   * @param {SearchOptions} [options]
   * @returns {Promise<Found>}
   */
  search(image, options = {}) {
    const { search } = this.scoring;
    if (!search) return Promise.reject(new TypeError("this model's score is not searched"));
    return this.next(async () => {
      const seen = await this.see(image);
      const { prepare, step, finish } = this.programs;
      const began = performance.now();
      const steps = options.steps ?? search.steps;
      const every = Math.max(options.every ?? 10, 1);
      /** @type {Step | null} */
      let best = null;
      for (let restart = 0; restart < (options.restarts ?? search.restarts); restart++) {
        prepare.write("x", seen.x);
        if (search.start !== "encoder")
          prepare.write("z", drawn(search.start, search.key, streamOf(seen.x, restart), search.latent));
        await prepare.run();
        for (let done = 0, goes = true; goes;) {
          const count = Math.min(options.onStep ? every : steps, steps - done);
          step.write("lambda", [options.lambda ?? search.lambda]);
          step.write("lr", [options.lr ?? search.lr]);
          step.write("steps", [steps]);
          await step.run(count);
          done += count;
          finish.write("lambda", [options.lambda ?? search.lambda]);
          await finish.run();
          const found = await this.found(finish, seen, began);
          const now = {
            ...found,
            z: await finish.read("z"),
            loss: (await finish.read("loss"))[0],
            step: done,
            steps,
            restart,
          };
          goes = (await options.onStep?.(now)) !== false && done < steps;
          if (!goes && (best === null || now.loss < best.loss)) best = now;
        }
      }
      return /** @type {Step} */ (best);
    });
  }

  /**
   * Trains on the exported images, epoch by epoch: the first in the order of the command line, the others
   * shuffled. `onStep` sees the losses after every `every` steps, and ends the training by returning false.
   * @param {TrainOptions} [options] @returns {Promise<number>} steps done in all
   */
  train({ steps = Infinity, every = 1, stage = 0, onStep } = {}) {
    const { train, input } = this.info;
    const { images } = this;
    if (!train || !images || !train.stages[stage])
      return Promise.reject(new TypeError("this export has no such training"));
    return this.next(async () => {
      const len = input.channels * input.height * input.width;
      const batches = train.count / train.batch;
      /** @type {Record<string, number>} */
      const losses = {};
      for (let done = 1; done <= steps; done++) {
        const epoch = Math.floor(this.steps / batches);
        const x = new Float32Array(train.batch * len);
        for (let i = 0; i < train.batch; i++) {
          const place = (this.steps % batches) * train.batch + i;
          const at = epoch === 0 ? place : philox([place, epoch, 0, 1], train.key)[0] % train.count;
          x.set(images.subarray(at * len, (at + 1) * len), i * len);
        }
        const due = train.stages[stage].parts.filter((part) => (this.steps + 1) % part.every === 0);
        for (const { program: name, losses: names } of due) {
          const program = this.programs[name];
          if (program.find("input", "x") >= 0) program.write("x", x);
          await program.run();
          if (done % every === 0 && names.length > 0) {
            const values = await program.read("losses");
            names.forEach((loss, i) => (losses[loss] = values[i]));
          }
        }
        this.steps++;
        if (done % every === 0 && (await onStep?.({ step: this.steps, losses: { ...losses } })) === false)
          break;
      }
      return this.steps;
    });
  }

  /** Images of the generator, of latents that stay the same. @param {ArrayLike<number>} [z] @returns {Promise<Float32Array>} */
  sample(z) {
    const { train } = this.info;
    if (!train?.sampler) return Promise.reject(new TypeError("this export has no generator"));
    const { count, latent, prior } = train.sampler;
    // Not in turn with a training: its steps run between, on the same queue.
    const { sample } = this.programs;
    sample.write("z", z ?? drawn(prior, train.key, 0, count * latent));
    return sample.run().then(() => sample.read("images"));
  }

  /** Numbers of a prior, a function of key and stream. @type {typeof drawn} */
  latents = drawn;

  /** An output of a program, or a state, by its name. @param {string} name @returns {Promise<Float32Array>} */
  read(name) {
    return this.next(async () => {
      for (const program of Object.values(this.programs))
        if (program.find("output", name) >= 0) return program.read(name);
      const at = this.info.states.findIndex((state) => state.name === name);
      if (at < 0) throw new TypeError(`no output or state ${name}`);
      return this.gpu.read(this.states[at], this.info.states[at].len);
    });
  }

  /** The verdict on a score, also at another share of false alarms. @param {number} score @param {number} [rate] */
  judge(score, rate) {
    const info = this.scoring.threshold;
    if (!info) return { threshold: null, anomalous: null, percentile: null };
    const threshold = rate === undefined ? info.value : thresholdOf(info, rate);
    return { threshold, anomalous: !(score < threshold), percentile: percentileOf(info, score) };
  }

  /** Gives back what it holds of the GPU. */
  destroy() {
    for (const program of Object.values(this.programs)) program.own.forEach((buffer) => buffer.destroy());
    this.states.forEach((buffer) => buffer.destroy());
  }

  /** @param {any} image */
  async see(image) {
    const { input } = this.info;
    const len = input.channels * input.height * input.width;
    let frame = { x: 0, y: 0, width: input.width, height: input.height };
    let values;
    if (image instanceof Float32Array) {
      if (image.length !== len) throw new TypeError(`an input has ${len} numbers, not ${image.length}`);
      values = image;
    } else {
      ({ values, frame } = preprocess(input, await this.pixels(image)));
    }
    const { values: x, restore } = input.standardise
      ? standardised(values)
      : { values, restore: (/** @type {Float32Array} */ made) => made };
    return { x, values, frame, restore };
  }

  /** The pixels of a picture, past every colour conversion and with alpha left as it is. @param {any} image @returns {Promise<Pixels>} */
  async pixels(image) {
    if (image && typeof image.channels === "number" && "data" in image) return image;
    let gray = false;
    let bitmap = image;
    if (image instanceof Blob) {
      // What a PNG says of its colours: browsers hand gray images on as coloured ones.
      const head = new Uint8Array(await image.slice(0, 26).arrayBuffer());
      gray = head[1] === 0x50 && head[2] === 0x4e && head[3] === 0x47 && (head[25] === 0 || head[25] === 4);
      bitmap = await createImageBitmap(image, { colorSpaceConversion: "none", premultiplyAlpha: "none" });
    } else if (!(image instanceof ImageBitmap)) {
      bitmap = await createImageBitmap(image, { premultiplyAlpha: "none" });
    }
    const { width, height } = bitmap;
    const { device } = this.gpu;
    if (Math.max(width, height) > device.limits.maxTextureDimension2D)
      throw new TypeError(
        `the image is ${width}×${height}, larger than this GPU's ${device.limits.maxTextureDimension2D} pixels`,
      );
    const data = await this.gpu.guarded("the image", async () => {
      const { COPY_DST, COPY_SRC, RENDER_ATTACHMENT } = GPUTextureUsage;
      const texture = device.createTexture({
        size: [width, height],
        format: "rgba8unorm",
        usage: COPY_DST | COPY_SRC | RENDER_ATTACHMENT,
      });
      device.queue.copyExternalImageToTexture({ source: bitmap }, { texture, premultipliedAlpha: false }, [
        width,
        height,
      ]);
      const stride = Math.ceil((4 * width) / 256) * 256;
      const buffer = device.createBuffer({
        size: stride * height,
        usage: GPUBufferUsage.COPY_DST | GPUBufferUsage.MAP_READ,
      });
      const encoder = device.createCommandEncoder();
      encoder.copyTextureToBuffer({ texture }, { buffer, bytesPerRow: stride }, [width, height]);
      device.queue.submit([encoder.finish()]);
      await buffer.mapAsync(GPUMapMode.READ);
      const mapped = new Uint8Array(buffer.getMappedRange());
      const channels = gray ? 1 : 4;
      const samples = new Uint8Array(width * height * channels);
      for (let y = 0; y < height; y++) {
        const row = mapped.subarray(y * stride, y * stride + 4 * width);
        if (gray) for (let x = 0; x < width; x++) samples[y * width + x] = row[4 * x];
        else samples.set(row, y * width * 4);
      }
      buffer.destroy();
      texture.destroy();
      return samples;
    });
    if (bitmap !== image) bitmap.close();
    return { width, height, channels: gray ? 1 : 4, data };
  }

  /**
   * @param {Program} program @param {{values: Float32Array, frame: Frame, restore: (made: Float32Array) => Float32Array}} seen
   * @param {number} began @returns {Promise<Found>}
   */
  async found(program, { values, frame, restore }, began) {
    const { scoring: info } = this;
    const { input } = this.info;
    const score = (await program.read("score"))[0];
    const ms = performance.now() - began;
    if (!Number.isFinite(score))
      throw new Refusal("the score is NaN or infinite; the model's weights may be damaged");
    /** @type {Record<string, number>} */
    const parts = {};
    for (const part of info.parts) parts[part] = (await program.read(part))[0];
    const reconstruction = info.reconstruction ? restore(await program.read("reconstruction")) : null;
    let map = info.map ? smoothed(await program.read("map"), input.width, info.map.smooth) : null;
    if (map && this.normal) {
      const [mean, deviation] = this.normal;
      const floor = Math.max((0.1 * sum(deviation)) / deviation.length, 1e-12);
      map = map.map((value, i) => (value - mean[i]) / (deviation[i] + floor));
    }
    return { score, parts, ms, input: values, frame, reconstruction, map, ...this.judge(score) };
  }
}

/**
 * Loads an export: fetches and checks its files, takes a GPU, compiles and allocates.
 * @param {Source} source  its folder, or what gives its files
 * @param {{device?: GPUDevice, gpu?: GPU, sha256?: string, onProgress?: (done: number, of: number, what: string) => void}} [options]
 *     `sha256` is what program.json must have
 * @returns {Promise<Model>}
 */
export async function load(source, options = {}) {
  const get = fetcher(source);
  const bytes = await get("program.json", MOST.document);
  if (options.sha256 && (await sha256(bytes)) !== options.sha256)
    throw new Refusal("program.json has another SHA-256 than was asked for");
  let parsed;
  try {
    parsed = JSON.parse(new TextDecoder("utf-8", { fatal: true }).decode(bytes));
  } catch (error) {
    throw new Refusal(
      `program.json is no JSON (${/** @type {Error} */ (error).message}); export the model again`,
    );
  }
  const info = check(parsed);
  const gpu = await Gpu.open(options.gpu ?? globalThis.navigator?.gpu, options.device);
  const largest = Math.max(
    0,
    ...[info.states, ...Object.values(info.programs).map((p) => p.buffers)].flat().map((b) => size(b.len)),
  );
  const limit = Math.min(gpu.device.limits.maxStorageBufferBindingSize, gpu.device.limits.maxBufferSize);
  if (largest > limit)
    throw new DeviceError(`the model needs a buffer of ${largest} bytes, this GPU has at most ${limit}`);

  const modules = [...new Set(info.pipelines.map((p) => p.module))];
  const total = modules.length + 1 + info.pipelines.length;
  let done = 0;
  const tell = (/** @type {string} */ what) => options.onProgress?.(++done, total, what);
  const file = async (/** @type {string} */ name) => {
    const { bytes: length, sha256: hash } = info.files[name];
    const got = await get(name, length);
    if (got.byteLength !== length || (await sha256(got)) !== hash)
      throw new Refusal(`${name} was altered (its SHA-256 differs); export the model again`);
    tell(name);
    return got;
  };
  const [weights, ...texts] = await Promise.all([info.weights, ...modules].map(file));
  const data = info.train && (await file(info.train.images));
  const tensor = tensors(weights, info.weights);
  const { channels, height, width } = info.input ?? {};
  const images =
    info.train &&
    data &&
    tensors(data, info.train.images)("images", info.train.count * channels * height * width);
  const stored = info.states.map((state) => (state.stored ? tensor(state.name, state.len) : null));
  const { device } = gpu;
  const shaders = await gpu.guarded("the shaders", () => {
    const made = modules.map((name, i) => {
      const code = new TextDecoder().decode(texts[i]);
      return /** @type {[string, GPUShaderModule]} */ ([
        name,
        device.createShaderModule({ label: name, code }),
      ]);
    });
    return new Map(made);
  });
  const pipelines = await Promise.all(
    info.pipelines.map(async ({ module, entry, constants, params, bindings }) => {
      /** @type {GPUBufferBindingType[]} */
      const types = Array.from(bindings, (letter) => (letter === "r" ? "read-only-storage" : "storage"));
      const entries = ["uniform", ...types].map((type, binding) => ({
        binding,
        visibility: GPUShaderStage.COMPUTE,
        buffer: { type: /** @type {GPUBufferBindingType} */ (type) },
      }));
      const layout = device.createBindGroupLayout({ entries: entries.slice(params > 0 ? 0 : 1) });
      const compute = {
        module: /** @type {GPUShaderModule} */ (shaders.get(module)),
        entryPoint: entry,
        constants,
      };
      const descriptor = { layout: device.createPipelineLayout({ bindGroupLayouts: [layout] }), compute };
      const pipeline = await device.createComputePipelineAsync(descriptor).catch((error) => {
        gpu.alive();
        throw new Refusal(`${module} ${entry}: ${error.message}`);
      });
      tell(entry);
      return { pipeline, layout };
    }),
  );
  return gpu.guarded("the model", () => {
    const states = info.states.map((state, i) => {
      const buffer = gpu.buffer(state.len);
      const values = stored[i];
      if (values) device.queue.writeBuffer(buffer, 0, /** @type {Float32Array<ArrayBuffer>} */ (values));
      return buffer;
    });
    /** @type {Record<string, Program>} */
    const programs = {};
    for (const [name, program] of Object.entries(info.programs))
      programs[name] = new Program(gpu, program, states, pipelines);
    return new Model(gpu, info, programs, states, tensor, images);
  });
}
