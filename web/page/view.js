// The canvas: the position of the picture on it, pointer and keyboard input, and drawing.

/** Largest zoom, in device pixels for one pixel of the picture. */
const MOST = 64;
/** From this zoom on pixels are drawn as squares. */
const SQUARES = 3;
/** A drag of fewer CSS pixels than this does not select a region. */
const DRAG = 4;

/** Colours of bits per tile from few to many, as in page.css. */
const RAMP = [[28, 22, 62], [108, 32, 104], [190, 55, 82], [240, 120, 50], [252, 214, 110]];

function ramp(v) {
  const at = Math.min(Math.max(v, 0), 1) * (RAMP.length - 1);
  const i = Math.min(Math.floor(at), RAMP.length - 2);
  return RAMP[i].map((c, k) => Math.round(c + (RAMP[i + 1][k] - c) * (at - i)));
}

export class View {
  mosaic = null;
  /** A bitmap of the picture's size that is drawn right of the divider. */
  rival = null;
  split = 0.5;
  /** Whether the rival covers the whole canvas. */
  flipped = false;
  /** `{ side, columns, values, most }`: drawn over the picture. */
  bits = null;
  region = null;
  selecting = false;
  /** Called when zoom or position changed, when the divider moved, when a region was drawn. */
  onmove = () => {};
  onsplit = () => {};
  onregion = () => {};
  #canvas;
  #context;
  #zoom = 1;
  #x = 0;
  #y = 0;
  #fitted = true;
  #pointers = new Map();
  #from = null;
  #frame = 0;

