// node check.mjs MODULE.wasm...: decodes the golden files with each module, whole, as previews, by regions and from
// parts, and holds the CRC-32 of the samples to results.txt.
import { readFileSync } from "node:fs";
import { Machine, OpenFile } from "../../web/decoder.js";

const golden = new URL("../../fixtures/golden/", import.meta.url);

function crc32({ buffer, byteOffset, byteLength }) {
  let c = ~0;
  for (const b of new Uint8Array(buffer, byteOffset, byteLength)) {
    c ^= b;
    for (let i = 0; i < 8; i++) c = c & 1 ? (c >>> 1) ^ 0xedb88320 : c >>> 1;
  }
  return (~c >>> 0).toString(16).padStart(8, "0");
}

let state = 1;
const below = (n) => (state = (state * 48271) % 2147483647) % n;

function crop(whole, { x, y, width, height }) {
  const row = (i) => {
    const at = ((y + i) * whole.width + x) * whole.channels;
    return [...whole.data.subarray(at, at + width * whole.channels)];
  };
  return whole.data.constructor.from(Array.from({ length: height }, (_, i) => row(i)).flat());
}

const lines = readFileSync(new URL("results.txt", golden), "utf8").split("\n").filter((l) => l && !l.startsWith("#"));
let failed = 0;
function expect(what, got, want) {
  if (got === want) return;
  failed += 1;
  console.error(`${what}: ${got}, expected ${want}`);
}

for (const path of process.argv.slice(2)) {
  const machine = new Machine(new WebAssembly.Module(readFileSync(path)));
  let checked = 0;
  for (const line of lines) {
    const [name, picture, size, scale, want] = line.split(" ");
    if (size === "codes") continue;
    const bytes = readFileSync(new URL(name, golden));
    const options = { picture: Number(picture), scale: Number(scale.slice(2)), format: "samples" };
    const file = new OpenFile(machine, new Blob([bytes]));
    const whole = await file.decode(null, options);
    const { depth, alpha } = await file.info();
    expect(`${path} ${line}: size`, `${whole.width}x${whole.height}`, size);
    expect(`${path} ${line}`, crc32(whole.data), want);
    for (let i = 0; i < 4; i++) {
      const [x, y] = [below(whole.width), below(whole.height)];
      const region = { x, y, width: 1 + below(whole.width - x), height: 1 + below(whole.height - y) };
      const part = await file.decode(region, options);
      expect(`${path} ${line}: ${JSON.stringify(region)}`, crc32(part.data), crc32(crop(whole, region)));
      const rgba = await file.decode(region, { ...options, format: "rgba" });
      const pixel = Math.floor(rgba.data.length / 8) * 4;
      const byte = (c) => Math.round((part.data[(pixel / 4) * part.channels + c] * 255) / (2 ** depth - 1));
      const colours = part.channels - alpha;
      const want = (colours < 3 ? [0, 0, 0] : [0, 1, 2]).map(byte).concat(alpha ? byte(colours) : 255);
      expect(`${path} ${line}: rgba`, [...rgba.data.subarray(pixel, pixel + 4)].join(), want.join());
    }
    file.close();
    checked += 1;
  }
  expect(`${path}: pictures checked`, checked > 0, true);
  console.log(`${path}: ${checked} golden pictures`);
}
process.exit(failed === 0 ? 0 : 1);
