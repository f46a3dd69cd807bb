// @ts-check
/**
 * One program of an export by itself: as a document of its own, so that a page with hundreds of programs compiles
 * those that are asked for; what it gives against what is wanted; and how fast it is. Nothing here needs a page.
 */

/** @typedef {import("./types.js").Document} Document */
/** @typedef {import("./ganomede.js").Model} Model */

/** @param {string} text */
async function digest(text) {
  const bytes = new TextEncoder().encode(text);
  const hash = new Uint8Array(await crypto.subtle.digest("SHA-256", bytes));
  return { bytes, sha256: Array.from(hash, (byte) => byte.toString(16).padStart(2, "0")).join("") };
}

/**
 * What `load` takes for one program of a document: the launches, pipelines, states and files that it needs.
 * @param {Document} whole @param {string} name  of the program
 * @param {(name: string) => Promise<ArrayBuffer>} get  gives the files
 * @param {Record<string, string>} [texts]  shaders in place of those of the export
 * @returns {Promise<(name: string) => Promise<ArrayBuffer>>}
 */
export async function part(whole, name, get, texts = {}) {
  const program = structuredClone(whole.programs[name]);
  const pipelines = [...new Set(program.launches.map((launch) => launch.pipeline))];
  for (const launch of program.launches) launch.pipeline = pipelines.indexOf(launch.pipeline);
  const states = [...new Set(program.buffers.flatMap(({ state }) => (state === undefined ? [] : [state])))];
  for (const buffer of program.buffers)
    if (buffer.state !== undefined) buffer.state = states.indexOf(buffer.state);
  const document = {
    ...whole,
    programs: { [name]: program },
    pipelines: pipelines.map((i) => whole.pipelines[i]),
    states: states.map((i) => whole.states[i]),
    files: { ...whole.files },
  };
  /** @type {Record<string, Uint8Array<ArrayBuffer>>} */
  const own = {};
  for (const [file, text] of Object.entries(texts)) {
    const { bytes, sha256 } = await digest(text);
    own[file] = bytes;
    document.files[file] = { bytes: bytes.length, sha256 };
  }
  own["program.json"] = new TextEncoder().encode(JSON.stringify(document));
  return async (file) => (Object.hasOwn(own, file) ? own[file].buffer : get(file));
}

/**
 * Tensors of 64-bit floats, by name: what f64 loops gave.
 * @param {ArrayBuffer} bytes  of a safetensors file @returns {(name: string) => Float64Array}
 */
export function doubles(bytes) {
  const header = Number(new DataView(bytes).getBigUint64(0, true));
  const entries = JSON.parse(new TextDecoder().decode(new Uint8Array(bytes, 8, header)));
  return (name) => {
    const [from, to] = entries[name].data_offsets;
    return new Float64Array(bytes.slice(8 + header + from, 8 + header + to));
  };
}

/**
 * The largest error over the root mean square of what is wanted, as `kernels verify` has it; what is no number
 * where one is wanted is infinitely wrong.
 * @param {ArrayLike<number>} got @param {ArrayLike<number>} want
 */
export function relativeError(got, want) {
  if (got.length !== want.length) return Infinity;
  let [squares, worst] = [0, 0];
  for (let i = 0; i < want.length; i++) squares += want[i] * want[i];
  const scale = Math.max(Math.sqrt(squares / Math.max(want.length, 1)), 1e-3);
  for (let i = 0; i < want.length; i++) {
    if (Object.is(got[i], want[i]) || got[i] === want[i]) continue;
    const error = Math.abs(got[i] - want[i]) / scale;
    worst = Number.isNaN(error) ? Infinity : Math.max(worst, error);
  }
  return worst;
}

/** Numbers that make sense in a buffer. @param {number} len @param {{low: number, high: number, whole: boolean}} range */
export function numbers(len, { low, high, whole }) {
  const values = new Float32Array(len);
  let word = 12345;
  for (let i = 0; i < len; i++) {
    word = (Math.imul(word, 1664525) + 1013904223) >>> 0;
    const value = low + ((high - low) * (word >>> 8)) / 2 ** 24;
    values[i] = whole ? Math.floor(value) : value;
  }
  return values;
}

/**
 * Seconds of a replay: as many as take a fifth of a second, after one that is not counted.
 * @param {Model} model @param {string} name  of the program
 */
export async function seconds(model, name) {
  const program = model.programs[name];
  await program.run();
  for (let times = 1; ; times *= 2) {
    const began = performance.now();
    await program.run(times);
    const took = (performance.now() - began) / 1000;
    if (took > 0.2 || times >= 4096) return took / times;
  }
}

/**
 * Whether a rung's small sample is right on this device: its largest error.
 * @param {Model} model  of the sample's program @param {{outputs: {state: string}[], want: string[]}} sample
 * @param {string} name  of the program @param {(name: string) => Float64Array} oracle
 */
export async function errorOf(model, sample, name, oracle) {
  await model.programs[name].run();
  let worst = 0;
  for (const [i, { state }] of sample.outputs.entries())
    worst = Math.max(worst, relativeError(await model.read(state), oracle(sample.want[i])));
  return worst;
}

/** The plan of a sample that a device can run: without subgroups, or for subgroups of its size, and in halves only where it has them. @param {{program: string, lanes: number | null, f16: boolean}[]} plans @param {{lanes: number, f16: boolean}} device  lanes 0 without subgroups */
export const planFor = (plans, device) =>
  plans.find(({ lanes, f16 }) => (lanes === null || lanes === device.lanes) && (!f16 || device.f16));

/** WebGPU's names of what the kernels use beyond its defaults, where an adapter has it. @param {GPUAdapter} adapter */
export function featuresOf(adapter) {
  const f16 = adapter.features.has("shader-f16");
  return /** @type {GPUFeatureName[]} */ ([
    ...(lanesOf(adapter) > 0 ? ["subgroups"] : []),
    ...(f16 ? ["shader-f16"] : []),
  ]);
}

/** The lanes that all subgroups of a device have; 0 without subgroups or where they differ. @param {GPUAdapter} adapter */
export function lanesOf(adapter) {
  const { subgroupMinSize, subgroupMaxSize } = /** @type {any} */ (adapter.info);
  const one = adapter.features.has("subgroups") && subgroupMinSize === subgroupMaxSize;
  return one ? subgroupMinSize : 0;
}
