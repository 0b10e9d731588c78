// Pictures of the page for the README: node shots.js FOLDER. WebP is written by the browser itself.

import { writeFile } from "node:fs/promises";
import { fileURLToPath } from "node:url";
import { launch, settled } from "./browser.js";
import { serve } from "./server.js";

const out = process.argv[2];
const root = fileURLToPath(new URL("..", import.meta.url));
const server = await serve(root);
const browser = await launch();

async function shot(name, sample, { width, height, colorScheme, deviceScaleFactor = 1, isMobile = false }, act = async () => {}) {
  const page = await browser.newPage({ viewport: { width, height }, colorScheme, deviceScaleFactor, isMobile, hasTouch: isMobile });
  page.on("console", (m) => m.type() === "error" && console.error(`${name}: ${m.text()}`));
  page.on("pageerror", (e) => console.error(`${name}: ${e}`));
  await page.goto(`${server.url}#${sample}`);
  await settled(page);
  await act(page);
  await settled(page);
  const png = (await page.screenshot()).toString("base64");
  const webp = await page.evaluate(async (png) => {
    const bitmap = await createImageBitmap(new Blob([Uint8Array.from(atob(png), (c) => c.charCodeAt(0))]));
    const canvas = Object.assign(document.createElement("canvas"), { width: bitmap.width, height: bitmap.height });
    canvas.getContext("2d").drawImage(bitmap, 0, 0);
    return canvas.toDataURL("image/webp", 0.86).split(",")[1];
  }, png);
  await writeFile(`${out}/page-${name}.webp`, Buffer.from(webp, "base64"));
  await page.close();
}

// Without the times of whatever machine this is.
const desk = { width: 1280, height: 720 };
await shot("light", "coffee", { ...desk, colorScheme: "light" });
await shot("dark", "nebula", { ...desk, colorScheme: "dark" }, async (page) => {
  await page.getByLabel("Bits per tile").check();
  await page.getByRole("radio", { name: "Nothing" }).check();
});
await shot("slider", "chelsea", { ...desk, colorScheme: "dark" }, async (page) => {
  const box = await page.locator("canvas").boundingBox();
  await page.mouse.move(box.x + box.width * 0.42, box.y + box.height * 0.4);
  for (let i = 0; i < 2; i++) await page.mouse.wheel(0, -120);
});
await shot("phone", "nebula", { width: 390, height: 844, deviceScaleFactor: 2, isMobile: true, colorScheme: "light" });
await browser.close();
server.close();
