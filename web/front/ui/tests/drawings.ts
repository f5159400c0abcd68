/** What stands for cameras and screens in tests: somebody before a wall, and a slide. */

const WALLS = ["#7d9bb8", "#b9a58a", "#8fae9b", "#a48fb0", "#c0907d", "#6f8fa6", "#aab07d", "#8a93ad"];
const CLOTHES = ["#27405e", "#7a3b2e", "#2f5d46", "#4b3a63", "#8a6a1f", "#3a3f47"];
const SKINS = ["#8d5a3b", "#f0c9a8", "#e3b58f", "#c68d62", "#d9a57c", "#f3d3b8"];
const HAIRS = ["#1d1512", "#c9a05a", "#16181d", "#2b1d14", "#4a2a1a", "#7b4a26"];
const of = (list: readonly string[], at: number): string => list[at % list.length] ?? "#888888";

export function draw_face(canvas: HTMLCanvasElement, number: number): void {
  const context = canvas.getContext("2d");
  if (context === null) return;
  const { width, height } = canvas;
  const wall = context.createLinearGradient(0, 0, width, height);
  wall.addColorStop(0, of(WALLS, number));
  wall.addColorStop(1, "#3b4653");
  context.fillStyle = wall;
  context.fillRect(0, 0, width, height);
  // A window or a shelf behind them.
  context.fillStyle = "rgb(255 255 255 / 22%)";
  if (number % 2 === 0) {
    context.fillRect(width * 0.06, height * 0.1, width * 0.2, height * 0.42);
    context.fillStyle = "rgb(20 30 40 / 25%)";
    context.fillRect(width * 0.155, height * 0.1, width * 0.012, height * 0.42);
  } else {
    context.fillStyle = "rgb(20 30 40 / 30%)";
    context.fillRect(width * 0.72, height * 0.3, width * 0.26, height * 0.025);
    for (let book = 0; book < 6; book++) {
      context.fillStyle = of(CLOTHES, book + number);
      context.fillRect(width * (0.74 + book * 0.033), height * (0.15 + (book % 3) * 0.02), width * 0.024, height * (0.15 - (book % 3) * 0.02));
    }
  }
  const x = width * (0.5 + ((number * 37) % 9 - 4) * 0.008);
  const unit = height * 0.2;
  const head = height * 0.43;
  const ellipse = (left: number, top: number, across: number, down: number, colour: string): void => {
    context.fillStyle = colour;
    context.beginPath();
    context.ellipse(left, top, across, down, 0, 0, Math.PI * 2);
    context.fill();
  };
  ellipse(x, height * 1.12, unit * 2, unit * 1.9, of(CLOTHES, number));
  context.fillStyle = of(SKINS, number);
  context.fillRect(x - unit * 0.32, head + unit * 0.5, unit * 0.64, unit * 0.9);
  ellipse(x, head - unit * 0.14, unit * 0.92, unit * 1.14, of(HAIRS, number));
  if (number % 3 === 0) ellipse(x, head + unit * 0.5, unit * 1.02, unit * 1.15, of(HAIRS, number));
  ellipse(x, head + unit * 0.13, unit * 0.74, unit * 0.98, of(SKINS, number));
  ellipse(x - unit * 0.27, head + unit * 0.03, unit * 0.07, unit * 0.09, "#20252b");
  ellipse(x + unit * 0.27, head + unit * 0.03, unit * 0.07, unit * 0.09, "#20252b");
  context.strokeStyle = "rgb(60 20 20 / 70%)";
  context.lineWidth = Math.max(2, unit * 0.06);
  context.beginPath();
  context.arc(x, head + unit * 0.38, unit * 0.3, 0.25, Math.PI - 0.25);
  context.stroke();
}

export function draw_slide(canvas: HTMLCanvasElement): void {
  const context = canvas.getContext("2d");
  if (context === null) return;
  const { width, height } = canvas;
  context.fillStyle = "#fbfaf7";
  context.fillRect(0, 0, width, height);
  context.fillStyle = "#1d2a38";
  context.font = `600 ${height * 0.07}px "Liberation Sans", sans-serif`;
  context.fillText("How many came, week by week", width * 0.06, height * 0.14);
  const bars = [3, 5, 4, 7, 6, 9, 11, 10, 13];
  bars.forEach((value, at) => {
    context.fillStyle = at === bars.length - 1 ? "#c2571a" : "#1d5fb0";
    const high = (value / 14) * height * 0.62;
    context.fillRect(width * (0.07 + at * 0.097), height * 0.88 - high, width * 0.07, high);
  });
  context.fillRect(width * 0.06, height * 0.885, width * 0.88, 2);
}
