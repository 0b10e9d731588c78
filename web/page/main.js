// The page: opens files and connects the view, the panel and the decoder.

import { build as decoderBuild, open } from "../tilefit.js";
import { chunks } from "./metadata.js";
import { Mosaic } from "./mosaic.js";
import * as panel from "./panel.js";
import { png } from "./png.js";
import { ofOriginal, ofSample } from "./rival.js";
import { View } from "./view.js";

const $ = (id) => document.getElementById(id);
const view = new View($("canvas"));

/** The open file: `{ name, file, info, picture, mosaic, ours, rivals, rival, waiting }`. */
let current = null;
let opening = 0;
let build = "";
let samples = [];
const samplesAt = new URL("../samples/samples.json", import.meta.url);

// Messages

function complain(sentence) {
  $("problem").firstElementChild.textContent = sentence;
  $("problem").hidden = false;
}

const calm = () => ($("problem").hidden = true);
/** Shows an error as the command line does: the name of the file, and one sentence. */
const fault = (name, error) => complain(`${name}: ${error.message}`);

$("problem").lastElementChild.addEventListener("click", calm);

// Opening

async function show(name, source, sample = null) {
  const turn = ++opening;
  calm();
  $("status").textContent = "Opening";
  let file;
  try {
    file = await open(source);
    build = await decoderBuild();
  } catch (error) {
    if (turn === opening) fault(name, error);
    $("status").textContent = "";
    return;
  }
  if (turn !== opening) return file.close();
  close();
  const ours = { bytes: file.info.bytes, psnr: sample?.psnr, ms_ssim: sample?.ms_ssim };
  current = { name, file, info: file.info, sample, ours, rivals: sample ? ofSample(sample, samplesAt) : [], rival: null, waiting: "" };
  const picker = $("picker");
  picker.hidden = file.info.pictures.length < 2;
  picker.lastElementChild.replaceChildren(...file.info.pictures.map((_, i) => new Option(`${i + 1} of ${file.info.pictures.length}`, i)));
  for (const button of document.querySelectorAll("#samples button")) {
    button.setAttribute("aria-pressed", String(button.dataset.name === sample?.name));
  }
  if (sample) history.replaceState(null, "", `#${sample.name}`);
  else history.replaceState(null, "", location.pathname + location.search);
  showPicture(0);
  const first = current.rivals[0];
  if (first) await choose(first);
  hideUnknown(current);
}

function close() {
  current?.mosaic?.close();
  current?.file.close();
  current = null;
}

function showPicture(picture) {
  const { name, file, info, sample } = current;
  current.mosaic?.close();
  const opened = current;
  const mosaic = new Mosaic(file, picture, {
    changed: () => view.redraw(),
    failed: (error) => current === opened && fault(name, error),
    damaged: (error) => current === opened && fault(name, error),
  });
  Object.assign(current, { picture, mosaic });
  view.rival = null;
  view.show(mosaic);
  panel.title(name, info, picture, sample?.credit);
  panel.parts(info);
  current.bits = panel.tileBits(info, picture);
  view.bits = $("bits").checked ? current.bits : null;
  closeRegion();
  choose(null);
}

// Comparison

const NO_RIVAL = "Drop the original too (PNG, JPEG or WebP) to see a JPEG of the same size beside it. It stays on this machine.";

let choosing = 0;

async function choose(rival) {
  const [opened, turn] = [current, ++choosing];
  opened.waiting = rival ? `Reading ${rival.codec}` : "";
  tellStatus();
  const bitmap = rival ? await rival.bitmap().catch((error) => (complain(error.message), null)) : null;
  if (opened !== current || turn !== choosing) return;
  opened.waiting = "";
  if (rival && !bitmap) {
    rival.hidden = true;
    rival = null;
  }
  current.rival = rival;
  view.rival = bitmap;
  $("split").hidden = $("tag-ours").hidden = $("tag-rival").hidden = !rival;
  if (rival) {
    const tag = (id, name, r) => {
      $(id).firstElementChild.textContent = name;
      $(id).lastElementChild.textContent = panel.bytes(r.bytes);
    };
    tag("tag-ours", "Tilefit", current.ours);
    tag("tag-rival", rival.codec, rival);
  }
  listRivals();
  view.redraw();
}

