// What is wrong with how a page looks, as lines of text; runs in the page. `limits` are those of pages.py.
limits => {
  const faults = [];
  const width = document.documentElement.clientWidth;
  const shown = element => element.checkVisibility({ checkOpacity: true, checkVisibilityCSS: true });
  const box = element => element.getBoundingClientRect();
  const name = element => {
    const kind = element.getAttribute("class");
    const text = (element.textContent || element.getAttribute("alt") || "").trim().replace(/\s+/g, " ").slice(0, 50);
    return `<${element.localName}${kind ? ` class="${kind}"` : ""}> "${text}"`;
  };
  const scroller = element => {
    for (let at = element.parentElement; at; at = at.parentElement) {
      if (["auto", "scroll"].includes(getComputedStyle(at).overflowX)) return at;
    }
    return null;
  };

  // Nothing is wider than the screen but what scrolls by itself, and that says so.
  if (document.documentElement.scrollWidth > width) {
    faults.push(`the page is ${document.documentElement.scrollWidth} pixels wide on a screen of ${width}`);
  }
  for (const element of document.body.querySelectorAll("*")) {
    if (!shown(element)) continue;
    const { left, right } = box(element);
    if ((right > width + 1 || left < -1) && !scroller(element) && !element.closest("svg")) {
      faults.push(`sticks out of the screen: ${name(element)}`);
    }
    const style = getComputedStyle(element);
    const scrolls = ["auto", "scroll"].includes(style.overflowX);
    if (scrolls && element.scrollWidth > element.clientWidth + 2) {
      const hint = element.nextElementSibling;
      if (!hint || !shown(hint) || !/scroll/.test(hint.textContent)) {
        faults.push(`scrolls sideways and does not say so: ${name(element)}`);
      }
    }
    const cuts = ["hidden", "clip"].includes(style.overflowX) || style.textOverflow === "ellipsis";
    if (cuts && element.scrollWidth > element.clientWidth + 1 && element.textContent.trim()) {
      faults.push(`cut at the side: ${name(element)}`);
    }
  }

  // Text lies within its element's box and its card, whole and not over other text.
  const texts = document.createTreeWalker(document.body, NodeFilter.SHOW_TEXT);
  while (texts.nextNode()) {
    const holder = texts.currentNode.parentElement, text = texts.currentNode.data.trim();
    if (!text || !shown(holder) || ["script", "style"].includes(holder.localName)) continue;
    if (/…$/.test(text)) faults.push(`cut text: "${text}"`);
    const card = holder.closest(".card,.panel,figure,td,th,li,figcaption,pre");
    if (!card || holder.closest("svg")) continue;
    const range = document.createRange();
    range.selectNodeContents(texts.currentNode);
    for (const line of range.getClientRects()) {
      const { left, right } = box(card);
      if (line.right > right + 1 || line.left < left - 1) {
        faults.push(`text out of its place: "${text.slice(0, 50)}" in ${name(card)}`);
        break;
      }
    }
    // A word breaks only behind a separator: within it there is no end of a line between two letters.
    const words = [...texts.currentNode.data.matchAll(/[\p{L}\p{N}]{2,24}/gu)];
    for (const word of words) {
      range.setStart(texts.currentNode, word.index);
      range.setEnd(texts.currentNode, word.index + word[0].length);
      const tops = new Set([...range.getClientRects()].filter(r => r.width > 0).map(r => Math.round(r.top)));
      if (tops.size > 1) faults.push(`broken within a word: "${word[0]}" of "${text.slice(0, 60)}"`);
    }
  }
  for (const svg of document.querySelectorAll("svg")) {
    if (!shown(svg)) continue;
    const outer = box(svg), labels = [...svg.querySelectorAll("text")];
    labels.forEach((label, i) => {
      const inner = box(label), text = label.textContent.trim();
      if (!text) return;
      if (inner.left < outer.left - 1 || inner.right > outer.right + 1 || inner.top < outer.top - 1 ||
          inner.bottom > outer.bottom + 1) {
        faults.push(`text out of its figure: "${text}" in ${svg.getAttribute("aria-label")}`);
      }
      for (const other of labels.slice(i + 1)) {
        const b = box(other);
        const over = Math.min(inner.right, b.right) - Math.max(inner.left, b.left);
        const down = Math.min(inner.bottom, b.bottom) - Math.max(inner.top, b.top);
        if (over > 1 && down > 0.3 * Math.min(inner.height, b.height)) {
          faults.push(`texts over each other: "${text}" and "${other.textContent.trim()}" in ${svg.getAttribute("aria-label")}`);
        }
      }
    });
  }

  // Cards hold something, over most of their width, and their rows are even.
  for (const card of document.querySelectorAll(".card,.panel,figure.plot,.table")) {
    if (!shown(card)) continue;
    const outer = box(card), style = getComputedStyle(card);
    const inner = outer.width - parseFloat(style.paddingLeft) - parseFloat(style.paddingRight);
    const parts = [...card.querySelectorAll("img,svg,p,h3,h4,td,th,strong,.value,span")].filter(shown).map(box);
    const used = parts.filter(b => b.width * b.height > 0);
    if (!used.length) {
      faults.push(`empty: ${name(card)}`);
      continue;
    }
    const pictures = [...card.querySelectorAll("img")].filter(shown).map(box);
    if (!pictures.length || card.classList.contains("table")) continue;
    const rows = new Map();
    for (const b of pictures) rows.set(Math.round(b.top), (rows.get(Math.round(b.top)) ?? 0) + b.width);
    const share = Math.max(...rows.values()) / inner;
    if (share < limits.leastPictures) {
      faults.push(`${Math.round(100 * (1 - share))} % of its width is blank: ${name(card)}`);
    }
  }
  for (const grid of document.querySelectorAll(".cards,.tiles,.systems")) {
    const children = [...grid.children].filter(shown);
    if (children.length < 2) continue;
    const rows = new Map();
    for (const child of children) {
      const top = Math.round(box(child).top);
      rows.set(top, [...(rows.get(top) ?? []), child]);
    }
    const counts = [...rows.values()].map(row => row.length);
    const last = box([...rows.values()].at(-1).at(-1)).right, edge = box(grid).right;
    if (grid.classList.contains("cards")) {
      if (edge - last > 2) faults.push(`an empty place for a card behind ${name([...rows.values()].at(-1).at(-1))}`);
    } else if (Math.max(...counts) - Math.min(...counts) > limits.unevenness) {
      faults.push(`rows of ${counts.join(" + ")}: ${name(grid.closest(".panel") ?? grid)}`);
    }
  }

  // Pixels: what is drawn in squares is scaled by whole numbers, what is small can be enlarged.
  for (const image of document.querySelectorAll("img")) {
    if (!shown(image)) continue;
    image.loading = "eager";
    const scale = box(image).width / image.naturalWidth * (image.parentElement.dataset.times ?? 1);
    if (getComputedStyle(image).imageRendering === "pixelated" && Math.abs(scale - Math.round(scale)) > 1e-3) {
      faults.push(`pixels scaled by ${scale.toFixed(3)}: ${image.alt}`);
    }
    const isSmall = box(image).width < 150 && image.closest(".panel");
    if (isSmall && image.getAttribute("role") !== "button") faults.push(`small and cannot be enlarged: ${image.alt}`);
  }

  // Grey is dark enough to be read.
  const luminance = colour => {
    const [r, g, b] = colour.map(c => c / 255).map(c => c <= 0.04045 ? c / 12.92 : ((c + 0.055) / 1.055) ** 2.4);
    return 0.2126 * r + 0.7152 * g + 0.0722 * b;
  };
  const numbers = colour => (colour.match(/[\d.]+/g) ?? []).map(Number);
  const behind = element => {
    for (let at = element; at; at = at.parentElement) {
      const colour = numbers(getComputedStyle(at).backgroundColor);
      if (colour.length === 3 || colour[3] > 0) return colour.slice(0, 3);
    }
    return [255, 255, 255];
  };
  const known = new Set();
  for (const element of document.querySelectorAll("p,span,td,th,li,strong,small,h1,h2,h3,h4,figcaption,code,text")) {
    if (!shown(element) || !element.textContent.trim()) continue;
    const style = getComputedStyle(element);
    const ink = numbers(element.localName === "text" ? style.fill : style.color).slice(0, 3);
    const paper = behind(element.closest("svg")?.parentElement ?? element);
    const [dark, light] = [luminance(ink), luminance(paper)].sort((a, b) => a - b);
    const contrast = (light + 0.05) / (dark + 0.05);
    const key = `${ink}/${paper}`;
    if (contrast < limits.contrast && !known.has(key)) {
      known.add(key);
      faults.push(`contrast ${contrast.toFixed(1)} of rgb(${ink}) on rgb(${paper}): ${name(element)}`);
    }
  }
  return [...new Set(faults)];
}
