// The metadata of a picture (docs/FORMAT.md, 2) as chunks of a PNG.

const ICC = 1, EXIF = 2, CICP = 3;

/** The first item of each kind that belongs to `picture`. */
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
  const found = new Map();
  while (at < section.length) {
    const [owner, kind, length] = [varint(), section[at++], varint()];
    if (owner === picture && !found.has(kind)) found.set(kind, section.subarray(at, at + length));
    at += length;
  }
  return found;
}

/** `[name, data]` of each chunk, in an order that PNG allows after IHDR. */
export async function chunks(section, picture) {
  const found = items(section, picture);
  const out = [];
  if (found.has(CICP)) out.push(["cICP", found.get(CICP)]);
  if (found.has(ICC)) {
    const packed = new Blob([found.get(ICC)]).stream().pipeThrough(new CompressionStream("deflate"));
    const profile = new Uint8Array(await new Response(packed).arrayBuffer());
    // Name of the profile, its end, compression method 0 (zlib).
    const name = [...new TextEncoder().encode("ICC"), 0, 0];
    const data = new Uint8Array(name.length + profile.length);
    data.set(name);
    data.set(profile, name.length);
    out.push(["iCCP", data]);
  }
  if (found.has(EXIF)) out.push(["eXIf", found.get(EXIF)]);
  return out;
}
