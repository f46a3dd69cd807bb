// @ts-check
/** The page of the two-dimensional toy: points, the generator's cloud, the discriminator's field. */
import { load } from "./ganomede.js";
import { at, data, digits, make, say, unavailable } from "./page.js";

/**
 * @typedef {{step: number, loss_d: number, loss_g: number, cloud: number[], field: number[]}} Moment
 * @typedef {{batch: number, cloud: number, side: number, reach: number, lr: number,
 *     sets: {name: string, points: number[]}[], recorded: Moment[]}} Page
 */

const files = data();
/** @type {Page} */
let page;
/** @type {import("./ganomede.js").Model | null} */
let model = null;
let [step, running, stop] = [0, false, false];
/** @type {number[][]} */
let losses = [];
try {
  page = await files.json("toy.json");
  begin();
} catch (error) {
  say(`This page's files cannot be read: ${/** @type {Error} */ (error).message}.`, true);
}

const points = () => page.sets[Number(at("set").value)].points;
const rate = (/** @type {string} */ id) => 10 ** Number(at(id).value);

async function begin() {
  page.sets.forEach(({ name }, i) => {
    const option = make("option", "", name);
    option.value = i;
    at("set").append(option);
  });
  at("work").hidden = false;
  for (const id of ["times", "lr-d", "lr-g"])
    at(id).addEventListener("input", () => {
      at(`${id}-value`).textContent = id === "times" ? at(id).value : digits(rate(id));
    });
  at("set").addEventListener("change", () => !running && look());
  at("pulls").addEventListener("change", () => !running && look());
  at("go").addEventListener("click", () => (running ? (stop = true) : train(Infinity)));
  at("one").addEventListener("click", () => !running && train(1));
  at("anew").addEventListener("click", async () => {
    if (running) return;
    model?.destroy();
    await open();
  });
  await open();
}

/** Loads the start of the training. */
async function open() {
  [step, losses] = [0, []];
  try {
    model = await load("./");
    at("model").textContent = `on ${model.adapter}`;
    model.lost.then((reason) => say(`The GPU was lost (${reason}). Reload the page.`, true));
    model.programs.field.write("at", lattice());
    model.programs.cloud.write("z", normal(1, page.cloud));
    await look();
    say("Ready.");
  } catch (error) {
    model = null;
    replayed(error);
  }
}

/** Normal numbers of a stream. @param {number} stream @param {number} count  of points */
const normal = (stream, count) => model?.latents("normal", [1, 0], stream, 2 * count) ?? new Float32Array();

/** The places of the field, row by row from the top. */
function lattice() {
  const { side, reach } = page;
  const place = (/** @type {number} */ i) => reach * ((2 * (i + 0.5)) / side - 1);
  return Float32Array.from({ length: 2 * side * side }, (_, i) => {
    const k = i >> 1;
    return i % 2 === 0 ? place(k % side) : -place(Math.floor(k / side));
  });
}

/** Trains until it is stopped, or for some steps. @param {number} count */
async function train(count) {
  if (!model) return;
  [running, stop] = [true, false];
  at("go").textContent = "Stop";
  const [began, first] = [performance.now(), step];
  try {
    for (let shown = performance.now(); count > 0 && !stop; count--) {
      await once(model);
      const late = performance.now() - shown > 60;
      if (late || count === 1) {
        await look();
        shown = performance.now();
        // No wait for a frame: a page that is not seen gets none.
        await new Promise((resolve) => setTimeout(resolve));
        const each = (1000 * (step - first)) / (performance.now() - began);
        say(`Step ${step}`);
        at("summary").textContent = `${each.toFixed(0)} steps a second, pictures included.`;
      }
    }
  } catch (error) {
    say(`The training ended: ${/** @type {Error} */ (error).message}`, true);
  } finally {
    running = false;
    at("go").textContent = "Train on";
  }
}

/** D's steps, then one of G. @param {import("./ganomede.js").Model} model */
async function once({ programs: { d, g } }) {
  const { batch } = page;
  const all = points();
  const times = Number(at("times").value);
  for (let k = 0; k < times; k++) {
    const from = (2 * batch * (step * times + k)) % all.length;
    d.write("x", all.slice(from, from + 2 * batch));
    d.write("z", normal(1000 + 20 * step + k, batch));
    d.write("lr", [rate("lr-d")]);
    await d.run();
  }
  g.write("z", normal(1019 + 20 * step, batch));
  g.write("lr", [rate("lr-g")]);
  await g.run();
  step++;
}

