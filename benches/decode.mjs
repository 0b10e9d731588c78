// node decode.mjs FILE.tfit MODULE.wasm...: speed of whole decodes in one thread.
import { readFileSync } from "node:fs";
import { Machine, OpenFile } from "../web/decoder.js";

const [path, ...modules] = process.argv.slice(2);
const bytes = readFileSync(path);
for (const module of modules) {
  const file = new OpenFile(new Machine(new WebAssembly.Module(readFileSync(module))), bytes);
  const times = [];
  // The first runs are the compiler's; the best of many is what a busy machine hardly disturbs.
  const end = performance.now() + 4000;
  let picture;
  while (times.length < 5 || performance.now() < end) {
    picture = await file.decode(null, { format: "samples" });
    times.push(picture.decodeTime);
  }
  const pixels = picture.width * picture.height;
  const name = module.split("/").pop();
  console.log(`decode/${name} ${(pixels / Math.min(...times) / 1000).toFixed(2)} Mpixel/s`);
}
