// The Tilefit decoder; tilefit.d.ts documents it. The work is done in a Worker, to which this file sends requests.

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

/** Rejects all pending requests: the Worker could not be loaded or has ended. */
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
    // A Worker without requests does not keep the program running.
    started.unref();
    return started;
  }
  // Bundlers recognise this expression as a whole.
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

/** The source in a form that can be sent to a Worker: URLs become absolute, because the Worker has another base. */
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
