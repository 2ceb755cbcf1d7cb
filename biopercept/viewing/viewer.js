/* The viewer of a recording: unpacks the levels that the page carries, and draws, moves, measures and reads them out.
   Every number that is drawn is the lowest and highest of what lies under it, so that no zoom hides a sample. */
(function () {
"use strict";

const byId = (id) => document.getElementById(id);
const DATA = JSON.parse(byId("data").textContent);
const GAP = -2147483648;
const LIGHT = {
  ink: "#1f2933", soft: "#52606d", line: "#e4e7eb", good: "#00855f", bad: "#d55e00", spoilt: "213, 94, 0", paper: "#ffffff",
  lines: ["#0072b2", "#d55e00", "#009e73", "#9c4a7d", "#1f2933", "#a86e00"],
  marks: { beats: "#9c2a6b", "skin responses": "#1f2933", breaths: "#9c2a6b" },
};
const DARK = {
  ink: "#e4e7eb", soft: "#a9b4bf", line: "#37424d", good: "#3fd0a4", bad: "#ff9d5c", spoilt: "255, 157, 92", paper: "#1b222a",
  lines: ["#56b4e9", "#ff9d5c", "#3fd0a4", "#e39fc7", "#e4e7eb", "#e6b800"],
  marks: { beats: "#ff9ad5", "skin responses": "#e4e7eb", breaths: "#ff9ad5" },
};
const dark = window.matchMedia("(prefers-color-scheme: dark)");
let isPrinting = false;
let C = dark.matches ? DARK : LIGHT;

/* ---- what is in the page, unpacked ---- */

async function bytesOf(number) {
  const text = atob(byId("blob-" + number).textContent);
  const bytes = new Uint8Array(text.length);
  for (let i = 0; i < text.length; i++) bytes[i] = text.charCodeAt(i);
  const stream = new Blob([bytes]).stream().pipeThrough(new DecompressionStream("deflate"));
  return new Uint8Array(await new Response(stream).arrayBuffer());
}

async function unpacked(row) {
  const bytes = await bytesOf(row.blob), out = {};
  let at = 0;
  for (const stream of row.streams) {
    const n = stream.rows * stream.columns, numbers = new Uint32Array(n);
    for (let plane = 0; plane < stream.planes; plane++, at += n)
      for (let i = 0; i < n; i++) numbers[i] |= bytes[at + i] << (8 * plane);
    out[stream.name] = [];
    for (let r = 0; r < stream.rows; r++) {
      const part = numbers.subarray(r * stream.columns, (r + 1) * stream.columns);
      if (stream.float) out[stream.name].push(new Float32Array(part.slice().buffer));
      else out[stream.name].push(stream.delta ? summed(part) : part);
    }
  }
  return out;
}

function summed(steps) {
  const out = new Int32Array(steps.length);
  for (let i = 0, sum = 0; i < steps.length; i++) {
    sum = (sum + ((steps[i] >>> 1) ^ -(steps[i] & 1))) | 0;
    out[i] = sum;
  }
  return out;
}

/* A level: bins of `seconds` from `start`, or samples at `times`; lo and hi by channel in whole steps, GAP in lo where
   nothing is known. `mean` and `count` are of `meanBins` bins each. */
async function levelOf(signal, head) {
  const parts = await unpacked(head);
  const level = {
    start: signal.start, seconds: head.seconds, n: head.n, isRange: head.range, step: head.step, offset: head.offset,
    mean: parts.mean, count: parts.count, meanBins: head.meanBins, times: null, lo: [], hi: [],
  };
  if (parts.times) {
    level.times = Float64Array.from(parts.times[0], (t) => signal.start + t * head.timeStep);
    const steps = level.times.slice(1).map((t, i) => t - level.times[i]).sort();
    level.longest = 4 * (steps[steps.length >> 1] || Infinity);  // no line is drawn over a longer stretch without a sample
  }
  parts.lowest.forEach((lo, c) => {
    const hi = head.range ? lo.map((low, i) => low + parts.width[c][i]) : lo.slice();
    if (parts.gap) for (let i = 0; i < lo.length; i++) if (parts.gap[c][i]) lo[i] = hi[i] = GAP;
    level.lo.push(lo);
    level.hi.push(hi);
  });
  const levels = [level];
  if (!level.times)
    while (levels[levels.length - 1].n > 4096) levels.push(coarser(levels[levels.length - 1], 8));
  return levels;
}

function coarser(level, factor) {
  const n = Math.ceil(level.n / factor);
  const reduce = (row, isHigh) => {
    const out = new Int32Array(n).fill(GAP);
    for (let i = 0; i < row.length; i++) {
      const value = row[i], j = (i / factor) | 0;
      if (value !== GAP && (out[j] === GAP || (isHigh ? value > out[j] : value < out[j]))) out[j] = value;
    }
    return out;
  };
  return {
    ...level, n, seconds: level.seconds * factor, isRange: true, mean: undefined, count: undefined,
    lo: level.lo.map((row) => reduce(row, false)), hi: level.hi.map((row) => reduce(row, true)),
  };
}

/* ---- state ---- */

const duration = DATA.duration;
const view = { from: 0, to: duration, gain: 1, isFull: false, isMeasuring: false, a: 0, b: 0, pointer: null };
const panels = [];
let isAsked = false;

function show(from, to) {
  const shortest = Math.min(0.02, duration);
  let length = Math.min(Math.max(to - from, shortest), duration);
  let start = Math.min(Math.max((from + to - length) / 2, 0), duration - length);
  if (!(start >= 0)) start = 0;
  view.from = start;
  view.to = start + length;
  ask();
}

function ask() {
  if (isAsked) return;
  isAsked = true;
  requestAnimationFrame(() => {
    isAsked = false;
    draw();
  });
}

const secondsAt = (share) => view.from + share * (view.to - view.from);
const shareOf = (seconds) => (seconds - view.from) / (view.to - view.from);

/* ---- words ---- */

function clock(seconds, digits) {
  const sign = seconds < 0 ? "-" : "", unit = Math.pow(10, digits);
  let rest = Math.round(Math.abs(seconds) * unit);
  const fraction = digits ? "." + String(rest % unit).padStart(digits, "0") : "";
  rest = Math.floor(rest / unit);
  const s = String(rest % 60).padStart(2, "0"), m = Math.floor(rest / 60) % 60, h = Math.floor(rest / 3600);
  return sign + (h ? h + ":" + String(m).padStart(2, "0") : m) + ":" + s + fraction;
}

function digitsFor(step) {
  return step >= 1 ? 0 : Math.min(4, Math.ceil(-Math.log10(step) - 1e-9));
}

function number(value) {
  if (!Number.isFinite(value)) return "";
  return Math.abs(value) >= 1e5 || (value && Math.abs(value) < 1e-3) ? value.toExponential(3) : String(+value.toPrecision(5));
}

const lengthOf = (seconds) =>
  seconds < 120 ? number(seconds) + " s" : seconds < 7200 ? (seconds / 60).toFixed(1) + " min" : (seconds / 3600).toFixed(1) + " h";

/* ---- numbers of a view ---- */

function levelFor(panel, secondsOfPixel) {
  const levels = panel.levels;
  let best = levels[0];
  for (const level of levels) if (level.times || level.seconds <= secondsOfPixel) best = level;
  return best;
}

function firstAfter(times, seconds) {
  let low = 0, high = times.length;
  while (low < high) {
    const middle = (low + high) >> 1;
    if (times[middle] < seconds) low = middle + 1;
    else high = middle;
  }
  return low;
}

/* What is drawn: x, and lo and hi by channel, null in gaps; of bins narrower than a pixel one column per pixel. */
function columnsOf(level, width) {
  const { from, to } = view;
  let first, last;
  if (level.times) {
    first = Math.max(firstAfter(level.times, from) - 1, 0);
    last = Math.min(firstAfter(level.times, to) + 1, level.n);
  } else {
    first = Math.max(Math.floor((from - level.start) / level.seconds) - 1, 0);
    last = Math.min(Math.ceil((to - level.start) / level.seconds) + 1, level.n);
  }
  const out = { x: [], lo: level.lo.map(() => []), hi: level.hi.map(() => []), isRange: level.isRange };
  if (last <= first) return out;
  const timeOf = level.times ? (i) => level.times[i] : (i) => level.start + i * level.seconds;
  if (last - first <= 2 * width) {
    const ends = level.isRange ? [0, level.seconds] : [0];
    for (let i = first; i < last; i++) {
      if (level.times && i > first && level.times[i] - level.times[i - 1] > level.longest) {
        out.x.push((level.times[i] + level.times[i - 1]) / 2);
        for (const row of [...out.lo, ...out.hi]) row.push(null);
      }
      for (const end of ends) {
        out.x.push(timeOf(i) + end);
        level.lo.forEach((lo, c) => {
          const isGap = lo[i] === GAP;
          out.lo[c].push(isGap ? null : lo[i] * level.step[c] + level.offset[c]);
          out.hi[c].push(isGap ? null : level.hi[c][i] * level.step[c] + level.offset[c]);
        });
      }
    }
    return out;
  }
  out.isRange = true;
  const middle = level.times ? 0 : level.seconds / 2, pixel = (to - from) / width;
  const low = new Int32Array(level.lo.length), high = new Int32Array(level.lo.length);
  let column = null;
  const close = () => {
    if (column === null) return;
    out.x.push(from + (column + 0.5) * pixel);
    for (let c = 0; c < low.length; c++) {
      out.lo[c].push(low[c] === GAP ? null : low[c] * level.step[c] + level.offset[c]);
      out.hi[c].push(high[c] === GAP ? null : high[c] * level.step[c] + level.offset[c]);
    }
  };
  for (let i = first; i < last; i++) {
    const place = Math.floor((timeOf(i) + middle - from) / pixel);
    if (place !== column) {
      close();
      column = place;
      low.fill(GAP);
      high.fill(GAP);
    }
    for (let c = 0; c < low.length; c++) {
      const lo = level.lo[c][i];
      if (lo === GAP) continue;
      if (low[c] === GAP || lo < low[c]) low[c] = lo;
      if (high[c] === GAP || level.hi[c][i] > high[c]) high[c] = level.hi[c][i];
    }
  }
  close();
  return out;
}

function quantile(sorted, share) {
  return sorted[Math.min(sorted.length - 1, Math.max(0, Math.round(share * (sorted.length - 1))))];
}

/* The usual range of what is in view; every value's where that is wished, or the usual one holds nearly all. */
function rangeOf(los, his) {
  const low = Float64Array.from(los).sort(), high = Float64Array.from(his).sort();
  if (!low.length) return [0, 1];
  let bottom = low[0], top = high[high.length - 1];
  if (!view.isFull) {
    const a = quantile(low, 0.01), b = quantile(high, 0.99), spare = 0.6 * (b - a);
    bottom = Math.max(bottom, a - spare);
    top = Math.min(top, b + spare);
  }
  const margin = 0.06 * (top - bottom) || Math.abs(top) * 0.05 || 1e-3;
  const middle = (bottom + top) / 2, half = ((top - bottom) / 2 + margin) / view.gain;
  return [middle - half, middle + half];
}

const known = (row) => row.filter((value) => value !== null);

/* ---- panels ---- */

function element(tag, name, text) {
  const node = document.createElement(tag);
  if (name) node.className = name;
  if (text !== undefined) node.textContent = text;
  return node;
}

function panelOf(title, unit, height) {
  const figure = element("figure", "panel"), caption = element("figcaption");
  const panel = { figure, caption, title, unit, height, isShown: true, isDirty: true, plot: null };
  caption.append(element("b", "", title), unit ? element("span", "", unit) : "");
  panel.value = element("span", "value", "");
  panel.how = element("span", "how", "");
  caption.append(panel.value, panel.how);
  figure.setAttribute("role", "group");
  figure.setAttribute("aria-label", title);
  figure.append(caption);
  return panel;
}

function gutter() {
  const style = getComputedStyle(document.documentElement);
  return { left: parseFloat(style.getPropertyValue("--gutter")), right: parseFloat(style.getPropertyValue("--rim")) };
}

const plotWidth = () => Math.max(byId("stack").clientWidth - gutter().left - gutter().right, 60);

function plotIn(panel, series, yAxis, hooks) {
  const sides = gutter();
  const options = {
    width: byId("stack").clientWidth, height: panel.height, cursor: { show: false }, legend: { show: false },
    padding: [6, sides.right, 4, 0],  // half a line, so that no number on an edge is cut
    scales: { x: { time: false, auto: false, range: () => [view.from, view.to] }, y: { auto: false, range: () => panel.y || [0, 1] } },
    axes: [
      { show: false },
      { size: sides.left, gap: 4, font: "11px system-ui, sans-serif", stroke: () => C.soft, ticks: { show: false },
        grid: { stroke: () => C.line, width: 1 }, space: 26, ...yAxis },
    ],
    series: [{}, ...series.list], bands: series.bands || [], hooks,
  };
  const plot = new uPlot(options, [[], ...series.list.map(() => [])], panel.figure);
  const canvas = plot.root.querySelector("canvas");
  canvas.setAttribute("role", "img");
  panel.figure.append(plot.root);
  panel.plot = plot;
  panel.canvas = canvas;
}

function signalPanel(signal) {
  const n = signal.channels.length, isStacked = n > 3;
  const height = isStacked ? Math.max(22 * n + 10, 120) : n > 1 ? 124 : 104;
  const panel = panelOf(signal.name, signal.unit && "(" + signal.unit + ")", height);
  panel.signal = signal;
  panel.isStacked = isStacked;
  panel.caption.insertBefore(element("span", "", signal.what), panel.value);
  if (n > 1 && !isStacked)
    signal.channels.forEach((name, c) => panel.caption.insertBefore(swatch(name, () => C.lines[c]), panel.value));
  panel.isShown = !signal.isDerived || signal.modality === "heart_rate";
  const colour = (c) => C.lines[isStacked ? 0 : c % C.lines.length];
  const list = [], bands = [];
  signal.channels.forEach((_, c) => {
    const points = { show: () => panel.hasPoints, size: 4, fill: () => colour(c), stroke: () => colour(c) };
    list.push({ stroke: () => colour(c), width: 1, points }, { stroke: () => colour(c), width: 1, points: { show: false } });
    bands.push({ series: [2 * c + 1, 2 * c + 2], fill: () => colour(c) + "59" });
  });
  const stackedAxis = {
    splits: () => signal.channels.map((_, c) => n - 1 - c), space: 1, grid: { stroke: () => C.line, width: 1 },
    values: (_, splits) => splits.map((place) => short(signal.channels[n - 1 - place], gutter().left < 60 ? 6 : 9)),
  };
  const axis = isStacked ? stackedAxis : { values: (_, splits) => splits.map(number) };
  plotIn(panel, { list, bands }, axis, { drawClear: [(u) => paintBackground(u, panel)], draw: [(u) => paintMarks(u, panel)] });
  if (signal.quality) {
    panel.strip = element("canvas", "strip quality");
    panel.strip.setAttribute("role", "img");
    panel.figure.append(panel.strip);
  }
  panel.draw = () => drawSignal(panel);
  panel.besides = () => drawStrip(panel);
  panel.read = (seconds) => readout(panel, seconds);
  return panel;
}

function short(name, letters) {
  return name.length <= letters ? name : name.slice(0, letters - 1) + "\u2026";
}

function swatch(name, colour) {
  const span = element("span", "class"), box = element("i");
  span.append(box, name);
  swatches.push(() => { box.style.background = colour(); });
  return span;
}
const swatches = [];

function drawSignal(panel) {
  const width = Math.round(plotWidth()), { signal, plot } = panel;
  const level = levelFor(panel, (view.to - view.from) / width);
  if (panel.deepest && level === panel.levels[0] && level.isRange && level.seconds > (view.to - view.from) / width) deepen(panel);
  const drawn = columnsOf(level, width);
  panel.level = level;
  panel.hasPoints = !drawn.isRange && drawn.x.length < width / 5;
  const rows = [];
  let low = Infinity, high = -Infinity, words = "";
  drawn.lo.forEach((lo, c) => {
    for (const value of lo) if (value !== null && value < low) low = value;
    for (const value of drawn.hi[c]) if (value !== null && value > high) high = value;
  });
  if (panel.isStacked) {
    const middles = [], spans = [];
    drawn.lo.forEach((lo, c) => {
      const lows = known(lo), highs = known(drawn.hi[c]);
      const all = Float64Array.from([...lows, ...highs]).sort();
      middles.push(all.length ? quantile(all, 0.5) : 0);
      if (all.length) spans.push(view.isFull ? all[all.length - 1] - all[0] : quantile(all, 0.98) - quantile(all, 0.02));
    });
    spans.sort((a, b) => a - b);
    const n = signal.channels.length, span = (1.1 * (spans.length ? quantile(spans, 0.5) : 1) || 1) / view.gain;
    drawn.lo.forEach((lo, c) => {
      const move = (value) => (value === null ? null : n - 1 - c + (value - middles[c]) / span);
      rows.push(drawn.hi[c].map(move), lo.map(move));
    });
    panel.y = [-0.7, n - 0.3];
    words = "a row is " + String(+span.toPrecision(2)) + " " + signal.unit + "; ";
  } else {
    panel.y = rangeOf(drawn.lo.flatMap(known), drawn.hi.flatMap(known));
    if (panel.marks && panel.marks.length) panel.y[1] += 0.14 * (panel.y[1] - panel.y[0]);  // room for the marks
    drawn.lo.forEach((lo, c) => rows.push(drawn.hi[c], lo));
  }
  plot.batch(() => {
    plot.setData([drawn.x, ...rows], false);
    plot.setScale("x", { min: view.from, max: view.to });
    plot.setScale("y", { min: panel.y[0], max: panel.y[1] });
  });
  const isWhole = !level.isRange;
  const how = isWhole && !drawn.isRange ? "every sample" : isWhole ? "range per pixel of every sample" : "range of every " + lengthOf(level.seconds);
  panel.how.textContent = words + how + (panel.isLoading ? ", unpacking" : "");
  const inView = low <= high ? "from " + number(low) + " to " + number(high) + " " + signal.unit : "nothing is known";
  panel.canvas.setAttribute("aria-label", signal.name + " in view: " + inView + ", " + how);
  drawStrip(panel);
}

async function deepen(panel) {
  if (panel.isLoading || !panel.deepest) return;
  panel.isLoading = true;
  try {
    panel.levels = await levelOf(panel.signal, panel.deepest);
    panel.deepest = null;
  } finally {
    panel.isLoading = false;
  }
  panel.isDirty = true;
  ask();
}

/* ---- beside the signals ---- */

/* By pixel, the share of the view's seconds in it that are spoilt, or the mean index. */
function overSeconds(row, width, valueOf) {
  const out = new Float64Array(width), pixel = (view.to - view.from) / width;
  for (let x = 0; x < width; x++) {
    const first = Math.max(Math.floor(view.from + x * pixel), 0), last = Math.min(Math.ceil(view.from + (x + 1) * pixel), row.length);
    let sum = 0;
    for (let s = first; s < last; s++) sum += valueOf(row[s]);
    out[x] = last > first ? sum / (last - first) : NaN;
  }
  return out;
}

function paintBackground(u, panel) {
  const { ctx, bbox } = u, ratio = uPlot.pxRatio;
  const width = Math.max(Math.round(bbox.width / ratio), 1);
  ctx.save();
  ctx.fillStyle = C.line;
  const edges = DATA.labels.flatMap(([onset, length]) => (length > 0 ? [onset, onset + length] : [onset])).filter((edge) => edge > view.from && edge < view.to);
  if (edges.length < width / 6) for (const edge of edges) ctx.fillRect(bbox.left + shareOf(edge) * bbox.width, bbox.top, ratio, bbox.height);
  const quality = panel.quality;
  if (quality) {
    const n = panel.signal.channels.length;
    quality.index.forEach((row, c) => {
      const isShared = !panel.isStacked;
      const share = overSeconds(row, width, (value) => (value < 100 * DATA.spoilt ? 1 : 0));
      const top = isShared ? bbox.top : u.valToPos(n - 0.5 - c, "y", true), bottom = isShared ? bbox.top + bbox.height : u.valToPos(n - 1.5 - c, "y", true);
      for (let x = 0; x < width; x++) {
        if (!(share[x] > 0)) continue;
        let end = x + 1;
        while (end < width && share[end] === share[x]) end++;
        ctx.fillStyle = "rgba(" + C.spoilt + ", " + (0.22 * share[x]) / (isShared ? quality.index.length : 1) + ")";
        ctx.fillRect(bbox.left + x * ratio, top, (end - x) * ratio, bottom - top);
        ctx.fillStyle = C.bad;  // the shade is pale, so that the line is seen through it: an edge says where it is
        ctx.fillRect(bbox.left + x * ratio, top, (end - x) * ratio, 2 * ratio);
        x = end - 1;
      }
    });
  }
  ctx.restore();
}

function paintMarks(u, panel) {
  if (!panel.marks) return;
  const { ctx, bbox } = u, ratio = uPlot.pxRatio;
  ctx.save();
  ctx.beginPath();
  ctx.rect(bbox.left, bbox.top, bbox.width, bbox.height);
  ctx.clip();
  for (const marks of panel.marks) {
    const first = firstAfter(marks.times, view.from), last = firstAfter(marks.times, view.to);
    const isDense = last - first > bbox.width / ratio / 7;
    ctx.fillStyle = C.marks[marks.kind];
    for (let i = first; i < last; i++) {
      const x = bbox.left + shareOf(marks.times[i]) * bbox.width;
      if (!isDense) {
        const there = valueAt(panel.level, marks.channel, marks.times[i]);
        const y = there && !panel.isStacked ? u.valToPos(there[1], "y", true) : bbox.top + 8 * ratio;
        ctx.beginPath();
        ctx.moveTo(x, y - 2 * ratio);
        ctx.lineTo(x - 4 * ratio, y - 9 * ratio);
        ctx.lineTo(x + 4 * ratio, y - 9 * ratio);
        ctx.fill();
      }
      ctx.fillRect(x - ratio / 2, bbox.top + bbox.height - (isDense ? 4 : 7) * ratio, ratio, (isDense ? 4 : 7) * ratio);
    }
  }
  ctx.restore();
}

function sized(canvas, height) {
  if (picture) return { context: picture, width: canvas.clientWidth || plotWidth() };
  const ratio = window.devicePixelRatio || 1, width = canvas.clientWidth || plotWidth();
  canvas.style.height = height + "px";
  if (canvas.width !== Math.round(width * ratio) || canvas.height !== Math.round(height * ratio)) {
    canvas.width = Math.round(width * ratio);
    canvas.height = Math.round(height * ratio);
  }
  const context = canvas.getContext("2d");
  context.setTransform(ratio, 0, 0, ratio, 0, 0);
  context.clearRect(0, 0, width, height);
  return { context, width };
}

/* A second's quality in one column: what is good stands on the ground, higher the better; what is not hangs, longer the
   worse. So the shape carries it, and no shade is too pale to be seen. */
const STRIP = 8;
function paintQuality(context, x, top, index) {
  const isBad = index < 100 * DATA.spoilt, part = isBad ? 1 - index / 100 : index / 100;
  const height = Math.max(Math.round(STRIP * part), 1);
  context.fillStyle = isBad ? C.bad : C.good;
  context.fillRect(x, isBad ? top : top + STRIP - height, 1, height);
}

function drawStrip(panel) {
  if (!panel.strip || !panel.quality) return;
  const { context, width } = sized(panel.strip, STRIP);
  const mean = panel.quality.mean, n = Math.floor(width);
  const values = overSeconds(mean, n, (value) => value);
  let sum = 0, seconds = 0;
  for (let x = 0; x < n; x++) {
    if (Number.isNaN(values[x])) continue;
    sum += values[x];
    seconds += 1;
    paintQuality(context, x, 0, values[x]);
  }
  panel.strip.setAttribute("aria-label", "Quality in view: " + (seconds ? Math.round(sum / seconds) + " of 100" : "not known"));
}

/* The value of a channel at a time: [lowest, highest, whether it is one sample], or null. */
function valueAt(level, channel, seconds) {
  let i;
  if (level.times) {
    i = Math.min(firstAfter(level.times, seconds), level.n - 1);
    if (i > 0 && seconds - level.times[i - 1] < level.times[i] - seconds) i--;
    if (Math.abs(level.times[i] - seconds) > level.longest) return null;
  } else {
    const place = (seconds - level.start) / level.seconds;
    i = level.isRange ? Math.floor(place) : Math.round(place);
  }
  if (i < 0 || i >= level.n || level.lo[channel][i] === GAP) return null;
  return [level.lo[channel][i], level.hi[channel][i]].map((k) => k * level.step[channel] + level.offset[channel]);
}

const words = (value) => (value === null ? "missing" : value[0] === value[1] ? number(value[0]) : number(value[0]) + " to " + number(value[1]));

function readout(panel, seconds) {
  const { signal } = panel;
  const shown = panel.isStacked ? [] : signal.channels.map((_, c) => words(valueAt(panel.level || panel.levels[0], c, seconds)));
  const parts = [shown.join("; ")];
  if (panel.quality && panel.quality.reasons) {
    const second = Math.floor(seconds);
    let bits = 0;
    for (const row of panel.quality.reasons) bits |= row[second] || 0;
    const names = DATA.reasons.filter((_, bit) => (bits >>> bit) & 1);
    if (names.length) parts.push(names.join(", "));
  }
  return parts.filter(Boolean).join(" \u00b7 ");
}

/* ---- time axis with labels, predictions, the whole at a glance ---- */

function lanesOf(rows) {
  const ends = [];
  return rows.map(([onset, length]) => {
    let lane = ends.findIndex((end) => end <= onset + 1e-6);
    if (lane < 0) lane = ends.length;
    ends[lane] = onset + Math.max(length, 0);
    return lane;
  });
}

function axisPanel() {
  const lanes = lanesOf(DATA.labels), n = Math.min(lanes.reduce((most, lane) => Math.max(most, lane), 0) + 1, 6);
  const hasLabels = DATA.labels.length > 0;
  const panel = panelOf(hasLabels ? "Labels" : "Time", "", 30 + (hasLabels ? 20 * n : 0));
  panel.isAxis = true;
  panel.figure.classList.add("time");
  panel.caption.append(element("span", "how", "time since the recording began"));
  panel.canvas = element("canvas", "strip");
  panel.canvas.setAttribute("role", "img");
  panel.figure.append(panel.canvas);
  panel.besides = () => panel.draw();
  panel.read = (seconds) => {
    const there = DATA.labels.filter(([onset, length]) => onset <= seconds && seconds < onset + length).map((row) => row[2]);
    return clock(seconds, digitsFor((view.to - view.from) / 1000)) + (there.length ? " \u00b7 " + there.join(", ") : "");
  };
  panel.draw = () => {
    const { context: ctx, width } = sized(panel.canvas, panel.height);
    const xOf = (seconds) => shareOf(seconds) * width;
    ctx.font = "11px system-ui, sans-serif";
    const steps = [0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1, 2, 5, 10, 15, 30, 60, 120, 300, 600, 900, 1800, 3600, 7200, 14400, 43200, 86400];
    const step = steps.find((one) => (one / (view.to - view.from)) * width >= 76) || 86400;
    ctx.fillStyle = C.soft;
    ctx.strokeStyle = C.line;
    for (let k = Math.ceil(view.from / step); k * step <= view.to; k++) {
      const x = xOf(k * step), text = clock(k * step, digitsFor(step)), half = ctx.measureText(text).width / 2;
      ctx.fillRect(x, 14, 1, 5);
      ctx.fillText(text, Math.min(Math.max(x - half, 0), width - 2 * half), 11);
    }
    let nShown = 0;
    const written = [];  // where the text of each lane ends, so that no name lies on another
    const nextIn = (place) => {  // where the next mark of the lane begins, so that no name lies under it
      const next = DATA.labels.findIndex((_, other) => other > place && lanes[other] === lanes[place]);
      return next < 0 ? width : xOf(DATA.labels[next][0]);
    };
    DATA.labels.forEach(([onset, length, label], place) => {
      if (onset > view.to || onset + length < view.from || lanes[place] >= n) return;
      nShown++;
      const top = 22 + 20 * lanes[place], left = Math.max(xOf(onset), 0), right = Math.min(xOf(onset + length), width);
      ctx.fillStyle = DATA.colours[label] === "#000000" ? C.ink : DATA.colours[label];
      ctx.globalAlpha = 0.45;
      ctx.fillRect(left, top, Math.max(right - left, 1.5), 17);
      ctx.globalAlpha = 1;
      ctx.fillRect(left, top, 2, 17);
      const room = length > 0 ? right - left - 8 : Math.min(60, nextIn(place) - left - 6), isFree = left + 4 >= (written[lanes[place]] || 0);
      if (room > 16 && isFree) {
        written[lanes[place]] = left + 6 + Math.min(ctx.measureText(label).width, room) + 4;
        ctx.save();
        ctx.beginPath();
        ctx.rect(left + 4, top, room, 17);
        ctx.clip();
        ctx.fillStyle = C.ink;
        ctx.fillText(label, left + 6, top + 12.5);
        ctx.restore();
      }
    });
    panel.canvas.setAttribute("aria-label", "From " + clock(view.from, 1) + " to " + clock(view.to, 1) + ", " + nShown + " labels in view");
  };
  return panel;
}

function cellEdges(track) {
  const middles = track.onset.map((onset, i) => onset + track.duration[i] / 2);
  return Array.from(middles, (middle, i) => {
    const before = i ? (middle - middles[i - 1]) / 2 : Infinity, after = i + 1 < middles.length ? (middles[i + 1] - middle) / 2 : Infinity;
    const half = track.duration[i] / 2;
    return [middle - Math.min(half, before), middle + Math.min(half, after)];
  });
}

function predictionPanel(row) {
  const isClasses = row.classes.length > 0;
  const panel = panelOf("Predicted by " + row.title, isClasses ? "" : row.column, isClasses ? 110 : 120);
  const colourOf = (name) => (DATA.colours[name] === "#000000" ? C.ink : DATA.colours[name]);
  if (isClasses) row.classes.forEach((name) => panel.caption.insertBefore(swatch(name, () => colourOf(name)), panel.value));
  const names = isClasses ? row.classes : ["predicted", "true"];
  panel.names = names;
  const list = names.map((name, k) => ({
    stroke: () => (isClasses ? colourOf(name) : C.lines[k]), width: 1.6, spanGaps: false,
    points: { show: () => panel.hasPoints, size: 4 },
  }));
  if (!isClasses) names.forEach((name, k) => panel.caption.insertBefore(swatch(name, () => C.lines[k]), panel.value));
  if (isClasses) {
    panel.strips = element("canvas", "strip named");
    panel.strips.setAttribute("role", "img");
    panel.figure.append(panel.strips);
  }
  plotIn(panel, { list }, { values: (_, splits) => splits.map(number) }, {});
  panel.load = async () => {
    const parts = await unpacked(row), one = (name) => parts[name][0];
    const track = { onset: one("onset"), duration: one("duration"), predicted: one("predicted"), label: one("label"), unlike: one("unlike") };
    track.cells = cellEdges(track);
    const plain = (values) => Array.from(values, (value) => (Number.isNaN(value) ? null : value));
    const isTraced = one("traceSeconds").length > 0;
    track.x = isTraced ? Array.from(one("traceSeconds")) : Array.from(track.onset, (onset, i) => onset + track.duration[i] / 2);
    track.lines = parts[isTraced ? "traceValues" : "values"].map(plain);
    track.windows = parts.values.map(plain);
    if (!isClasses) track.lines.push(isTraced ? track.x.map(() => null) : plain(one("truth")));
    panel.track = track;
  };
  panel.draw = () => {
    const { track, plot } = panel;
    if (!track) return;
    const first = firstAfter(track.x, view.from), last = firstAfter(track.x, view.to);
    panel.hasPoints = last - first < plotWidth() / 12;
    panel.y = isClasses ? [-0.06, 1.06] : rangeOf(track.lines.flatMap(known), track.lines.flatMap(known));
    plot.batch(() => {
      plot.setData([track.x, ...track.lines], false);
      plot.setScale("x", { min: view.from, max: view.to });
      plot.setScale("y", { min: panel.y[0], max: panel.y[1] });
    });
    panel.how.textContent = isClasses ? "probability of each class; hatched is withheld" + (track.unlike.some((one) => one) ? ", underlined unlike what the model knows" : "") : "";
    panel.canvas.setAttribute("aria-label", "Predictions in view: " + (last - first));
    if (isClasses) drawClasses(panel, row, colourOf);
  };
  panel.besides = () => { if (isClasses && panel.track) drawClasses(panel, row, colourOf); };
  panel.read = (seconds) => {
    const track = panel.track;
    const i = track ? track.cells.findIndex(([from, to]) => from <= seconds && seconds < to) : -1;
    if (i < 0) return "";
    const remark = track.unlike[i] ? " \u00b7 unlike what the model knows" : "";
    if (!isClasses) return (number(track.windows[0][i] === null ? NaN : track.windows[0][i]) || "withheld") + remark;
    const named = track.predicted[i] ? row.classes[track.predicted[i] - 1] : "withheld";
    const best = track.predicted[i] ? " " + number(track.windows[track.predicted[i] - 1][i]) : "";
    return named + best + (track.label[i] ? " \u00b7 true: " + row.classes[track.label[i] - 1] : "") + remark;
  };
  return panel;
}

function drawClasses(panel, row, colourOf) {
  const { track } = panel, rows = [["predicted", track.predicted]];
  if (track.label.some((one) => one > 0)) rows.push(["true", track.label]);
  const { context: ctx, width: whole } = sized(panel.strips, 14 * rows.length), left = gutter().left, width = whole - left;
  ctx.font = "10px system-ui, sans-serif";
  ctx.fillStyle = C.ink;
  ctx.textAlign = "right";
  rows.forEach(([name], place) => ctx.fillText(name, left - 4, 14 * place + 10, left - 4));  // beside what they name
  ctx.translate(left, 0);
  rows.forEach(([name, classes], place) => {
    track.cells.forEach(([from, to], i) => {
      const left = Math.max(shareOf(from) * width, 0), right = Math.min(shareOf(to) * width, width);
      if (right <= left) return;
      if (classes[i]) {
        ctx.fillStyle = colourOf(row.classes[classes[i] - 1]);
        ctx.fillRect(left, 14 * place + 1, Math.max(right - left, 0.7), 12);
        if (name === "predicted" && track.unlike[i]) {
          ctx.fillStyle = C.ink;
          ctx.fillRect(left, 14 * place + 10, Math.max(right - left, 0.7), 3);
        }
      } else if (name === "predicted") {
        ctx.strokeStyle = C.soft;
        ctx.beginPath();
        for (let x = left; x < right; x += 4) {
          ctx.moveTo(x, 14 * place + 12);
          ctx.lineTo(Math.min(x + 6, right), 14 * place + 2);
        }
        ctx.stroke();
      }
    });
  });
  panel.strips.setAttribute("aria-label", "Classes in view: " + rows.map((one) => one[0]).join(" and "));
}

function drawNavigator() {
  const { context: ctx, width } = sized(byId("navigator"), 34);
  ctx.fillStyle = C.line;
  ctx.fillRect(0, 8, width, 14);
  for (const [onset, length, label] of DATA.labels) {
    ctx.fillStyle = DATA.colours[label] === "#000000" ? C.ink : DATA.colours[label];
    ctx.globalAlpha = 0.75;
    ctx.fillRect((onset / duration) * width, 8, Math.max((length / duration) * width, 1), 14);
  }
  ctx.globalAlpha = 1;
  if (overall) {
    const n = Math.floor(width);
    for (let x = 0; x < n; x++) {
      const first = Math.floor((x / n) * duration), last = Math.max(Math.ceil(((x + 1) / n) * duration), first + 1);
      let sum = 0, count = 0;
      for (let s = first; s < last && s < overall.length; s++, count++) sum += overall[s];
      if (!count) continue;
      paintQuality(ctx, x, 24, sum / count);
    }
  }
  const left = (view.from / duration) * width, right = Math.max((view.to / duration) * width, left + 3);
  ctx.strokeStyle = C.ink;
  ctx.lineWidth = 1.5;
  ctx.strokeRect(left + 0.75, 3.75, right - left - 1.5, 29.5);
}
let overall = null;

/* ---- drawing ---- */

function rangeWords() {
  const length = view.to - view.from, digits = digitsFor(length / 500);
  return clock(view.from, digits) + " to " + clock(view.to, digits) + " (" + lengthOf(+length.toPrecision(4)) + ")";
}

function draw() {
  swatches.forEach((paint) => paint());
  drawNavigator();
  for (const panel of panels) panel.isDirty = true;
  drawVisible();
  say(rangeWords());
  placeOverlay();
  clearTimeout(resting);
  resting = setTimeout(() => drawPanels(true), 250);
}
let resting = 0;

const drawVisible = () => drawPanels(isPrinting);

/* Draw those that are on the screen; the others follow once nothing moves. */
function drawPanels(isEvery) {
  for (const panel of panels) {
    if (!panel.isShown || !panel.isDirty) continue;
    const box = panel.figure.getBoundingClientRect();
    if (!isEvery && (box.bottom < -200 || box.top > window.innerHeight + 200)) continue;
    panel.isDirty = false;
    panel.draw();
  }
}

/* ---- what is in view as a picture ---- */

let picture = null;  // what draws instead of canvases while a picture is made

/* What is in view as SVG, in the colours of a light page: the canvases' own drawing, and lines as paths. */
function pictureOf() {
  drawPanels(true);
  const shown = panels.filter((panel) => panel.isShown), left = gutter().left, width = byId("stack").clientWidth;
  const heightOf = (panel) => 20 + (panel.plot ? panel.height : 0) + [panel.isAxis && panel.canvas, panel.strip, panel.strips].reduce((sum, one) => sum + (one ? one.clientHeight : 0), 0) + 6;
  const title = document.title.replace(/ - biopercept$/, "") + ", " + rangeWords();
  const ctx = svgContext(width, 26 + shown.reduce((sum, panel) => sum + heightOf(panel), 0), LIGHT.paper), colours = C;
  picture = ctx;
  C = LIGHT;
  try {
    ctx.font = "bold 13px system-ui, sans-serif";
    ctx.fillStyle = C.ink;
    ctx.fillText(title, 8, 18);
    let top = 26;
    for (const panel of shown) {
      ctx.at(0, top);
      captionIn(ctx, panel, left, width);
      const above = panel.strips ? panel.strips.clientHeight : 0;
      if (panel.plot) plotInPicture(ctx, panel, top + 20 + above);
      ctx.save();
      ctx.at(panel.strips ? 0 : left, top + 20 + (panel.plot && !panel.strips ? panel.height : 0));
      if (panel.besides) panel.besides();
      ctx.restore();
      top += heightOf(panel);
    }
    if (view.isMeasuring) cursorsIn(ctx, left, top);
  } finally {
    picture = null;
    C = colours;
  }
  return ctx.text(title);
}

function captionIn(ctx, panel, left, width) {
  let x = left;
  for (const part of panel.caption.children) {
    const isHow = part === panel.how, isName = part.tagName === "B", text = part.textContent;
    if (part === panel.value || !text) continue;
    ctx.font = (isName ? "bold " : "") + "12px system-ui, sans-serif";
    ctx.textAlign = isHow ? "right" : "left";
    const box = part.querySelector("i");
    if (box) {
      ctx.fillStyle = lightOf(panel, text);
      ctx.fillRect(x, 5, 9, 9);
      x += 13;
    }
    ctx.fillStyle = isName ? C.ink : C.soft;
    if (!isHow || x + ctx.measureText(text).width + 20 < width) ctx.fillText(text, isHow ? width - gutter().right : x, 14);
    x += isHow ? 0 : ctx.measureText(text).width + 10;
  }
  ctx.textAlign = "left";
}

/* The colour of a name in a caption: that of its line. */
function lightOf(panel, name) {
  const names = panel.signal ? panel.signal.channels : panel.names;
  return panel.plot.series[1 + names.indexOf(name) * (panel.signal ? 2 : 1)].stroke(panel.plot);
}

function plotInPicture(ctx, panel, top) {
  const u = panel.plot, ratio = uPlot.pxRatio, { bbox } = u, axis = u.axes[1];
  ctx.save();
  ctx.at(0, top, 1 / ratio);
  ctx.strokeStyle = C.line;
  ctx.lineWidth = ratio;
  ctx.font = "11px system-ui, sans-serif";
  ctx.fillStyle = C.soft;
  ctx.textAlign = "right";
  (axis._splits || []).forEach((split, k) => {
    const y = u.valToPos(split, "y", true), text = (axis._values || [])[k];
    ctx.beginPath();
    ctx.moveTo(bbox.left, y);
    ctx.lineTo(bbox.left + bbox.width, y);
    ctx.stroke();
    if (text) ctx.fillText(text, bbox.left - 4 * ratio, y + 4 * ratio);
  });
  const seen = { ctx, bbox, valToPos: (value, scale, isPixels) => u.valToPos(value, scale, isPixels) };
  if (panel.signal) paintBackground(seen, panel);
  ctx.save();
  ctx.beginPath();
  ctx.rect(bbox.left, bbox.top, bbox.width, bbox.height);
  ctx.clip();
  const points = u.data.slice(1).map((row) => row.map((value, i) => (value === null || value === undefined ? null : [u.valToPos(u.data[0][i], "x", true), u.valToPos(value, "y", true)])));
  (u.bands || []).forEach((band) => bandIn(ctx, points[band.series[0] - 1], points[band.series[1] - 1], band.fill(u)));
  points.forEach((row, k) => {
    const series = u.series[k + 1];
    if (panel.signal && k % 2 && !panel.level.isRange && row.every((point, i) => same(point, points[k - 1][i]))) return;  // lowest and highest are one line
    lineIn(ctx, row, series.stroke(u), series.width * ratio);
    if (panel.hasPoints && !(panel.signal && k % 2)) for (const point of row) if (point) ctx.fillRect(point[0] - 2 * ratio, point[1] - 2 * ratio, 4 * ratio, 4 * ratio);
  });
  ctx.restore();
  if (panel.signal) paintMarks(seen, panel);
  ctx.restore();
}

const same = (one, other) => one === other || (one && other && one[1] === other[1]);

function lineIn(ctx, row, colour, width) {
  ctx.strokeStyle = ctx.fillStyle = colour;
  ctx.lineWidth = width;
  ctx.beginPath();
  row.forEach((point, i) => {
    if (point) row[i - 1] ? ctx.lineTo(...point) : ctx.moveTo(...point);
  });
  ctx.stroke();
}

function bandIn(ctx, high, low, colour) {
  ctx.fillStyle = colour;
  for (let first = 0; first < high.length; first++) {
    if (!high[first]) continue;
    let end = first;
    while (end < high.length && high[end]) end++;
    ctx.beginPath();
    for (let i = first; i < end; i++) i > first ? ctx.lineTo(...high[i]) : ctx.moveTo(...high[i]);
    for (let i = end - 1; i >= first; i--) ctx.lineTo(...low[i]);
    ctx.fill();
    first = end;
  }
}

function cursorsIn(ctx, left, bottom) {
  ctx.at(left, 0);
  ctx.font = "bold 12px system-ui, sans-serif";
  for (const name of ["a", "b"]) {
    const x = shareOf(view[name]) * plotWidth();
    if (x < 0 || x > plotWidth()) continue;
    ctx.fillStyle = "#b34700";
    ctx.fillRect(x - 1, 26, 2, bottom - 26);
    ctx.fillText(name.toUpperCase(), x + 4, 36);
  }
}

/* Take what is in view away as a file, once what is being unpacked is there. */
async function savePicture() {
  drawPanels(true);
  while (panels.some((panel) => panel.isLoading)) await new Promise((done) => setTimeout(done, 50));
  const link = element("a"), name = document.title.replace(/ - biopercept$/, "") + " " + clock(view.from, 1) + " to " + clock(view.to, 1);
  link.href = URL.createObjectURL(new Blob([pictureOf()], { type: "image/svg+xml" }));
  link.download = name.replace(/:/g, "-").replace(/[^\p{L}\p{N}._ -]/gu, "_") + ".svg";
  link.click();
  setTimeout(() => URL.revokeObjectURL(link.href), 10000);
}

let saying = 0;
function say(text) {
  clearTimeout(saying);
  saying = setTimeout(() => { byId("range").textContent = text; }, 120);
}

function placeOverlay() {
  for (const name of ["a", "b"]) {
    const cursor = byId("cursor-" + name), share = shareOf(view[name]);
    cursor.hidden = !view.isMeasuring || share < 0 || share > 1;
    cursor.style.left = 100 * share + "%";
    cursor.setAttribute("aria-valuemin", "0");
    cursor.setAttribute("aria-valuemax", duration.toFixed(3));
    cursor.setAttribute("aria-valuenow", view[name].toFixed(4));
    cursor.setAttribute("aria-valuetext", clock(view[name], 3));
  }
  byId("pointer").hidden = view.pointer === null;
  if (view.pointer === null) return;
  byId("pointer").style.left = 100 * shareOf(view.pointer) + "%";
  for (const panel of panels) if (panel.isShown && !panel.isDirty) panel.value.textContent = panel.read(view.pointer);
}

function resize() {
  const style = document.documentElement.style;
  style.setProperty("--bar", document.querySelector(".bar").offsetHeight + "px");
  style.setProperty("--axis", panels[0].figure.offsetHeight + "px");
  for (const panel of panels) {
    if (!panel.plot) continue;
    const sides = gutter();
    panel.plot.axes[1].size = () => sides.left;
    panel.plot.setSize({ width: byId("stack").clientWidth, height: panel.height });
  }
  ask();
}

/* ---- measuring ---- */

async function measure() {
  byId("measured").hidden = !view.isMeasuring;
  if (!view.isMeasuring) return;
  const shown = panels.filter((panel) => panel.isShown && panel.signal);
  await Promise.all(shown.map(deepen));
  const [a, b] = [view.a, view.b], from = Math.min(a, b), to = Math.max(a, b);
  const rate = to > from ? ", " + number(60 / (to - from)) + " per minute" : "";
  byId("between").textContent = "A at " + clock(a, 3) + ", B at " + clock(b, 3) + ": B - A is " + number(b - a) + " s" + rate + ".";
  const body = byId("measured").querySelector("tbody");
  body.replaceChildren();
  for (const panel of shown)
    panel.signal.channels.forEach((name, c) => {
      const level = panel.levels[0], row = element("tr");
      const title = panel.signal.channels.length > 1 ? panel.signal.name + " " + name : panel.signal.name;
      const unit = panel.signal.unit ? " (" + panel.signal.unit + ")" : "";
      const head = element("th", "", title + unit);
      head.scope = "row";
      row.append(head);
      const atA = valueAt(level, c, a), atB = valueAt(level, c, b), stretch = between(level, c, from, to);
      const rise = atA && atB ? [atB[0] - atA[1], atB[1] - atA[0]] : null;
      for (const text of [words(atA), words(atB), rise ? words(rise) : "", stretch.mean, stretch.low, stretch.high])
        row.append(element("td", "right", text));
      body.append(row);
    });
}

/* Mean, lowest and highest of a channel between two times; a mean of bins is of those that lie wholly between. */
function between(level, channel, from, to) {
  const { step, offset } = level;
  let first, last;
  if (level.times) [first, last] = [firstAfter(level.times, from), firstAfter(level.times, to)];
  else {
    const edge = level.isRange ? Math.floor : Math.ceil;
    first = Math.max(edge((from - level.start) / level.seconds), 0);
    last = Math.min(level.isRange ? Math.ceil((to - level.start) / level.seconds) : Math.floor((to - level.start) / level.seconds) + 1, level.n);
  }
  let low = Infinity, high = -Infinity, sum = 0, count = 0;
  for (let i = first; i < last; i++) {
    const lo = level.lo[channel][i];
    if (lo === GAP) continue;
    low = Math.min(low, lo);
    high = Math.max(high, level.hi[channel][i]);
    sum += lo;
    count += 1;
  }
  const value = (k) => k * step[channel] + offset[channel];
  let mean = count ? number(value(sum / count)) : "";
  if (level.isRange && count) {
    if (!level.mean) mean = "not known";
    else {
      const length = level.seconds * level.meanBins;
      sum = count = 0;
      for (let i = Math.max(Math.ceil((from - level.start) / length), 0); i < level.mean[channel].length && level.start + (i + 1) * length <= to; i++) {
        sum += level.mean[channel][i] * level.count[channel][i];
        count += level.count[channel][i];
      }
      mean = count ? number(value(sum / count)) : "needs " + lengthOf(2 * length);
    }
  }
  return low <= high ? { mean, low: number(value(low)), high: number(value(high)) } : { mean, low: "", high: "" };
}

let measuring = 0;
function measureSoon() {
  placeOverlay();
  clearTimeout(measuring);
  measuring = setTimeout(measure, 60);
}

/* ---- actions ---- */

function zoom(factor, share) {
  const at = secondsAt(share === undefined ? 0.5 : share), part = share === undefined ? 0.5 : share;
  const length = Math.min((view.to - view.from) * factor, duration);
  show(at - part * length, at - part * length + length);
}

function move(share) {
  const by = share * (view.to - view.from), to = Math.min(Math.max(view.from + by, 0), duration - (view.to - view.from));
  show(to, to + view.to - view.from);
}

const press = (name, isOn) => document.querySelector('[data-do="' + name + '"]').setAttribute("aria-pressed", String(isOn));

const actions = {
  whole: () => { view.gain = 1; show(0, duration); },
  left: () => move(-0.1),
  right: () => move(0.1),
  farLeft: () => move(-0.9),
  farRight: () => move(0.9),
  end: () => show(duration - (view.to - view.from), duration),
  in: () => zoom(0.5),
  out: () => zoom(2),
  larger: () => { view.gain *= 1.3; ask(); },
  smaller: () => { view.gain /= 1.3; ask(); },
  measure: () => {
    view.isMeasuring = !view.isMeasuring;
    if (view.isMeasuring) [view.a, view.b] = [secondsAt(1 / 3), secondsAt(2 / 3)];
    press("measure", view.isMeasuring);
    measureSoon();
  },
  full: () => { view.isFull = !view.isFull; press("full", view.isFull); ask(); },
  choose: () => {
    const chooser = byId("chooser");
    chooser.hidden = !chooser.hidden;
    document.querySelector('[data-do="choose"]').setAttribute("aria-expanded", String(!chooser.hidden));
  },
  picture: savePicture,
  help: () => byId("help").showModal(),
  leave: () => byId("stack").blur(),
};
const KEYS = {
  Home: "whole", End: "end", ArrowLeft: "left", ArrowRight: "right", "Shift+ArrowLeft": "farLeft", "Shift+ArrowRight": "farRight",
  ArrowUp: "larger", ArrowDown: "smaller", "+": "in", "=": "in", "-": "out", "_": "out", m: "measure", f: "full", s: "choose", p: "picture",
  "?": "help", Escape: "leave",
};

function onKey(event) {
  if (event.ctrlKey || event.metaKey || event.altKey || byId("help").open) return;
  const isInPlots = byId("viewer").contains(event.target);
  if (!isInPlots && event.target !== document.body) return;
  const cursor = event.target.closest && event.target.closest(".cursor");
  if (cursor && (event.key === "ArrowLeft" || event.key === "ArrowRight")) {
    const name = cursor.id.slice(-1), by = ((event.shiftKey ? 10 : 1) * (view.to - view.from)) / plotWidth();
    view[name] = Math.min(Math.max(view[name] + (event.key === "ArrowLeft" ? -by : by), 0), duration);
    event.preventDefault();
    measureSoon();
    return;
  }
  const isText = event.target.matches && event.target.matches("input");
  const name = KEYS[(event.shiftKey && event.key.startsWith("Arrow") ? "Shift+" : "") + event.key];
  if (!name || isText || (event.target === document.body && /^(Arrow|Home|End)/.test(event.key))) return;
  event.preventDefault();
  actions[name]();
}

function shareAt(event) {
  const box = byId("overlay").getBoundingClientRect();
  return (event.clientX - box.left) / box.width;
}

const fingers = new Map();
let dragging = null;

function onDown(event) {
  const share = shareAt(event);
  if (event.target.closest(".cursor")) {
    dragging = { kind: "cursor", name: event.target.closest(".cursor").id.slice(-1) };
  } else if (event.pointerType === "touch") {
    fingers.set(event.pointerId, share);
    dragging = { kind: "touch", from: view.from, to: view.to, start: new Map(fingers) };
  } else if (share >= 0 && share <= 1 && event.button <= 1) {
    const isMove = event.shiftKey || event.button === 1;
    dragging = { kind: isMove ? "move" : "select", share, from: view.from, to: view.to };
    event.preventDefault();
    byId("stack").focus({ preventScroll: true });
  }
  if (dragging && dragging.kind !== "touch") byId("stack").setPointerCapture(event.pointerId);
}

function onMove(event) {
  const share = shareAt(event), inside = Math.min(Math.max(share, 0), 1);
  if (event.pointerType !== "touch" || (dragging && dragging.kind === "cursor")) view.pointer = share >= 0 && share <= 1 ? secondsAt(share) : null;
  if (dragging && dragging.kind === "cursor") {
    view[dragging.name] = secondsAt(inside);
    measureSoon();
  } else if (dragging && dragging.kind === "select") {
    const [low, high] = [Math.min(dragging.share, inside), Math.max(dragging.share, inside)], box = byId("selection");
    box.hidden = false;
    box.style.left = 100 * low + "%";
    box.style.width = 100 * (high - low) + "%";
  } else if (dragging && dragging.kind === "move") {
    const by = (dragging.share - share) * (dragging.to - dragging.from);
    const from = Math.min(Math.max(dragging.from + by, 0), duration - (dragging.to - dragging.from));
    show(from, from + dragging.to - dragging.from);
  } else if (dragging && dragging.kind === "touch" && fingers.has(event.pointerId)) {
    fingers.set(event.pointerId, share);
    const now = [...fingers.values()], before = [...dragging.start.values()], length = dragging.to - dragging.from;
    const timeOf = (part) => dragging.from + part * length;
    if (now.length === 1) {
      const from = Math.min(Math.max(dragging.from + (before[0] - now[0]) * length, 0), duration - length);
      show(from, from + length);
    } else {
      const scale = Math.max(Math.abs(now[0] - now[1]), 0.02) / Math.max(Math.abs(before[0] - before[1]), 0.02);
      const middle = timeOf((before[0] + before[1]) / 2), part = (now[0] + now[1]) / 2, wanted = Math.min(length / scale, duration);
      show(middle - part * wanted, middle - part * wanted + wanted);
    }
  }
  placeOverlay();
}

function onUp(event) {
  const was = dragging;
  fingers.delete(event.pointerId);
  dragging = fingers.size ? { kind: "touch", from: view.from, to: view.to, start: new Map(fingers) } : null;
  byId("selection").hidden = true;
  if (!was || was.kind !== "select") return;
  const share = Math.min(Math.max(shareAt(event), 0), 1), pixels = Math.abs(share - was.share) * plotWidth();
  if (pixels > 5) show(secondsAt(Math.min(share, was.share)), secondsAt(Math.max(share, was.share)));
  else if (view.isMeasuring) {
    const at = secondsAt(share), name = Math.abs(at - view.a) < Math.abs(at - view.b) ? "a" : "b";
    view[name] = at;
    measureSoon();
  }
}

function onWheel(event) {
  const isIn = byId("stack").contains(document.activeElement) || event.ctrlKey;
  const share = shareAt(event);
  if (!isIn || share < 0 || share > 1) return;
  event.preventDefault();
  const isSideways = event.shiftKey || Math.abs(event.deltaX) > Math.abs(event.deltaY);
  if (isSideways) move(0.0015 * (event.deltaX || event.deltaY));
  else zoom(Math.exp(Math.min(Math.max(event.deltaY, -200), 200) * 0.002), share);
}

function onNavigator(event) {
  if (event.type === "pointermove" && !event.buttons) return;
  const box = byId("navigator").getBoundingClientRect(), at = ((event.clientX - box.left) / box.width) * duration;
  const length = view.to - view.from, from = Math.min(Math.max(at - length / 2, 0), duration - length);
  show(from, from + length);
}

function choosing() {
  for (const panel of panels) {
    if (panel.isAxis) continue;
    const label = element("label"), box = element("input");
    box.type = "checkbox";
    box.checked = panel.isShown;
    box.addEventListener("change", () => {
      panel.isShown = box.checked;
      panel.figure.hidden = !box.checked;
      ask();
      if (view.isMeasuring) measureSoon();
    });
    label.append(box, " " + panel.title);
    byId("chooser").append(label);
  }
}

function listen() {
  const stack = byId("stack");
  document.addEventListener("keydown", onKey);
  stack.addEventListener("pointerdown", onDown);
  stack.addEventListener("pointermove", onMove);
  for (const name of ["pointerup", "pointercancel"]) stack.addEventListener(name, onUp);
  stack.addEventListener("pointerleave", () => { view.pointer = null; placeOverlay(); });
  stack.addEventListener("dblclick", actions.whole);
  stack.addEventListener("wheel", onWheel, { passive: false });
  for (const name of ["pointerdown", "pointermove"]) byId("navigator").addEventListener(name, onNavigator);
  for (const button of document.querySelectorAll("[data-do]")) button.addEventListener("click", () => actions[button.dataset.do]());
  for (const button of document.querySelectorAll(".go"))
    button.addEventListener("click", () => {
      const from = +button.dataset.from, to = +button.dataset.to, spare = Math.max(0.15 * (to - from), 2);
      show(from - spare, to + spare);
      byId("viewer").scrollIntoView();
      byId("stack").focus({ preventScroll: true });
    });
  document.addEventListener("scroll", drawVisible, { passive: true });
  new ResizeObserver(resize).observe(stack);
  const recolour = () => { C = dark.matches && !isPrinting ? DARK : LIGHT; draw(); };
  dark.addEventListener("change", recolour);
  window.addEventListener("beforeprint", () => { isPrinting = true; recolour(); });
  window.addEventListener("afterprint", () => { isPrinting = false; recolour(); });
}

async function begin() {
  byId("viewer").hidden = false;
  const stack = byId("stack"), overlay = byId("overlay");
  panels.push(axisPanel(), ...DATA.signals.map(signalPanel), ...DATA.predictions.map(predictionPanel));
  for (const panel of panels) {
    panel.figure.hidden = !panel.isShown;
    stack.insertBefore(panel.figure, overlay);
  }
  const sums = [];
  await Promise.all(panels.map(async (panel) => {
    if (panel.load) await panel.load();
    if (!panel.signal) return;
    const { levels, quality, marks } = panel.signal;
    panel.levels = await levelOf(panel.signal, levels[0]);
    panel.deepest = levels[1] || null;
    panel.marks = await Promise.all(marks.map(async (one) => {
      const parts = await unpacked(one);
      return { ...one, times: Float64Array.from(parts.times[0], (t) => t * 1e-4), values: parts.values[0] };
    }));
    if (!quality) return;
    panel.quality = await unpacked(quality);
    const rows = panel.quality.index;
    panel.quality.mean = Float32Array.from(rows[0], (_, s) => rows.reduce((sum, row) => sum + row[s], 0) / rows.length);
    sums.push(panel.quality.mean);
  }));
  if (sums.length) overall = Float32Array.from(sums[0], (_, s) => sums.reduce((sum, row) => sum + (row[s] || 0), 0) / sums.length);
  choosing();
  listen();
  draw();
}

begin().catch((fault) => {
  byId("viewer").hidden = true;
  byId("fault").hidden = false;
  byId("fault").textContent = "The plots cannot be shown (" + fault.message + "). A browser of 2023 or newer is needed; the tables below hold what is shown.";
});
})();
