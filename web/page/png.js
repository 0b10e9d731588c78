// Writes PNG of any size from strips of rows. Each strip is compressed as it arrives; the picture is never whole in memory.

const CRC = Uint32Array.from({ length: 256 }, (_, n) => {
  for (let k = 0; k < 8; k++) n = n & 1 ? 0xedb88320 ^ (n >>> 1) : n >>> 1;
  return n;
});

function chunk(name, data) {
  const out = new Uint8Array(12 + data.length);
  const view = new DataView(out.buffer);
  view.setUint32(0, data.length);
  out.set(new TextEncoder().encode(name), 4);
  out.set(data, 8);
  let crc = -1;
  for (let i = 4; i < 8 + data.length; i++) crc = CRC[(crc ^ out[i]) & 255] ^ (crc >>> 8);
  view.setUint32(8 + data.length, ~crc);
  return out;
}

/** The rows with PNG's filter 1, differences from the left neighbour; each begins with the number of its filter. */
function filtered(samples, width, pixel) {
  const row = width * pixel;
  const rows = samples.length / row;
  const out = new Uint8Array((row + 1) * rows);
  for (let y = 0; y < rows; y++) {
    const [from, to] = [y * row, y * (row + 1) + 1];
    out[to - 1] = 1;
    for (let i = 0; i < row; i++) out[to + i] = samples[from + i] - (i < pixel ? 0 : samples[from + i - pixel]);
  }
  return out;
}

/** Samples of more than 8 bits as bytes, the higher first, scaled to 16 bits. */
function wide(samples, peak) {
  const out = new Uint8Array(2 * samples.length);
  samples.forEach((sample, i) => {
    const v = Math.round((sample * 65535) / peak);
    out[2 * i] = v >> 8;
    out[2 * i + 1] = v;
  });
  return out;
}

/**
 * A PNG as a Blob, of 8 bits, or of 16 for a larger `depth`. `strips` yields arrays of whole rows of samples: grey or RGB, with
 * alpha or without. `extra` are chunks that stand before them, each `[name, data]`.
 */
export async function png(width, height, { channels, depth, alpha }, strips, extra = []) {
  const colours = channels - alpha;
  if (colours !== 1 && colours !== 3) throw new Error(`a PNG cannot hold ${colours} bands: tilefit decode writes them as TIFF`);
  const bytes = depth > 8 ? 2 : 1;
  const head = new Uint8Array(13);
  const view = new DataView(head.buffer);
  view.setUint32(0, width);
  view.setUint32(4, height);
  head[8] = 8 * bytes;
  head[9] = (colours === 3 ? 2 : 0) + (alpha ? 4 : 0);
  const packed = new CompressionStream("deflate");
  const parts = [new Uint8Array([0x89, 80, 78, 71, 13, 10, 26, 10]), chunk("IHDR", head), ...extra.map((c) => chunk(...c))];
  const read = (async () => {
    const reader = packed.readable.getReader();
    for (let piece; !(piece = await reader.read()).done; ) {
      // Browsers may keep a Blob on disk, an array stays in memory.
      parts.push(new Blob([chunk("IDAT", piece.value)]));
    }
  })();
  const writer = packed.writable.getWriter();
  try {
    for await (const strip of strips) {
      const samples = bytes > 1 ? wide(strip, 2 ** depth - 1) : strip;
      await writer.write(filtered(samples, width, channels * bytes));
    }
    await writer.close();
  } catch (error) {
    await writer.abort(error).catch(() => {});
    await read.catch(() => {});
    throw error;
  }
  await read;
  parts.push(chunk("IEND", new Uint8Array()));
  return new Blob(parts, { type: "image/png" });
}
