/** Certificates for pages that a relay shows for a moment more, and the one after them: made as the relay makes its own, by openssl. */
import { execFileSync } from "node:child_process";
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { join } from "node:path";

const HOUR_S = 3600;
const DAY_S = 24 * HOUR_S;
/** As `server/src/control/certificates/pages.rs` has it: how long one is shown, how long before that it begins, how long it is good. */
const [PERIOD_S, EARLY_S, LIFE_S] = [6 * DAY_S, DAY_S / 2, 13 * DAY_S];

/** Gives the relay of this state directory, which must not run, two of which the first is shown for so many seconds more. */
export function change_soon(state: string, seconds: number): void {
  const directory = mkdtempSync(join(state, "openssl-"));
  const at = (name: string) => join(directory, name);
  const openssl = (...words: string[]) => execFileSync("openssl", words, { stdio: ["ignore", "pipe", "pipe"] });
  const key = join(state, "tls-key.pem");
  const config = [
    "[ca]\ndefault_ca = own",
    `[own]\ndatabase = ${at("index.txt")}\nnew_certs_dir = ${directory}\nrand_serial = yes\nunique_subject = no\ndefault_md = sha256`,
    "policy = any\nx509_extensions = page",
    "[any]\ncommonName = supplied",
    "[page]\nsubjectAltName = DNS:supernode.invalid",
    "[req]\ndistinguished_name = name\n[name]",
  ];
  writeFileSync(at("config"), `${config.join("\n")}\n`);
  writeFileSync(at("index.txt"), "");
  openssl("req", "-new", "-config", at("config"), "-key", key, "-subj", "/CN=supernode relay, for pages", "-out", at("asked"));
  const first_from_s = Math.floor(Date.now() / 1000) + seconds - PERIOD_S;
  const made = [first_from_s, first_from_s + PERIOD_S].map((from_s) => {
    const dates = ["-startdate", date(from_s - EARLY_S), "-enddate", date(from_s - EARLY_S + LIFE_S)];
    openssl("ca", "-batch", "-selfsign", "-notext", "-config", at("config"), "-keyfile", key, "-in", at("asked"), "-out", at("made"), ...dates);
    return readFileSync(at("made"), "utf8");
  });
  // What others may read is no relay's state.
  writeFileSync(join(state, "page-certificates.pem"), made.join(""), { mode: 0o600 });
  rmSync(directory, { recursive: true });
}

function date(unix_s: number): string {
  return `${new Date(unix_s * 1000).toISOString().slice(0, 19).replace(/[-:T]/g, "")}Z`;
}
