// @ts-check
/** Sends images to the server that this page comes from, and lists what it says of them. */

/** Images that are listed; older ones are dropped. */
const MOST = 200;
/** Requests at once. */
const AT_ONCE = 4;

/** An element of the page. @param {string} id @returns {any} */
const at = (id) => document.getElementById(id);

/** A new element with a class and a text. @param {string} tag @param {string} [name] @param {string} [text] @returns {any} */
function make(tag, name = "", text = "") {
  const element = document.createElement(tag);
  element.className = name;
  element.textContent = text;
  return element;
}

/** A number of four digits. @param {number} value */
const digits = (value) => String(Number(value.toPrecision(4)));

/** Says what goes on, or what is wrong and what to do. @param {string} text @param {boolean} [wrong] */
function say(text, wrong = false) {
  at("status").textContent = text;
  at("status").className = wrong ? "problem" : "";
}

/** The token of this session; the tab forgets it when it is closed. */
const token = {
  get: () => sessionStorage.getItem("token") ?? "",
  set: (/** @type {string} */ value) => sessionStorage.setItem("token", value),
};

/** Asks the server. @param {string} path @param {RequestInit} [options] @returns {Promise<any>} */
async function ask(path, options = {}) {
  const headers = token.get() ? { Authorization: `Bearer ${token.get()}` } : {};
  const response = await fetch(path, { ...options, headers });
  const answer = await response.json().catch(() => ({ error: `status ${response.status}` }));
  if (response.status === 401) at("token").hidden = false;
  if (!response.ok) throw Object.assign(new Error(answer.error), { status: response.status });
  return answer;
}

/** @type {any[]} What the server serves. */
let models = [];
/** @type {{item: any, row: any}[]} Images with what was said of them, the latest first. */
let scored = [];
/** @type {{file: File, item: any}[]} Images that wait. */
let waiting = [];
let sending = 0;

const model = () => models[at("choice").selectedIndex];

/** The threshold that the slider stands at: the model's own in its middle, up to ten times as high or low. */
function threshold() {
  const own = model()?.threshold ?? median();
  const turn = (at("threshold").valueAsNumber - 500) / 500;
  return own >= 0 ? own * 10 ** turn : own * 10 ** -turn;
}

/** The middle of the scores, for models without a threshold. */
function median() {
  const scores = scored.map(({ row }) => row.score).sort((a, b) => a - b);
  return scores.length ? scores[scores.length >> 1] : 1;
}

/** Judges what is listed by the threshold. */
function judge() {
  const limit = threshold();
  const own = model()?.threshold != null && at("threshold").valueAsNumber === 500;
  const rate = own ? `, at most ${digits(100 * model().false_alarm_rate)} % false alarms` : "";
  at("value").textContent = `${digits(limit)}${rate}`;
  let anomalous = 0;
  for (const { item, row } of scored) {
    const is = own ? row.anomalous : row.score >= limit;
    anomalous += Number(is);
    item.classList.toggle("anomalous", is);
    item.querySelector(".verdict").textContent = is ? "anomalous" : "normal";
  }
  const left = waiting.length + sending;
  const rest = left ? `, ${left} to come` : "";
  at("summary").textContent = scored.length ? `${anomalous} of ${scored.length} anomalous${rest}` : "";
}

/** Takes files into the list. @param {Iterable<File>} files */
function take(files) {
  for (const file of files) {
    const item = make("li", "card");
    item.append(make("h2", "", file.name), make("p", "verdict", "waiting"));
    at("results").prepend(item);
    waiting.push({ file, item });
  }
  send();
}

/** Sends what waits, a few at a time. */
function send() {
  while (sending < AT_ONCE && waiting.length) {
    const next = /** @type {{file: File, item: any}} */ (waiting.shift());
    sending++;
    one(next.file, next.item).finally(() => {
      sending--;
      send();
      judge();
    });
  }
}

/** Sends an image and shows the answer; a busy server is asked again. @param {File} file @param {any} item */
async function one(file, item) {
  const query = new URLSearchParams({ model: model().name, map: at("maps").checked ? "png" : "none" });
  for (let tries = 0; ; tries++) {
    try {
      const { images } = await ask(`score?${query}`, { method: "POST", body: file });
      show(file, item, images[0]);
      return;
    } catch (error) {
      const { status, message } = /** @type {any} */ (error);
      if (status === 429 && tries < 60) {
        await new Promise((resolve) => setTimeout(resolve, 1000));
        continue;
      }
      item.querySelector(".verdict").textContent = message;
      item.querySelector(".verdict").classList.add("problem");
      return;
    }
  }
}

/** @param {File} file @param {any} item @param {any} row */
function show(file, item, row) {
  const stack = make("div", "stack");
  const picture = make("img");
  picture.alt = file.name;
  picture.addEventListener("load", () => URL.revokeObjectURL(picture.src));
  // Browsers draw neither TIFF nor DICOM.
  picture.addEventListener("error", () => picture.remove());
  picture.src = URL.createObjectURL(file);
  stack.append(picture);
  if (row.map) {
    const layer = make("img", "over");
    layer.alt = "where it differs";
    layer.src = row.map;
    // In front, since the style places it.
    stack.prepend(layer);
  }
  const percent = row.percentile == null ? "" : `, above ${digits(row.percentile)} % of normal images`;
  const { decoding, waiting: waited, scoring } = row.milliseconds;
  item.append(
    stack,
    make("p", "numbers", `score ${digits(row.score)}${percent}`),
    make("p", "numbers", `${digits(decoding + waited + scoring)} ms, with ${row.batch - 1} others`),
  );
  scored.unshift({ item, row });
  for (const old of scored.splice(MOST)) old.item.remove();
  judge();
}

/** Asks what is served. */
async function begin() {
  try {
    ({ models } = await ask("models"));
    models = models.filter((one) => one.form === "image");
    at("token").hidden = true;
    if (!models.length) {
      say("This server has no model of images; see /openapi.json for the others.", true);
      return;
    }
    at("choice").replaceChildren(...models.map((one) => make("option", "", one.name)));
    at("work").hidden = false;
    chosen();
  } catch (error) {
    say(`${/** @type {Error} */ (error).message}.`, true);
  }
}

/** Another model: its list begins anew. */
function chosen() {
  const { system, size, channels, tiled, held_out } = model();
  const seen = tiled ? `tiles of ${size[1]}×${size[0]}` : `${size[1]}×${size[0]}`;
  const basis = held_out ? `, threshold of ${held_out} held-out images` : ", no threshold of its own";
  at("model").textContent = `${system}, ${seen} ${channels === 1 ? "gray" : "colour"}${basis}`;
  at("threshold").value = "500";
  clear();
  say("Ready.");
}

function clear() {
  scored = [];
  waiting = [];
  at("results").replaceChildren();
  judge();
}

at("token").addEventListener("submit", (/** @type {Event} */ event) => {
  event.preventDefault();
  token.set(at("secret").value);
  at("secret").value = "";
  begin();
});
at("choice").addEventListener("change", chosen);
at("threshold").addEventListener("input", judge);
at("clear").addEventListener("click", clear);
at("files").addEventListener("change", (/** @type {any} */ event) => {
  take(event.target.files);
  event.target.value = "";
});
addEventListener("dragover", (event) => {
  event.preventDefault();
  at("drop").classList.add("over");
});
addEventListener("dragleave", () => at("drop").classList.remove("over"));
addEventListener("drop", (event) => {
  event.preventDefault();
  at("drop").classList.remove("over");
  take(event.dataTransfer?.files ?? []);
});
addEventListener("paste", (event) => take(event.clipboardData?.files ?? []));
begin();
