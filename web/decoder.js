// An instance of the WebAssembly module, and files that are fetched as far as they are needed. Runs in the Worker
// (worker.js); tests call it directly.

/** Kinds of failure by the codes of wasm/src/lib.rs. */
const KINDS = [null, "damaged", "unsupported", "limit", "usage", "io"];
const TRUNCATED = 6;
const FAMILIES = { 1: "gdn", 2: "hyperprior", 3: "pyramid", 4: "lossless", 5: "planes" };

/** Bytes of the first request for a file: most files have header, weights and index in them. */
const BEGINNING = 1 << 16;
/** Segments less than this many bytes apart are fetched together: a request costs more than these bytes. */
const GAP = 1 << 12;
/** Bytes of a file that are kept for later decodes. */
const KEPT = 16 << 20;
/** The memory of an instance never shrinks. One that has more bytes than this is replaced by a new one. */
const LARGE = 256 << 20;

/** An error with a kind: "damaged", "unsupported", "limit", "usage", "io" or "defect". */
export class Failure extends Error {
  constructor(kind, message) {
    super(message);
    this.kind = kind;
  }
}

/** A module with one vector instruction: engines without simd128 refuse it. */
// prettier-ignore
const SIMD_PROBE = new Uint8Array([0, 97, 115, 109, 1, 0, 0, 0, 1, 5, 1, 96, 0, 1, 123, 3, 2, 1, 0, 10, 10, 1, 8, 0, 65, 0,
  253, 15, 253, 98, 11]);

export const hasSimd = () => WebAssembly.validate(SIMD_PROBE);

/** The module, instantiated when it is needed. `compiled` is a WebAssembly.Module. */
export class Machine {
  #compiled;
  #exports = null;

  constructor(compiled) {
    this.#compiled = compiled;
  }

  /** The exports of the present instance. When they change, the files that were open in the old instance are lost. */
  get exports() {
    this.#exports ??= new WebAssembly.Instance(this.#compiled, {}).exports;
    return this.#exports;
  }

  /**
   * Calls an export and returns its answer, a view that is valid until the next call; null if the export asks for a longer
   * beginning of the file.
   */
  call(name, ...args) {
    const exports = this.exports;
    let code;
    try {
      code = exports[name](...args);
    } catch (e) {
      // After a trap the state of the instance is undefined.
      this.#exports = null;
      throw new Failure("defect", `a defect of the Tilefit decoder: ${e.message}`);
    }
    const answer = new Uint8Array(exports.memory.buffer, exports.tilefit_answer(), exports.tilefit_answer_length());
    if (code === 0) return answer;
    if (code === TRUNCATED) return null;
    throw new Failure(KINDS[code] ?? "defect", new TextDecoder().decode(answer));
  }

  /** The address of a copy of `bytes` in the memory of the module, for exports that take ownership of it. */
  give(bytes) {
    const exports = this.exports;
    const at = exports.tilefit_alloc(bytes.length);
    if (at === 0) throw new Failure("limit", `no memory for ${bytes.length} bytes`);
    new Uint8Array(exports.memory.buffer, at, bytes.length).set(bytes);
    return at;
  }

  /** Drops the instance if it has grown large. */
  tidy() {
    if (this.exports.memory.buffer.byteLength > LARGE) this.#exports = null;
  }
}

/**
 * Access to a source (bytes in memory, a Blob, or a URL): `read(from, to)` resolves to these bytes or to those of them that
 * exist; `size`, the length of the whole file, is known at the latest after the first read.
 */
function reader(source) {
  if (source instanceof Blob) {
    return {
      size: source.size,
      read: async (from, to) => new Uint8Array(await source.slice(from, to).arrayBuffer()),
    };
  }
  if (typeof source === "string") return new Remote(source);
  const bytes = source instanceof Uint8Array ? source : new Uint8Array(source);
  return { size: bytes.length, read: async (from, to) => bytes.subarray(from, to) };
}

/** A file on a server, read in ranges, or whole from a server without ranges. */
class Remote {
  size = undefined;
  #url;
  #whole = null;

  constructor(url) {
    this.#url = url;
  }

