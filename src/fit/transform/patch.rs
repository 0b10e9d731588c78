//! The windows of a picture that a fit looks at.

use crate::fit::loss::from_rgb;
use crate::fit::rng::Rng;
use crate::image::{Picture, Rect};
use crate::models::transform::SHIFT;
use crate::tensor::Shape;

/// Codes around a window that its pixels depend on.
const HALO: usize = 2;

/// A patch of a picture: codes `core`, and the codes around it that its pixels depend on.
#[derive(Clone, Copy, Debug)]
pub struct Patch {
    pub picture: usize,
    pub core: Rect,
    pub all: Rect,
}

/// Width and height of a picture's grid of codes.
pub fn grid_of(p: &Picture) -> (usize, usize) {
    (p.width.div_ceil(1 << SHIFT), p.height.div_ceil(1 << SHIFT))
}

impl Patch {
    pub fn new(pictures: &[Picture], picture: usize, core: Rect) -> Self {
        let (w, h) = grid_of(&pictures[picture]);
        Patch { picture, core, all: core.grown(HALO, w, h) }
    }

    /// A patch of `side` codes anywhere, or the whole of a smaller picture. It begins at multiples of `align`.
    pub fn random(pictures: &[Picture], side: usize, align: usize, rng: &mut Rng) -> Self {
        let total: usize = pictures.iter().map(Picture::pixels).sum();
        let mut at = rng.below(total);
        let picture = pictures.iter().position(|p| {
            let here = at < p.pixels();
            at = at.saturating_sub(p.pixels());
            here
        });
        let picture = picture.unwrap_or(0);
        let (w, h) = grid_of(&pictures[picture]);
        let (cw, ch) = (side.min(w), side.min(h));
        let mut below = |n: usize| rng.below(n / align + 1) * align;
        let (x0, y0) = (below(w - cw), below(h - ch));
        Self::new(pictures, picture, Rect::new(x0, y0, x0 + cw, y0 + ch))
    }

    /// All patches of about `side` codes of all pictures. They begin at multiples of `align`, which divides `side`.
    pub fn partition(pictures: &[Picture], side: usize, align: usize) -> Vec<Patch> {
        let mut patches = Vec::new();
        for (i, p) in pictures.iter().enumerate() {
            let (w, h) = grid_of(p);
            // Equal shares, so that no sliver is left.
            let (nx, ny) = (w.div_ceil(side), h.div_ceil(side));
            let edge = |k: usize, all: usize, n: usize| if k == n { all } else { k * all / n / align * align };
            for k in 0..nx * ny {
                let (x, y) = (k % nx, k / nx);
                let core = Rect::new(edge(x, w, nx), edge(y, h, ny), edge(x + 1, w, nx), edge(y + 1, h, ny));
                patches.push(Patch::new(pictures, i, core));
            }
        }
        patches
    }

    /// The core's place in a tensor over `all`, in units of `1 << shift` a code.
    pub fn inner(&self, shift: u32) -> Rect {
        let r = |v: usize, o: usize| (v - o) << shift;
        let (o, c) = (&self.all, &self.core);
        Rect::new(r(c.x0, o.x0), r(c.y0, o.y0), r(c.x1, o.x0), r(c.y1, o.y0))
    }

    pub fn codes_shape(&self, n: usize) -> Shape {
        Shape::new(n, self.all.height(), self.all.width())
    }

    /// Pixels of the core that are in the picture.
    pub fn pixels(&self, pictures: &[Picture]) -> Rect {
        let p = &pictures[self.picture];
        let c = &self.core;
        Rect::new(c.x0 << SHIFT, c.y0 << SHIFT, (c.x1 << SHIFT).min(p.width), (c.y1 << SHIFT).min(p.height))
    }

    /// What the analysis sees: all codes' pixels, YCoCg minus one half, or with other numbers of channels than three each minus
    /// one half; the picture's edge is repeated beyond it.
    pub fn fill_input(&self, pictures: &[Picture], out: &mut [f32]) {
        let p = &pictures[self.picture];
        let (w, h) = (self.all.width() << SHIFT, self.all.height() << SHIFT);
        let n = w * h;
        let peak = f32::from(p.format.peak());
        for y in 0..h {
            let py = ((self.all.y0 << SHIFT) + y).min(p.height - 1);
            for x in 0..w {
                let px = ((self.all.x0 << SHIFT) + x).min(p.width - 1);
                let s = &p.samples[(py * p.width + px) * p.format.channels..][..p.format.channels];
                let v = |c: usize| f32::from(s[c]) / peak;
                if p.format.channels == 3 {
                    let yuv = from_rgb(v(0), v(1), v(2));
                    out[y * w + x] = yuv[0] - 0.5;
                    out[n + y * w + x] = yuv[1];
                    out[2 * n + y * w + x] = yuv[2];
                } else {
                    (0..s.len()).for_each(|c| out[c * n + y * w + x] = v(c) - 0.5);
                }
            }
        }
    }

    /// The samples of [`pixels`](Self::pixels), planes in [0, 1].
    pub fn fill_target(&self, pictures: &[Picture], out: &mut Vec<f32>) {
        let p = &pictures[self.picture];
        let r = self.pixels(pictures);
        let peak = f32::from(p.format.peak());
        out.clear();
        for c in 0..p.format.channels {
            for y in r.y0..r.y1 {
                let row = &p.samples[(y * p.width + r.x0) * p.format.channels..][..r.width() * p.format.channels];
                out.extend(row[c..].iter().step_by(p.format.channels).map(|&s| f32::from(s) / peak));
            }
        }
    }
}