function listRivals() {
  panel.rivals(current.ours, current.rivals, current.rival, choose);
  const unknown = current.rivals.filter((r) => r.hidden).map((r) => r.codec);
  const notes = [];
  if (current.rival?.made) notes.push(`${current.rival.codec}: ${current.rival.made}.`);
  const decoded = current.rivals.filter((r) => r.borrowed).map((r) => r.codec);
  if (unknown.length) notes.push(`This browser does not show ${unknown.join(", ")}; the numbers were measured when the samples were made.`);
  if (decoded.length) notes.push(`This browser does not show ${decoded.join(", ")}: its picture was decoded when the samples were made.`);
  if (!current.rivals.length) notes.push(NO_RIVAL);
  $("rival-note").textContent = notes.join(" ");
}

/** Marks the formats that this browser does not show, before the user chooses one. */
async function hideUnknown(opened) {
  for (const rival of opened.rivals) {
    if (await rival.native().catch(() => null)) continue;
    if (rival.decoded) rival.borrowed = true;
    else rival.hidden = true;
    if (opened === current) listRivals();
  }
}

async function original(file) {
  const opened = current;
  calm();
  $("status").textContent = "Making a JPEG of the same size";
  try {
    const rivals = await ofOriginal(file, opened.info.bytes, opened.mosaic);
    if (opened !== current) return;
    opened.rivals = rivals;
    await choose(rivals[0]);
  } catch (error) {
    fault(file.name, error);
  }
  view.redraw();
}

// Files

