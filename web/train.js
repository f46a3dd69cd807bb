// @ts-check
/** The page that trains while one watches: what the generator draws, and the losses. */
import { at, digits, draw, make, open, say } from "./page.js";

const model = await open();
if (model?.info.train) begin(model, model.info.train);
else if (model) say("This export scores: there is nothing to train. Export a training with --train.", true);

/** @param {import("./ganomede.js").Model} model @param {import("./types.js").TrainInfo} train */
function begin(model, train) {
  const { input } = model.info;
  const len = input.channels * input.height * input.width;
  let [running, stop] = [false, false];
  /** @type {Record<string, {steps: number[], values: number[], plot: any, words: any}>} */
  const curves = {};
  grid(at("real"), model.images ?? new Float32Array(), Math.min(16, train.count));
  at("drawn").hidden = !train.sampler;
  if (!train.sampler) for (const id of ["walk", "walk-value"]) at(id).hidden = true;
  at("go").addEventListener("click", () => (running ? (stop = true) : go()));
  for (const id of ["every", "walk"]) {
    at(id).addEventListener("input", () => {
      at(`${id}-value`).textContent = at(id).value;
      if (id === "walk" && !running) show();
    });
  }
  show();

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
        await show();
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
  async function show() {
    if (!train.sampler) return;
    const { count, latent, prior } = train.sampler;
    const t = Number(at("walk").value);
    const ends = [0, 1].map((stream) => model.latents(prior, train.key, stream, count * latent));
    const z = ends[0].map((value, i) => (1 - t) * value + t * ends[1][i]);
    grid(at("samples"), await model.sample(z), count);
  }

  /** A grid of images, as near to a square as can be. @param {HTMLCanvasElement} canvas @param {Float32Array} images @param {number} count */
  function grid(canvas, images, count) {
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

  /** Adds a loss to its curve. @param {string} name @param {number} step @param {number} value */
  function curve(name, step, value) {
    if (!curves[name]) {
      const card = make("div", "card");
      const [plot, words] = [make("canvas", "plot"), make("p", "numbers")];
      plot.setAttribute("role", "img");
      card.append(make("h2", "", name), plot, words);
      at("curves").append(card);
      curves[name] = { steps: [], values: [], plot, words };
    }
    const { steps, values, plot, words } = curves[name];
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
