// @ts-check
/** The page that trains while one watches: what the generator draws, and the losses. */
import { at, data, digits, draw, make, open, say, table } from "./page.js";

const files = data();
/** Ends what the shown training does. @type {() => Promise<void>} */
let leave = async () => {};

/** The document that is chosen, in place of the first. @param {string} file @returns {import("./types.js").Source} */
const from = (file) => (name) => files.bytes(name === "program.json" ? file : name);

/** Loads a training and shows it. @param {string} file @param {string} about */
async function show(file, about) {
  at("go").disabled = true;
  say("Loading the training…");
  await leave();
  at("curves").replaceChildren();
  at("summary").textContent = "";
  at("about").textContent = about;
  const model = await open(recorded, from(file));
  at("go").disabled = !model;
  if (model?.info.train) leave = begin(model, model.info.train);
  else if (model) say("This export scores: there is nothing to train. Export a training with --train.", true);
}

/** The choices of an export with several trainings. @param {import("./types.js").RunInfo[]} runs */
function choices(runs) {
  for (const id of /** @type {("data" | "way")[]} */ (["data", "way"])) {
    const known = [...new Set(runs.map((run) => run[id]))];
    at(id).replaceChildren(...known.map((word) => make("option", "", word)));
    at(id).addEventListener("change", change);
  }
  at("runs").hidden = runs.length < 2;
  async function change() {
    const run = runs.find(({ data, way }) => data === at("data").value && way === at("way").value);
    if (!run) return;
    for (const id of ["data", "way"]) at(id).disabled = true;
    await show(run.file, run.about);
    for (const id of ["data", "way"]) at(id).disabled = false;
  }
}

/** Without a GPU: what the CPU did at export. */
async function recorded() {
  const [{ train, input }, seen] = [await files.json("program.json"), await files.json("recorded.json")];
  at("work").hidden = false;
  for (const id of ["every", "walk", "go", "data", "way"]) at(id).disabled = true;
  at("real").parentElement.hidden = true;
  const images = (/** @type {number[]} */ bytes) => Float32Array.from(bytes, (byte) => byte / 127.5 - 1);
  at("drawn").hidden = !train.sampler;
  if (train.sampler)
    grid(input, at("samples"), images(seen.drawn[seen.drawn.length - 1]), train.sampler.count);
  const add = curves();
  for (const [name, values] of Object.entries(seen.losses))
    values.forEach((/** @type {number} */ value, /** @type {number} */ i) => add(name, i + 1, value));
  return `the first ${seen.steps} steps are shown, as the CPU did them at export`;
}

/** Shows a training; returns what ends it. @param {import("./ganomede.js").Model} model @param {import("./types.js").TrainInfo} train */
function begin(model, train) {
  const { input } = model.info;
  let [running, stop] = [false, false];
  const gone = new AbortController();
  const { signal } = gone;
  const curve = curves();
  at("go").textContent = "Train";
  grid(input, at("real"), model.images ?? new Float32Array(), Math.min(16, train.count));
  at("drawn").hidden = !train.sampler;
  if (!train.sampler) for (const id of ["walk", "walk-value"]) at(id).hidden = true;
  at("go").addEventListener("click", () => (running ? (stop = true) : (training = go())), { signal });
  for (const id of ["every", "walk"]) {
    at(id).addEventListener(
      "input",
      () => {
        at(`${id}-value`).textContent = at(id).value;
        if (id === "walk" && !running) sample();
      },
      { signal },
    );
  }
  at("layers").hidden = true;
  sample();
  /** @type {Promise<void>} */
  let training = Promise.resolve();
  return async () => {
    stop = true;
    gone.abort();
    await training;
    model.destroy();
  };

  async function go() {
    [running, stop] = [true, false];
    at("go").textContent = "Stop";
    const [began, first] = [performance.now(), model.steps];
    try {
      while (!stop) {
        const every = Number(at("every").value);
        let seen;
        await model.train({ steps: every, every, onStep: (step) => void (seen = step) });
        const { step, losses } = /** @type {any} */ (seen);
        for (const [name, value] of Object.entries(losses)) curve(name, step, Number(value));
        await sample();
        await gradients();
        const rate = (1000 * (step - first)) / (performance.now() - began);
        say(`Step ${step}, epoch ${(step / (train.count / train.batch)).toFixed(1)}`);
        at("summary").textContent =
          `${rate.toFixed(1)} steps of ${train.batch} images a second, pictures included, on ${model.adapter}.`;
      }
    } catch (error) {
      say(`The training ended: ${/** @type {Error} */ (error).message}`, true);
    } finally {
      running = false;
      at("go").textContent = "Train on";
    }
  }

  /** Draws what the generator makes of latents between two that stay. */
  async function sample() {
    if (!train.sampler) return;
    const { count, latent, prior } = train.sampler;
    const t = Number(at("walk").value);
    const ends = [0, 1].map((stream) => model.latents(prior, train.key, stream, count * latent));
    const z = ends[0].map((value, i) => (1 - t) * value + t * ends[1][i]);
    grid(input, at("samples"), await model.sample(z), count);
  }

  /** The gradients of all weights, as Adam's first moments have them. */
  async function gradients() {
    /** @type {{weight: string, size: number}[]} */
    const rows = [];
    for (const { name } of model.info.states) {
      const [, weight] = /^adam[a-z_]*\.m\.(.*)\.weight$/.exec(name) ?? [];
      if (!weight || /_[bl]n$/.test(weight)) continue;
      const values = await model.read(name);
      const size = Math.sqrt(values.reduce((sum, v) => sum + v * v, 0) / values.length);
      rows.push({ weight, size });
    }
    at("layers").hidden = rows.length === 0;
    table(
      at("gradients"),
      ["weight", "gradient", "from 1e-8 to 1"],
      rows.map(({ weight, size }) => [weight, size.toExponential(1), ""]),
    );
    at("gradients")
      .querySelectorAll("tbody td:last-child")
      .forEach((/** @type {any} */ cell, /** @type {number} */ i) => {
        const bar = make("div", "bar");
        bar.style.width = `${Math.min(Math.max(12.5 * (Math.log10(rows[i].size) + 8), 0), 100)}%`;
        cell.append(bar);
      });
  }
}

