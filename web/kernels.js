// @ts-check
/** The page of kernels: read a variant, change it, run it; right or not, how fast, and how far from the peak. */
import { DeviceError, load } from "./ganomede.js";
import { at, data, digits, make, say, table, unavailable } from "./page.js";
import { doubles, errorOf, featuresOf, lanesOf, numbers, part, planFor, seconds } from "./part.js";

/**
 * @typedef {{state: string, low: number, high: number, whole: boolean}} Numbers
 * @typedef {{line: string, flop: number, bytes: number, tolerance: number,
 *     plans: {program: string, lanes: number | null, f16: boolean}[], inputs: Numbers[], outputs: Numbers[],
 *     want: string[], twin_error: number | null}} Sample
 * @typedef {{name: string, tile: string, chosen: string, samples: Sample[]}} Rung
 * @typedef {{name: string, computes: string, rungs: Rung[]}} Ladder
 * @typedef {{oracle: string, ladders: Ladder[],
 *     peaks: {program: string, flop: number, bytes: number}[]}} Page
 */

const files = data();
/** Texts that were changed. @type {Record<string, string>} */
const changed = {};
/** Cells by the name of what ran. @type {Map<string, string[]>} */
const results = new Map();
const HEADINGS = ["kernel", "variant", "right", "error", "ms", "GFLOP/s", "GB/s", "of the peak"];
/** @type {import("./types.js").Document} */
let whole;
/** @type {Page} */
let page;
/** @type {{device: GPUDevice, lanes: number, f16: boolean, name: string} | null} */
let gpu = null;
/** Operations and bytes a second. @type {number[] | null} */
let peaks = null;
try {
  [whole, page] = [await files.json("program.json"), await files.json("kernels.json")];
  begin();
} catch (error) {
  say(`This page's files cannot be read: ${/** @type {Error} */ (error).message}.`, true);
}

const ladder = () => page.ladders[Number(at("ladder").value)];
const rung = () => ladder().rungs[Number(at("rung").value)];
const plan = (/** @type {Sample} */ sample) => planFor(sample.plans, gpu ?? { lanes: 0, f16: false });

async function begin() {
  options(
    "ladder",
    page.ladders.map(({ name }) => name),
  );
  at("ladder").addEventListener("change", choose);
  at("rung").addEventListener("change", read);
  at("module").addEventListener("change", text);
  at("text").addEventListener("input", () => {
    changed[at("module").value] = at("text").value;
    at("restore").disabled = false;
  });
  at("restore").addEventListener("click", () => {
    delete changed[at("module").value];
    text();
  });
  const now = (/** @type {boolean} */ timed) => () => busy(() => run(ladder(), rung(), timed, changed));
  at("run").addEventListener("click", now(false));
  at("time").addEventListener("click", now(true));
  at("all").addEventListener("click", () => busy(everything));
  at("copy").addEventListener("click", copy);
  at("work").hidden = false;
  try {
    const adapter = await navigator.gpu?.requestAdapter({ powerPreference: "high-performance" });
    if (!navigator.gpu || !adapter)
      throw new DeviceError(
        navigator.gpu
          ? "no GPU that WebGPU may use: allow hardware acceleration in the browser's settings"
          : "this browser has no WebGPU: use Chrome or Edge 113, Firefox 141 or Safari 26, or newer",
      );
    const lanes = lanesOf(adapter);
    const requiredFeatures = featuresOf(adapter);
    const f16 = requiredFeatures.includes("shader-f16");
    const { vendor, architecture, description } = adapter.info;
    const name = description || `${vendor} ${architecture}`.trim() || "a GPU";
    gpu = { device: await adapter.requestDevice({ requiredFeatures }), lanes, f16, name };
    gpu.device.lost.then(() => say("The GPU was lost. Reload the page.", true));
    at("model").textContent = `on ${name}${lanes > 0 ? `, subgroups of ${lanes}` : ", without subgroups"}${f16 ? ", with halves" : ""}`;
    say("Ready.");
  } catch (error) {
    for (const id of ["run", "time", "all"]) at(id).disabled = true;
    unavailable(error, "the table has the errors of the same kernels on the CPU, found at export");
    for (const one of page.ladders)
      for (const { name, samples } of one.rungs)
        results.set(`${one.name} ${name}`, [
          ...[one.name, name, "on the CPU", (samples[0].twin_error ?? 0).toExponential(1)],
          ...["", "", "", ""],
        ]);
    show();
  }
  choose();
}

/** Fills a list of choices. @param {string} id @param {string[]} words @param {string[]} [values] */
function options(id, words, values) {
  const made = words.map((word, i) => {
    const option = make("option", "", word);
    option.value = values ? values[i] : i;
    return option;
  });
  at(id).replaceChildren(...made);
}

function choose() {
  options(
    "rung",
    ladder().rungs.map(({ name, tile }, i) => `${i + 1} ${name}: ${tile}`),
  );
  read();
}

/** Shows the variant. */
function read() {
  const { samples, chosen } = rung();
  const small = plan(samples[0]) ?? samples[0].plans[0];
  const modules = whole.programs[small.program].launches.map((l) => whole.pipelines[l.pipeline].module);
  options("module", [...new Set(modules)], [...new Set(modules)]);
  at("about").textContent =
    `${ladder().computes[0].toUpperCase()}${ladder().computes.slice(1)}. When it is chosen: ${chosen}. Checked on ${samples[0].line}, timed on ${samples[1].line}.`;
  const dispatches = whole.programs[small.program].launches.map(({ pipeline, groups }) => {
    const { entry, constants } = whole.pipelines[pipeline];
    const values = Object.entries(constants).map(([name, value]) => `${name} = ${value}`);
    return `${entry}, ${groups.join(" × ")} workgroups${values.length > 0 ? `, ${values.join(", ")}` : ""}`;
  });
  at("dispatches").textContent = `When it is checked: ${dispatches.join("; ")}.`;
  text();
}

