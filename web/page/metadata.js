// The metadata of a picture (docs/FORMAT.md, 2) as chunks of a PNG.

const ICC = 1, XMP = 4, BACKGROUND = 12, CHUNK = 17;
/** Kinds that are the body of a chunk as they are, in an order that PNG allows after IHDR. */
// prettier-ignore
const BODIES = [[3, "cICP"], [5, "mDCV"], [6, "cLLI"], [7, "gAMA"], [8, "cHRM"], [9, "sRGB"], [10, "sBIT"], [12, "bKGD"],
  [2, "eXIf"], [11, "pHYs"], [13, "iTXt"], [14, "tIME"]];

/** `[kind, data]` of each item that belongs to `picture`. */
function items(section, picture) {
  let at = 0;
  const varint = () => {
    let n = 0;
    for (let factor = 1; ; factor *= 128) {
      const byte = section[at++];
      n += (byte & 127) * factor;
      if (!(byte & 128)) return n;
    }
  };
  const found = [];
  while (at < section.length) {
    const [owner, kind, length] = [varint(), section[at++], varint()];
    if (owner === picture) found.push([kind, section.subarray(at, at + length)]);
    at += length;
  }
  return found;
}

/** A text, and data after it. */
function joined(text, data) {
  const head = new TextEncoder().encode(text);
  const out = new Uint8Array(head.length + data.length);
  out.set(head);
  out.set(data, head.length);
  return out;
}

/** A zlib stream of the data. */
async function deflated(data) {
  const packed = new Blob([data]).stream().pipeThrough(new CompressionStream("deflate"));
  return new Uint8Array(await new Response(packed).arrayBuffer());
}

/**
 * `[name, data]` of each chunk. ICC profiles and XMP packets are zlib streams in the file as in a PNG; a profile that begins
 * with 0 is not deflated.
 */
export async function chunks({ metadata, depth }, picture) {
  const found = items(metadata, picture);
  const out = [];
  for (const [kind, name] of BODIES) {
    // A background is in the picture's own depth, a PNG's in that of the PNG.
    if (kind === BACKGROUND && depth !== 8 && depth !== 16) continue;
    out.push(...found.filter(([k]) => k === kind).map(([, data]) => [name, data]));
  }
  const profile = found.find(([kind]) => kind === ICC)?.[1];
  if (profile) out.unshift(["iCCP", joined("ICC\0\0", profile[0] === 0 ? await deflated(profile) : profile)]);
  const xmp = found.find(([kind]) => kind === XMP)?.[1];
  // Keyword, deflated, method, no language, no translated keyword.
  if (xmp) out.push(["iTXt", joined("XML:com.adobe.xmp\0\u0001\0\0\0", xmp)]);
  for (const [kind, data] of found) {
    // The fourth letter is small where a chunk holds for any samples.
    if (kind === CHUNK && data[3] & 32) out.push([String.fromCharCode(...data.subarray(0, 4)), data.subarray(4)]);
  }
  return out;
}
