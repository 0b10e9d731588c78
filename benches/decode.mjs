// node decode.mjs FILE.tfit MODULE.wasm...: speed of whole decodes in one thread.
import { readFileSync } from "node:fs";
import { Machine, OpenFile } from "../web/decoder.js";

/** CPU time of this thread in milliseconds, which other programs do not disturb; wall time where the system does not report it. */
function processorTime() {
  try {
    return Number(readFileSync("/proc/thread-self/schedstat", "latin1").split(" ")[0]) / 1e6;
  } catch {
    return performance.now();
  }
}

const [path, ...modules] = process.argv.slice(2);
const bytes = readFileSync(path);
for (const module of modules) {
  const file = new OpenFile(new Machine(new WebAssembly.Module(readFileSync(module))), bytes);
  let best = Infinity;
  let picture;
  // The engine compiles the module during the first runs, so there are at least five.
  const end = processorTime() + 6000;
  for (let i = 0; i < 5 || processorTime() < end; i++) {
    const start = processorTime();
    picture = await file.decode(null, { format: "samples" });
    best = Math.min(best, processorTime() - start);
  }
  const pixels = picture.width * picture.height;
  const name = module.split("/").pop();
  console.log(`decode/${name} ${(pixels / best / 1000).toFixed(2)} Mpixel/s`);
}
