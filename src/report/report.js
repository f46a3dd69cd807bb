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
