// Makes the page: one HTML file that has everything in it. `npm run build` writes `dist/supernode.html`.
//
// Nothing in it depends on when or where it is made, so whoever builds the same source with the same tools has the same
// bytes. The wasm is made by `cargo xtask page`, which puts it into `pkg/` and then comes here.
import { createHash } from "node:crypto";
import { mkdir, readFile, writeFile } from "node:fs/promises";
import { dirname, join } from "node:path";
import { fileURLToPath } from "node:url";
import { gzipSync } from "node:zlib";

import { bundle } from "./build/bundle.mjs";
import { page } from "./build/page.mjs";

const FRONT = join(dirname(fileURLToPath(import.meta.url)), "front");
/** Most that the page may weigh, compressed as a server sends it: half a minute at 400 kbit/s. */
const GZIP_BYTES_MAX = 1_500_000;

const read = (name) => readFile(join(FRONT, name), "utf8");
const text = page({ script: await bundle(join(FRONT, "main.ts")), style: await bundle(join(FRONT, "style", "page.css")), html: await read("index.html") });
const bytes = Buffer.from(text);
const dist = join(dirname(FRONT), "dist");
await mkdir(dist, { recursive: true });
await writeFile(join(dist, "supernode.html"), bytes);

const compressed = gzipSync(bytes, { level: 9 }).length;
console.log(`${createHash("sha256").update(bytes).digest("hex")}  dist/supernode.html`);
console.log(`${bytes.length} bytes, ${compressed} with gzip`);
if (compressed > GZIP_BYTES_MAX) {
  console.error(`the page is too heavy: ${compressed} bytes with gzip, and at most ${GZIP_BYTES_MAX} are allowed`);
  process.exitCode = 1;
}
