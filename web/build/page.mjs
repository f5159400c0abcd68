// Puts script and style into the page's HTML, and a policy that lets nothing else run.
import { createHash } from "node:crypto";
import { readFile } from "node:fs/promises";
import { dirname, join } from "node:path";
import { fileURLToPath } from "node:url";

import { bundle } from "./bundle.mjs";

const FRONT = join(dirname(dirname(fileURLToPath(import.meta.url))), "front");

/** What the page may do: run its own script, be a worker and a worklet of its own, and talk to a relay. */
function policy(script, style) {
  const hash = (text) => `'sha256-${createHash("sha256").update(text).digest("base64")}'`;
  return [
    "default-src 'none'",
    // A worklet comes from a data: address, since on file:// Chromium takes none from a blob.
    `script-src ${hash(script)} 'wasm-unsafe-eval' data:`,
    // What a browser runs when it is woken comes from beside the page, if it can be.
    "worker-src blob: 'self'",
    `style-src ${hash(style)}`,
    // Which relay, says the link.
    "connect-src https: http:",
    "img-src data: blob:",
    "media-src blob: mediastream:",
    "base-uri 'none'",
    "form-action 'none'",
  ].join("; ");
}

/** The finished page: `html` with each of its marks replaced. */
export function page({ script, style, html }) {
  // The script's text in which nothing ends or hides the element around it: the same program.
  const inside = script.replaceAll("</script", "<\\/script").replaceAll("<!--", "\\x3c!--");
  const parts = {
    policy: `<meta http-equiv="Content-Security-Policy" content="${policy(inside, style)}">`,
    style: `<style>${style}</style>`,
    script: `<script>${inside}</script>`,
  };
  return html.replace(/<!-- (policy|style|script) -->/g, (_mark, part) => parts[part]);
}

/** The page that people open: the screens on the engine. */
export async function whole_page() {
  const html = await readFile(join(FRONT, "index.html"), "utf8");
  return page({ script: await bundle(join(FRONT, "main.ts")), style: await bundle(join(FRONT, "style", "page.css")), html });
}
