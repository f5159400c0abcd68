/** The page's icons, drawn on 24 by 24. They say nothing by themselves: a word stands beside each, or in its button's label. */

const SVG = "http://www.w3.org/2000/svg";

/** Lines of each icon; what begins with `*` is filled. */
const DRAWINGS = {
  microphone: ["M12 3a3 3 0 0 1 3 3v5a3 3 0 0 1-6 0V6a3 3 0 0 1 3-3z", "M5.5 11a6.5 6.5 0 0 0 13 0", "M12 17.5V21"],
  microphone_off: ["M9 9v2a3 3 0 0 0 4.6 2.5", "M15 11.5V6a3 3 0 0 0-5.9-.8", "M5.5 11a6.5 6.5 0 0 0 10.2 5.3", "M18.5 11a6.4 6.4 0 0 1-.6 2.7", "M12 17.5V21", "M3.5 3.5l17 17"],
  camera: ["M4.5 6h9A1.5 1.5 0 0 1 15 7.5v9a1.5 1.5 0 0 1-1.5 1.5h-9A1.5 1.5 0 0 1 3 16.5v-9A1.5 1.5 0 0 1 4.5 6z", "M15 10.5l6-3.5v10l-6-3.5"],
  camera_off: ["M10 6h3.5A1.5 1.5 0 0 1 15 7.5V11l6-4v10l-2-1.2", "M15 15v1.5a1.5 1.5 0 0 1-1.5 1.5h-9A1.5 1.5 0 0 1 3 16.5v-9A1.5 1.5 0 0 1 4.5 6H6", "M3.5 3.5l17 17"],
  screen: ["M4.5 4h15A1.5 1.5 0 0 1 21 5.5v9a1.5 1.5 0 0 1-1.5 1.5h-15A1.5 1.5 0 0 1 3 14.5v-9A1.5 1.5 0 0 1 4.5 4z", "M8 20h8", "M12 13V7.5", "M9.3 9.8L12 7.2l2.7 2.6"],
  chat: ["M5 4h14a2 2 0 0 1 2 2v8.5a2 2 0 0 1-2 2h-7.5L7 20.5v-4H5a2 2 0 0 1-2-2V6a2 2 0 0 1 2-2z", "M7.5 8.5h9", "M7.5 12h6"],
  people: ["M9 11.5a3.5 3.5 0 1 0 0-7 3.5 3.5 0 0 0 0 7z", "M2.5 20c0-3.6 2.9-5.8 6.5-5.8s6.5 2.2 6.5 5.8", "M16 4.9a3.4 3.4 0 0 1 0 6.3", "M18 14.8c2.2.8 3.5 2.6 3.5 5.2"],
  smile: ["M12 3a9 9 0 1 0 0 18 9 9 0 0 0 0-18z", "M8.2 14.2c.9 1.5 2.2 2.3 3.8 2.3s2.9-.8 3.8-2.3", "M9 9.3v.6", "M15 9.3v.6"],
  more: ["*M5 10.3a1.7 1.7 0 1 0 0 3.4 1.7 1.7 0 0 0 0-3.4z", "*M12 10.3a1.7 1.7 0 1 0 0 3.4 1.7 1.7 0 0 0 0-3.4z", "*M19 10.3a1.7 1.7 0 1 0 0 3.4 1.7 1.7 0 0 0 0-3.4z"],
  leave: ["M3 15.2c-.6-1.3-.3-2.8.8-3.6C6.1 9.8 9 9 12 9s5.9.8 8.2 2.6c1.1.8 1.4 2.3.8 3.6l-.4.7c-.3.6-1 .9-1.6.7l-2.7-.8c-.6-.2-1-.8-.9-1.4l.1-1.7a13 13 0 0 0-7 0l.1 1.7c0 .6-.3 1.2-.9 1.4l-2.7.8c-.6.2-1.3-.1-1.6-.7z"],
  lock: ["M6.5 10.5h11A1.5 1.5 0 0 1 19 12v7a1.5 1.5 0 0 1-1.5 1.5h-11A1.5 1.5 0 0 1 5 19v-7a1.5 1.5 0 0 1 1.5-1.5z", "M8 10.5V7.5a4 4 0 0 1 8 0v3", "M12 14.5v2"],
  shield: ["M12 3l7.5 2.8v5.5c0 4.6-3 8-7.5 9.7-4.5-1.7-7.5-5.1-7.5-9.7V5.8z", "M8.7 12l2.4 2.4 4.2-4.6"],
  shield_empty: ["M12 3l7.5 2.8v5.5c0 4.6-3 8-7.5 9.7-4.5-1.7-7.5-5.1-7.5-9.7V5.8z"],
  shield_warning: ["M12 3l7.5 2.8v5.5c0 4.6-3 8-7.5 9.7-4.5-1.7-7.5-5.1-7.5-9.7V5.8z", "M12 8v4.5", "M12 15.6v.1"],
  put_out: ["M9.5 11.5a3.5 3.5 0 1 0 0-7 3.5 3.5 0 0 0 0 7z", "M3 20c0-3.6 2.9-5.8 6.5-5.8 1.7 0 3.2.5 4.4 1.4", "M16.5 15.5l4.5 4.5", "M21 15.5l-4.5 4.5"],
  warning: ["M12 4L2.8 19.5h18.4z", "M12 10v4.5", "M12 17v.1"],
  info: ["M12 3a9 9 0 1 0 0 18 9 9 0 0 0 0-18z", "M12 11v5.5", "M12 7.7v.1"],
  link: ["M10 14a4 4 0 0 0 5.7 0l3.6-3.6a4 4 0 0 0-5.7-5.7L12.4 6", "M14 10a4 4 0 0 0-5.7 0l-3.6 3.6a4 4 0 0 0 5.7 5.7l1.2-1.3"],
  invite: ["M10 11.5a3.5 3.5 0 1 0 0-7 3.5 3.5 0 0 0 0 7z", "M3.5 20c0-3.6 2.9-5.8 6.5-5.8 1.7 0 3.2.5 4.4 1.4", "M18.5 14v6", "M15.5 17h6"],
  copy: ["M9.5 8.5h9A1.5 1.5 0 0 1 20 10v9a1.5 1.5 0 0 1-1.5 1.5h-9A1.5 1.5 0 0 1 8 19v-9a1.5 1.5 0 0 1 1.5-1.5z", "M16 8.5V5A1.5 1.5 0 0 0 14.5 3.5h-9A1.5 1.5 0 0 0 4 5v9.5A1.5 1.5 0 0 0 5.5 16H8"],
  share: ["M12 14.5v-11", "M8 7l4-3.8L16 7", "M7.5 11H6A1.5 1.5 0 0 0 4.5 12.5V19A1.5 1.5 0 0 0 6 20.5h12a1.5 1.5 0 0 0 1.5-1.5v-6.5A1.5 1.5 0 0 0 18 11h-1.5"],
  close: ["M6 6l12 12", "M18 6L6 18"],
  file: ["M13.5 3H7a1.5 1.5 0 0 0-1.5 1.5v15A1.5 1.5 0 0 0 7 21h10a1.5 1.5 0 0 0 1.5-1.5V8z", "M13.5 3v5h5"],
  attach: ["M19.5 11.5l-7.6 7.6a4.6 4.6 0 0 1-6.5-6.5l8-8a3.1 3.1 0 0 1 4.4 4.4l-8 8a1.5 1.5 0 0 1-2.2-2.2l7.2-7.2"],
  save: ["M12 4v11", "M8 11.5l4 3.8 4-3.8", "M4.5 19.5h15"],
  send: ["M4 12L20 4.5 14.5 20l-3-6.5z", "M11.5 13.5L20 4.5"],
  large: ["M14 4h6v6", "M20 4l-7 7", "M10 20H4v-6", "M4 20l7-7"],
  small: ["M20 10h-6V4", "M14 10l6.5-6.5", "M4 14h6v6", "M10 14l-6.5 6.5"],
  door: ["M6 21V4.5A1.5 1.5 0 0 1 7.5 3h9A1.5 1.5 0 0 1 18 4.5V21", "M3.5 21h17", "M14.5 12v.6"],
  devices: ["M4 7h9", "M17 7h3", "M15 4.8a2.2 2.2 0 1 0 0 4.4 2.2 2.2 0 0 0 0-4.4z", "M4 17h3", "M11 17h9", "M9 14.8a2.2 2.2 0 1 0 0 4.4 2.2 2.2 0 0 0 0-4.4z"],
  keyboard: ["M4 6.5h16A1.5 1.5 0 0 1 21.5 8v8a1.5 1.5 0 0 1-1.5 1.5H4A1.5 1.5 0 0 1 2.5 16V8A1.5 1.5 0 0 1 4 6.5z", "M6.5 10.2v.1", "M10.2 10.2v.1", "M13.8 10.2v.1", "M17.5 10.2v.1", "M8 14h8"],
  figures: ["M4 20h16", "M6.5 16.5v-5", "M12 16.5V5", "M17.5 16.5V9"],
  full: ["M4 9V4h5", "M20 9V4h-5", "M4 15v5h5", "M20 15v5h-5"],
  ring: ["M6 16.5V11a6 6 0 0 1 12 0v5.5l1.5 1.5h-15z", "M10 20.5a2.2 2.2 0 0 0 4 0"],
  speaker: ["M4 9.5v5h3.5L12 18.5v-13L7.5 9.5z", "M15.5 9a4.2 4.2 0 0 1 0 6", "M18 6.5a7.8 7.8 0 0 1 0 11"],
  check: ["M5 12.5l4.5 4.5L19 7.5"],
  line: ["M4 19v-3", "M9.3 19v-7", "M14.7 19V8.5", "M20 19V5"],
} as const;

export type IconName = keyof typeof DRAWINGS;

export function icon(name: IconName): SVGSVGElement {
  const svg = document.createElementNS(SVG, "svg");
  svg.setAttribute("viewBox", "0 0 24 24");
  svg.setAttribute("class", "icon");
  svg.setAttribute("aria-hidden", "true");
  svg.setAttribute("focusable", "false");
  draw(svg, name);
  return svg;
}

/** Makes an icon another one. */
export function set_icon(svg: SVGSVGElement, name: IconName): void {
  if (svg.getAttribute("data-icon") !== name) draw(svg, name);
}

function draw(svg: SVGSVGElement, name: IconName): void {
  const paths = DRAWINGS[name].map((line: string) => {
    const path = document.createElementNS(SVG, "path");
    const filled = line.startsWith("*");
    path.setAttribute("d", filled ? line.slice(1) : line);
    if (filled) path.setAttribute("class", "filled");
    return path;
  });
  svg.replaceChildren(...paths);
  svg.setAttribute("data-icon", name);
}
