// Runs the browser of `cargo xtask demo --web`: see tests/page_demo.ts for its words.
import { mkdirSync, mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { dirname, join } from "node:path";
import { fileURLToPath, pathToFileURL } from "node:url";

import { bundle } from "./bundle.mjs";

const WEB = dirname(dirname(fileURLToPath(import.meta.url)));
mkdirSync(join(WEB, "dist"), { recursive: true });
// Within here, since that is where node finds what it needs.
const into = mkdtempSync(join(WEB, "dist", "demo-"));
try {
  const file = join(into, "demo.mjs");
  const options = { format: "esm", platform: "node", target: "node20", packages: "external", minify: false };
  writeFileSync(file, await bundle(join(WEB, "tests", "page_demo.ts"), options));
  await import(pathToFileURL(file).href);
} finally {
  rmSync(into, { recursive: true });
}
