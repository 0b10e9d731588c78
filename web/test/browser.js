// The system's Chromium.

import { access } from "node:fs/promises";
import { chromium } from "playwright-core";

const FLAGS = ["--no-sandbox", "--disable-gpu", "--no-first-run", "--disable-background-networking", "--disable-component-update", "--disable-sync"];

export async function launch() {
  const places = [process.env.CHROMIUM, "/usr/bin/chromium", "/usr/bin/chromium-browser", "/usr/bin/google-chrome"].filter(Boolean);
  for (const executablePath of places) {
    if (await access(executablePath).then(() => true, () => false)) return chromium.launch({ executablePath, headless: true, args: FLAGS });
  }
  throw new Error("no Chromium: install the package chromium, or name one in CHROMIUM");
}

/** Until everything on screen is decoded and drawn, the rival too. */
export async function settled(page) {
  await page.locator("canvas[data-sharp=true]").waitFor({ timeout: 120_000 });
  await page.waitForFunction(() => document.getElementById("status").textContent === "", null, { timeout: 60_000 });
  await page.evaluate(() => new Promise((done) => requestAnimationFrame(() => requestAnimationFrame(done))));
}
