// Pictures of other codecs, in files as large as the Tilefit file.

/** The picture in `blob`, decoded by the browser; rejects if it cannot. */
export async function bitmapOf(blob, options) {
  return createImageBitmap(blob, options);
}

async function load(url) {
  const response = await fetch(url);
  if (!response.ok) throw new Error(`${url}: the server says ${response.status}`);
  return response.blob();
}

function once(work) {
  let done;
  return () => (done ??= work());
}

/**
 * Rivals of a sample. `native()` resolves to null if this browser does not show the format; `bitmap()` then resolves to the
 * picture that was decoded when the samples were made, or to null if there is none.
 */
export function ofSample(sample, base) {
  return sample.rivals.map((rival) => {
    const native = once(async () => {
      const blob = await load(new URL(rival.file, base));
      return bitmapOf(blob).catch(() => null);
    });
    const decoded = once(async () => rival.decoded && bitmapOf(await load(new URL(rival.decoded, base))));
    return { ...rival, native, bitmap: async () => (await native()) ?? (await decoded()) };
  });
}

/** The smallest JPEG that this browser makes of at least `bytes` bytes, by bisection over its quality. */
async function jpegOfSize(picture, bytes) {
  const canvas = document.createElement("canvas");
  canvas.width = picture.width;
  canvas.height = picture.height;
  const context = canvas.getContext("2d", { alpha: false });
  context.drawImage(picture, 0, 0);
  const at = (quality) => new Promise((done) => canvas.toBlob(done, "image/jpeg", quality / 100));
  let [low, high, best] = [0, 100, null];
  while (low < high || !best) {
    const quality = (low + high) >> 1;
    const blob = await at(quality);
    if (!blob) throw new Error("this browser cannot make a JPEG of that size");
    if (blob.size >= bytes) best = { blob, quality };
    if (low === high) return best ?? { blob, quality };
    if (blob.size >= bytes) high = quality;
    else low = quality + 1;
  }
  return best;
}

/** PSNR over R, G and B, computed in strips. */
function psnr(a, b, { width, height }) {
  const [left, right] = [a, b].map((bitmap) => {
    const canvas = document.createElement("canvas");
    canvas.width = width;
    canvas.height = 256;
    return { bitmap, context: canvas.getContext("2d", { willReadFrequently: true }) };
  });
  let sum = 0;
  for (let y = 0; y < height; y += 256) {
    const rows = Math.min(256, height - y);
    const [p, q] = [left, right].map(({ bitmap, context }) => {
      context.drawImage(bitmap, 0, -y);
      return context.getImageData(0, 0, width, rows).data;
    });
    for (let i = 0; i < p.length; i++) if ((i & 3) !== 3) sum += (p[i] - q[i]) ** 2;
  }
  return 10 * Math.log10((255 * 255 * width * height * 3) / sum);
}

/** Rivals from the original that the user dropped: the original itself, and a JPEG of `bytes` bytes made by this browser. */
export async function ofOriginal(file, bytes, { width, height }) {
  const original = await bitmapOf(file, { colorSpaceConversion: "none" }).catch(() => {
    throw new Error("this browser cannot read it as a picture");
  });
  if (original.width !== width || original.height !== height) {
    throw new Error(`${original.width} x ${original.height}, but the open file is ${width} x ${height}: not its original`);
  }
  const { blob, quality } = await jpegOfSize(original, bytes);
  const jpeg = await bitmapOf(blob);
  return [
    { codec: "JPEG", bytes: blob.size, psnr: psnr(original, jpeg, original), made: `made by this browser, quality ${quality}`, bitmap: async () => jpeg },
    { codec: "Original", bytes: file.size, made: file.name, bitmap: async () => original },
  ];
}
