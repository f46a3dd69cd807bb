// @ts-check
/** The page that shows a latent search: the query, G(z) and the residual as they change, and both losses. */
import { at, digits, draw, drawMap, files, heldOut, make, open, say } from "./page.js";

/** @typedef {import("./types.js").Step} Step */

const model = await open(heldOut);
const found = model?.info.score?.search;
if (model && found) begin(model, found);
else if (model)
  say("This model scores in one pass: there is no search to watch. The other page scores images.", true);

/** @param {import("./ganomede.js").Model} model @param {import("./types.js").SearchInfo} search */
function begin(model, search) {
  /** Read by the search before each look. */
  const options = { lambda: search.lambda, lr: search.lr, steps: search.steps, restarts: 1 };
  slider("lambda", search.lambda, (value) => value);
  slider("lr", Math.log10(search.lr), (value) => 10 ** value);
  slider("steps", search.steps, (value) => value);
  slider("restarts", search.restarts, (value) => value);
  if (search.start === "encoder") at("restarts").disabled = true;
  /** @type {File | null} */
  let query = null;
  let [running, stop] = [false, false];
  files(([file]) => {
    if (!file || running) return;
    query = file;
    at("go").disabled = false;
    go();
  });
  at("go").addEventListener("click", () => (running ? (stop = true) : go()));

  /** @param {"lambda" | "lr" | "steps" | "restarts"} id @param {number} value @param {(place: number) => number} of */
  function slider(id, value, of) {
    at(id).value = value;
    at(`${id}-value`).textContent = digits(options[id]);
    at(id).addEventListener("input", () => {
      options[id] = of(Number(at(id).value));
      at(`${id}-value`).textContent = digits(options[id]);
    });
  }

  async function go() {
    if (!query) return;
    [running, stop] = [true, false];
    at("go").textContent = "Stop";
    at("results").replaceChildren();
    /** @type {ReturnType<typeof column>[]} */
    const columns = [];
    const began = performance.now();
    let steps = 0;
    try {
      const found = await model.search(
        query,
        Object.assign(options, {
          every: Math.max(Math.round(options.steps / 50), 1),
          onStep: (/** @type {Step} */ step) => {
            columns[step.restart] ??= column(step.restart);
            columns[step.restart].show(step);
            steps++;
            say(`Restart ${step.restart + 1}, step ${step.step} of ${step.steps}: loss ${digits(step.loss)}`);
            return !stop;
          },
        }),
      );
      const seconds = (performance.now() - began) / 1000;
      const done = (columns.length * options.steps) / seconds;
      const verdict =
        found.anomalous === null || found.percentile === null
          ? ""
          : ` ${found.anomalous ? "Anomalous" : "Normal"}: above ${found.percentile.toFixed(0)} % of normal images.`;
      at("summary").textContent =
        `Score ${digits(found.score)}.${verdict}` +
        (stop
          ? " Stopped early."
          : ` ${done.toFixed(0)} steps a second, pictures and curves included, on ${model.adapter}.`);
      say("Done.");
    } catch (error) {
      say(`The search ended: ${/** @type {Error} */ (error).message}`, true);
    } finally {
      running = false;
      at("go").textContent = "Search again";
    }
  }

  /** What a restart shows. @param {number} number */
  function column(number) {
    const card = make("li", "card");
    card.append(make("h2", "", `Restart ${number + 1}`));
    const row = make("div", "row");
    const views = ["query", "G(z)", "residual"].map((name) => {
      const figure = make("figure");
      const canvas = make("canvas");
      canvas.setAttribute("role", "img");
      canvas.setAttribute("aria-label", name);
      figure.append(canvas, make("figcaption", "", name));
      row.append(figure);
      return canvas;
    });
    const plot = make("canvas", "plot");
    plot.setAttribute("role", "img");
    const words = make("p", "numbers");
    card.append(row, plot, words);
    at("results").append(card);
    /** @type {Step[]} */
    const steps = [];
    return {
      /** @param {Step} step */
      show(step) {
        steps.push(step);
        const { scoring: score } = model;
        const { input } = model.info;
        draw(views[0], step.input, input);
        if (step.reconstruction) draw(views[1], step.reconstruction, input);
        if (step.map) drawMap(views[2], step.map, input.width, score.map?.range ?? [0, 1], true);
        words.textContent =
          `step ${step.step}: residual ${digits(step.parts.residual)}, ` +
          `discrimination ${digits(step.parts.discrimination)}, loss ${digits(step.loss)}`;
        plot.setAttribute("aria-label", words.textContent);
        curves(plot, steps);
      },
    };
  }
}

/** Both losses over the steps, each on its own scale. @param {HTMLCanvasElement} plot @param {Step[]} steps */
function curves(plot, steps) {
  Object.assign(plot, { width: 2 * plot.clientWidth, height: 2 * plot.clientHeight });
  const context = plot.getContext("2d");
  if (!context) return;
  const style = getComputedStyle(plot);
  context.lineWidth = 3;
  context.font = `24px ${style.fontFamily}`;
  ["residual", "discrimination"].forEach((part, i) => {
    const values = steps.map((step) => step.parts[part]);
    const most = Math.max(...values) || 1;
    context.strokeStyle = context.fillStyle = style.getPropertyValue(i === 0 ? "--first" : "--second");
    context.setLineDash(i === 0 ? [] : [10, 6]);
    context.beginPath();
    values.forEach((value, k) => {
      const x = (plot.width * steps[k].step) / steps[k].steps;
      context.lineTo(x, plot.height - 4 - (plot.height - 40) * (value / most));
    });
    context.stroke();
    context.textAlign = "right";
    context.fillText(`${part} (to ${digits(most)})`, plot.width - 8, plot.height - 46 + 30 * i);
  });
}
