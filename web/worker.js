// The Worker: answers the requests of tilefit.js, one after another.

import { Failure, Machine, OpenFile, hasSimd } from "./decoder.js";

const inNode = typeof self === "undefined";
const port = inNode ? (await import("node:worker_threads")).parentPort : self;

const simd = hasSimd();
const module = new URL(simd ? "./tilefit-simd.wasm" : "./tilefit.wasm", import.meta.url);

async function compiled() {
  if (module.protocol === "file:" && inNode) {
    return WebAssembly.compile(await (await import("node:fs/promises")).readFile(module));
  }
  const response = await fetch(module).catch((e) => {
    throw new Failure("io", `${module}: ${e.message}`);
  });
  if (!response.ok) throw new Failure("io", `${module}: the server says ${response.status}`);
  // Not compileStreaming: it requires a media type that many static servers do not send.
  return WebAssembly.compile(await response.arrayBuffer());
}

const machine = compiled().then((m) => new Machine(m));
machine.catch(() => {});
const files = new Map();
const aborted = new Set();

const requests = {
  build: async () => (simd ? "simd" : "plain"),
  open: async ({ file, source }) => {
    const opened = new OpenFile(await machine, source);
    const info = await opened.info();
    files.set(file, opened);
    return info;
  },
  decode: async ({ file, region, options }) => {
    const opened = files.get(file);
    if (!opened) throw new Failure("usage", "the file is closed");
    return opened.decode(region, options);
  },
  close: async ({ file }) => {
    files.get(file)?.close();
    files.delete(file);
  },
};

let last = Promise.resolve();

function receive({ id, name, abort, ...args }) {
  if (abort !== undefined) {
    aborted.add(abort);
    return;
  }
  last = last.then(async () => {
    if (aborted.delete(id)) return port.postMessage({ id, aborted: true });
    try {
      const value = await requests[name](args);
      port.postMessage({ id, value }, value?.data ? [value.data.buffer] : []);
    } catch (e) {
      const kind = e instanceof Failure ? e.kind : "defect";
      port.postMessage({ id, kind, message: e.message });
    }
    aborted.delete(id);
  });
}

if (inNode) port.on("message", receive);
else port.onmessage = (event) => receive(event.data);
