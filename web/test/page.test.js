// The page end to end in a headless Chromium: make web-test.

import assert from "node:assert/strict";
import { readFile } from "node:fs/promises";
import { after, before, test } from "node:test";
import { fileURLToPath } from "node:url";
import { deflateSync, inflateSync } from "node:zlib";
import { enlarged } from "./big.js";
import { launch, settled } from "./browser.js";
import { serve } from "./server.js";

const root = fileURLToPath(new URL("..", import.meta.url));
const fixtures = fileURLToPath(new URL("../../fixtures", import.meta.url));
const golden = JSON.parse(await readFile(new URL("golden.json", import.meta.url)));
const sample = (name) => readFile(`${root}/samples/${name}.tfit`);

let server, browser;
before(async () => {
  server = await serve(root);
  browser = await launch();
});
after(async () => {
  await browser?.close();
  server?.close();
});

/** A page that has settled on a sample. Errors in its console fail the test, and so does a request to anyone else. */
async function visit(t, { hash = "chelsea", url = server.url, init = null, ...context } = {}) {
  const opened = await browser.newContext({ viewport: { width: 1500, height: 1200 }, acceptDownloads: true, ...context });
  const page = await opened.newPage();
  const faults = [];
  page.on("console", (m) => m.type() === "error" && faults.push(m.text()));
  page.on("pageerror", (e) => faults.push(String(e)));
  page.on("request", (r) => r.url().startsWith(url) || r.url().startsWith("blob:") || faults.push(`request to ${r.url()}`));
  t.after(async () => {
    await opened.close();
    assert.deepEqual(faults, []);
  });
  if (init) await page.addInitScript(init);
  await page.addInitScript(() => {
    window.asked = [];
    const post = Worker.prototype.postMessage;
    Worker.prototype.postMessage = function (message, ...rest) {
      window.asked.push(message);
      return post.call(this, message, ...rest);
    };
  });
  await page.goto(`${url}#${hash}`);
  await settled(page);
  return page;
}

async function alone(page) {
  await page.getByRole("radio", { name: "Nothing" }).check();
  await settled(page);
}

/** At 100 %, the canvas's RGB where the picture lies, as SHA-256. */
async function shown(page, { width, height }) {
  await page.locator("canvas").focus();
  await page.keyboard.press("1");
  await settled(page);
  return page.evaluate(async ([width, height]) => {
    const canvas = document.querySelector("canvas");
    if (canvas.dataset.zoom !== "1") throw new Error(`zoom ${canvas.dataset.zoom}`);
    const { data } = canvas.getContext("2d").getImageData(Number(canvas.dataset.left), Number(canvas.dataset.top), width, height);
    return window.digest(data);
  }, [width, height]);
}

const DIGEST = async (rgba) => {
  const rgb = new Uint8Array((rgba.length / 4) * 3);
  for (let i = 0, j = 0; i < rgba.length; i += 4) for (let c = 0; c < 3; c++) rgb[j++] = rgba[i + c];
  const hash = new Uint8Array(await crypto.subtle.digest("SHA-256", rgb));
  return [...hash].map((b) => b.toString(16).padStart(2, "0")).join("");
};
const withDigest = (page) => page.evaluate(`window.digest = ${DIGEST}`);

/** Drops files on the page as a hand does. */
async function drop(page, ...files) {
  const transfer = await page.evaluateHandle(
    (files) => {
      const transfer = new DataTransfer();
      for (const { name, type, base64 } of files) {
        const bytes = Uint8Array.from(atob(base64), (c) => c.charCodeAt(0));
        transfer.items.add(new File([bytes], name, { type }));
      }
      return transfer;
    },
    files.map(({ name, type = "", data }) => ({ name, type, base64: Buffer.from(data).toString("base64") })),
  );
  for (const kind of ["dragenter", "dragover", "drop"]) await page.dispatchEvent("body", kind, { dataTransfer: transfer });
}

const problem = (page) => page.locator("#problem span");

