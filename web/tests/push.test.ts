/**
 * A ring that reaches a page which is closed, in a browser: the page comes from a relay, and the push service is this test. A
 * browser without the Internet has none, so where it would subscribe, it is told of this one; and what that is sent, the
 * browser is given as if it had come from there.
 */
import assert from "node:assert/strict";
import { execFileSync } from "node:child_process";
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { createServer, type Server } from "node:https";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { after, before, test } from "node:test";

import type { Page } from "puppeteer-core";

import { type Person, kinds, person } from "./stage/browsers.ts";
import type { TestPage } from "./stage/page.ts";
import { Relay, free_port } from "./stage/relay.ts";

declare const globalThis: { test: TestPage };

const PATIENCE_MS = 30_000;

/** What came, in order. */
const came: { readonly path: string; readonly headers: Record<string, unknown>; readonly bytes: number }[] = [];
let directory: string;
let service: Server;
let relay: Relay;
let url: string;
let endpoint: string;

/** A certificate for 127.0.0.1 by an authority of this test's own. */
function certify(): void {
  const openssl = (...words: string[]) => execFileSync("openssl", words, { cwd: directory, stdio: "pipe" });
  const key = ["-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes"];
  openssl("req", "-x509", ...key, "-keyout", "authority.key", "-out", "authority.pem", "-subj", "/CN=authority", "-days", "2");
  openssl("req", ...key, "-keyout", "service.key", "-out", "service.csr", "-subj", "/CN=service");
  writeFileSync(join(directory, "names"), "subjectAltName=IP:127.0.0.1\nbasicConstraints=CA:FALSE\n");
  openssl("x509", "-req", "-in", "service.csr", "-CA", "authority.pem", "-CAkey", "authority.key", "-CAcreateserial", "-out", "service.pem", "-days", "2", "-extfile", "names");
}

before(async () => {
  directory = mkdtempSync(join(tmpdir(), "supernode-push-"));
  certify();
  const read = (name: string) => readFileSync(join(directory, name));
  service = createServer({ key: read("service.key"), cert: read("service.pem") }, (asked, answer) => {
    let bytes = 0;
    asked.on("data", (data: Buffer) => (bytes += data.length));
    asked.on("end", () => {
      came.push({ path: asked.url ?? "", headers: asked.headers, bytes });
      answer.writeHead(201).end();
    });
  });
  const [port, page_port] = [await free_port(), await free_port()];
  await new Promise<void>((good) => service.listen(port, "127.0.0.1", good));
  endpoint = `https://127.0.0.1:${port}/push/callee`;
  url = `http://127.0.0.1:${page_port}/`;
  const page = join(process.cwd(), "dist", "browsers", "engine.html");
  const more = `page = "127.0.0.1:${page_port}"\npage_file = "${page}"\n[push]\ncontact = "operator@relay.example"\nhosts = ["127.0.0.1:${port}"]\n`;
  relay = await Relay.open(more, { SSL_CERT_FILE: join(directory, "authority.pem") });
});

after(() => {
  relay.close();
  service.close();
  service.closeAllConnections();
  rmSync(directory, { recursive: true, force: true });
});

async function until<T>(what: string, look: () => T | undefined | Promise<T | undefined>): Promise<T> {
  const end = Date.now() + PATIENCE_MS;
  for (;;) {
    const found = await look();
    if (found !== undefined) {
      return found;
    }
    assert.ok(Date.now() < end, `not in time: ${what}`);
    await new Promise((done) => setTimeout(done, 50));
  }
}

/** Has the browser subscribe here. */
async function subscribe_here(page: Page): Promise<void> {
  await page.evaluateOnNewDocument((endpoint) => {
    let key: ArrayBuffer | null = null;
    const subscription = () => ({ endpoint, options: { applicationServerKey: key }, unsubscribe: () => Promise.resolve(true) });
    PushManager.prototype.subscribe = (options) => {
      key = (options?.applicationServerKey as Uint8Array<ArrayBuffer>).slice().buffer;
      return Promise.resolve(subscription() as unknown as PushSubscription);
    };
    PushManager.prototype.getSubscription = () => Promise.resolve(key === null ? null : (subscription() as unknown as PushSubscription));
  }, endpoint);
}

