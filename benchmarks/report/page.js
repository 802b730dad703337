"use strict";
// Tables sort by a click on a head. Without this they are read in the order of the run.
for (const table of document.querySelectorAll("table.sortable")) {
  const heads = table.tHead.rows[0].cells, body = table.tBodies[0];
  const value = (row, i) => {
    const cell = row.cells[Math.min(i, row.cells.length - 1)];
    return "value" in cell.dataset ? parseFloat(cell.dataset.value) : NaN;
  };
  const sort = (i, down) => {
    const rows = [...body.rows];
    rows.sort((a, b) => {
      if (i === 0) return (down ? -1 : 1) * a.cells[0].innerText.localeCompare(b.cells[0].innerText);
      const x = value(a, i), y = value(b, i);
      if (isNaN(x) || isNaN(y)) return isNaN(x) - isNaN(y);
      return down ? y - x : x - y;
    });
    body.append(...rows);
    for (const head of heads) head.removeAttribute("aria-sort");
    heads[i].setAttribute("aria-sort", down ? "descending" : "ascending");
  };
  [...heads].forEach((head, i) => {
    const button = document.createElement("button");
    button.append(...head.childNodes);
    button.addEventListener("click", () => sort(i, head.getAttribute("aria-sort") === "ascending"));
    head.append(button);
  });
}
