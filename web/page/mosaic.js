// Decoded tiles of one picture at its four scales, within a limit of memory. These tiles are the units of drawing, not
// those of the file.

/** Side of a tile in pixels of its scale. */
const SIDE = 256;
/** Most bytes of tiles that are kept. */
const BOUND = 96 << 20;
/** A picture of at most this many pixels is one tile, decoded at full size at any zoom. */
const SMALL = 2 << 20;
/** The preview is the whole picture at 1/8 if that has at most this many pixels. */
const PREVIEW = 4 << 20;
/** Most tiles a side of one request. Each request decodes a halo of codes too, so many small ones would decode more. */
const BLOCK = 6;

export const SCALES = [1, 2, 4, 8];

/** Side of the squares of the checkerboard behind alpha, in screen pixels. */
const SQUARE = 8;
/** A picture whose 99.9 % quantile is below this part of the peak is shown brighter. */
const DARK = 1 / 4;

/** A checkerboard as a pattern. */
function checkerboard(context) {
  const board = document.createElement("canvas");
  board.width = board.height = 2 * SQUARE;
  const squares = board.getContext("2d");
  squares.fillStyle = "#fff";
  squares.fillRect(0, 0, 2 * SQUARE, 2 * SQUARE);
  squares.fillStyle = "#ccc";
  squares.fillRect(0, 0, SQUARE, SQUARE);
  squares.fillRect(SQUARE, SQUARE, SQUARE, SQUARE);
  return context.createPattern(board, "repeat");
}

/** The colour sample below which 99.9 % of them are. */
function quantile({ data, channels }, { depth, alpha }) {
  const counts = new Uint32Array(2 ** depth);
  const colours = channels - alpha;
  for (let i = 0; i < data.length; i++) if (i % channels < colours) counts[data[i]]++;
  let above = ((data.length / channels) * colours) / 1000;
  let v = counts.length - 1;
  while (v > 0 && (above -= counts[v]) >= 0) v--;
  return v;
}

/** Samples of more than 8 bits as RGBA for a canvas, `gain` times as bright. */
function toned({ data, width, height, channels }, { depth, alpha }, gain) {
  const out = new Uint8ClampedArray(4 * width * height);
  const [unit, colours] = [255 / (2 ** depth - 1), channels - alpha];
  for (let i = 0, at = 0; i < out.length; i += 4, at += channels) {
    for (let c = 0; c < 3; c++) out[i + c] = data[at + (colours < 3 ? 0 : c)] * unit * gain;
    out[i + 3] = alpha ? data[at + colours] * unit : 255;
  }
  return out;
}

/** A decoded picture in a form that a canvas draws. */
function bitmap({ data, width, height }) {
  const canvas = document.createElement("canvas");
  canvas.width = width;
  canvas.height = height;
  canvas.getContext("2d").putImageData(new ImageData(data, width, height), 0, 0);
  return canvas;
}

export class Mosaic {
  /** Totals since the file was opened. */
  spent = { milliseconds: 0, pixels: 0, fetched: 0 };
  bytes = 0;
  preview = null;
  /** How many times as bright as it is the picture is shown: over 1 only for dark pictures of more than 8 bits. */
  gain = 1;
  #file;
  #picture;
  #on;
  #tiles = new Map();
  #wanted = null;
  #working = false;
  #closed = false;
  #failed = null;
  #board = null;

  /** `on`: functions `changed()`, `failed(error)`, `damaged(sentences)`. */
  constructor(file, picture, on) {
    this.#file = file;
    this.#picture = picture;
    this.#on = on;
    ({ width: this.width, height: this.height } = file.info.pictures[picture]);
    this.small = this.width * this.height <= SMALL;
  }

  /** The coarsest scale whose pixels are at this zoom no larger than the screen's, or at most 7 % larger. */
  level(zoom) {
    return this.small ? 0 : Math.max(0, Math.min(3, Math.floor(Math.log2(1 / zoom) + 0.1)));
  }

