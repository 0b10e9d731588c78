// A picture of any size from a small one of whole tiles: its inner tiles again and again (docs/FORMAT.md, 2 and 3).

import { crc32 } from "./crc.js";

const TILED = 2;

function varint(n) {
  const out = [];
  for (; n > 127; n = Math.floor(n / 128)) out.push((n % 128) | 128);
  return [...out, n];
}

export function enlarged(bytes, width, height) {
  const view = new DataView(bytes.buffer, bytes.byteOffset);
  let at = 8;
  const number = () => {
    let n = 0;
    for (let shift = 1; ; shift *= 128) {
      const byte = bytes[at++];
      n += (byte & 127) * shift;
      if (byte < 128) return n;
    }
  };
  const flags = bytes[7];
  if (!(flags & TILED) || flags & 0b101) throw new Error("one picture of tiles without metadata is wanted");
  const layers = flags & 16 ? 2 : 1;
  const [oldWidth, oldHeight] = [number(), number()];
  at += 4;
  const tile = 1 << bytes[at++];
  const modelAt = at;
  for (let i = 0; i < 2; i++) {
    const length = number();
    at += length;
  }
  const model = bytes.subarray(modelAt, at);
  const [columns, rows] = [Math.ceil(oldWidth / tile), Math.ceil(oldHeight / tile)];
  const [inColumns, inRows] = [Math.floor(oldWidth / tile), Math.floor(oldHeight / tile)];
  const entries = [];
  for (let i = 0; i < layers * columns * rows; i++) {
    const length = number();
    entries.push({ length, crc: view.getUint32(at, true) });
    at += 4;
  }
  at += 4;
  for (const entry of entries) {
    entry.data = bytes.subarray(at, at + entry.length);
    at += entry.length;
  }
  const picked = [];
  for (let layer = 0; layer < layers; layer++) {
    for (let y = 0; y < Math.ceil(height / tile); y++) {
      for (let x = 0; x < Math.ceil(width / tile); x++) {
        picked.push(entries[layer * columns * rows + (y % inRows) * columns + (x % inColumns)]);
      }
    }
  }
  const u32 = (n) => [n & 255, (n >>> 8) & 255, (n >>> 16) & 255, n >>> 24];
  const head = [...bytes.subarray(0, 8), ...varint(width), ...varint(height), ...u32(0), Math.log2(tile), ...model];
  for (const { length, crc } of picked) head.push(...varint(length), ...u32(crc));
  head.push(...u32(crc32(head)));
  return Buffer.concat([Buffer.from(head), ...picked.map((p) => p.data)]);
}
