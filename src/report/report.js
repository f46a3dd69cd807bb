// Sorts a table by the clicked column; without scripts the table is simply in its written order.
for (const head of document.querySelectorAll("table.sortable th")) {
  const button = document.createElement("button");
  button.append(...head.childNodes);
  head.append(button);
  button.addEventListener("click", () => {
    const table = head.closest("table"), body = table.tBodies[0], column = head.cellIndex;
    const sign = head.ariaSort === "descending" ? 1 : -1;
    for (const other of table.querySelectorAll("th")) other.ariaSort = null;
    head.ariaSort = sign < 0 ? "descending" : "ascending";
    const key = row => row.cells[column].dataset.v ?? row.cells[column].textContent;
    const numeric = head.classList.contains("n");
    const value = row => Number.isNaN(+key(row)) ? -Infinity : +key(row); // a missing number sorts lowest
    const compare = (a, b) => numeric ? value(a) - value(b) || 0
      : key(a).localeCompare(key(b), undefined, { numeric: true });
    body.append(...[...body.rows].sort((a, b) => sign * compare(a, b)));
  });
}

// Says where there is more at the side of what scrolls.
for (const area of document.querySelectorAll(".scroll")) {
  const hint = document.createElement("p");
  hint.className = "hint";
  hint.textContent = "more at the side: scroll ↔";
  area.after(hint);
  const look = () => {
    const hidden = area.scrollWidth - area.clientWidth - area.scrollLeft;
    area.classList.toggle("more", hidden > 2);
    area.classList.toggle("moved", area.scrollLeft > 2);
  };
  area.addEventListener("scroll", look, { passive: true });
  new ResizeObserver(look).observe(area);
}

// Enlarges the pictures of a card together, each pixel by the same whole number.
const viewer = document.createElement("dialog");
viewer.className = "viewer";
viewer.addEventListener("click", event => { if (event.target.tagName !== "IMG") viewer.close(); });
document.body.append(viewer);
const enlarge = (card, chosen) => {
  const title = document.createElement("span"), close = document.createElement("button");
  title.textContent = card.querySelector(".id").textContent;
  close.textContent = "Close";
  const header = document.createElement("header"), shown = document.createElement("div");
  header.append(title, close);
  viewer.replaceChildren(header, shown);
  const figures = [...card.querySelectorAll("figure")];
  const width = innerWidth - 48, height = innerHeight - 140, isNarrow = width < 560;
  const sides = figure => ["width", "height"].map(name => figure.querySelector("img").getAttribute(name) / figure.dataset.times);
  const most = Math.max(...figures.flatMap(sides)); // pixels of the pictures as they were
  let room = isNarrow ? width : 0; // on a phone one below the other, else in as many rows as make them largest
  for (let rows = 1; rows <= figures.length && !isNarrow; rows++) {
    room = Math.max(room, Math.min(width / Math.ceil(figures.length / rows) - 14, height / rows - 44));
  }
  for (const figure of figures) {
    const copy = figure.cloneNode(true), image = copy.querySelector("img"), from = figure.querySelector("img");
    const name = figure.closest(".system")?.querySelector("h4").textContent;
    if (name) copy.querySelector("figcaption").prepend(name + ": ");
    image.loading = "eager";
    image.removeAttribute("role");
    image.removeAttribute("tabindex");
    const scale = Math.max(1, Math.floor(room / most));
    [image.style.width, image.style.height] = sides(figure).map(side => side * scale + "px");
    shown.append(copy);
    if (from === chosen && isNarrow) setTimeout(() => copy.scrollIntoView());
  }
  viewer.showModal();
};
for (const image of document.querySelectorAll(".tiles img,.system img")) {
  image.tabIndex = 0;
  image.role = "button";
  const open = () => enlarge(image.closest(".panel"), image);
  image.addEventListener("click", open);
  image.addEventListener("keydown", event => {
    if (event.key !== "Enter" && event.key !== " ") return;
    event.preventDefault();
    open();
  });
}

// On paper nothing opens.
addEventListener("beforeprint", () => document.querySelectorAll("details").forEach(part => { part.open = true; }));
