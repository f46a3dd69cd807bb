// @ts-check
/** The page that shows what becomes of an expression: nodes, gradients, launches and their shaders. */
import { load } from "./ganomede.js";
import { at, data, digits, make, say, table, unavailable } from "./page.js";
import { part, relativeError } from "./part.js";

/**
 * @typedef {{name: string, shape: number[], values: number[]}} Values
 * @typedef {{kind: string, formula: string, inputs: number[], shape: number[]}} Node
 * @typedef {{index: number, scope: string, kernel: string, variant: string, dispatches: number, shapes: string,
 *     flop: number, reads: string[], writes: string[]}} Row
 * @typedef {{program: string, nodes: number, kept: number, outputs: [string, number][], cpu: Values[],
 *     launches: Row[], bytes: number}} Level
 * @typedef {{name: string, title: string, about: string, source: string, inputs: Values[], nodes: Node[],
 *     levels: Level[]}} Expression
 */

const SVG = "http://www.w3.org/2000/svg";
/** Size of a node, and the room around it. */
const [WIDE, HIGH, BESIDE, BELOW] = [132, 40, 14, 26];

const files = data();
/** @type {import("./types.js").Document} */
let document_;
/** @type {Expression[]} */
let expressions = [];

function begin() {
  for (const [i, { title }] of expressions.entries()) {
    const option = make("option", "", title);
    option.value = i;
    at("expression").append(option);
  }
  const known = expressions.findIndex(({ name }) => `#${name}` === location.hash);
  if (known >= 0) at("expression").value = known;
  for (const id of ["expression", "level"]) at(id).addEventListener("change", show);
  at("work").hidden = false;
  show();
}

let shown = 0;

/** Shows the chosen expression, then what the GPU makes of it. */
async function show() {
  const expression = expressions[Number(at("expression").value)];
  const level = expression.levels[Number(at("level").value)];
  history.replaceState(null, "", `#${expression.name}`);
  at("about").textContent = expression.about;
  at("source").textContent = expression.source;
  const { launches } = level;
  at("summary").textContent =
    `${level.nodes} nodes recorded, ${level.kept} left after simplifying, ${launches.length} ` +
    `${launches.length === 1 ? "launch" : "launches"}, ${level.bytes} bytes of buffers.`;
  graph(expression, level);
  table(
    at("nodes"),
    ["node", "what it computes", "of", "shape"],
    expression.nodes
      .slice(0, level.nodes)
      .map((node, i) => [
        String(i),
        node.formula,
        node.inputs.map((input, k) => `${"abcdefgh"[k]} = ${input}`).join(", "),
        shape(node.shape),
      ]),
  );
  table(
    at("inputs"),
    ["input", "shape", "values"],
    expression.inputs.map((input) => [input.name, shape(input.shape), few(input.values)]),
  );
  at("launches").replaceChildren(...rows(level));
  outputs(level, null);
  const mine = ++shown;
  try {
    say("Running on your GPU…");
    const model = await load(await part(document_, level.program, files.bytes));
    const program = model.programs[level.program];
    for (const input of expression.inputs)
      if (program.find("input", input.name) >= 0) program.write(input.name, input.values);
    await program.run();
    const found = [];
    for (const { name } of level.cpu) found.push(await program.read(name));
    const { adapter } = model;
    model.destroy();
    if (mine !== shown) return;
    at("model").textContent = `on ${adapter}`;
    const worst = outputs(level, found);
    say(
      worst <= 1e-4
        ? `Your GPU and the CPU agree within ${worst.toExponential(0)}.`
        : `Your GPU differs from the CPU by ${worst.toExponential(1)}: more than 1e-4, which is a fault.`,
      !(worst <= 1e-4),
    );
  } catch (error) {
    if (mine === shown)
      unavailable(error, "what the CPU gave when this page was exported stands below, and so does all else");
  }
}

/** The values of all outputs beside the CPU's; returns the largest difference. @param {Level} level @param {Float32Array[] | null} found */
function outputs(level, found) {
  let worst = 0;
  const lines = level.cpu.map(({ name, shape: of, values }, i) => {
    const error = found ? relativeError(found[i], values) : 0;
    worst = Math.max(worst, error);
    const cells = [name, shape(of), few(values)];
    return found ? [...cells, few(found[i]), error.toExponential(0)] : [...cells, "", ""];
  });
  table(at("outputs"), ["output", "shape", "the CPU at export", "your GPU", "apart"], lines);
  return worst;
}

/** Sizes, or a word where there are none. @param {number[]} sizes */
const shape = (sizes) => sizes.join("×") || "scalar";
/** The first numbers. @param {ArrayLike<number>} values */
const few = (values) => {
  const first = Array.from({ length: Math.min(values.length, 4) }, (_, i) => digits(values[i]));
  return first.join(", ") + (values.length > 4 ? ", …" : "");
};

