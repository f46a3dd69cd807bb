// @ts-check
/** What the pages share: loading with its words, dropped files, numbers, and pictures of arrays. */
import { load } from "./ganomede.js";

/** An element of the page. @param {string} id @returns {any} */
export const at = (id) => document.getElementById(id);

/** A new element with a class and a text. @param {string} tag @param {string} [name] @param {string} [text] @returns {any} */
export function make(tag, name = "", text = "") {
  const element = document.createElement(tag);
  element.className = name;
  element.textContent = text;
  return element;
}

/** A number of four digits. @param {number} value */
export const digits = (value) => String(Number(value.toPrecision(4)));

/** Says what goes on, or what is wrong and what to do. @param {string} text @param {boolean} [wrong] */
export function say(text, wrong = false) {
  at("status").textContent = text;
  at("status").className = wrong ? "problem" : "";
}

/**
 * Loads the model of this folder, or says why not, and shows what was recorded in its place.
 * @param {() => Promise<string>} recorded  shows it, and says what it is
 * @param {import("./types.js").Source} [source]
 * @returns {Promise<import("./ganomede.js").Model | null>}
 */
export async function open(recorded, source = "./") {
  const progress = at("progress");
  progress.hidden = false;
  try {
    const model = await load(source, {
      onProgress: (done, of) => Object.assign(progress, { value: done, max: of }),
    });
    const { title, system, score, input } = model.info;
    const what = score ? `score ${score.name}, ` : "";
    const colours = input.channels === 1 ? "gray" : "colour";
    at("model").textContent =
      `${title} (${system}), ${what}${input.width}×${input.height} ${colours}, on ${model.adapter}`;
    say("Ready.");
    at("work").hidden = false;
    model.lost.then((reason) => say(`The GPU was lost (${reason}). Reload the page.`, true));
    return model;
  } catch (error) {
    const instead = await recorded().catch(() => "");
    unavailable(error, instead);
    return null;
  } finally {
    progress.hidden = true;
  }
}

/** Says why there is no GPU, and what is shown in its place. @param {unknown} error @param {string} instead */
export function unavailable(error, instead) {
  const more = instead && ` Instead, ${instead}.`;
  say(`This page cannot run here: ${/** @type {Error} */ (error).message}.${more}`, true);
}

/**
 * What an export says of a model without running it: its threshold and the scores of held-out normal images.
 * @returns {Promise<string>}
 */
export async function heldOut() {
  /** @type {import("./types.js").Document} */
  const { title, score } = await data().json("program.json");
  const threshold = score?.threshold;
  if (!threshold) return "";
  const { count, knots } = threshold.held_out;
  const figure = make("figure", "card");
  const plot = make("canvas", "plot");
  plot.setAttribute("role", "img");
  const words =
    `${count} held-out normal images scored ${digits(knots[0])} to ${digits(knots[knots.length - 1])}; ` +
    `an image is anomalous from ${digits(threshold.value)} on`;
  plot.setAttribute("aria-label", words);
  figure.append(make("figcaption", "numbers", `${title}: ${words} (the line).`), plot);
  at("status").after(figure);
  Object.assign(plot, { width: 2 * plot.clientWidth, height: 2 * plot.clientHeight });
  const bins = new Array(30).fill(0);
  const [low, high] = [knots[0], Math.max(knots[knots.length - 1], threshold.value)];
  const place = (/** @type {number} */ score) => (0.96 * (score - low)) / (high - low || 1);
  for (const knot of knots) bins[Math.min(Math.floor(30 * place(knot)), 29)]++;
  const context = plot.getContext("2d");
  const most = Math.max(...bins);
  const colour = (/** @type {string} */ name) => getComputedStyle(plot).getPropertyValue(name);
  context.fillStyle = colour("--first");
  bins.forEach((n, i) => {
    const tall = (0.9 * plot.height * n) / most;
    context.fillRect((i * plot.width) / 30 + 2, plot.height - tall, plot.width / 30 - 4, tall);
  });
  context.fillStyle = colour("--second");
  context.fillRect(place(threshold.value) * plot.width, 0, 4, plot.height);
  return "what the model learned of normal images at its calibration is shown";
}

