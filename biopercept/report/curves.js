// Curves to zoom and read off, drawn from the numbers that a figure carries; the picture stays for paper.
"use strict";
(() => {
  const DASHES = [[], [6, 3], [2, 3]];
  const HEIGHT = 150;
  const MOST_NAMED = 12;

  // The columns of a CSV file in a data: address, numbers or null; names are quoted where they hold a comma.
  function columnsOf(link) {
    const bytes = Uint8Array.from(atob(link.href.slice(link.href.indexOf(",") + 1)), (c) => c.charCodeAt(0));
    const [head, ...lines] = new TextDecoder().decode(bytes).trimEnd().split("\n");
    const names = [...head.matchAll(/"((?:[^"]|"")*)"(?:,|$)|([^,]*)(?:,|$)/g)]
      .map((match) => (match[1] === undefined ? match[2] : match[1].replace(/""/g, '"')));
    const rows = lines.map((line) => line.split(",").map((cell) => (cell === "" ? null : Number(cell))));
    const columns = rows[0].map((_, place) => rows.map((row) => row[place]));
    return { names: names.slice(0, columns.length), columns };
  }

  function optionsOf(title, names, xName, width, isLast, key, shades) {
    const ink = "#1f2933"; // as on white; on a dark page the style turns the canvas, as it turns pictures
    const grid = { stroke: "#e4e7eb", width: 1 };
    const axis = { stroke: ink, grid, ticks: grid, font: "12px system-ui, sans-serif" };
    const isRange = names.length === 2 && names[0].endsWith("lowest") && names[1].endsWith("highest");
    const lines = names.map((name, place) => ({
      label: name,
      stroke: shades[isRange ? 0 : place % shades.length],
      dash: DASHES[isRange ? 0 : Math.floor(place / shades.length) % DASHES.length],
      width: isRange ? 0.7 : 1.4,
      points: { show: false },
    }));
    return {
      title,
      width,
      height: HEIGHT + (isLast ? 45 : 20),
      legend: { show: names.length <= MOST_NAMED },
      cursor: { sync: { key }, drag: { x: true, y: false } },
      scales: { x: { time: false } },
      axes: [{ ...axis, label: isLast ? xName : undefined, labelSize: 18 }, { ...axis, size: 62 }],
      series: [{ label: xName }, ...lines],
      bands: isRange ? [{ series: [2, 1], fill: `${shades[0]}40` }] : [],
    };
  }

  // Arrows read off the next value, plus and minus zoom, Home shows everything; what is read off stays in view.
  function onKey(event, plots, state) {
    const { scales: { x }, data: [across] } = plots[0];
    const [first, last] = [across[0], across[across.length - 1]];
    const point = () => plots.forEach((plot) => plot.setCursor({ left: plot.valToPos(across[state.place], "x"), top: 10 }));
    const show = (from, width) => {
      const whole = Math.min(width, last - first), min = Math.min(Math.max(from, first), last - whole);
      plots.forEach((plot) => plot.setScale("x", { min, max: min + whole }));
    };
    const zoom = (factor) => {
      const width = (x.max - x.min) * factor;
      show((state.place === null ? (x.min + x.max) / 2 : across[state.place]) - width / 2, width);
    };
    const move = (step) => {
      const inView = across.findIndex((value) => value >= x.min);
      state.place = state.place === null ? inView : Math.min(Math.max(state.place + step, 0), across.length - 1);
      const value = across[state.place];
      if (value < x.min || value > x.max) show(value - (x.max - x.min) / 2, x.max - x.min);
      state.read.textContent = [plots[0], ...plots].flatMap((plot, n) => plot.series
        .map((series, k) => [series.label, plot.data[k][state.place], k])
        .filter(([, number, k]) => (n ? k > 0 : k === 0) && number !== null)
        .map(([label, number]) => `${label} ${Number(number.toPrecision(4))}`)).join(", ");
    };
    const actions = {
      ArrowLeft: () => move(-1),
      ArrowRight: () => move(1),
      "+": () => zoom(0.5),
      "-": () => zoom(2),
      Home: () => show(first, last - first),
    };
    if (!actions[event.key] || event.ctrlKey || event.metaKey || event.altKey) return;
    event.preventDefault();
    actions[event.key]();
    if (state.place !== null) queueMicrotask(point); // once the scale has been set
  }

  function drawn(link, box) {
    const { names, columns } = columnsOf(link);
    const panels = JSON.parse(link.dataset.panels);
    const key = link.download, shades = JSON.parse(link.dataset.shades);
    let at = 1;
    return panels.map(([title, n], place) => {
      const options = optionsOf(
        title, names.slice(at, at + n), names[0], box.clientWidth, place === panels.length - 1, key, shades,
      );
      const plot = new uPlot(options, [columns[0], ...columns.slice(at, at + n)], box);
      at += n;
      return plot;
    });
  }

  for (const link of document.querySelectorAll("a[data-panels]")) {
    const figure = link.closest("figure");
    const picture = figure.querySelector(".plot");
    const button = document.createElement("button");
    button.type = "button";
    button.textContent = "Explore the curves";
    button.setAttribute("aria-pressed", "false");
    link.before(button);
    let box = null;
    button.addEventListener("click", () => {
      const isOpen = button.getAttribute("aria-pressed") === "false";
      button.setAttribute("aria-pressed", String(isOpen));
      button.textContent = isOpen ? "Show the picture" : "Explore the curves";
      picture.hidden = isOpen;
      if (box) {
        box.hidden = !isOpen;
        return;
      }
      box = document.createElement("div");
      box.className = "curves";
      box.tabIndex = 0;
      box.setAttribute("role", "group");
      box.setAttribute("aria-label", "Curves: drag to zoom, double click or Home shows all, arrows read off, + and - zoom");
      picture.after(box);
      const plots = drawn(link, box);
      const state = { place: null, read: document.createElement("p") };
      state.read.className = "soft read";
      state.read.setAttribute("role", "status");
      box.append(state.read);
      box.addEventListener("keydown", (event) => onKey(event, plots, state));
      new ResizeObserver(() => {
        if (box.clientWidth) plots.forEach((plot) => plot.setSize({ width: box.clientWidth, height: plot.height }));
      }).observe(box);
    });
  }
})();