  #size(level) {
    return [Math.ceil(this.width / SCALES[level]), Math.ceil(this.height / SCALES[level])];
  }

  #side(level) {
    return this.small ? Math.max(...this.#size(level)) : SIDE;
  }

  /** Sets the part of the picture (in pixels) that is on screen. Missing tiles are decoded, those near its centre first. */
  want(part, zoom) {
    this.#wanted = { part, level: this.level(zoom) };
    this.#work();
  }

  /** Whether all tiles on screen are decoded. */
  get sharp() {
    return this.preview !== null && this.#wanted !== null && this.#missing().length === 0;
  }

  /** Whether something is still to be decoded. */
  get busy() {
    return !this.#failed && !this.sharp;
  }

  close() {
    this.#closed = true;
    this.#tiles.clear();
  }

  /** Columns and rows of tiles at `level` that touch `part`. */
  *#within(part, level) {
    const [width, height] = this.#size(level);
    const side = this.#side(level);
    const step = side * SCALES[level];
    const x1 = Math.min(Math.ceil(part.x1 / step), Math.ceil(width / side));
    const y1 = Math.min(Math.ceil(part.y1 / step), Math.ceil(height / side));
    for (let y = Math.max(0, Math.floor(part.y0 / step)); y < y1; y++) {
      for (let x = Math.max(0, Math.floor(part.x0 / step)); x < x1; x++) yield [x, y];
    }
  }

  #missing() {
    const { part, level } = this.#wanted;
    if (level === 3 && this.preview.width > 1) return [];
    return [...this.#within(part, level)].filter(([x, y]) => !this.#tiles.has(`${level}/${x}/${y}`));
  }

  /** The next request: level and rectangle of tiles. */
  #next() {
    if (!this.preview) return { level: 3, whole: this.#size(3)[0] * this.#size(3)[1] <= PREVIEW };
    if (!this.#wanted) return null;
    const missing = this.#missing();
    if (!missing.length) return null;
    const { part, level } = this.#wanted;
    const step = this.#side(level) * SCALES[level];
    const far = ([x, y]) => Math.hypot((x + 0.5) * step - (part.x0 + part.x1) / 2, (y + 0.5) * step - (part.y0 + part.y1) / 2);
    const [x, y] = missing.reduce((a, b) => (far(b) < far(a) ? b : a));
    // For a file of one tile each request decodes all codes, so there is one request for all missing tiles.
    const half = this.#file.info.tile ? BLOCK / 2 : Infinity;
    const near = (a, b) => a - b >= -half && a - b < half;
    const together = missing.filter((t) => near(t[0], x) && near(t[1], y));
    const [xs, ys] = [together.map((t) => t[0]), together.map((t) => t[1])];
    return { level, x0: Math.min(...xs), y0: Math.min(...ys), x1: Math.max(...xs) + 1, y1: Math.max(...ys) + 1 };
  }

  async #work() {
    if (this.#working) return;
    this.#working = true;
    for (let job; !this.#closed && !this.#failed && (job = this.#next()); ) {
      try {
        await this.#decode(job);
      } catch (error) {
        if (!this.#closed) this.#on.failed((this.#failed = error));
      }
      if (!this.#closed) this.#on.changed();
    }
    this.#working = false;
  }

  async #decode({ level, whole, x0, y0, x1, y1 }) {
    const [width, height] = this.#size(level);
    if (whole === false) {
      // Too large even at 1/8: there is no preview, only tiles.
      this.preview = bitmap({ data: new Uint8ClampedArray(4), width: 1, height: 1 });
      return;
    }
    const side = this.#side(level);
    const region = whole
      ? { x: 0, y: 0, width, height }
      : { x: x0 * side, y: y0 * side, width: Math.min(x1 * side, width) - x0 * side, height: Math.min(y1 * side, height) - y0 * side };
    const decoded = await this.#region(region, SCALES[level]);
    if (this.#closed) return;
    this.spent.milliseconds += decoded.decodeTime;
    this.spent.pixels += decoded.width * decoded.height;
    this.spent.fetched += decoded.fetchedBytes;
    const { info } = this.#file;
    if (info.depth > 8) {
      if (whole) {
        const [bright, peak] = [Math.max(1, quantile(decoded, info)), 2 ** info.depth - 1];
        this.gain = bright < DARK * peak ? peak / bright : 1;
      }
      decoded.data = toned(decoded, info, this.gain);
    }
    const source = bitmap(decoded);
    if (whole) {
      this.preview = source;
      this.bytes += width * height * 4;
      return;
    }
    for (let y = y0; y < y1; y++) {
      for (let x = x0; x < x1; x++) {
        const [left, top] = [(x - x0) * side, (y - y0) * side];
        const tile = document.createElement("canvas");
        tile.width = Math.min(side, source.width - left);
        tile.height = Math.min(side, source.height - top);
        tile.getContext("2d").drawImage(source, -left, -top);
        this.#keep(`${level}/${x}/${y}`, tile);
      }
    }
  }

  /** Decodes a region. Of a damaged file it decodes what can be read; the error is reported once. */
  async #region(region, scale) {
    const options = { scale, picture: this.#picture, format: this.#file.info.depth > 8 ? "samples" : "rgba" };
    if (!this.partial) {
      try {
        return await this.#file.decodeRegion(region, options);
      } catch (error) {
        if (error.kind !== "damaged" || this.#closed) throw error;
        this.partial = true;
        this.#on.damaged(error);
      }
    }
    return this.#file.decodeRegion(region, { ...options, partial: true });
  }

  #keep(key, tile) {
    this.#tiles.set(key, tile);
    this.bytes += tile.width * tile.height * 4;
    const shown = new Set([...this.#within(this.#wanted.part, this.#wanted.level)].map(([x, y]) => `${this.#wanted.level}/${x}/${y}`));
    for (const [old, { width, height }] of this.#tiles) {
      if (this.bytes <= BOUND) break;
      if (shown.has(old)) continue;
      this.#tiles.delete(old);
      this.bytes -= width * height * 4;
    }
  }

  /** Draws the decoded tiles of `part`, coarse ones first; `place(x, y)` returns screen pixels for picture pixels. */
  draw(context, part, zoom, place) {
    const put = (image, x0, y0, x1, y1) => {
      const [left, top] = place(x0, y0);
      const [right, bottom] = place(Math.min(x1, this.width), Math.min(y1, this.height));
      if (board) {
        // Finer tiles replace what is below them: alpha would show it.
        context.fillStyle = board;
        context.fillRect(left, top, right - left, bottom - top);
      }
      context.drawImage(image, left, top, right - left, bottom - top);
    };
    const board = this.#file.info.alpha ? (this.#board ??= checkerboard(context)) : null;
    if (this.preview && this.preview.width > 1) put(this.preview, 0, 0, this.width, this.height);
    for (let level = 3; level >= this.level(zoom); level--) {
      const step = this.#side(level) * SCALES[level];
      for (const [x, y] of this.#within(part, level)) {
        const key = `${level}/${x}/${y}`;
        const tile = this.#tiles.get(key);
        if (!tile) continue;
        // The least recently used tile is dropped first: this one moves to the end.
        this.#tiles.delete(key);
        this.#tiles.set(key, tile);
        put(tile, x * step, y * step, (x + 1) * step, (y + 1) * step);
      }
    }
  }
}