/** A grid of images, as near to a square as can be. @param {import("./types.js").InputInfo} input @param {HTMLCanvasElement} canvas @param {Float32Array} images @param {number} count */
function grid(input, canvas, images, count) {
  const len = input.channels * input.height * input.width;
  const columns = Math.ceil(Math.sqrt(count));
  const rows = Math.ceil(count / columns);
  const [width, height] = [columns * input.width, rows * input.height];
  const all = new Float32Array(input.channels * width * height);
  for (let i = 0; i < count; i++) {
    const [left, top] = [(i % columns) * input.width, Math.floor(i / columns) * input.height];
    for (let c = 0; c < input.channels; c++)
      for (let y = 0; y < input.height; y++) {
        const from = i * len + (c * input.height + y) * input.width;
        all.set(images.subarray(from, from + input.width), (c * height + top + y) * width + left);
      }
  }
  draw(canvas, all, { width, height, channels: input.channels });
}

/** Curves of losses; what comes back adds a value to one. */
function curves() {
  /** @type {Record<string, {steps: number[], values: number[], plot: any, words: any}>} */
  const known = {};
  return add;

  /** @param {string} name @param {number} step @param {number} value */
  function add(name, step, value) {
    if (!known[name]) {
      const card = make("div", "card");
      const [plot, words] = [make("canvas", "plot"), make("p", "numbers")];
      plot.setAttribute("role", "img");
      card.append(make("h2", "", name), plot, words);
      at("curves").append(card);
      known[name] = { steps: [], values: [], plot, words };
    }
    const { steps, values, plot, words } = known[name];
    steps.push(step);
    values.push(value);
    words.textContent = `${digits(value)} at step ${step}`;
    plot.setAttribute("aria-label", `${name}: ${words.textContent}`);
    Object.assign(plot, { width: 2 * plot.clientWidth, height: 2 * plot.clientHeight });
    const context = plot.getContext("2d");
    const [low, high] = [Math.min(0, ...values), Math.max(...values)];
    context.lineWidth = 3;
    context.strokeStyle = getComputedStyle(plot).getPropertyValue("--first");
    context.beginPath();
    values.forEach((v, k) =>
      context.lineTo(
        (plot.width * steps[k]) / step,
        plot.height - 6 - ((plot.height - 12) * (v - low)) / (high - low || 1),
      ),
    );
    context.stroke();
  }
}

try {
  const { runs = [] } = /** @type {import("./types.js").Document} */ (await files.json("program.json"));
  choices(runs);
  await show("program.json", runs.length > 1 ? runs[0].about : "");
} catch (error) {
  say(`This page's files cannot be read: ${/** @type {Error} */ (error).message}.`, true);
}
