/** Pictures of every scene, to be looked at: into the folder that SCREENS_PICTURES names, and only if it names one. */
import { mkdirSync } from "node:fs";
import { join } from "node:path";
import { test } from "node:test";

import { LAPTOP, launch, open, PHONE, show_afresh, WALL, type Look } from "./browser.ts";

const folder = process.env["SCREENS_PICTURES"];
const only = process.env["SCREENS_ONLY"]?.split(",");
const LOOKS: Readonly<Record<string, Look>> = { laptop: LAPTOP, phone: PHONE, dark: { ...LAPTOP, scheme: "dark" }, wall: WALL, handset: { width: 390, height: 844 }, zoom: { width: 640, height: 400, scale: 2 } };

test("pictures of all scenes", { skip: folder === undefined && "SCREENS_PICTURES names no folder" }, async () => {
  const browser = await launch();
  try {
    mkdirSync(folder ?? "", { recursive: true });
    const looks = (process.env["SCREENS_LOOKS"] ?? "laptop,phone").split(",");
    for (const look of looks) {
      const page = await open(browser, "no-link", LOOKS[look]);
      const scenes = await page.evaluate(() => Object.keys(window.kit.scenes));
      for (const scene of scenes) {
        if (only !== undefined && !only.includes(scene)) continue;
        await show_afresh(page, scene);
        await new Promise((done) => setTimeout(done, 150));
        await page.screenshot({ path: join(folder ?? "", `${look}-${scene}.png`) });
        if (page.problems.length > 0) throw new Error(`${scene}: ${page.problems.join("; ")}`);
      }
      await page.close();
    }
  } finally {
    await browser.close();
  }
});