  async read(from, to) {
    if (this.#whole) return this.#whole.subarray(from, to);
    let response, bytes;
    try {
      response = await fetch(this.#url, { headers: { Range: `bytes=${from}-${to - 1}` } });
      bytes = response.ok ? new Uint8Array(await response.arrayBuffer()) : null;
    } catch (e) {
      throw new Failure("io", `${this.#url}: ${e.message}`);
    }
    if (!bytes) throw new Failure("io", `${this.#url}: the server says ${response.status} ${response.statusText}`.trim());
    const total = /\/(\d+)$/.exec(response.headers.get("Content-Range") ?? "");
    if (response.status === 206 && total) {
      this.size = Number(total[1]);
      return bytes;
    }
    // A server without ranges sends the whole file. Across origins it may hide the header Content-Range.
    if (response.status === 206) throw new Failure("io", `${this.#url}: the server hides Content-Range`);
    this.#whole = bytes;
    this.size = bytes.length;
    return bytes.subarray(from, to);
  }
}

/** An open file. Its calls must not overlap. */
export class OpenFile {
  #machine;
  #reader;
  #handle = null;
  #home = null;
  #kept = 0;
  #fetched = 0;

  constructor(machine, source) {
    this.#machine = machine;
    this.#reader = reader(source);
  }

  async #read(from, to) {
    const bytes = await this.#reader.read(from, to);
    this.#fetched += bytes.length;
    return bytes;
  }

  /** Opens the file in the present instance of the module, unless it is open there. */
  async #open() {
    if (this.#handle !== null && this.#home === this.#machine.exports) return;
    this.#handle = null;
    this.#kept = 0;
    for (let length = BEGINNING; ; length *= 4) {
      const beginning = await this.#read(0, Math.min(length, this.#reader.size ?? length));
      const size = this.#reader.size;
      if (size >= 2 ** 32) throw new Failure("limit", `a file of ${size} bytes: at most 4 GiB are read here`);
      const home = this.#machine.exports;
      const answer = this.#machine.call("tilefit_open", this.#machine.give(beginning), beginning.length, size);
      if (answer) {
        this.#handle = numbers(answer)[0];
        this.#home = home;
        this.#kept = beginning.length;
        return;
      }
      if (beginning.length >= size) throw new Failure("io", "the file became shorter while it was read");
    }
  }

  async info() {
    await this.#open();
    const n = numbers(this.#machine.call("tilefit_info", this.#handle));
    const pictures = [];
    let at = 17;
    for (let i = 0; i < n[16]; i++) {
      const [width, height, digest, columns, rows] = n.slice(at, at + 5);
      at += 5;
      const tileBytes = [...n.slice(at, (at += columns * rows))];
      pictures.push({ width, height, digest: digest.toString(16).padStart(8, "0"), columns, rows, tileBytes });
    }
    return {
      version: n[0],
      model: FAMILIES[n[1]] ?? `family ${n[1]}`,
      channels: n[2],
      depth: n[14],
      alpha: n[15] === 1,
      pictures,
      bytes: n[3],
      headerBytes: n[4],
      weightsBytes: n[5],
      codesBytes: n[6],
      metadataBytes: n[7],
      weightsCount: n[8],
      macsPerPixel: n[9],
      tile: n[10],
      tiles: n[11],
      layers: n[12],
      decodeMemoryBytes: n[13] * 1024,
      metadata: this.#machine.call("tilefit_metadata", this.#handle).slice(),
    };
  }

  /** Decodes a region, or the whole picture if `region` is null. See DecodeOptions in tilefit.d.ts. */
  async decode(region, { picture = 0, scale = 1, format = "rgba", partial = false } = {}) {
    const level = [1, 2, 4, 8].indexOf(scale);
    if (level < 0) throw new Failure("usage", `scale ${scale}: 1, 2, 4 and 8 are there`);
    if (format !== "rgba" && format !== "samples") throw new Failure("usage", `format ${format}: rgba or samples`);
    const box = region ? [region.x, region.y, region.width, region.height] : [0, 0, 0, 0];
    const isCount = (v) => Number.isInteger(v) && v >= 0 && v < 2 ** 31;
    if (!box.every(isCount) || !isCount(picture) || (region && !(region.width && region.height))) {
      throw new Failure("usage", "a region has x, y, width and height in whole pixels, width and height at least 1");
    }
    const n = await this.#header();
    const machine = this.#machine;
    if (this.#kept > KEPT) {
      machine.call("tilefit_forget", this.#handle);
      this.#kept = 0;
    }
    const ranges = numbers(machine.call("tilefit_missing", this.#handle, picture, level, ...box, GAP)).slice();
    for (let i = 0; i < ranges.length; i += 2) {
      const bytes = await this.#read(ranges[i], ranges[i] + ranges[i + 1]);
      machine.call("tilefit_supply", this.#handle, ranges[i], machine.give(bytes), bytes.length);
      this.#kept += bytes.length;
    }
    const before = performance.now();
    const rgba = format === "rgba";
    const answer = machine.call("tilefit_decode", this.#handle, picture, level, ...box, rgba ? 1 : 0, partial ? 1 : 0);
    const decodeTime = performance.now() - before;
    const size = region ?? n.size(picture, scale);
    const channels = rgba ? 4 : n.channels;
    const wide = !rgba && n.wide;
    const bytes = size.width * size.height * channels * (wide ? 2 : 1);
    const data = new (wide ? Uint16Array : Uint8ClampedArray)(answer.slice(0, bytes).buffer);
    const damage = new TextDecoder().decode(answer.subarray(bytes)).split("\n").filter(Boolean);
    machine.tidy();
    const fetchedBytes = this.#fetched;
    this.#fetched = 0;
    return { width: size.width, height: size.height, channels, data, decodeTime, fetchedBytes, damage };
  }

  /** Channels and sizes of the pictures, without the lists that info() makes. */
  async #header() {
    await this.#open();
    const n = numbers(this.#machine.call("tilefit_info", this.#handle)).slice();
    return {
      channels: n[2],
      wide: n[14] > 8,
      size(picture, scale) {
        let at = 17;
        for (let i = 0; i < picture; i++) at += 5 + n[at + 3] * n[at + 4];
        return { width: Math.ceil(n[at] / scale), height: Math.ceil(n[at + 1] / scale) };
      },
    };
  }

  close() {
    if (this.#handle !== null && this.#home === this.#machine.exports) this.#home.tilefit_close(this.#handle);
    this.#handle = null;
  }
}

/** An answer as u32; a copy, because answers need not be aligned. */
const numbers = (answer) => new Uint32Array(answer.slice().buffer);
