// One line chart in an <svg>: the last POINTS values of one or two series. No dependency, no style attributes.

const SVG = "http://www.w3.org/2000/svg";
const WIDTH = 600, HEIGHT = 160, LEFT = 46, TOP = 8, BOTTOM = 18;
export const POINTS = 120;

/** The smallest of 1, 2, 5 times a power of ten that is not below value. */
function ceiling(value) {
  if (!(value > 0)) return 1;
  const power = 10 ** Math.floor(Math.log10(value));
  return [1, 2, 5, 10].map((step) => step * power).find((limit) => limit >= value * 0.999);
}

function element(name, attributes, text) {
  const made = document.createElementNS(SVG, name);
  for (const [key, value] of Object.entries(attributes)) made.setAttribute(key, value);
  if (text !== undefined) made.textContent = text;
  return made;
}

export class Chart {
  constructor(svg, format) {
    this.svg = svg;
    this.format = format;
    this.series = [];
    svg.setAttribute("viewBox", `0 0 ${WIDTH} ${HEIGHT}`);
    svg.setAttribute("preserveAspectRatio", "none");
  }

  /** Add one moment: a value (or null) of each series. */
  add(...values) {
    values.forEach((value, index) => {
      this.series[index] ??= [];
      this.series[index].push(value);
      if (this.series[index].length > POINTS) this.series[index].shift();
    });
    this.draw();
  }

  draw() {
    const top = ceiling(Math.max(0, ...this.series.flat().filter((value) => value !== null)));
    const box = this.svg.getBoundingClientRect();
    if (box.width) this.svg.setAttribute("viewBox", `0 0 ${box.width} ${HEIGHT}`);
    const width = box.width || WIDTH;
    const x = (index, length) => width - (length - 1 - index) * ((width - LEFT) / (POINTS - 1));
    const y = (value) => TOP + (1 - value / top) * (HEIGHT - TOP - BOTTOM);
    const parts = [];
    for (const share of [0, 0.5, 1]) {
      parts.push(element("line", { class: "grid", x1: LEFT, x2: width, y1: y(top * share), y2: y(top * share) }));
      parts.push(element("text", { x: LEFT - 6, y: y(top * share) + 4, "text-anchor": "end" }, this.format(top * share)));
    }
    parts.push(element("text", { x: LEFT, y: HEIGHT - 3 }, "2 minutes ago"));
    parts.push(element("text", { x: width, y: HEIGHT - 3, "text-anchor": "end" }, "now"));
    this.series.forEach((values, number) => {
      const known = values.map((value, index) => [value, index]).filter(([value]) => value !== null);
      if (!known.length) return;
      const line = known.map(([value, index]) => `${x(index, values.length).toFixed(1)},${y(value).toFixed(1)}`);
      if (number === 0 && this.series.length === 1) {
        const [first, last] = [known[0][1], known.at(-1)[1]].map((index) => x(index, values.length).toFixed(1));
        parts.push(element("path", { class: "area", d: `M${first},${y(0)}L${line.join("L")}L${last},${y(0)}Z` }));
      }
      parts.push(element("polyline", { class: number ? "second" : "first", points: line.join(" ") }));
    });
    this.svg.replaceChildren(...parts);
  }
}