  constructor(canvas) {
    this.#canvas = canvas;
    this.#context = canvas.getContext("2d", { alpha: false });
    new ResizeObserver(() => this.#resize()).observe(canvas);
    matchMedia("(prefers-color-scheme: dark)").addEventListener("change", () => this.redraw());
    canvas.addEventListener("pointerdown", (e) => this.#down(e));
    canvas.addEventListener("pointermove", (e) => this.#drag(e));
    for (const name of ["pointerup", "pointercancel"]) canvas.addEventListener(name, (e) => this.#up(e));
    canvas.addEventListener("wheel", (e) => this.#wheel(e), { passive: false });
    canvas.addEventListener("dblclick", (e) => {
      if (!this.selecting) this.zoomBy(e.shiftKey ? 0.5 : 2, ...this.#at(e));
    });
    canvas.addEventListener("keydown", (e) => this.#key(e));
  }

  get zoom() {
    return this.#zoom;
  }

  show(mosaic) {
    this.mosaic = mosaic;
    this.region = null;
    this.fit();
  }

  #ratio() {
    return this.#canvas.width / Math.max(1, this.#canvas.clientWidth);
  }

  #resize() {
    const ratio = window.devicePixelRatio || 1;
    this.#canvas.width = Math.max(1, Math.round(this.#canvas.clientWidth * ratio));
    this.#canvas.height = Math.max(1, Math.round(this.#canvas.clientHeight * ratio));
    if (this.#fitted) this.fit();
    // Immediately, because a canvas is empty after its size has changed.
    this.#draw();
  }

  /** Shows the whole picture, a small one at no more than twice its size. */
  fit() {
    if (!this.mosaic) return;
    const { width, height } = this.mosaic;
    const ratio = this.#ratio();
    // Room above and below for sizes and buttons.
    const room = (side, margin) => Math.max(1, side - 2 * margin * ratio);
    this.#zoom = Math.min(room(this.#canvas.width, 20) / width, room(this.#canvas.height, 58) / height, 2 * ratio);
    [this.#x, this.#y] = [width / 2, height / 2];
    this.#fitted = true;
    this.redraw();
  }

  /** Zooms to `zoom`, and keeps what is under the canvas's pixel (x, y). */
  zoomTo(zoom, x = this.#canvas.width / 2, y = this.#canvas.height / 2) {
    if (!this.mosaic) return;
    const least = Math.min(1, 32 / Math.max(this.mosaic.width, this.mosaic.height));
    zoom = Math.min(Math.max(zoom, least), MOST);
    const [dx, dy] = [x - this.#canvas.width / 2, y - this.#canvas.height / 2];
    this.#x += dx / this.#zoom - dx / zoom;
    this.#y += dy / this.#zoom - dy / zoom;
    this.#zoom = zoom;
    this.#moved();
  }

  zoomBy(factor, x, y) {
    // A zoom that would pass 100 % stops there.
    const to = this.#zoom * factor;
    this.zoomTo((this.#zoom - 1) * (to - 1) < -1e-6 ? 1 : to, x, y);
  }

  moveBy(dx, dy) {
    this.#x -= dx / this.#zoom;
    this.#y -= dy / this.#zoom;
    this.#moved();
  }

  #moved() {
    this.#x = Math.min(Math.max(this.#x, 0), this.mosaic.width);
    this.#y = Math.min(Math.max(this.#y, 0), this.mosaic.height);
    this.#fitted = false;
    this.redraw();
  }

  setSplit(split) {
    this.split = Math.min(Math.max(split, 0), 1);
    this.onsplit(this.split);
    this.redraw();
  }

  /** Screen pixels of a position in the picture, rounded so that neighbouring tiles meet and 100 % is exact. */
  #place(x, y) {
    const left = Math.round(this.#canvas.width / 2 - this.#x * this.#zoom);
    const top = Math.round(this.#canvas.height / 2 - this.#y * this.#zoom);
    return [left + Math.round(x * this.#zoom), top + Math.round(y * this.#zoom)];
  }

  /** The part of the picture that is on screen, in pixels. */
  part() {
    const [left, top] = this.#place(0, 0);
    return {
      x0: Math.max(0, -left / this.#zoom),
      y0: Math.max(0, -top / this.#zoom),
      x1: Math.min(this.mosaic.width, (this.#canvas.width - left) / this.#zoom),
      y1: Math.min(this.mosaic.height, (this.#canvas.height - top) / this.#zoom),
    };
  }

  redraw() {
    if (this.#frame) return;
    this.#frame = requestAnimationFrame(() => {
      this.#frame = 0;
      this.#draw();
    });
  }

  #draw() {
    const context = this.#context;
    const { width, height } = this.#canvas;
    const style = getComputedStyle(this.#canvas);
    context.fillStyle = style.backgroundColor;
    context.fillRect(0, 0, width, height);
    if (!this.mosaic) return;
    const part = this.part();
    const place = (x, y) => this.#place(x, y);
    context.imageSmoothingEnabled = this.#zoom / this.#ratio() < SQUARES;
    context.imageSmoothingQuality = "high";
    if (part.x1 > part.x0 && part.y1 > part.y0) {
      this.mosaic.want(part, this.#zoom);
      this.mosaic.draw(context, part, this.#zoom, place);
      if (this.rival) this.#drawRival(place);
      if (this.bits) this.#drawBits(part, place);
    }
    if (this.region) this.#drawRegion(place, style.color);
    const [left, top] = this.#place(0, 0);
    Object.assign(this.#canvas.dataset, { left, top, zoom: this.#zoom, sharp: this.mosaic.sharp });
    this.onmove();
  }

  #drawRival(place) {
    const [left, top] = place(0, 0);
    const [right, bottom] = place(this.mosaic.width, this.mosaic.height);
    const at = this.flipped ? 0 : Math.round(this.split * this.#canvas.width);
    const context = this.#context;
    context.save();
    context.beginPath();
    context.rect(at, 0, this.#canvas.width - at, this.#canvas.height);
    context.clip();
    context.drawImage(this.rival, left, top, right - left, bottom - top);
    context.restore();
  }

  #drawBits(part, place) {
    const { side, columns, rows, values, most } = this.bits;
    const context = this.#context;
    const ratio = this.#ratio();
    context.font = `600 ${12 * ratio}px system-ui, sans-serif`;
    context.textAlign = "center";
    context.textBaseline = "middle";
    const last = (end, n) => Math.min(n, Math.ceil(end / side));
    for (let y = Math.floor(part.y0 / side); y < last(part.y1, rows); y++) {
      for (let x = Math.floor(part.x0 / side); x < last(part.x1, columns); x++) {
        const [x1, y1] = [Math.min((x + 1) * side, this.mosaic.width), Math.min((y + 1) * side, this.mosaic.height)];
        const bpp = (values[y * columns + x] * 8) / ((x1 - x * side) * (y1 - y * side));
        const [left, top] = place(x * side, y * side);
        const [right, bottom] = place(x1, y1);
        const [r, g, b] = ramp(bpp / most);
        context.fillStyle = `rgb(${r} ${g} ${b} / 0.66)`;
        context.fillRect(left, top, right - left, bottom - top);
        if (right - left > 8) {
          context.strokeStyle = "rgb(255 255 255 / 0.35)";
          context.strokeRect(left + 0.5, top + 0.5, right - left - 1, bottom - top - 1);
        }
        if (right - left < 64 * ratio || bottom - top < 28 * ratio) continue;
        context.fillStyle = r + g + b > 420 ? "#000" : "#fff";
        context.fillText(bpp.toFixed(bpp < 1 ? 3 : 2), (left + right) / 2, (top + bottom) / 2);
      }
    }
  }

  #drawRegion(place, colour) {
    const { x, y, width, height } = this.region;
    const [left, top] = place(x, y);
    const [right, bottom] = place(x + width, y + height);
    const context = this.#context;
    const w = Math.max(1, Math.round(this.#ratio()));
    // The frame is drawn outside the region, so that it covers none of its pixels.
    context.fillStyle = "rgb(0 0 0 / 0.5)";
    context.beginPath();
    context.rect(0, 0, this.#canvas.width, this.#canvas.height);
    context.rect(left, top, right - left, bottom - top);
    context.fill("evenodd");
    context.lineWidth = w;
    context.strokeStyle = colour;
    context.strokeRect(left - w / 2, top - w / 2, right - left + w, bottom - top + w);
  }

  // Pointer and keyboard

  /** The position of an event in pixels of the canvas. */
  #at(event) {
    const box = this.#canvas.getBoundingClientRect();
    return [(event.clientX - box.left) * this.#ratio(), (event.clientY - box.top) * this.#ratio()];
  }

  #pixel([x, y]) {
    const [left, top] = this.#place(0, 0);
    const within = (v, most) => Math.min(Math.max(v, 0), most);
    return [within((x - left) / this.#zoom, this.mosaic.width), within((y - top) / this.#zoom, this.mosaic.height)];
  }

  #down(event) {
    if (!this.mosaic || (event.button !== 0 && event.button !== 1)) return;
    this.#canvas.setPointerCapture(event.pointerId);
    this.#pointers.set(event.pointerId, this.#at(event));
    this.#from = this.selecting && this.#pointers.size === 1 ? { pixel: this.#pixel(this.#at(event)), x: event.clientX, y: event.clientY } : null;
    this.#canvas.dataset.held = "";
  }

  #drag(event) {
    const old = this.#pointers.get(event.pointerId);
    if (!old) return;
    const now = this.#at(event);
    if (this.#from) {
      if (Math.hypot(event.clientX - this.#from.x, event.clientY - this.#from.y) < DRAG) return;
      const [[ax, ay], [bx, by]] = [this.#from.pixel, this.#pixel(now)];
      const [x, y] = [Math.floor(Math.min(ax, bx)), Math.floor(Math.min(ay, by))];
      this.region = { x, y, width: Math.max(1, Math.ceil(Math.max(ax, bx)) - x), height: Math.max(1, Math.ceil(Math.max(ay, by)) - y) };
      this.region.width = Math.min(this.region.width, this.mosaic.width - x);
      this.region.height = Math.min(this.region.height, this.mosaic.height - y);
      if (this.region.width > 0 && this.region.height > 0) this.onregion(this.region);
      this.redraw();
      return;
    }
    const middle = () => {
      const all = [...this.#pointers.values()];
      const mean = (k) => all.reduce((sum, p) => sum + p[k], 0) / all.length;
      const [x, y] = [mean(0), mean(1)];
      return [x, y, Math.max(...all.map((p) => Math.hypot(p[0] - x, p[1] - y)))];
    };
    const [x0, y0, far0] = middle();
    this.#pointers.set(event.pointerId, now);
    const [x1, y1, far1] = middle();
    this.moveBy(x1 - x0, y1 - y0);
    if (this.#pointers.size > 1 && far0 > 0) this.zoomTo((this.#zoom * far1) / far0, x1, y1);
  }

  #up(event) {
    this.#pointers.delete(event.pointerId);
    this.#from = null;
    if (!this.#pointers.size) delete this.#canvas.dataset.held;
  }

  #wheel(event) {
    event.preventDefault();
    // Lines and pages become pixels. A pinch on a touchpad arrives as small steps with the control key.
    const unit = [1, 16, 400][event.deltaMode];
    const delta = Math.min(Math.max(event.deltaY * unit * (event.ctrlKey ? 6 : 1), -240), 240);
    if (this.mosaic) this.zoomTo(this.#zoom * 2 ** (-delta / 240), ...this.#at(event));
  }

  #key(event) {
    if (event.ctrlKey || event.metaKey || event.altKey || !this.mosaic) return;
    const step = (event.shiftKey ? 240 : 60) * this.#ratio();
    const moves = { ArrowLeft: [step, 0], ArrowRight: [-step, 0], ArrowUp: [0, step], ArrowDown: [0, -step] };
    if (!moves[event.key]) return;
    event.preventDefault();
    this.moveBy(...moves[event.key]);
  }
}