/** Clicks, and decodes the PNG that comes with the browser's own decoder. */
async function saved(page, button) {
  const [download] = await Promise.all([page.waitForEvent("download"), button.click()]);
  const base64 = (await readFile(await download.path())).toString("base64");
  const picture = await page.evaluate(async (base64) => {
    const blob = new Blob([Uint8Array.from(atob(base64), (c) => c.charCodeAt(0))]);
    const bitmap = await createImageBitmap(blob);
    const canvas = new OffscreenCanvas(bitmap.width, bitmap.height);
    const context = canvas.getContext("2d");
    context.drawImage(bitmap, 0, 0);
    const { data } = context.getImageData(0, 0, bitmap.width, bitmap.height);
    return { width: bitmap.width, height: bitmap.height, sha256: await window.digest(data) };
  }, base64);
  return { name: download.suggestedFilename(), ...picture };
}

for (const [name, is] of Object.entries(golden)) {
  test(`sample ${name}: the canvas has the golden pixels, the preview came first`, async (t) => {
    const page = await visit(t, { hash: name });
    await withDigest(page);
    await alone(page);
    assert.equal(await shown(page, is["1/1"]), is["1/1"].sha256);
    const scales = await page.evaluate(() => window.asked.filter((m) => m.name === "decode").map((m) => m.options.scale));
    assert.equal(scales[0], 8);
    assert.ok(scales.includes(1));
  });
}

const goldenFile = (name) => readFile(`${fixtures}/golden/${name}.tfit`);

/** RGBA of the picture on the canvas at 100 %. */
async function pixels(page, { width, height }) {
  await page.locator("canvas").focus();
  await page.keyboard.press("1");
  await settled(page);
  return page.evaluate(([width, height]) => {
    const canvas = document.querySelector("canvas");
    const { left, top } = canvas.dataset;
    return { left: Number(left), top: Number(top), data: [...canvas.getContext("2d").getImageData(Number(left), Number(top), width, height).data] };
  }, [width, height]);
}

/** What the page's own decoder makes of a file. */
const decodedSamples = (page, bytes, format) =>
  page.evaluate(async ([base64, format]) => {
    const { decode } = await import("./tilefit.js");
    const { data, channels } = await decode(Uint8Array.from(atob(base64), (c) => c.charCodeAt(0)), { format });
    return { data: [...data], channels, wide: data instanceof Uint16Array };
  }, [bytes.toString("base64"), format]);

test("alpha is shown on a checkerboard", async (t) => {
  const page = await visit(t);
  const bytes = await goldenFile("planes-blended");
  await drop(page, { name: "alpha.tfit", data: bytes });
  await page.locator("#name").getByText("alpha.tfit").waitFor();
  await settled(page);
  assert.match(await page.locator("#shape").textContent(), /RGB with alpha/);
  const { left, top, data } = await pixels(page, { width: 48, height: 32 });
  const { data: rgba } = await decodedSamples(page, bytes, "rgba");
  let clear = 0;
  for (let i = 0; i < data.length; i += 4) {
    const [x, y] = [left + ((i / 4) % 48), top + Math.floor(i / 4 / 48)];
    const square = (Math.floor(x / 8) + Math.floor(y / 8)) % 2 === 0 ? 0xcc : 0xff;
    const a = rgba[i + 3] / 255;
    clear += a === 0;
    // A canvas multiplies alpha into its 8-bit colours.
    for (let c = 0; c < 3; c++) assert.ok(Math.abs(data[i + c] - (a * rgba[i + c] + (1 - a) * square)) <= 2, `${i}: ${data.slice(i, i + 4)}`);
  }
  assert.ok(clear > 0);
});

