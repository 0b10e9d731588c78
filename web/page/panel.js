// The panel: the numbers of a file, and the list of other codecs.

const $ = (id) => document.getElementById(id);
export const count = (n) => Math.round(n).toLocaleString("en");
export const bytes = (n) => `${count(n)} B`;
export const memory = (n) => (n < 1e6 ? `${(n / 1e3).toFixed(0)} kB` : `${(n / 1e6).toFixed(n < 1e7 ? 1 : 0)} MB`);
const percent = (v) => `${(v * 100).toFixed(1)} %`;

function element(name, properties = {}, ...children) {
  const made = Object.assign(document.createElement(name), properties);
  made.append(...children);
  return made;
}

/** What the samples are: "RGB", "grey with alpha, 16 bits". */
function kind({ channels, depth, alpha }) {
  const colours = channels - alpha;
  const name = { 1: "grey", 3: "RGB" }[colours] ?? `${colours} bands`;
  return name + (alpha ? " with alpha" : "") + (depth > 8 ? `, ${depth} bits` : "");
}

/** Name, size and credit. */
export function title(name, info, picture, credit) {
  const { width, height } = info.pictures[picture];
  $("name").textContent = name;
  const bpp = (info.bytes * 8) / info.pictures.reduce((sum, p) => sum + p.width * p.height, 0);
  const facts = [`${count(width)} \u00d7 ${count(height)}`, kind(info), bytes(info.bytes), `${bpp.toFixed(bpp < 1 ? 3 : 2)} bpp`];
  $("shape").replaceChildren(...facts.map((fact) => element("span", { textContent: fact })));
  $("credit").textContent = credit ?? "";
  $("credit").hidden = !credit;
  $("canvas").setAttribute("aria-label", `${name}, ${width} by ${height} pixels`);
  document.title = `${name} \u2013 Tilefit`;
}

/** The parts of the file as a bar, with their bytes. */
export function parts(info) {
  const all = [
    ["header", "Header and index", info.headerBytes],
    ["weights", "Weights", info.weightsBytes],
    ["codes", "Codes", info.codesBytes],
    ["metadata", "Metadata", info.metadataBytes],
  ];
  const bars = all.filter(([, , n]) => n > 0).map(([key, , n]) => {
    const bar = element("i", { className: key });
    bar.style.setProperty("flex-grow", n);
    return bar;
  });
  $("parts").replaceChildren(...bars);
  $("parts").setAttribute("aria-label", all.map(([, label, n]) => `${label}: ${bytes(n)}`).join(", "));
  $("legend").replaceChildren(
    ...all.map(([key, label, n]) =>
      element(
        "div",
        {},
        element("dt", { className: key, textContent: label }),
        element("dd", { textContent: bytes(n) }),
        element("dd", { textContent: percent(n / info.bytes) }),
      ),
    ),
  );
}

/** Bits per tile of a picture, as View.bits takes them. */
export function tileBits(info, picture) {
  const { width, height, columns, rows, tileBytes } = info.pictures[picture];
  const side = info.tile || Math.max(width, height);
  const bpp = tileBytes.map((n, i) => {
    const [x, y] = [(i % columns) * side, Math.floor(i / columns) * side];
    return (n * 8) / ((Math.min(x + side, width) - x) * (Math.min(y + side, height) - y));
  });
  const most = bpp.reduce((a, b) => Math.max(a, b), 0);
  const least = bpp.reduce((a, b) => Math.min(a, b), Infinity);
  const [from, , to] = $("ramp").children;
  from.textContent = "0";
  to.textContent = `${most.toFixed(most < 1 ? 3 : 2)} bpp`;
  const range = `${least.toFixed(3)} to ${most.toFixed(3)} bits a pixel`;
  $("tiles").textContent = info.tile
    ? `${count(columns * rows)} tiles of ${info.tile} \u00d7 ${info.tile} pixels, ${range}.`
    : `One tile: ${bytes(tileBytes[0])}. Files encoded with --tile 256 show where the bits are.`;
  return { side, columns, rows, values: tileBytes, most };
}

/** Time, bytes and memory that decoding has taken so far. */
export function decoding(info, mosaic, level, build) {
  const { milliseconds, pixels, fetched } = mosaic.spent;
  const speed = pixels / 1e3 / Math.max(milliseconds, 0.1);
  $("time").textContent = pixels ? `${count(milliseconds)} ms, ${speed.toFixed(speed < 10 ? 1 : 0)} megapixels a second` : "";
  $("work").textContent = `${count(info.macsPerPixel)} multiplications a pixel`;
  $("read").textContent = `${bytes(fetched)} of ${bytes(info.bytes)}`;
  $("held").textContent = `${memory(mosaic.bytes)} at ${["1/1", "1/2", "1/4", "1/8"][level]}`;
  $("build").textContent = build === "simd" ? "WebAssembly with SIMD" : build === "plain" ? "WebAssembly without SIMD" : "";
}

/** A row with a radio button for each codec; a click calls `choose` with it, or with null for none. */
export function rivals(ours, list, chosen, choose) {
  const head = element("div", { className: "rival head", ariaHidden: "true" });
  head.append(...["", "bytes", "PSNR", "MS-SSIM"].map((text) => element("span", { textContent: text })));
  const numbers = (r) => [
    element("span", { textContent: count(r.bytes) }),
    element("span", { textContent: r.psnr ? `${r.psnr.toFixed(2)}` : "" }),
    element("span", { textContent: r.ms_ssim ? r.ms_ssim.toFixed(4) : "" }),
  ];
  const own = element("div", { className: "rival ours" }, element("b", { textContent: "Tilefit" }), ...numbers(ours));
  const row = (rival) => {
    const input = element("input", { type: "radio", name: "rival", checked: rival === chosen, disabled: rival?.hidden ?? false });
    input.addEventListener("change", () => choose(rival));
    const label = element("span", { className: "codec" }, input, rival ? rival.codec : "Nothing");
    return element("label", { className: "rival" }, label, ...(rival ? numbers(rival) : []));
  };
  $("rivals").replaceChildren($("rivals").firstElementChild, head, own, ...list.map(row), ...(list.length ? [row(null)] : []));
}
