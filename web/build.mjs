// Makes the page: one HTML file that has everything in it. `npm run build` writes `dist/supernode.html`.
//
// Nothing in it depends on when or where it is made, so whoever builds the same source with the same tools has the same
// bytes. The wasm is made by `cargo xtask page`, which puts it into `pkg/` and then comes here.
import { createHash } from "node:crypto";
import { mkdir, writeFile } from "node:fs/promises";
import { dirname, join } from "node:path";
import { fileURLToPath } from "node:url";
import { gzipSync } from "node:zlib";

import { whole_page } from "./build/page.mjs";

/** Most that the page may weigh, compressed as a server sends it: half a minute at 400 kbit/s. */
const GZIP_BYTES_MAX = 1_500_000;

const bytes = Buffer.from(await whole_page());
const dist = join(dirname(fileURLToPath(import.meta.url)), "dist");
await mkdir(dist, { recursive: true });
await writeFile(join(dist, "supernode.html"), bytes);

const compressed = gzipSync(bytes, { level: 9 }).length;
console.log(`${createHash("sha256").update(bytes).digest("hex")}  dist/supernode.html`);
console.log(`${bytes.length} bytes, ${compressed} with gzip`);
if (compressed > GZIP_BYTES_MAX) {
  console.error(`the page is too heavy: ${compressed} bytes with gzip, and at most ${GZIP_BYTES_MAX} are allowed`);
  process.exitCode = 1;
}
