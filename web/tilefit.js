// The Tilefit decoder; tilefit.d.ts is its documentation. All work is done in a Worker, which this file talks to.

export class TilefitError extends Error {
  constructor(kind, message) {
    super(message);
    this.name = "TilefitError";
    this.kind = kind;
  }
}

let worker = null;
let count = 0;
const waiting = new Map();

function settle({ id, value, kind, message }) {
  const { resolve, reject } = waiting.get(id) ?? {};
  waiting.delete(id);
  if (kind) reject?.(new TilefitError(kind, message));
  else resolve?.(value);
}

/** All that waits fails: the Worker could not be loaded or has died. */
function lost(message) {
  worker = null;
  for (const { reject } of waiting.values()) reject(new TilefitError("defect", message));
  waiting.clear();
}

async function start() {
  const script = new URL("./worker.js", import.meta.url);
  if (typeof Worker === "undefined") {
    const { Worker } = await import("node:worker_threads");
    const started = new Worker(script);
    started.on("message", settle);
    started.on("error", (e) => lost(`the decoder's Worker failed: ${e.message}`));
    // A program may end while the Worker idles.
    started.unref();
    return started;
  }
  // Written in one piece for bundlers to see.
  const started = new Worker(new URL("./worker.js", import.meta.url), { type: "module" });
  started.onmessage = (event) => settle(event.data);
  started.onerror = (event) => lost(`the decoder's Worker failed: ${event.message ?? script}`);
  return started;
}

async function ask(name, args = {}, signal) {
  signal?.throwIfAborted();
  worker ??= start();
  const id = ++count;
  const at = await worker;
  signal?.throwIfAborted();
  let stop;
  try {
    return await new Promise((resolve, reject) => {
      waiting.set(id, { resolve, reject });
      at.ref?.();
      stop = () => {
        at.postMessage({ abort: id });
        waiting.delete(id);
        reject(signal.reason);
      };
      signal?.addEventListener("abort", stop, { once: true });
      at.postMessage({ id, name, ...args });
    });
  } finally {
    signal?.removeEventListener("abort", stop);
    if (waiting.size === 0) at.unref?.();
  }
}

/** What a Worker can be sent: addresses are absolute, as the Worker has a base of its own. */
function portable(source) {
  if (source instanceof URL) return source.href;
  if (typeof source === "string") return new URL(source, globalThis.document?.baseURI).href;
  const bytes = source instanceof ArrayBuffer || source instanceof Uint8Array;
  if (bytes || source instanceof Blob) return source;
  throw new TilefitError("usage", "a file is bytes (ArrayBuffer, Uint8Array), a Blob or a URL");
}

export async function open(source) {
  const file = ++count;
  const info = await ask("open", { file, source: portable(source) });
  const decode = (region, { signal, ...options } = {}) => ask("decode", { file, region, options }, signal);
  return {
    info,
    decode: (options) => decode(null, options),
    decodeRegion: (region, options) => decode(region, options),
    close: () => ask("close", { file }),
  };
}

async function once(source, work) {
  const file = await open(source);
  try {
    return await work(file);
  } finally {
    file.close();
  }
}

export const info = (source) => once(source, (file) => file.info);
export const decode = (source, options) => once(source, (file) => file.decode(options));
export const decodeRegion = (source, region, options) => once(source, (file) => file.decodeRegion(region, options));
export const build = () => ask("build");

export function shutdown() {
  const old = worker;
  lost("the decoder was shut down");
  Promise.resolve(old).then((w) => w?.terminate());
}
