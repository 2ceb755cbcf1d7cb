/* A drawing context that writes SVG: what draws on a canvas draws into it, as far as the viewer uses one.
   Made by svgContext(width, height, paper); `at(x, y, scale)` moves it, `text()` is the document. */
const svgContext = (function () {
"use strict";

const escaped = (text) => String(text).replace(/[&<>"]/g, (one) => ({ "&": "&amp;", "<": "&lt;", ">": "&gt;", '"': "&quot;" })[one]);
const plain = (value) => String(Math.round(100 * value) / 100);

function svgContext(width, height, paper) {
  const parts = [], kept = [], ruler = document.createElement("canvas").getContext("2d");
  let state = { x: 0, y: 0, scale: 1, n: 0 }, path = "", clips = 0;
  const xOf = (x) => plain(state.x + state.scale * x), yOf = (y) => plain(state.y + state.scale * y);
  const ctx = {
    fillStyle: "#000000", strokeStyle: "#000000", lineWidth: 1, globalAlpha: 1, font: "11px sans-serif", textAlign: "left",
    at(x, y, scale) { state = { ...state, x, y, scale: scale || 1 }; },
    translate(x, y) { state = { ...state, x: state.x + state.scale * x, y: state.y + state.scale * y }; },
    save() { kept.push([state, ctx.fillStyle, ctx.strokeStyle, ctx.lineWidth, ctx.globalAlpha, ctx.textAlign]); state = { ...state, n: 0 }; },
    restore() {
      parts.push("</g>".repeat(state.n));
      [state, ctx.fillStyle, ctx.strokeStyle, ctx.lineWidth, ctx.globalAlpha, ctx.textAlign] = kept.pop();
    },
    beginPath() { path = ""; },
    moveTo(x, y) { path += "M" + xOf(x) + " " + yOf(y); },
    lineTo(x, y) { path += "L" + xOf(x) + " " + yOf(y); },
    rect(x, y, w, h) { path += "M" + xOf(x) + " " + yOf(y) + "H" + xOf(x + w) + "V" + yOf(y + h) + "H" + xOf(x) + "Z"; },
    clip() {
      clips += 1;
      state = { ...state, n: state.n + 1 };
      parts.push('<clipPath id="clip' + clips + '"><path d="' + path + '"/></clipPath><g clip-path="url(#clip' + clips + ')">');
    },
    fill() { if (path) parts.push('<path d="' + path + '"' + ink("fill", ctx.fillStyle) + "/>"); },
    stroke() {
      const thick = plain(ctx.lineWidth * state.scale);
      if (path) parts.push('<path d="' + path + '" fill="none"' + ink("stroke", ctx.strokeStyle) + ' stroke-width="' + thick + '" stroke-linejoin="round"/>');
    },
    fillRect(x, y, w, h) {
      if (w > 0 && h > 0) parts.push('<rect x="' + xOf(x) + '" y="' + yOf(y) + '" width="' + plain(state.scale * w) + '" height="' + plain(state.scale * h) + '"' + ink("fill", ctx.fillStyle) + "/>");
    },
    measureText(text) { ruler.font = ctx.font; return ruler.measureText(text); },
    fillText(text, x, y) {
      const anchor = { left: "start", right: "end", center: "middle" }[ctx.textAlign], size = parseFloat(/([\d.]+)px/.exec(ctx.font)[1]);
      const weight = /bold|[67]00/.test(ctx.font) ? ' font-weight="600"' : "";
      parts.push('<text x="' + xOf(x) + '" y="' + yOf(y) + '" font-size="' + size + '"' + weight + ' text-anchor="' + anchor + '"' + ink("fill", ctx.fillStyle) + ">" + escaped(text) + "</text>");
    },
    text(title) {
      return '<svg xmlns="http://www.w3.org/2000/svg" width="' + plain(width) + '" height="' + plain(height) + '" viewBox="0 0 ' + plain(width) + " " + plain(height) +
        '" role="img" font-family="system-ui, sans-serif"><title>' + escaped(title) + '</title><rect width="100%" height="100%" fill="' + paper + '"/>' + parts.join("") + "</svg>\n";
    },
  };
  /* Editors of vector graphics know no rgba() and no #rrggbbaa: colour and opacity stand apart. */
  function ink(name, colour) {
    let alpha = ctx.globalAlpha, shade = colour;
    const numbers = /^rgba\((\d+), (\d+), (\d+), ([\d.e-]+)\)$/.exec(colour);
    if (numbers) {
      shade = "#" + [1, 2, 3].map((k) => Number(numbers[k]).toString(16).padStart(2, "0")).join("");
      alpha *= Number(numbers[4]);
    } else if (/^#[0-9a-f]{8}$/.test(colour)) {
      shade = colour.slice(0, 7);
      alpha *= parseInt(colour.slice(7), 16) / 255;
    }
    return " " + name + '="' + shade + '"' + (alpha < 1 ? " " + name + '-opacity="' + plain(alpha) + '"' : "");
  }
  return ctx;
}

return svgContext;
})();
