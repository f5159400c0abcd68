// Runs the tests in real browsers, `tests/*.test.ts`, against a real relay: see docs/WEB.md. With names of tests behind
// it, those only.
import { spawnSync } from "node:child_process";
import { mkdirSync, readFileSync, readdirSync, rmSync, writeFileSync } from "node:fs";
import { basename, dirname, join } from "node:path";
import { fileURLToPath } from "node:url";

import { bundle } from "./bundle.mjs";
import { page, whole_page } from "./page.mjs";

const WEB = dirname(dirname(fileURLToPath(import.meta.url)));
const into = join(WEB, "dist", "browsers");
rmSync(into, { recursive: true, force: true });
mkdirSync(into, { recursive: true });

const html = readFileSync(join(WEB, "front", "index.html"), "utf8");
for (const [name, entry] of [["engine", "page"], ["attacker", "attacker"]]) {
  const script = await bundle(join(WEB, "tests", "stage", `${entry}.ts`), process.env.DEBUG ? { minify: false } : {});
  writeFileSync(join(into, `${name}.html`), page({ script, style: "", html }));
}
writeFileSync(join(into, "supernode.html"), await whole_page());

const files = [];
for (const test of readdirSync(join(WEB, "tests")).filter((name) => name.endsWith(".test.ts")).sort()) {
  const file = join(into, `${test}.mjs`);
  const options = { format: "esm", platform: "node", target: "node20", packages: "external", minify: false, sourcemap: "inline" };
  writeFileSync(file, await bundle(join(WEB, "tests", test), options));
  files.push(file);
}
const only = process.argv.slice(2).flatMap((name) => ["--test-name-pattern", name]);
const passes = (file) => {
  const run = ["--test", "--enable-source-maps", ...only, file];
  return spawnSync(process.execPath, run, { stdio: "inherit", cwd: WEB }).status === 0;
};
for (const file of files) {
  // A machine that is busy with something else for a moment takes sound from somebody, but not twice.
  if (passes(file)) continue;
  console.log(`once more: ${basename(file)}`);
  if (!passes(file)) process.exitCode = 1;
}