/** The launches with their shaders. @param {Level} level */
function rows(level) {
  const { launches: all } = document_.programs[level.program];
  let next = 0;
  return level.launches.map((row) => {
    const item = make("li");
    const details = make("details");
    const summary = make("summary");
    summary.append(
      make("strong", "", `${row.kernel} ${row.variant}`),
      ` ${row.shapes}: `,
      make("span", "numbers", `reads ${row.reads.join(", ") || "nothing"}; writes ${row.writes.join(", ")}`),
    );
    details.append(summary);
    const dispatches = all.slice(next, next + row.dispatches);
    next += row.dispatches;
    details.addEventListener(
      "toggle",
      async () => {
        for (const { pipeline, groups, params } of dispatches) {
          const { module, entry, constants } = document_.pipelines[pipeline];
          const values = Object.entries(constants).map(([name, value]) => `${name} = ${value}`);
          const words = [
            `${module}, entry point ${entry}`,
            `${groups.join(" × ")} workgroups`,
            values.length > 0 ? `constants ${values.join(", ")}` : "no constants",
            `${params.length} words of parameters`,
          ];
          const code = make("pre", "code");
          code.tabIndex = 0;
          code.setAttribute("aria-label", module);
          details.append(make("p", "numbers", words.join("; ")), code);
          code.textContent = await files.text(module);
        }
      },
      { once: true },
    );
    item.append(details);
    return item;
  });
}

/** The tape as a drawing: each node below all that it reads. @param {Expression} expression @param {Level} level */
function graph(expression, level) {
  const nodes = expression.nodes.slice(0, level.nodes);
  const ends = expression.levels.map((one) => one.nodes);
  const of = new Map(level.outputs.map(([name, node]) => [node, name]));
  /** @type {number[]} */
  const rank = [];
  nodes.forEach(({ inputs }, i) => (rank[i] = Math.max(-1, ...inputs.map((input) => rank[input])) + 1));
  // Leaves, and what is made of constants alone, stand right above the first node that reads them.
  /** @type {boolean[]} */
  const fixed = [];
  nodes.forEach(({ kind, inputs }, i) => {
    fixed[i] = inputs.length > 0 ? inputs.every((input) => fixed[input]) : kind === "constant";
  });
  for (let i = nodes.length - 1; i >= 0; i--) {
    const readers = nodes.flatMap((node, k) => (node.inputs.includes(i) ? [rank[k]] : []));
    if ((fixed[i] || nodes[i].inputs.length === 0) && readers.length > 0) rank[i] = Math.min(...readers) - 1;
  }
  /** @type {number[][]} */
  const lines = Array.from({ length: Math.max(...rank) + 1 }, () => []);
  rank.forEach((line, i) => lines[line].push(i));
  // In each line nodes stand below what they read, as far as there is room.
  /** @type {number[]} */
  const x = [];
  for (const line of lines) {
    const wanted = (/** @type {number} */ i) => {
      const above = nodes[i].inputs.filter((input) => x[input] !== undefined);
      return above.length > 0 ? above.reduce((sum, input) => sum + x[input], 0) / above.length : i * 8;
    };
    line.sort((a, b) => wanted(a) - wanted(b));
    let free = 0;
    for (const i of line) {
      x[i] = Math.max(free, wanted(i));
      free = x[i] + WIDE + BESIDE;
    }
  }
  const left = Math.min(...x);
  const width = Math.max(...x) - left + WIDE + 2 * BESIDE;
  const height = lines.length * (HIGH + BELOW);
  const svg = element("svg", { width, height, viewBox: `0 0 ${width} ${height}`, role: "img" });
  svg.setAttribute("aria-label", `${nodes.length} nodes; the table below lists them`);
  const place = (/** @type {number} */ i) => [x[i] - left + BESIDE, rank[i] * (HIGH + BELOW) + 4];
  nodes.forEach(({ inputs }, i) => {
    const [to, below] = place(i);
    for (const input of inputs) {
      const [from, above] = place(input);
      const [a, b] = [from + WIDE / 2, to + WIDE / 2];
      const d = `M${a} ${above + HIGH}C${a} ${above + HIGH + BELOW} ${b} ${below - BELOW} ${b} ${below}`;
      svg.append(element("path", { d, class: `edge level-${ends.findIndex((end) => i < end)}` }));
    }
  });
  nodes.forEach((node, i) => {
    const [a, b] = place(i);
    const group = element("g", {
      class: `node level-${ends.findIndex((end) => i < end)}${of.has(i) ? " output" : ""}`,
    });
    group.append(element("rect", { x: a, y: b, width: WIDE, height: HIGH, rx: 6 }));
    const formula = node.formula.length > 19 ? `${node.formula.slice(0, 18)}…` : node.formula;
    const name = of.get(i);
    for (const [text, down] of /** @type {[string, number][]} */ ([
      [formula, 17],
      [`${i}: ${shape(node.shape)}${name ? ` → ${name}` : ""}`, 32],
    ])) {
      const words = element("text", { x: a + WIDE / 2, y: b + down });
      words.textContent = text;
      group.append(words);
    }
    svg.append(group);
  });
  at("graph").replaceChildren(svg);
}

/** @param {string} name @param {Record<string, string | number>} attributes */
function element(name, attributes) {
  const made = document.createElementNS(SVG, name);
  for (const [key, value] of Object.entries(attributes)) made.setAttribute(key, String(value));
  return made;
}

try {
  document_ = await files.json("program.json");
  ({ expressions } = await files.json("tape.json"));
  begin();
} catch (error) {
  say(`This page's files cannot be read: ${/** @type {Error} */ (error).message}.`, true);
}
