// Tables that a click or a key on a heading sorts: rising, falling, and back to the order of the page. Each can be taken
// away as its cells are read.
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

  const quoted = (text) => {
    const safe = /^[=+@\t\r]|^-(?![\d.])/.test(text) ? `'${text}` : text;
    return /[",\n]/.test(safe) ? `"${safe.replace(/"/g, '""')}"` : safe;
  };
  for (const table of document.querySelectorAll("main .scroll table")) {
    const button = document.createElement("button");
    button.type = "button";
    button.className = "take";
    button.textContent = "Table (CSV)";
    const title = table.parentElement.getAttribute("aria-label");
    button.setAttribute("aria-label", `Table (CSV): ${title}`);
    button.addEventListener("click", () => {
      const lines = [...table.rows].map((row) => [...row.cells].map((cell) => quoted(cell.textContent.trim())).join(","));
      const link = document.createElement("a");
      link.download = `${title.replace(/[^A-Za-z0-9]+/g, "-").slice(0, 60)}.csv`;
      link.href = `data:text/csv;charset=utf-8,${encodeURIComponent(`${lines.join("\n")}\n`)}`;
      link.click();
    });
    table.parentElement.after(button);
  }

  document.querySelectorAll("table[data-sort]").forEach(sortable);
})();
