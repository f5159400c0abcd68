// Runs the screens' tests in browsers, `front/ui/tests/*.browser.ts`: the page is the screens on a scripted engine, made as
// the real one is, with the same policy. With words behind it runs only the files whose names have one of them.
import { spawnSync } from "node:child_process";
import { mkdirSync, mkdtempSync, readdirSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { dirname, join } from "node:path";
import { fileURLToPath } from "node:url";

import { bundle } from "./bundle.mjs";
import { page } from "./page.mjs";

const WEB = dirname(dirname(fileURLToPath(import.meta.url)));
const TESTS = join(WEB, "front", "ui", "tests");
const wanted = process.argv.slice(2);

mkdirSync(join(WEB, "dist"), { recursive: true });
const into = mkdtempSync(join(WEB, "dist", "screens-"));
try {
  const html = readFileSync(join(WEB, "front", "index.html"), "utf8");
  const script = await bundle(join(TESTS, "stage.ts"));
  const style = await bundle(join(WEB, "front", "style", "page.css"));
  const file = join(into, "screens.html");
  writeFileSync(file, page({ script, style, html }));
  const files = [];
  for (const name of readdirSync(TESTS).filter((each) => each.endsWith(".browser.ts")).sort()) {
    if (wanted.length > 0 && !wanted.some((word) => name.includes(word))) continue;
    const test = join(into, `${name}.mjs`);
    writeFileSync(
      test,
      await bundle(join(TESTS, name), { format: "esm", platform: "node", target: "node20", minify: false, packages: "external", sourcemap: "inline" }),
    );
    files.push(test);
  }
  const { status } = spawnSync(process.execPath, ["--test", "--test-concurrency=1", "--enable-source-maps", ...files], {
    stdio: "inherit",
    env: { ...process.env, SCREENS_PAGE: file },
  });
  process.exitCode = status ?? 1;
} finally {
  rmSync(into, { recursive: true });
}