test("dark pictures of 16 bits are shown brighter, and saved as they are", async (t) => {
  const page = await visit(t);
  for (const [name, dark] of [["pyramid-dark-16", true], ["pyramid-rgb-16", false]]) {
    const bytes = await goldenFile(name);
    await drop(page, { name: `${name}.tfit`, data: bytes });
    await page.locator("#name").getByText(`${name}.tfit`).waitFor();
    await settled(page);
    assert.equal(await page.locator("#brighter").isVisible(), dark);
    const { data: samples, channels, wide } = await decodedSamples(page, bytes, "samples");
    assert.ok(wide);
    const brightest = Math.max(...samples);
    const { data } = await pixels(page, { width: 48, height: 32 });
    const shownBrightest = Math.max(...data.filter((_, i) => i % 4 < 3));
    if (dark) {
      assert.ok(brightest < 65535 / 8 && shownBrightest > 200, `${brightest} ${shownBrightest}`);
      assert.match(await page.locator("#brighter").textContent(), /^Shown \d+\.\d times as bright: 99.9 % of its samples are below \d+ % of the peak/);
    } else {
      assert.equal(shownBrightest, Math.round((brightest * 255) / 65535));
    }
    const [download] = await Promise.all([page.waitForEvent("download"), page.locator("#save").click()]);
    const png = await readFile(await download.path());
    assert.deepEqual([...png.subarray(24, 26)], [16, channels === 1 ? 0 : 2]);
    let at = 33;
    while (png.toString("latin1", at + 4, at + 8) !== "IDAT") at += 12 + png.readUInt32BE(at);
    const parts = [];
    for (; png.toString("latin1", at + 4, at + 8) === "IDAT"; at += 12 + png.readUInt32BE(at)) parts.push(png.subarray(at + 8, at + 8 + png.readUInt32BE(at)));
    const rows = inflateSync(Buffer.concat(parts));
    const row = 48 * channels * 2;
    const back = [];
    for (let y = 0; y < 32; y++) {
      const line = Uint8Array.from(rows.subarray(y * (row + 1) + 1, (y + 1) * (row + 1)));
      for (let i = 2 * channels; i < row; i++) line[i] += line[i - 2 * channels];
      for (let i = 0; i < row; i += 2) back.push(line[i] * 256 + line[i + 1]);
    }
    assert.deepEqual(back, samples);
  }
});

test("profiles and XMP packets, which are zlib streams in a file, become those of a PNG", async (t) => {
  const page = await visit(t);
  const texts = { icc: "a profile".repeat(9), xmp: "<x:xmpmeta/>".repeat(7) };
  const [icc, xmp] = [deflateSync(texts.icc), deflateSync(texts.xmp)];
  const item = (picture, kind, data) => [picture, kind, data.length, ...data];
  const metadata = [...item(0, 1, icc), ...item(1, 1, [1, 2]), ...item(0, 4, xmp), ...item(0, 13, Buffer.from("k\0\0\0\0\0text")), ...item(0, 7, [0, 0, 177, 143])];
  const out = await page.evaluate(async (metadata) => {
    const { chunks } = await import("./page/metadata.js");
    return (await chunks({ metadata: Uint8Array.from(metadata), depth: 8 }, 0)).map(([name, data]) => [name, [...data]]);
  }, metadata);
  assert.deepEqual(out.map(([name]) => name), ["iCCP", "gAMA", "iTXt", "iTXt"]);
  assert.equal(inflateSync(Buffer.from(out[0][1].slice(5))).toString(), texts.icc);
  const packet = Buffer.from(out[3][1]);
  const head = "XML:com.adobe.xmp\0\u0001\0\0\0";
  assert.equal(packet.subarray(0, head.length).toString(), head);
  assert.equal(inflateSync(packet.subarray(head.length)).toString(), texts.xmp);
});

test("a server without byte ranges will do", async (t) => {
  const plain = await serve(root, { ranges: false });
  t.after(() => plain.close());
  const page = await visit(t, { url: plain.url, hash: "nebula" });
  await withDigest(page);
  await alone(page);
  assert.equal(await shown(page, golden.nebula["1/1"]), golden.nebula["1/1"].sha256);
});

test("broken files: the command line's sentence", async (t) => {
  const page = await visit(t);
  await drop(page, { name: "bad.tfit", data: "hello" });
  await problem(page).getByText("bad.tfit: not a Tilefit file: the first bytes are not its signature", { exact: true }).waitFor();
  await page.getByRole("button", { name: "Dismiss" }).click();

  const bytes = await sample("nebula");
  await drop(page, { name: "short.tfit", data: bytes.subarray(0, 300) });
  await problem(page).getByText(/^short\.tfit: \S.*$/).waitFor();
  assert.ok((await problem(page).textContent()).length < 200);
  // The picture that was open stays open.
  assert.equal(await page.locator("#name").textContent(), "chelsea.tfit");
});

