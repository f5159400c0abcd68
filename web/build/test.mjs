// Runs the unit tests, `front/**/*.test.ts`: bundled, since the oldest node that builds the page knows no TypeScript.
import { spawnSync } from "node:child_process";
import { mkdirSync, mkdtempSync, readdirSync, rmSync, writeFileSync } from "node:fs";
import { dirname, join } from "node:path";
import { fileURLToPath } from "node:url";

import { bundle } from "./bundle.mjs";

const WEB = dirname(dirname(fileURLToPath(import.meta.url)));

function testsIn(folder) {
  return readdirSync(join(WEB, folder), { recursive: true })
    .map(String)
    .filter((name) => name.endsWith(".test.ts"))
    .map((name) => join(folder, name))
    .sort();
}

mkdirSync(join(WEB, "dist"), { recursive: true });
const into = mkdtempSync(join(WEB, "dist", "test-"));
try {
  const files = [];
  for (const test of testsIn("front")) {
    const file = join(into, `${test.replaceAll(/[/\\]/g, "_")}.mjs`);
    writeFileSync(file, await bundle(join(WEB, test), { format: "esm", platform: "node", target: "node20", minify: false, sourcemap: "inline" }));
    files.push(file);
  }
  process.exitCode = spawnSync(process.execPath, ["--test", "--enable-source-maps", ...files], { stdio: "inherit" }).status ?? 1;
} finally {
  rmSync(into, { recursive: true });
}