/** Draws what there is. */
async function look() {
  if (!model) return;
  const { cloud, field, d, g } = model.programs;
  await cloud.run();
  await field.run();
  const [made, belief] = [await cloud.read("points"), await field.read("belief")];
  const arrows = step > 0 ? [await g.read("at"), await g.read("pull")] : null;
  if (step > 0) losses.push([step, (await d.read("loss"))[0], (await g.read("loss"))[0]]);
  draw(made, belief, at("pulls").checked ? arrows : null);
  curves();
}

/** Without a GPU: what the CPU did at export, one moment after the other. @param {unknown} error */
function replayed(error) {
  unavailable(error, `a training that the CPU did at export is shown, ${page.recorded.length} moments of it`);
  for (const id of ["go", "one", "anew", "set", "times", "lr-d", "lr-g", "pulls"]) at(id).disabled = true;
  let i = 0;
  const show = () => {
    const moment = page.recorded[i % page.recorded.length];
    if (moment.step === 0) losses = [];
    else losses.push([moment.step, moment.loss_d, moment.loss_g]);
    draw(moment.cloud, moment.field, null);
    curves();
    at("summary").textContent = `Step ${moment.step} of the recorded training.`;
    i++;
  };
  show();
  setInterval(show, 1500);
}

/** @param {ArrayLike<number>} made @param {ArrayLike<number>} belief @param {Float32Array[] | null} arrows */
function draw(made, belief, arrows) {
  const canvas = at("plane");
  const size = 2 * Math.max(canvas.clientWidth, 200);
  Object.assign(canvas, { width: size, height: size });
  const context = canvas.getContext("2d");
  const style = getComputedStyle(canvas);
  const [real, fake, text] = ["--second", "--first", "--text"].map((name) => style.getPropertyValue(name));
  const { side, reach } = page;
  const edge = (/** @type {number} */ i) => Math.round((i * size) / side);
  context.fillStyle = text;
  for (let i = 0; i < side * side; i++) {
    context.globalAlpha = 0.3 * belief[i];
    const [x, y] = [i % side, Math.floor(i / side)];
    context.fillRect(edge(x), edge(y), edge(x + 1) - edge(x), edge(y + 1) - edge(y));
  }
  const place = (/** @type {number} */ v, /** @type {number} */ sign) =>
    (size * ((sign * v) / reach + 1)) / 2;
  const dots = (
    /** @type {ArrayLike<number>} */ list,
    /** @type {string} */ colour,
    /** @type {number} */ r,
  ) => {
    context.fillStyle = colour;
    for (let i = 0; i < list.length; i += 2) {
      context.beginPath();
      context.arc(place(list[i], 1), place(list[i + 1], -1), r, 0, 2 * Math.PI);
      context.fill();
    }
  };
  context.globalAlpha = 0.45;
  dots(points(), real, 4);
  context.globalAlpha = 0.9;
  dots(made, fake, 4);
  if (arrows) {
    const [from, pull] = arrows;
    const longest = Math.max(1e-12, ...pull.map(Math.abs));
    // Lengths of this moment, and of all moments as far as they are small.
    const scale = Math.min(0.3 / longest, 60);
    context.strokeStyle = fake;
    context.lineWidth = 2;
    for (let i = 0; i < from.length; i += 2) {
      context.beginPath();
      context.moveTo(place(from[i], 1), place(from[i + 1], -1));
      context.lineTo(place(from[i] + scale * pull[i], 1), place(from[i + 1] + scale * pull[i + 1], -1));
      context.stroke();
    }
  }
  context.globalAlpha = 1;
}

/** Both losses. */
function curves() {
  const plot = at("losses");
  Object.assign(plot, { width: 2 * plot.clientWidth, height: 2 * plot.clientHeight });
  if (losses.length === 0) return;
  const context = plot.getContext("2d");
  const style = getComputedStyle(plot);
  const most = Math.max(...losses.flatMap(([, d, g]) => [d, g]), 1.5);
  const last = losses[losses.length - 1];
  context.lineWidth = 3;
  [1, 2].forEach((k) => {
    context.strokeStyle = style.getPropertyValue(k === 1 ? "--second" : "--first");
    context.setLineDash(k === 1 ? [10, 6] : []);
    context.beginPath();
    for (const loss of losses)
      context.lineTo(
        (plot.width * loss[0]) / last[0],
        plot.height - 6 - (plot.height - 12) * (loss[k] / most),
      );
    context.stroke();
  });
  plot.setAttribute("aria-label", `Step ${last[0]}: loss of D ${digits(last[1])}, of G ${digits(last[2])}`);
}

try {
  page = await files.json("toy.json");
  await begin();
} catch (error) {
  say(`This page's files cannot be read: ${/** @type {Error} */ (error).message}.`, true);
}