test("a damaged file: one sentence, and what can still be read", async (t) => {
  const page = await visit(t);
  const bytes = await sample("nebula");
  bytes[bytes.length - 10] ^= 1;
  await drop(page, { name: "hurt.tfit", data: bytes });
  await problem(page).getByText(/^hurt\.tfit: .*checksum/).waitFor();
  await settled(page);
  assert.equal(await page.locator("#name").textContent(), "hurt.tfit");
  const bright = await page.evaluate(() => {
    const canvas = document.querySelector("canvas");
    const { data } = canvas.getContext("2d").getImageData(canvas.width / 2 - 50, canvas.height / 2 - 50, 100, 100);
    return data.filter((v, i) => (i & 3) !== 3 && v > 30).length;
  });
  assert.ok(bright > 1000);
});

test("the divider: Tilefit left, the other right, by hand and by key", async (t) => {
  const page = await visit(t);
  await page.keyboard.press("1");
  await settled(page);
  const pixels = () => page.evaluate(() => {
    const canvas = document.querySelector("canvas");
    const middle = Math.round(canvas.height / 2);
    return [...canvas.getContext("2d").getImageData(0, middle, canvas.width, 1).data];
  });
  const slider = page.getByRole("slider");
  await slider.focus();
  await page.keyboard.press("Home");
  await settled(page);
  const theirs = await pixels();
  await page.keyboard.press("End");
  await settled(page);
  const ours = await pixels();
  const grip = await page.locator(".grip").boundingBox();
  const stage = await page.locator("#stage").boundingBox();
  await page.mouse.move(grip.x + 6, grip.y + grip.height / 2);
  await page.mouse.down();
  await page.mouse.move(stage.x + stage.width * 0.5, grip.y, { steps: 4 });
  await page.mouse.up();
  await settled(page);
  assert.equal(await slider.getAttribute("aria-valuenow"), "50");
  const both = await pixels();
  const at = Math.round(stage.width / 2) * 4;
  assert.notDeepEqual(ours.slice(at), theirs.slice(at));
  assert.deepEqual(both.slice(0, at), ours.slice(0, at));
  assert.deepEqual(both.slice(at), theirs.slice(at));
  await page.keyboard.down("f");
  await settled(page);
  assert.deepEqual(await pixels(), theirs);
  await page.keyboard.up("f");
  await settled(page);
  assert.deepEqual(await pixels(), both);
});

test("rivals: sizes are those of the files, and never below", async (t) => {
  const page = await visit(t, { hash: "coffee" });
  const { samples } = JSON.parse(await readFile(`${root}/samples/samples.json`));
  for (const { file, bytes, rivals } of samples) {
    assert.equal((await readFile(`${root}/samples/${file}`)).length, bytes);
    for (const r of rivals) {
      assert.equal((await readFile(`${root}/samples/${r.file}`)).length, r.bytes);
      assert.ok(r.bytes >= bytes && r.bytes < bytes * 1.15, `${r.file}: ${r.bytes} beside ${bytes}`);
    }
  }
  await page.getByRole("radio", { name: "AVIF" }).check();
  await settled(page);
  const avif = samples.find((s) => s.name === "coffee").rivals.find((r) => r.codec === "AVIF");
  assert.equal(await page.locator("#tag-rival span").textContent(), `${avif.bytes.toLocaleString("en")} B`);
});

/** Makes a browser forget JPEG XL. */
function withoutJpegXl() {
  const decode = window.createImageBitmap;
  window.createImageBitmap = async (source, ...rest) => {
    if (source instanceof Blob) {
      const [first, second] = new Uint8Array(await source.slice(0, 2).arrayBuffer());
      if (first === 0xff && second === 0x0a) throw new DOMException("The source image could not be decoded.", "InvalidStateError");
    }
    return decode(source, ...rest);
  };
}

