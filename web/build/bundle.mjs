// One script of one entry. Scripts that run elsewhere (a worker, an audio worklet) and bytes come in as text, by these names:
//   import source from "script:./worker.ts"    that script, bundled, as a string
//   import packed from "packed:../pkg/x.wasm"  that file, compressed (raw deflate) and in base64
//   import text from "text:./page.css"         that file, as it is
//   import { x } from "wasm:supernode_web"     what calls the wasm, which `cargo xtask page` has put into pkg/
import { readFile } from "node:fs/promises";
import { dirname, join, resolve } from "node:path";
import { fileURLToPath } from "node:url";
import { constants, deflateRawSync } from "node:zlib";

import { build } from "esbuild";

const PKG = join(dirname(dirname(fileURLToPath(import.meta.url))), "pkg");
/** The oldest browsers that have WebTransport with certificate hashes, WebCodecs and worklets. */
const TARGET = ["chrome120", "firefox140"];

const inlined = {
  name: "inlined",
  setup(with_) {
    with_.onResolve({ filter: /^wasm:/ }, (asked) => ({ path: join(PKG, `${asked.path.slice("wasm:".length)}.js`) }));
    for (const kind of ["script", "packed", "text"]) {
      with_.onResolve({ filter: new RegExp(`^${kind}:`) }, (asked) => ({
        path: resolve(asked.resolveDir, asked.path.slice(kind.length + 1)),
        namespace: kind,
      }));
    }
    with_.onLoad({ filter: /.*/, namespace: "script" }, async ({ path }) => ({
      contents: await bundle(path),
      loader: "text",
      resolveDir: dirname(path),
    }));
    with_.onLoad({ filter: /.*/, namespace: "packed" }, async ({ path }) => ({
      contents: deflateRawSync(await readFile(path), { level: constants.Z_BEST_COMPRESSION }).toString("base64"),
      loader: "text",
    }));
    with_.onLoad({ filter: /.*/, namespace: "text" }, async ({ path }) => ({
      contents: await readFile(path, "utf8"),
      loader: "text",
    }));
  },
};

/** The bundled script of this file and all that it needs. */
export async function bundle(entry, options = {}) {
  const { outputFiles } = await build({
    entryPoints: [entry],
    bundle: true,
    write: false,
    format: "iife",
    platform: "browser",
    target: TARGET,
    charset: "utf8",
    legalComments: "none",
    minify: true,
    plugins: [inlined],
    logLevel: "warning",
    ...options,
  });
  return outputFiles[0].text;
}
