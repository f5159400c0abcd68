// A small chart: some lines, or layers upon each other, over time. Plain SVG.

const SVG = "http://www.w3.org/2000/svg";
const WIDTH = 600;
const HEIGHT = 170;
const LEFT = 66;
const BOTTOM = 18;
const TOP = 6;
// Width that a time of the day needs, with the gap to the next one.
const LABEL = 58;
const COLOURS = ["--one", "--two", "--three", "--four", "--five", "--six", "--seven"];

export function element(name, attributes = {}, ...children) {
  const made = document.createElement(name);
  return fill(made, attributes, children);
}

function shape(name, attributes = {}, ...children) {
  return fill(document.createElementNS(SVG, name), attributes, children);
}

function fill(made, attributes, children) {
  for (const [name, value] of Object.entries(attributes)) made.setAttribute(name, value);
  made.append(...children);
  return made;
}

const colour = (index) => `var(${COLOURS[index % COLOURS.length]})`;

// A time of the day, to the minute and to the second.
export const clock = (unix_ms) => new Date(unix_ms).toLocaleTimeString([], { hour: "2-digit", minute: "2-digit", hourCycle: "h23" });
const seconds = (unix_ms) => new Date(unix_ms).toLocaleTimeString([], { hourCycle: "h23" });

// Without noughts at the end of a fraction.
const short = (text) => text.replace(/(\.\d*?)0+(?!\d)/, (_, kept) => (kept === "." ? "" : kept));

// The smallest of 1, 2, 5 times a power of ten that is not below `value`.
function round(value) {
  const power = 10 ** Math.floor(Math.log10(value));
  return [1, 2, 5, 10].map((step) => step * power).find((step) => step >= value * 0.999);
}

// `names` of lines; `format` makes text of a value; `stacked` lays them upon each other; `paired` gives two lines each one
// colour and dashes the first; `least` is the smallest top of the scale, `hue` the place of the
// first colour.
export class Chart {
  constructor(parent, { title, note, names, format, stacked = false, paired = false, least = 1, hue = 0 }) {
    Object.assign(this, { names, format, stacked, paired, least, hue, at: [], series: [], pointed: null });
    this.svg = shape("svg", { role: "img", "aria-label": title, preserveAspectRatio: "none" });
    this.legend = element("div", { class: "legend" });
    parent.append(element("article", {}, element("h3", {}, title), element("p", { class: "quiet" }, note), this.svg, this.legend));
    const point = (event) => {
      const box = this.svg.getBoundingClientRect();
      this.pointed = (event.clientX - box.left) / box.width;
      this.draw();
    };
    this.svg.addEventListener("pointermove", point);
    this.svg.addEventListener("pointerdown", point);
    this.svg.addEventListener("pointerleave", () => { this.pointed = null; this.draw(); });
    new ResizeObserver(() => this.draw()).observe(this.svg);
  }

  // `at`: times in ms; `series`: one list of values for each name; `span`: how many ms the width is; `marks`: what
  // happened to the relay itself, and when.
  show(at, series, span, marks) {
    Object.assign(this, { at, series, span, marks });
    this.draw();
  }

  draw() {
    const width = this.svg.clientWidth || WIDTH;
    this.svg.setAttribute("viewBox", `0 0 ${width} ${HEIGHT}`);
    this.svg.replaceChildren();
    const { at, span } = this;
    if (at.length === 0) return this.explain(null);
    const layers = this.stacked ? stack(this.series) : this.series;
    const top = round(Math.max(this.least, ...layers.flat()));
    const end = at[at.length - 1];
    const x = (time) => LEFT + (width - LEFT) * (1 - (end - time) / span);
    const y = (value) => TOP + (HEIGHT - TOP - BOTTOM) * (1 - value / top);
    for (const share of [0, 0.5, 1]) {
      const height = y(top * share);
      this.svg.append(
        shape("line", { class: "grid", x1: LEFT, x2: width, y1: height, y2: height }),
        shape("text", { x: LEFT - 6, y: height + 4, "text-anchor": "end" }, short(this.format(top * share))),
      );
    }
    this.times(end, x, width);
    for (const { unix_ms: time, what } of this.marks ?? []) {
      if (time < end - span || time > end) continue;
      const line = shape("line", { class: "mark", x1: x(time), x2: x(time), y1: TOP, y2: HEIGHT - BOTTOM });
      line.append(shape("title", {}, `${clock(time)} ${what}`));
      this.svg.append(line);
    }
    layers.forEach((values, index) => {
      const upper = values.map((value, place) => `${x(at[place]).toFixed(1)},${y(value).toFixed(1)}`);
      if (this.stacked) {
        const below = index === 0 ? at.map(() => 0) : layers[index - 1];
        const lower = below.map((value, place) => `${x(at[place]).toFixed(1)},${y(value).toFixed(1)}`).reverse();
        this.svg.append(shape("polygon", { points: upper.concat(lower).join(" "), fill: this.colour(index), "fill-opacity": 0.75 }));
      } else {
        const line = { points: upper.join(" "), fill: "none", stroke: this.colour(index), "stroke-width": 1.5, "stroke-linejoin": "round" };
        if (this.paired && index % 2 === 0) Object.assign(line, { "stroke-width": 1.2, "stroke-dasharray": "4 3" });
        this.svg.append(shape("polyline", line));
      }
    });
    this.explain(this.cursor(x, width));
  }

  // Times of the day below: as many as have room, at whole minutes, or in the first minutes at parts of one.
  times(end, x, width) {
    const room = Math.max(2, Math.floor((width - LEFT) / LABEL));
    const step = [0.25, 0.5, 1, 2, 5, 10].find((minutes) => this.span / (minutes * 60000) <= room) ?? 15;
    const last = Math.floor(end / (step * 60000)) * step * 60000;
    for (let time = last; x(time) >= LEFT + LABEL / 2; time -= step * 60000) {
      if (x(time) > width - LABEL / 2) continue;
      this.svg.append(shape("text", { x: x(time), y: HEIGHT - 3, "text-anchor": "middle" }, step < 1 ? seconds(time) : clock(time)));
    }
  }

  colour(index) {
    if (this.names[index] === "on purpose") return "var(--pale)";
    return colour(this.hue + (this.paired ? Math.floor(index / 2) : index));
  }

  // The place of the sample under the pointer, if there is one; draws a line there.
  cursor(x, width) {
    if (this.pointed === null) return null;
    const wanted = this.pointed * width;
    let best = 0;
    this.at.forEach((time, place) => {
      if (Math.abs(x(time) - wanted) < Math.abs(x(this.at[best]) - wanted)) best = place;
    });
    this.svg.append(shape("line", { class: "cursor", x1: x(this.at[best]), x2: x(this.at[best]), y1: TOP, y2: HEIGHT - BOTTOM }));
    return best;
  }

  explain(place) {
    const last = place ?? this.at.length - 1;
    const entries = this.names.map((name, index) => {
      const mark = element("i");
      mark.style.background = this.colour(index);
      const value = this.series[index]?.[last];
      return element("span", {}, mark, `${name} `, element("b", {}, value === undefined ? "" : this.format(value)));
    });
    if (place !== null) entries.push(element("span", {}, seconds(this.at[place])));
    this.legend.replaceChildren(...entries);
  }
}

function stack(series) {
  let below = (series[0] ?? []).map(() => 0);
  return series.map((values) => (below = values.map((value, place) => value + below[place])));
}