test("JPEG XL in a browser that does not show it: what was decoded beforehand, and it is said", async (t) => {
  const page = await visit(t, { hash: "coffee", init: withoutJpegXl });
  await withDigest(page);
  await page.getByRole("radio", { name: "JPEG XL" }).check();
  await settled(page);
  const { samples } = JSON.parse(await readFile(`${root}/samples/samples.json`));
  const { bytes } = samples.find((s) => s.name === "coffee").rivals.find((r) => r.codec === "JPEG XL");
  assert.equal(await page.locator("#tag-rival span").textContent(), `${bytes.toLocaleString("en")} B`);
  assert.match(await page.locator("#rival-note").textContent(), /does not show JPEG XL: its picture was decoded/);
  await page.getByRole("slider").focus();
  await page.keyboard.press("Home");
  assert.equal(await shown(page, golden.coffee["1/1"]), golden.coffee.jxl.sha256);
});

test("dropped files: nothing beside them until their original is dropped", async (t) => {
  const page = await visit(t, { hash: "coffee" });
  const tfit = await sample("chelsea");
  await drop(page, { name: "cat.tfit", data: tfit });
  await page.locator("#name").getByText("cat.tfit").waitFor();
  await settled(page);
  assert.equal(await page.getByRole("slider").isVisible(), false);
  assert.match(await page.locator("#rival-note").textContent(), /Drop the original/);
  await drop(page, { name: "coffee.png", type: "image/png", data: await readFile(`${fixtures}/coffee.png`) });
  await problem(page).getByText("coffee.png: 600 x 400, but the open file is 451 x 300: not its original").waitFor();
  await drop(page, { name: "chelsea.png", type: "image/png", data: await readFile(`${fixtures}/chelsea.png`) });
  await page.locator("#tag-rival b").getByText("JPEG").waitFor();
  const size = Number((await page.locator("#tag-rival span").textContent()).replace(/\D/g, ""));
  assert.ok(size >= tfit.length && size < tfit.length * 1.15, `${size} beside ${tfit.length}`);
  await page.getByRole("radio", { name: "Original" }).check();
  await settled(page);
});

test("save as PNG: the golden pixels", async (t) => {
  const page = await visit(t, { hash: "nebula" });
  await withDigest(page);
  const picture = await saved(page, page.getByRole("button", { name: "PNG", exact: true }));
  assert.deepEqual(picture, { name: "nebula.png", ...golden.nebula["1/1"] });
});

test("save as PNG: profile, EXIF and CICP come with it", async (t) => {
  const page = await visit(t);
  await drop(page, { name: "kept.tfit", data: await readFile(`${fixtures}/golden/gdn-metadata.tfit`) });
  await page.locator("#name").getByText("kept.tfit").waitFor();
  await settled(page);
  const [download] = await Promise.all([page.waitForEvent("download"), page.getByRole("button", { name: "PNG", exact: true }).click()]);
  const file = await readFile(await download.path());
  const chunks = {};
  for (let at = 8; at < file.length; ) {
    const length = file.readUInt32BE(at);
    chunks[file.toString("latin1", at + 4, at + 8)] ??= file.subarray(at + 8, at + 8 + length);
    at += 12 + length;
  }
  const profile = Buffer.from(Array.from({ length: 200 }, (_, i) => i * i));
  assert.deepEqual(inflateSync(chunks.iCCP.subarray(chunks.iCCP.indexOf(0) + 2)), profile);
  assert.deepEqual([...chunks.cICP], [9, 16, 0, 1]);
  assert.equal(chunks.eXIf.length, 26);
});