/** What the browser shows once it was woken as by its push service. */
async function woken_shows(page: Page): Promise<{ title: string; body: string }> {
  const session = await page.createCDPSession();
  const registered = new Promise<string>((good) => {
    session.on("ServiceWorker.workerRegistrationUpdated", ({ registrations }) => {
      const ours = registrations.find(({ scopeURL, isDeleted }) => scopeURL === url && !isDeleted);
      if (ours !== undefined) {
        good(ours.registrationId);
      }
    });
  });
  await session.send("ServiceWorker.enable");
  const message = { origin: url.slice(0, -1), registrationId: await registered, data: "" };
  const shown = () =>
    page.evaluate(async () => {
      const registration = await navigator.serviceWorker.getRegistration("/");
      const [notification] = (await registration?.getNotifications()) ?? [];
      return notification === undefined ? undefined : { title: notification.title, body: notification.body };
    });
  return await until("the browser shows that somebody rings", async () => {
    // A script that is just being stopped loses what comes by this way.
    await session.send("ServiceWorker.deliverPushMessage", message);
    await new Promise((done) => setTimeout(done, 1000));
    return await shown();
  });
}

async function opened(who: Person): Promise<Page> {
  const page = await who.page.browser().newPage();
  await subscribe_here(page);
  await page.goto(url);
  return page;
}

if (kinds().includes("chromium")) {
  test("a ring wakes a page that is closed, and reaches it once it is opened", { timeout: 120_000 }, async () => {
    const callee = await person("chromium", 440, url);
    const caller = await person("chromium", 620, url);
    try {
      await callee.page.browserContext().overridePermissions(url, ["notifications"]);
      const first = await opened(callee);
      await callee.page.close();
      const ticket = await first.evaluate(async (link) => {
        const { engine } = globalThis.test;
        await engine.open_link(link);
        engine.set_name("Callee");
        const ticket = await engine.ticket_link();
        const before = await engine.waking();
        await engine.set_waking(true);
        return { ticket, states: [before, await engine.waking()] };
      }, relay.invite);
      assert.deepEqual(ticket.states, [{ can: true, on: false }, { can: true, on: true }]);

      // A window of the browser's that is not the page.
      const other = await callee.page.browser().newPage();
      await other.goto(`${url}push.js`);
      await first.close();
      const ringing = caller.page.evaluate(async (link) => {
        const { engine } = globalThis.test;
        await engine.open_link(link);
        engine.set_name("Caller");
        await engine.enter();
      }, ticket.ticket);
      // Whatever goes wrong first is told.
      ringing.catch(() => undefined);
      const message = await until("the relay sends a message", () => came[0]);
      assert.equal(message.path, "/push/callee");
      assert.equal(message.bytes, 0);
      assert.match(String(message.headers["authorization"]), /^vapid t=[^,]+, k=[\w-]{87}$/);

      assert.deepEqual(await woken_shows(other), { title: "Somebody rings", body: "Open the page to answer." });

      // What a click on it opens.
      const woken = await opened(callee);
      await woken.evaluate(async () => {
        await globalThis.test.engine.come_when_rung();
      });
      const ring = await until("the ring reaches it", async () => await woken.evaluate(() => globalThis.test.engine.state.ringing[0]?.id));
      await woken.evaluate(async (ring) => {
        await globalThis.test.engine.answer(ring);
      }, ring);
      await ringing;
      const phases = await Promise.all([woken, caller.page].map((page) => page.evaluate(() => globalThis.test.engine.state.phase.kind)));
      assert.deepEqual(phases, ["in", "in"]);
      assert.equal(came.length, 1, "one message, however often the caller's page rang");

      await woken.evaluate(async () => {
        await globalThis.test.engine.leave();
        await globalThis.test.engine.set_waking(false);
      });
      const state = await woken.evaluate(async () => await globalThis.test.engine.waking());
      assert.deepEqual(state, { can: true, on: false });
    } catch (error) {
      console.log(callee.said.join("\n"), caller.said.join("\n"), error);
      throw error;
    } finally {
      await callee.close();
      await caller.close();
    }
  });
}