/** The files of this folder, each fetched once. */
export function data() {
  /** @type {Map<string, Promise<ArrayBuffer>>} */
  const known = new Map();
  /** @param {string} name */
  const bytes = (name) => {
    const found =
      known.get(name) ??
      fetch(new URL(name, location.href)).then((answer) => {
        if (!answer.ok) throw new Error(`${name}: the server says ${answer.status}`);
        return answer.arrayBuffer();
      });
    known.set(name, found);
    return found;
  };
  const text = async (/** @type {string} */ name) => new TextDecoder().decode(await bytes(name));
  return { bytes, text, json: async (/** @type {string} */ name) => JSON.parse(await text(name)) };
}

/** Fills a table. @param {HTMLTableElement} table @param {string[]} headings @param {string[][]} rows */
export function table(table, headings, rows) {
  const line = (/** @type {string[]} */ cells, /** @type {string} */ tag) => {
    const row = make("tr");
    for (const [i, cell] of cells.entries()) {
      const made = make(i === 0 ? "th" : tag, "", cell);
      if (i === 0 || tag === "th") made.scope = tag === "th" ? "col" : "row";
      row.append(made);
    }
    return row;
  };
  const [head, body] = [make("thead"), make("tbody")];
  head.append(line(headings, "th"));
  body.append(...rows.map((cells) => line(cells, "td")));
  table.replaceChildren(head, body);
}

/** Hands on images that are dropped, chosen or pasted. @param {(files: File[]) => void} take */
export function files(take) {
  const drop = at("drop");
  const images = (/** @type {Iterable<File>} */ list) =>
    take(Array.from(list).filter((f) => f.type.startsWith("image/")));
  at("files").addEventListener("change", (/** @type {any} */ event) => {
    images(event.target.files);
    event.target.value = "";
  });
  addEventListener("dragover", (event) => {
    event.preventDefault();
    drop.classList.add("over");
  });
  addEventListener("dragleave", () => drop.classList.remove("over"));
  addEventListener("drop", (event) => {
    event.preventDefault();
    drop.classList.remove("over");
    images(event.dataTransfer?.files ?? []);
  });
  addEventListener("paste", (event) => images(event.clipboardData?.files ?? []));
}

/** Draws values in [−1, 1], planes of channels, onto a canvas. @param {HTMLCanvasElement} canvas @param {ArrayLike<number>} values @param {{width: number, height: number, channels: number}} size */
export function draw(canvas, values, { width, height, channels }) {
  paint(canvas, width, height, (i) => {
    const byte = (/** @type {number} */ c) =>
      127.5 * (values[(channels === 3 ? c : 0) * width * height + i] + 1);
    return [byte(0), byte(1), byte(2), 255];
  });
}

/** Draws a map in colours that cover more where it is higher. @param {HTMLCanvasElement} canvas @param {ArrayLike<number>} map @param {number} width @param {number[]} range @param {boolean} [opaque] */
export function drawMap(canvas, map, width, [low, high], opaque = false) {
  paint(canvas, width, map.length / width, (i) => {
    const t = Math.min(Math.max((map[i] - low) / (high - low), 0), 1);
    const alpha = opaque ? 255 : 230 * Math.min(1.5 * t, 1);
    return [...heat(t), alpha];
  });
}

/** Dark violet over red and orange to yellow. @param {number} t */
function heat(t) {
  const stops = [
    [20, 11, 52],
    [132, 32, 107],
    [229, 92, 48],
    [246, 215, 70],
  ];
  const place = t * (stops.length - 1);
  const i = Math.min(Math.floor(place), stops.length - 2);
  return stops[i].map((from, c) => from + (stops[i + 1][c] - from) * (place - i));
}

/** @param {HTMLCanvasElement} canvas @param {number} width @param {number} height @param {(i: number) => number[]} pixel */
function paint(canvas, width, height, pixel) {
  Object.assign(canvas, { width, height });
  const image = new ImageData(width, height);
  for (let i = 0; i < width * height; i++) image.data.set(pixel(i), 4 * i);
  canvas.getContext("2d")?.putImageData(image, 0, 0);
}