test("save a region: typed and drawn", async (t) => {
  const page = await visit(t, { hash: "nebula" });
  await withDigest(page);
  await alone(page);
  await page.getByRole("button", { name: "Region" }).click();
  const { rect: [x, y, width, height], sha256 } = golden.nebula.region;
  const fields = Object.entries({ x, y, width, height });
  for (const [label, value] of fields) await page.getByLabel(label, { exact: true }).fill(String(value));
  assert.equal(await page.locator("#command").textContent(), `tilefit decode nebula.tfit --region ${x},${y},${width},${height}`);
  const region = await saved(page, page.getByRole("button", { name: "Save region" }));
  assert.deepEqual(region, { name: `nebula-${x}-${y}-${width}x${height}.png`, width, height, sha256 });
  const box = await page.locator("canvas").boundingBox();
  await page.mouse.move(box.x + box.width / 2, box.y + box.height / 2);
  await page.mouse.down();
  await page.mouse.move(box.x + box.width / 2 + 80, box.y + box.height / 2 + 40, { steps: 3 });
  await page.mouse.up();
  const zoom = Number(await page.locator("canvas").getAttribute("data-zoom"));
  const drawn = Number(await page.getByLabel("width", { exact: true }).inputValue());
  assert.ok(Math.abs(drawn - 80 / zoom) <= 2, `${drawn} pixels for 80 at ${zoom}`);
  await page.keyboard.press("Escape");
  assert.equal(await page.locator("#region-form").isVisible(), false);
});

test("64 megapixels: read in part, held in part", async (t) => {
  const page = await visit(t);
  const bytes = enlarged(await sample("nebula"), 8192, 8192);
  await page.locator("#file").setInputFiles({ name: "big.tfit", mimeType: "", buffer: bytes });
  await page.locator("#name").getByText("big.tfit").waitFor();
  await settled(page);
  const read = async () => Number((await page.locator("#read").textContent()).split(" of ")[0].replace(/\D/g, ""));
  const total = bytes.length;
  const coarse = await read();
  assert.ok(coarse < total * 0.75, `${coarse} of ${total} bytes for the whole at 1/8`);
  await page.locator("canvas").focus();
  await page.keyboard.press("1");
  await settled(page);
  for (let i = 0; i < 3; i++) {
    for (let k = 0; k < 5; k++) await page.keyboard.press("Shift+ArrowRight");
    await settled(page);
  }
  const more = (await read()) - coarse;
  assert.ok(more < total / 4, `${more} of ${total} bytes for a few screens`);
  const held = Number((await page.locator("#held").textContent()).match(/^(\d+(\.\d+)?) MB/)[1]);
  assert.ok(held < 100, `${held} MB`);
  const largest = await page.evaluate(() => Math.max(...window.asked.filter((m) => m.name === "decode").map((m) => m.region.width * m.region.height)));
  assert.ok(largest <= 1536 * 1536, `${largest} pixels in one request`);
});

test("tiles held: bounded, and none is decoded twice while it is in view", async (t) => {
  const page = await visit(t);
  const { most, twice } = await page.evaluate(async () => {
    const { Mosaic } = await import("./page/mosaic.js");
    const asked = new Set();
    const decodeRegion = async (region, { scale }) => {
      const key = JSON.stringify([region, scale]);
      if (asked.has(key)) throw new Error(`${key} again`);
      asked.add(key);
      return { ...region, data: new Uint8ClampedArray(region.width * region.height * 4), decodeTime: 0, fetchedBytes: 0 };
    };
    let [most, twice] = [0, null];
    const file = { info: { tile: 512, pictures: [{ width: 16384, height: 16384 }] }, decodeRegion };
    const mosaic = new Mosaic(file, 0, { changed: () => (most = Math.max(most, mosaic.bytes)), failed: (error) => (twice = error.message) });
    for (let i = 0; i < 40; i++) {
      mosaic.want({ x0: i * 300, y0: i * 200, x1: i * 300 + 2000, y1: i * 200 + 1500 }, 1);
      while (mosaic.busy) await new Promise((done) => setTimeout(done));
    }
    return { most, twice };
  });
  assert.equal(twice, null);
  assert.ok(most > 90e6 && most <= (96 << 20) + 4 * 1536 * 1536, `${most} bytes`);
});

test("a group: its pictures one by one, grey stays grey", async (t) => {
  const page = await visit(t);
  await withDigest(page);
  await drop(page, { name: "group.tfit", data: await readFile(`${fixtures}/golden/gdn-grey-group.tfit`) });
  await page.locator("#name").getByText("group.tfit").waitFor();
  await settled(page);
  assert.match(await page.locator("#shape").textContent(), /grey/);
  await page.locator("#picker select").selectOption("1");
  await settled(page);
  assert.match(await page.locator("#command").textContent(), /--image 2$/);
  const picture = await saved(page, page.getByRole("button", { name: "PNG", exact: true }));
  assert.equal(picture.name, "group-2.png");
});

