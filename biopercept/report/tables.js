// Tables that a click or a key on a heading sorts: rising, falling, and back to the order of the page.
"use strict";
(() => {
  const SECONDS = { ms: 0.001, s: 1, min: 60, h: 3600 };

  // The number that a cell begins with ("0.84 [0.78, 0.90]", "1,234", "< 0.001", "13.5 min"); null where it is none.
  function numberOf(text) {
    const match = /^[<>\u2264\u2265]?\s*([+\-\u2212]?)\s*(\d[\d,]*\.?\d*(?:e[+\-]?\d+)?)\s*(ms|s|min|h)?(?![\w])/i.exec(text);
    if (!match) return null;
    const value = Number(match[2].replace(/,/g, "")) * (SECONDS[match[3]] || 1);
    return match[1] && match[1] !== "+" ? -value : value;
  }

  const isEmpty = (text) => text === "" || text === "n/a";

  function sorted(rows, column, direction) {
    const texts = new Map(rows.map((row) => [row, row.cells[column].textContent.trim()]));
    const known = [...texts.values()].filter((text) => !isEmpty(text));
    const areNumbers = known.every((text) => numberOf(text) !== null);
    return [...rows].sort((a, b) => {
      const [one, other] = [texts.get(a), texts.get(b)];
      if (isEmpty(one) || isEmpty(other)) return isEmpty(one) - isEmpty(other);
      if (areNumbers) return direction * (numberOf(one) - numberOf(other));
      return direction * one.localeCompare(other, "en", { numeric: true });
    });
  }

  function sortable(table) {
    const body = table.tBodies[0];
    const original = [...body.rows];
    const heads = [...table.tHead.rows[0].cells];
    heads.forEach((head, column) => {
      if (!head.textContent.trim()) return;
      const button = document.createElement("button");
      button.type = "button";
      button.className = "sort";
      button.append(...head.childNodes);
      head.append(button);
      button.addEventListener("click", () => {
        const next = { ascending: "descending", descending: "" };
        const order = head.hasAttribute("aria-sort") ? next[head.getAttribute("aria-sort")] : "ascending";
        heads.forEach((other) => other.removeAttribute("aria-sort"));
        if (order) head.setAttribute("aria-sort", order);
        body.append(...(order ? sorted(original, column, order === "ascending" ? 1 : -1) : original));
      });
    });
  }

  document.querySelectorAll("table[data-sort]").forEach(sortable);
})();
