/** A QR code as a picture in the page. */
import { encode } from "./encode.ts";

const SVG = "http://www.w3.org/2000/svg";
/** Light modules around it: what the standard asks for. */
const MARGIN = 4;

/** The picture, or nothing if the text is too long for one. Dark on light in both colour schemes, for many readers want it so. */
export function qr_picture(text: string, label: string): SVGSVGElement | undefined {
  const code = encode(text);
  if (code === undefined) return undefined;
  const side = code.size + MARGIN * 2;
  const svg = document.createElementNS(SVG, "svg");
  svg.setAttribute("viewBox", `0 0 ${side} ${side}`);
  svg.setAttribute("class", "qr");
  svg.setAttribute("role", "img");
  svg.setAttribute("aria-label", label);
  svg.setAttribute("shape-rendering", "crispEdges");
  const path = document.createElementNS(SVG, "path");
  let lines = "";
  for (let y = 0; y < code.size; y++) {
    for (let x = 0; x < code.size; x++) {
      if (!code.is_dark(x, y)) continue;
      const from = x;
      while (code.is_dark(x + 1, y)) x++;
      lines += `M${from + MARGIN} ${y + MARGIN}h${x - from + 1}v1h-${x - from + 1}z`;
    }
  }
  path.setAttribute("d", lines);
  svg.append(path);
  return svg;
}