async function take(files) {
  let picture = null;
  for (const file of files) {
    // A folder cannot be read.
    const head = await file.slice(0, 1).arrayBuffer().catch((error) => void fault(file.name, error));
    if (!head) continue;
    const [first] = new Uint8Array(head);
    if (first !== 0x8b && /^image\//.test(file.type)) picture = file;
    else await show(file.name, file);
  }
  if (!picture) return;
  if (current) await original(picture);
  else complain(`${picture.name}: open the .tfit file first, then its original`);
}

$("open").addEventListener("click", () => $("file").click());
$("file").addEventListener("change", () => {
  take([...$("file").files]);
  $("file").value = "";
});

let over = 0;
const carriesFiles = (event) => event.dataTransfer?.types.includes("Files");
addEventListener("dragenter", (event) => {
  if (!carriesFiles(event)) return;
  over++;
  $("dropping").hidden = false;
});
addEventListener("dragleave", (event) => {
  if (carriesFiles(event) && --over <= 0) $("dropping").hidden = true;
});
addEventListener("dragover", (event) => event.preventDefault());
addEventListener("drop", (event) => {
  event.preventDefault();
  over = 0;
  $("dropping").hidden = true;
  take([...event.dataTransfer.files]);
});

// Divider

const split = $("split");
view.onsplit = (at) => {
  split.style.setProperty("left", `${at * 100}%`);
  split.setAttribute("aria-valuenow", Math.round(at * 100));
  split.setAttribute("aria-valuetext", `${Math.round(at * 100)} % Tilefit`);
};
split.addEventListener("pointerdown", (event) => {
  split.setPointerCapture(event.pointerId);
  event.preventDefault();
  split.focus();
});
split.addEventListener("pointermove", (event) => {
  if (!split.hasPointerCapture(event.pointerId)) return;
  const box = $("stage").getBoundingClientRect();
  view.setSplit((event.clientX - box.left) / box.width);
});
split.addEventListener("keydown", (event) => {
  const step = event.shiftKey ? 0.1 : 0.02;
  const to = { ArrowLeft: view.split - step, ArrowRight: view.split + step, Home: 0, End: 1 }[event.key];
  if (to === undefined) return;
  event.preventDefault();
  view.setSplit(to);
});

// View

function tellStatus() {
  $("status").textContent = current.mosaic.busy ? "Decoding" : current.waiting;
}
view.onmove = () => {
  if (!current) return;
  $("zoom-level").textContent = `${(view.zoom * 100).toFixed(view.zoom < 0.1 ? 1 : 0)} %`;
  panel.decoding(current.info, current.mosaic, current.mosaic.level(view.zoom), build);
  const { gain } = current.mosaic;
  $("brighter").hidden = gain === 1;
  if (gain > 1) $("brighter").textContent = `Shown ${gain.toFixed(1)} times as bright: 99.9 % of its samples are below ${Math.round(100 / gain)} % of the peak. Saved pictures keep their samples.`;
  tellStatus();
};
$("zoom-in").addEventListener("click", () => view.zoomBy(1.5));
$("zoom-out").addEventListener("click", () => view.zoomBy(1 / 1.5));
$("zoom-fit").addEventListener("click", () => view.fit());
$("zoom-one").addEventListener("click", () => view.zoomTo(1));
$("picker").lastElementChild.addEventListener("change", (event) => showPicture(Number(event.target.value)));

$("bits").addEventListener("change", () => {
  $("ramp").hidden = !$("bits").checked;
  view.bits = $("bits").checked ? (current?.bits ?? null) : null;
  view.redraw();
});

const keys = {
  "+": () => view.zoomBy(1.5),
  "=": () => view.zoomBy(1.5),
  "-": () => view.zoomBy(1 / 1.5),
  0: () => view.fit(),
  1: () => view.zoomTo(1),
  b: () => $("bits").click(),
  r: () => $("region").click(),
  o: () => $("open").click(),
  Escape: () => (closeRegion(), calm()),
};
addEventListener("keydown", (event) => {
  const typing = event.target.matches?.("input:not([type=radio], [type=checkbox]), select");
  if (event.ctrlKey || event.metaKey || event.altKey || (typing && event.key !== "Escape")) return;
  keys[event.key]?.();
});

/** While F is held the picture of the other codec covers the whole canvas: differences show best in the same place. */
function flicker(on) {
  view.flipped = on;
  $("stage").classList.toggle("flipped", on && !split.hidden);
  view.redraw();
}
keys.f = () => flicker(true);
addEventListener("keyup", (event) => event.key === "f" && flicker(false));
addEventListener("blur", () => flicker(false));

$("theme").addEventListener("click", () => {
  const dark = document.documentElement.dataset.theme
    ? document.documentElement.dataset.theme === "dark"
    : matchMedia("(prefers-color-scheme: dark)").matches;
  document.documentElement.dataset.theme = dark ? "light" : "dark";
  try {
    localStorage.setItem("tilefit-theme", document.documentElement.dataset.theme);
  } catch {
    // Without storage the choice is lost when the page is closed.
  }
  view.redraw();
});

// Regions and saving

const form = $("region-form");

/** Shows the command that decodes the same region. */
function tellCommand() {
  const image = current?.info.pictures.length > 1 ? ` --image ${current.picture + 1}` : "";
  const r = view.region;
  const region = r ? ` --region ${r.x},${r.y},${r.width},${r.height}` : "";
  const name = /^[\w.-]+$/.test(current?.name ?? "") ? current.name : "FILE.tfit";
  $("command").textContent = current ? `tilefit decode ${name}${image}${region}` : "";
}

function setRegion(region) {
  view.region = region;
  for (const key of ["x", "y", "width", "height"]) form.elements[key].value = region[key];
  limitRegion();
  tellCommand();
  view.redraw();
}

function limitRegion() {
  const { width, height } = current.mosaic;
  const value = (key) => Number(form.elements[key].value) || 0;
  form.elements.x.max = width - 1;
  form.elements.y.max = height - 1;
  form.elements.width.max = Math.max(1, width - value("x"));
  form.elements.height.max = Math.max(1, height - value("y"));
}

function closeRegion() {
  form.hidden = true;
  view.selecting = false;
  view.region = null;
  $("region").setAttribute("aria-expanded", "false");
  delete $("canvas").dataset.selecting;
  tellCommand();
  view.redraw();
}

$("region").addEventListener("click", () => {
  if (!current) return;
  if (!form.hidden) return closeRegion();
  form.hidden = false;
  view.selecting = true;
  $("region").setAttribute("aria-expanded", "true");
  $("canvas").dataset.selecting = "";
  // The first region is the middle of what is on screen.
  const { x0, y0, x1, y1 } = view.part();
  const [w, h] = [Math.max(1, Math.round((x1 - x0) / 2)), Math.max(1, Math.round((y1 - y0) / 2))];
  setRegion({ x: Math.floor((x0 + x1 - w) / 2), y: Math.floor((y0 + y1 - h) / 2), width: w, height: h });
});
view.onregion = setRegion;
form.addEventListener("input", () => {
  limitRegion();
  if (!form.checkValidity()) return;
  const value = (key) => form.elements[key].valueAsNumber;
  view.region = { x: value("x"), y: value("y"), width: value("width"), height: value("height") };
  tellCommand();
  view.redraw();
});

/** Rows of a strip that is decoded and written at a time: about 4 megapixels, in whole tiles. */
function stripRows(info, width) {
  const side = info.tile || 256;
  // For a file of one tile each strip decodes all codes, so there should be few strips.
  const pixels = info.tile ? 4 << 20 : 64 << 20;
  return Math.max(side, Math.floor(pixels / width / side) * side);
}

async function save(button, region, name) {
  const { file, info, picture, mosaic } = current;
  const [text, options] = [button.textContent, { picture, format: "samples", partial: mosaic.partial }];
  const rows = stripRows(info, region.width);
  async function* strips() {
    for (let y = 0; y < region.height; y += rows) {
      const part = { ...region, y: region.y + y, height: Math.min(rows, region.height - y) };
      yield (await file.decodeRegion(part, options)).data;
      button.textContent = `${Math.round((100 * (y + part.height)) / region.height)} %`;
    }
  }
  button.disabled = true;
  try {
    const blob = await png(region.width, region.height, info, strips(), await chunks(info, picture));
    const link = document.createElement("a");
    link.href = URL.createObjectURL(blob);
    link.download = name;
    link.click();
    setTimeout(() => URL.revokeObjectURL(link.href), 60_000);
  } catch (error) {
    fault(current?.name ?? name, error);
  }
  button.disabled = false;
  button.textContent = text;
}

const stem = () => current.name.replace(/\.tfit$/i, "") + (current.info.pictures.length > 1 ? `-${current.picture + 1}` : "");
$("save").addEventListener("click", () => {
  if (current) save($("save"), { x: 0, y: 0, width: current.mosaic.width, height: current.mosaic.height }, `${stem()}.png`);
});
form.addEventListener("submit", (event) => {
  event.preventDefault();
  const { x, y, width, height } = view.region;
  save($("save-region"), { x, y, width, height }, `${stem()}-${x}-${y}-${width}x${height}.png`);
});

// Samples

const showSample = (sample) => show(sample.file, new URL(sample.file, samplesAt), sample);

async function start() {
  view.setSplit(0.5);
  try {
    const response = await fetch(samplesAt);
    if (!response.ok) throw new Error(`the server says ${response.status}`);
    ({ samples } = await response.json());
  } catch (error) {
    return fault("samples.json", error);
  }
  $("samples").replaceChildren(
    ...samples.map((sample) => {
      const button = Object.assign(document.createElement("button"), { type: "button" });
      button.dataset.name = sample.name;
      button.setAttribute("aria-pressed", "false");
      const image = Object.assign(new Image(), { src: new URL(sample.thumb, samplesAt), alt: "", width: 32, height: 32 });
      button.append(image, Object.assign(document.createElement("span"), { textContent: sample.title }));
      button.addEventListener("click", () => showSample(sample));
      return button;
    }),
  );
  const named = () => samples.find((sample) => `#${sample.name}` === location.hash);
  addEventListener("hashchange", () => named() && named() !== current?.sample && showSample(named()));
  if (!current && !opening) await showSample(named() ?? samples[0]);
}

start();