/** Shows the chosen shader. */
async function text() {
  const name = at("module").value;
  at("text").value = changed[name] ?? (await files.text(name));
  at("text").scrollTop = 0;
  at("restore").disabled = changed[name] === undefined;
}

/** Runs work with all buttons off. @param {() => Promise<void>} work */
async function busy(work) {
  const buttons = ["run", "time", "all"];
  for (const id of buttons) at(id).disabled = true;
  try {
    await work();
  } catch (error) {
    say(/** @type {Error} */ (error).message, true);
  } finally {
    for (const id of buttons) at(id).disabled = false;
  }
}

/** Loads a program of the export on this page's device. @param {string} program @param {Record<string, string>} texts */
async function open(program, texts) {
  if (!gpu) throw new DeviceError("there is no GPU");
  return load(await part(whole, program, files.bytes, texts), { device: gpu.device });
}

/** Runs a variant, and times it if it is right. @param {Ladder} ladder @param {Rung} rung @param {boolean} timed @param {Record<string, string>} texts */
async function run({ name: family }, { name, samples }, timed, texts) {
  const [small, typical] = samples;
  const chosen = plan(small);
  const title = `${family} ${name}`;
  if (!chosen) {
    const missing = small.plans[0].f16 ? "arithmetic in halves" : "subgroups of one size";
    say(`${title} needs ${missing}, which this GPU does not offer to pages.`);
    results.set(title, [family, name, `not run: no ${missing}`, "", "", "", "", ""]);
    return show();
  }
  say(`Running ${title}…`);
  const oracle = doubles(await files.bytes(page.oracle));
  const model = await open(chosen.program, texts);
  const error = await errorOf(model, small, chosen.program, oracle);
  model.destroy();
  const right = error <= small.tolerance;
  const cells = [family, name, right ? "yes" : "NO", error.toExponential(1), "", "", "", ""];
  if (right && timed) {
    const { program } = plan(typical) ?? chosen;
    peaks ??= await measured();
    say(`Timing ${title}…`);
    const large = await open(program, texts);
    for (const { state, ...range } of [...typical.inputs, ...typical.outputs]) {
      const at = large.info.states.findIndex((one) => one.name === state);
      gpu?.device.queue.writeBuffer(large.states[at], 0, numbers(large.info.states[at].len, range));
    }
    const took = await seconds(large, program);
    large.destroy();
    const roof = Math.max(typical.flop / peaks[0], typical.bytes / peaks[1]);
    const rate = (/** @type {number} */ count) => digits(count / took / 1e9);
    cells.splice(4, 4, digits(took * 1e3), rate(typical.flop), rate(typical.bytes), percent(roof / took));
  }
  results.set(title, cells);
  show();
  say(
    right
      ? `${title} is right: at most ${cells[3]} from what 64-bit loops give.`
      : `${title} is wrong: ${cells[3]} from what 64-bit loops give, where ${small.tolerance} is allowed.`,
    !right,
  );
}

/** What this GPU does at most, by loops that only multiply and add, and that only copy. */
async function measured() {
  say("Measuring what this GPU can do at most…");
  const rates = [];
  for (const { program, flop, bytes } of page.peaks) {
    const model = await open(program, {});
    rates.push((flop || bytes) / (await seconds(model, program)));
    model.destroy();
  }
  const [operations, bytes] = rates.map((rate) => digits(rate / 1e9));
  at("peaks").textContent =
    `Peaks measured on this page: ${operations} GFLOP/s of multiply-adds, ${bytes} GB/s of copies.`;
  return rates;
}

async function everything() {
  let wrong = 0;
  for (const one of page.ladders)
    for (const each of one.rungs) {
      await run(one, each, true, {});
      wrong += results.get(`${one.name} ${each.name}`)?.[2] === "NO" ? 1 : 0;
    }
  say(
    wrong === 0 ? "Every variant that this GPU can run is right." : `${wrong} variants are wrong.`,
    wrong > 0,
  );
}

const percent = (/** @type {number} */ share) => `${digits(100 * share)} %`;

function show() {
  table(at("results"), HEADINGS, [...results.values()]);
  at("copy").disabled = results.size === 0;
}

async function copy() {
  const line = (/** @type {string[]} */ cells) => `| ${cells.join(" | ")} |`;
  const lines = [HEADINGS, HEADINGS.map(() => "---"), ...results.values()].map(line);
  const where = [`${whole.written_by} on ${gpu?.name ?? "no GPU"}`, navigator.userAgent];
  const copied = [...where, at("peaks").textContent, "", ...lines, ""].join("\n");
  try {
    await navigator.clipboard.writeText(copied);
    say("Copied.");
  } catch {
    at("text").value = copied;
    say("The browser does not let this page copy: the table stands in the field of the shader.", true);
  }
}

try {
  [whole, page] = [await files.json("program.json"), await files.json("kernels.json")];
  await begin();
} catch (error) {
  say(`This page's files cannot be read: ${/** @type {Error} */ (error).message}.`, true);
}
