// @ts-check
/** The page that scores images: drop them, move the threshold, see where they differ. */
import { at, digits, drawMap, files, heldOut, make, open, say } from "./page.js";

/** @typedef {import("./types.js").Found} Found */

/** @type {{found: Found, card: any, verdict: any}[]} */
const shown = [];
/** Share of false alarms at a place of the slider: 0.1 % to 50 %, evenly by factors. @param {number} place */
const rateAt = (place) => 0.001 * 500 ** (place / 100);
const placeOf = (/** @type {number} */ rate) => (100 * Math.log(rate / 0.001)) / Math.log(500);

const model = await open(heldOut);
if (model) begin(model);

/** @param {import("./ganomede.js").Model} model */
function begin(model) {
  const { threshold, map, search } = model.scoring;
  at("pages").hidden = !search;
  at("verdicts").hidden = !threshold && !map;
  at("maps").parentElement.hidden = !map;
  for (const id of ["rate", "threshold"]) at(id).hidden = !threshold;
  const rate = () => (moved ? rateAt(Number(at("rate").value)) : undefined);
  let moved = false;
  at("rate").value = placeOf(0.05);
  at("rate").addEventListener("input", () => {
    moved = true;
    judge();
  });
  at("maps").addEventListener("change", () => at("results").classList.toggle("plain", !at("maps").checked));
  files((list) => list.forEach((file) => score(file, file.name)));
  camera();
  judge();

  /** Scores an image and shows it. @param {File | ImageBitmap} image @param {string} name */
  async function score(image, name) {
    const card = make("li", "card");
    const figure = make("figure");
    const caption = make("figcaption");
    const verdict = make("p", "verdict", "Waiting…");
    caption.append(make("h2", "", name), verdict);
    figure.append(caption);
    card.append(figure);
    at("results").prepend(card);
    try {
      const found = await model.score(image);
      figure.prepend(await picture(image, name, found));
      const parts = Object.entries(found.parts).map(([part, value]) => `${part} ${digits(value)}`);
      caption.append(
        make(
          "p",
          "numbers",
          [`score ${digits(found.score)}`, ...parts, `${found.ms.toFixed(0)} ms`].join(" · "),
        ),
      );
      shown.push({ found, card, verdict });
      judge();
    } catch (error) {
      verdict.textContent = `Cannot be scored: ${/** @type {Error} */ (error).message}`;
      card.classList.add("anomalous");
    }
  }

  /** The image under its map. @param {File | ImageBitmap} image @param {string} name @param {Found} found */
  async function picture(image, name, { input, map: values, frame }) {
    const stack = make("div", "stack");
    const bitmap = image instanceof Blob ? await createImageBitmap(image) : image;
    const { width, height } = bitmap;
    const whole = make("canvas");
    Object.assign(whole, { width, height });
    whole.setAttribute("role", "img");
    whole.setAttribute("aria-label", name);
    whole.getContext("2d").drawImage(bitmap, 0, 0);
    stack.append(whole);
    if (values && map) {
      const over = make("canvas", "over");
      drawMap(
        over,
        values,
        model.info.input.width,
        map.range ?? [0, input.length === values.length ? 1 : 0.8],
      );
      const share = (/** @type {number} */ part, /** @type {number} */ of) => `${(100 * part) / of}%`;
      Object.assign(over.style, {
        left: share(frame.x, width),
        top: share(frame.y, height),
        width: share(frame.width, width),
        height: share(frame.height, height),
      });
      over.setAttribute("aria-hidden", "true");
      stack.append(over);
    }
    return stack;
  }

  /** Verdicts at the slider's place. */
  function judge() {
    const share = rate();
    let anomalous = 0;
    for (const { found, card, verdict } of shown) {
      const judged = model.judge(found.score, share);
      card.classList.toggle("anomalous", judged.anomalous === true);
      anomalous += judged.anomalous ? 1 : 0;
      if (judged.anomalous === null || judged.percentile === null)
        verdict.textContent = `Score ${digits(found.score)}`;
      else
        verdict.textContent = `${judged.anomalous ? "Anomalous" : "Normal"}: above ${judged.percentile.toFixed(0)} % of normal images`;
    }
    const now = model.judge(0, share).threshold;
    if (threshold && now !== null) {
      const least = 1 / (threshold.held_out.count + 1);
      const few =
        share !== undefined && share < least
          ? `; ${threshold.held_out.count} held-out images promise no less than ${(100 * least).toFixed(1)} %`
          : "";
      at("threshold").textContent =
        share === undefined
          ? `anomalous from ${digits(now)} on (${threshold.source})`
          : `at most ${(100 * share).toPrecision(2)} %: anomalous from ${digits(now)} on${few}`;
      at("rate").setAttribute("aria-valuetext", at("threshold").textContent);
    }
    const times = shown.map(({ found }) => found.ms).sort((a, b) => a - b);
    at("summary").textContent =
      shown.length === 0
        ? ""
        : [
            `${shown.length} ${shown.length === 1 ? "image" : "images"}`,
            threshold ? `${anomalous} anomalous` : "",
            `${times[times.length >> 1].toFixed(0)} ms an image (median) on ${model.adapter}`,
          ]
            .filter(Boolean)
            .join(", ") + ".";
  }

  /** A picture of the camera at each press of the button. */
  function camera() {
    const [button, video] = [at("camera"), at("video")];
    let count = 0;
    button.hidden = !navigator.mediaDevices?.getUserMedia;
    button.addEventListener("click", async () => {
      try {
        if (!video.srcObject) {
          video.srcObject = await navigator.mediaDevices.getUserMedia({ video: true });
          video.hidden = false;
          await video.play();
          button.textContent = "Score this picture";
          return;
        }
        score(await createImageBitmap(video), `camera ${++count}`);
      } catch (error) {
        say(`The camera cannot be used: ${/** @type {Error} */ (error).message}`, true);
      }
    });
  }
}