test("wheel, keys and buttons zoom; what is under the pointer stays", async (t) => {
  const page = await visit(t, { hash: "nebula" });
  const state = () => page.evaluate(() => ({ ...document.querySelector("canvas").dataset }));
  const under = (s, x, y) => [(x - s.left) / s.zoom, (y - s.top) / s.zoom];
  const box = await page.locator("canvas").boundingBox();
  await page.mouse.move(box.x + 500, box.y + 400);
  const before = await state();
  await page.mouse.wheel(0, -240);
  await settled(page);
  const nearer = await state();
  assert.ok(Math.abs(nearer.zoom / before.zoom - 2) < 1e-6);
  const [a, b] = [under(before, 500, 400), under(nearer, 500, 400)];
  assert.ok(Math.hypot(a[0] - b[0], a[1] - b[1]) < 2);
  await page.locator("canvas").focus();
  await page.keyboard.press("ArrowRight");
  await settled(page);
  assert.ok(Number((await state()).left) < Number(nearer.left));
  await page.getByRole("button", { name: "Zoom out" }).click();
  await settled(page);
  assert.ok(Number((await state()).zoom) < Number(nearer.zoom));
  await page.keyboard.press("0");
  await settled(page);
  assert.deepEqual(await state(), before);
});

test("bits per tile", async (t) => {
  const page = await visit(t, { hash: "nebula" });
  await alone(page);
  await withDigest(page);
  await page.getByLabel("Bits per tile").check();
  assert.notEqual(await shown(page, golden.nebula["1/1"]), golden.nebula["1/1"].sha256);
  assert.match(await page.locator("#tiles").textContent(), /^16 tiles of 256/);
  const parts = await page.locator("#parts").getAttribute("aria-label");
  const sum = [...parts.matchAll(/([\d,]+) B/g)].reduce((n, m) => n + Number(m[1].replace(/,/g, "")), 0);
  assert.equal(sum, (await sample("nebula")).length);
});

test("phone: fits its width, pinch zooms", async (t) => {
  const page = await visit(t, { viewport: { width: 390, height: 844 }, deviceScaleFactor: 2, isMobile: true, hasTouch: true });
  assert.equal(await page.evaluate(() => document.documentElement.scrollWidth), 390);
  const zoom = async () => Number(await page.locator("canvas").getAttribute("data-zoom"));
  const before = await zoom();
  const box = await page.locator("canvas").boundingBox();
  const touch = await page.context().newCDPSession(page);
  const fingers = (far) => [-1, 1].map((side, id) => ({ x: box.x + box.width / 3 + side * far, y: box.y + box.height / 3, id }));
  await touch.send("Input.dispatchTouchEvent", { type: "touchStart", touchPoints: fingers(30) });
  for (const far of [40, 50, 60]) await touch.send("Input.dispatchTouchEvent", { type: "touchMove", touchPoints: fingers(far) });
  await touch.send("Input.dispatchTouchEvent", { type: "touchEnd", touchPoints: [] });
  await settled(page);
  assert.ok((await zoom()) / before > 1.6, `${before} to ${await zoom()}`);
});

test("light and dark: the system's, until the switch is used", async (t) => {
  const page = await visit(t, { colorScheme: "dark" });
  const paper = () => page.evaluate(() => getComputedStyle(document.body).backgroundColor.match(/\d+/g).reduce((a, b) => a + Number(b), 0) / 3);
  assert.ok((await paper()) < 60);
  await page.getByRole("button", { name: /light and dark/ }).click();
  assert.ok((await paper()) > 200);
  await page.reload();
  await settled(page);
  assert.ok((await paper()) > 200);
});

test("everything that can be used has a name", async (t) => {
  const page = await visit(t);
  await page.getByRole("button", { name: "Region" }).click();
  const tree = await page.locator("body").ariaSnapshot();
  assert.doesNotMatch(tree, /^\s*- (application|button|slider|radio|switch|checkbox|combobox|spinbutton)(:|$)/m);
  assert.match(tree, /slider "Divider/);
});
