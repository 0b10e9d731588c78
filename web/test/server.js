// A plain static server, with byte ranges or (as many are) without; counts what it sends.

import { createServer } from "node:http";
import { readFile } from "node:fs/promises";
import { extname, normalize } from "node:path";

const TYPES = { ".html": "text/html", ".js": "text/javascript", ".css": "text/css", ".json": "application/json", ".svg": "image/svg+xml", ".wasm": "application/wasm", ".jpg": "image/jpeg", ".avif": "image/avif", ".webp": "image/webp" };

/** `{ url, sent, close() }`; `sent` is a Map from path to bytes. */
export async function serve(root, { ranges = true } = {}) {
  const sent = new Map();
  const server = createServer(async (request, response) => {
    const path = normalize(decodeURIComponent(new URL(request.url, "http://x").pathname)).replace(/\/$/, "/index.html");
    let body = await readFile(root + path).catch(() => null);
    if (!body) return response.writeHead(404).end();
    const headers = { "Content-Type": TYPES[extname(path)] ?? "application/octet-stream", "Cache-Control": "no-store" };
    const range = ranges && /^bytes=(\d+)-(\d+)$/.exec(request.headers.range ?? "");
    let status = 200;
    if (range) {
      const total = body.length;
      body = body.subarray(Number(range[1]), Number(range[2]) + 1);
      headers["Content-Range"] = `bytes ${range[1]}-${Number(range[1]) + body.length - 1}/${total}`;
      status = 206;
    }
    sent.set(path, (sent.get(path) ?? 0) + body.length);
    response.writeHead(status, headers).end(body);
  });
  await new Promise((done) => server.listen(0, "127.0.0.1", done));
  return { url: `http://127.0.0.1:${server.address().port}/`, sent, close: () => server.close() };
}
