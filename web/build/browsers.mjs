// Runs the tests in real browsers, `tests/*.test.ts`, against a real relay: see docs/WEB.md. With names of tests behind
// it, those only; with `--short` those that the gate runs.
import { spawnSync } from "node:child_process";
import { mkdirSync, mkdtempSync, readFileSync, readdirSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { basename, dirname, join } from "node:path";
import { fileURLToPath } from "node:url";

import { bundle } from "./bundle.mjs";
import { page, whole_page } from "./page.mjs";

/** A call of each kind, and what people do in one. */
const SHORT = ["^chromium and chromium hear", "^chromium and firefox hear", "^a page and a program hear", "^what is said, felt and sent comes"];
/** How often what failed is tried again. */
const AGAIN_MAX = 2;
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
const words = process.argv.slice(2);
const named = words[0] === "--short" ? SHORT : words;

/** Runs tests of a file, those of these names or all; the names of those that failed. */
function failed_of(file, names) {
  const patterns = names.flatMap((name) => ["--test-name-pattern", name]);
  // A test that took too long may leave browsers behind, for which the process would wait. What it started names this directory.
  const own = mkdtempSync(join(tmpdir(), "sn-"));
  const run = ["--test", "--test-force-exit", "--enable-source-maps", "--test-reporter=tap", ...patterns, file];
  const env = { ...process.env, TMPDIR: own };
  const { stdout, status } = spawnSync(process.execPath, run, { stdio: ["ignore", "pipe", "inherit"], cwd: WEB, env, maxBuffer: 1 << 28 });
  end_all_of(own);
  process.stdout.write(stdout);
  const failed = [...stdout.toString().matchAll(/^not ok \d+ - (.*)$/gm)].map(([, name]) => name);
  return status === 0 || failed.length > 0 ? failed : [basename(file)];
}

/** Ends all processes whose command names this directory, and removes it. */
function end_all_of(directory) {
  for (const pid of readdirSync("/proc").filter((name) => /^\d+$/.test(name))) {
    try {
      if (readFileSync(`/proc/${pid}/cmdline`, "utf8").includes(directory)) process.kill(Number(pid), "SIGKILL");
    } catch {
      // It has ended by itself.
    }
  }
  rmSync(directory, { recursive: true, force: true, maxRetries: 5, retryDelay: 100 });
}

for (const file of files) {
  let failed = failed_of(file, named);
  // A machine that is busy with something else for a moment takes sound or pictures from somebody, but not each time.
  for (let again = 0; again < AGAIN_MAX && failed.length > 0; again++) {
    console.log(`once more: ${failed.join("; ")}`);
    failed = failed_of(file, failed.map((name) => `^${name.replace(/[^\w ]/g, ".")}$`));
  }
  if (failed.length > 0) process.exitCode = 1;
}
