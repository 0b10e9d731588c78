//! The latents (real-valued codes) of a picture, the state of their optimiser, and how they become codes.
//!
//! The codes in training are `q = f(gain * y)` of the latents `y`, with `f` a soft rounding with noise; those of the file are
//! `round(gain * y)`.

use super::padded_grid::PaddedGrid;
use crate::image::Rect;
use crate::models::pyramid::spec::PyramidSpec;
use crate::models::{Codes, Grid};
use kernels::fast::adam::{adam, AdamStep};
use kernels::fast::context::PAD;
use kernels::fast::quantise::{quantise, round_to, Quantise};
use kernels::fast::whole::add_part_slope;
use kernels::Level;
use rayon::prelude::*;

/// About how many latents a strip has: some ten microseconds of work. Any value of this order works.
const STRIP: usize = 8192;

/// The latents of one grid, `[height][width]`.
#[derive(Clone, Debug, Default)]
pub struct LatentGrid {
    /// The grid is at `1/2^scale` of the picture's resolution.
    pub scale: u32,
    /// Latents in a row.
    pub width: usize,
    /// The latents.
    pub y: Vec<f32>,
    /// Adam's first moments.
    pub m: Vec<f32>,
    /// Adam's second moments.
    pub v: Vec<f32>,
    /// `dq / d(gain y)` of the last quantisation.
    pub dqdy: Vec<f32>,
    /// The gradient of the bits by `gain y`, from the last step that computed it.
    pub rate_gradient: Vec<f32>,
}

/// The latents of one picture.
#[derive(Clone, Debug, Default)]
pub struct Latents {
    /// The grids that are present, in coding order.
    pub grids: Vec<LatentGrid>,
}

/// Width and height of the grids of scales `finest ..= depth` in coding order.
pub fn grid_sizes(spec: &PyramidSpec, width: usize, height: usize, finest: u32) -> Vec<(usize, usize)> {
    let size = |scale: u32| (width.div_ceil(1 << scale), height.div_ceil(1 << scale));
    spec.coding_order().iter().filter(|g| g.scale >= finest).map(|g| size(g.scale)).collect()
}

impl LatentGrid {
    fn new(scale: u32, width: usize, height: usize) -> Self {
        let zero = vec![0.0; width * height];
        let [y, m, v, dqdy] = std::array::from_fn(|_| zero.clone());
        LatentGrid { scale, width, y, m, v, dqdy, rate_gradient: zero }
    }

    /// Number of latents of a strip: those of whole rows.
    fn strip_len(&self) -> usize {
        (STRIP / self.width).max(1) * self.width
    }
}

impl Latents {
    /// Zero latents for a picture of `width` x `height`; grids of scales from `finest` on are present.
    pub fn new(spec: &PyramidSpec, width: usize, height: usize, finest: u32) -> Self {
        let mut latents = Latents::default();
        latents.refine(spec, width, height, finest);
        latents
    }

    /// Adds the grids that become present with a smaller `finest`. Their latents and moments are zero.
    pub fn refine(&mut self, spec: &PyramidSpec, width: usize, height: usize, finest: u32) {
        let sizes = grid_sizes(spec, width, height, finest);
        let all = sizes.iter().zip(spec.coding_order()).map(|((w, h), g)| LatentGrid::new(g.scale, *w, *h));
        let present = self.grids.len();
        self.grids.extend(all.skip(present));
    }

    /// The codes, as [`round`](Self::round) gives them.
    pub fn codes(&self, gain: f32) -> Codes {
        let grid = |g: &LatentGrid| Grid {
            rect: Rect::whole(g.width, g.y.len() / g.width),
            channels: 1,
            codes: g.y.iter().map(|y| (gain * y).round_ties_even() as i16).collect(),
        };
        self.grids.iter().map(grid).collect()
    }

    /// Multiplies all latents by `factor` and sets the optimiser's moments to zero.
    pub fn shrink(&mut self, factor: f32) {
        for g in &mut self.grids {
            g.y.iter_mut().for_each(|y| *y *= factor);
            g.m.fill(0.0);
            g.v.fill(0.0);
        }
    }

    /// Computes the codes `q` of training by soft rounding with noise of deviation `sigma`, see [`kernels::fast::quantise`].
    /// The noise depends on `seed`, `step` and the position. Keeps `dq / d(gain y)` for the gradients.
    pub fn quantise(
        &mut self,
        level: Level,
        q: &mut [PaddedGrid],
        temperature: f32,
        sigma: f32,
        gain: f32,
        seed: u64,
        step: u64,
    ) {
        self.grids.par_iter_mut().zip(q).enumerate().for_each(|(n, (g, q))| {
            // Coding order begins with the coarsest scale: a grid keeps its number when finer grids are added.
            let p = Quantise { gain, temperature, sigma, key: Quantise::key(seed, step, n) };
            let (width, len, stride) = (g.width, g.strip_len(), q.stride);
            let strips = g.y.par_chunks(len).zip(g.dqdy.par_chunks_mut(len));
            let rows = q.rows_mut().par_chunks_mut(len / width * stride);
            strips.zip(rows).enumerate().for_each(|(i, ((y, dqdy), q))| {
                let rows = y.chunks_exact(width).zip(dqdy.chunks_exact_mut(width)).zip(q.chunks_exact_mut(stride));
                for (r, ((y, dqdy), q)) in rows.enumerate() {
                    quantise(level, &p, (i * len + r * width) as u32, y, &mut q[PAD..PAD + width], dqdy);
                }
            });
        });
    }

    /// Computes the codes of the file, `q = round(gain y)`, halves to even.
    pub fn round(&self, level: Level, q: &mut [PaddedGrid], gain: f32) {
        self.grids.par_iter().zip(q).for_each(|(g, q)| {
            let (width, stride) = (g.width, q.stride);
            let rows = q.rows_mut().chunks_exact_mut(stride);
            for (y, q) in g.y.chunks_exact(width).zip(rows) {
                round_to(level, gain, y, &mut q[PAD..PAD + width]);
            }
        });
    }

    /// Stores the gradient of the bits, given that by the codes of the last [`quantise`](Self::quantise), for this step and
    /// those after it.
    pub fn store_rate_gradient(&mut self, dq: &[PaddedGrid]) {
        self.grids.par_iter_mut().zip(dq).for_each(|(g, dq)| {
            let (width, len) = (g.width, g.strip_len());
            let strips = g.rate_gradient.par_chunks_mut(len).zip(g.dqdy.par_chunks(len)).enumerate();
            strips.for_each(|(i, (stored, dqdy))| {
                for (r, (stored, dqdy)) in stored.chunks_exact_mut(width).zip(dqdy.chunks_exact(width)).enumerate() {
                    let dq = dq.row(i * (len / width) + r);
                    stored.iter_mut().zip(dqdy).zip(dq).for_each(|((s, k), d)| *s = k * d);
                }
            });
        });
    }

    /// Makes one Adam step of all latents. `dq` has the gradient of the distortion by the codes of the last
    /// [`quantise`](Self::quantise); the stored gradient of the bits is added to it. `step.step` counts from 1.
    pub fn adam_step(&mut self, level: Level, dq: &[PaddedGrid], gain: f32, step: &AdamStep) {
        self.grids.par_iter_mut().zip(dq).for_each(|(g, dq)| {
            let (width, len) = (g.width, g.strip_len());
            let state = g.y.par_chunks_mut(len).zip(g.m.par_chunks_mut(len)).zip(g.v.par_chunks_mut(len));
            let slopes = g.dqdy.par_chunks(len).zip(g.rate_gradient.par_chunks(len));
            state.zip(slopes).enumerate().for_each(|(i, (((y, m), v), (dqdy, rate)))| {
                for (r, at) in (0..y.len()).step_by(width).enumerate() {
                    let row = at..at + width;
                    let dq = dq.row(i * (len / width) + r);
                    let (y, m, v) = (&mut y[row.clone()], &mut m[row.clone()], &mut v[row.clone()]);
                    adam(level, step, gain, dq, &dqdy[row.clone()], &rate[row], y, m, v);
                }
            });
        });
    }
}

/// Adds the gradient of a penalty on codes that are not integers: it is 0 at integers and `height` bits halfway between them,
/// see [`kernels::fast::whole`].
pub fn add_integer_penalty(level: Level, height: f32, q: &[PaddedGrid], dq: &mut [PaddedGrid]) {
    q.par_iter().zip(dq).for_each(|(q, dq)| {
        let strips = q.rows().par_chunks(STRIP).zip(dq.rows_mut().par_chunks_mut(STRIP));
        strips.for_each(|(q, dq)| add_part_slope(level, height, q, dq));
    });
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn steps_do_not_depend_on_threads() {
        let spec = PyramidSpec::preset(3, 1000, 6, 2, 8);
        let run = |threads: usize| {
            let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build().unwrap();
            pool.install(|| {
                let level = Level::best();
                let mut latents = Latents::new(&spec, 203, 151, 0);
                let mut q: Vec<PaddedGrid> =
                    grid_sizes(&spec, 203, 151, 0).iter().map(|(w, h)| PaddedGrid::new(*w, *h)).collect();
                for step in 1..4 {
                    latents.quantise(level, &mut q, 0.3, 0.2, 16.0, 9, step);
                    let adam = AdamStep { lr: 0.01, beta1: 0.9, beta2: 0.999, eps: 1e-8, step: step as u32 };
                    let dq: Vec<PaddedGrid> = q.clone();
                    latents.adam_step(level, &dq, 16.0, &adam);
                }
                latents.round(level, &mut q, 16.0);
                let y = latents.grids.into_iter().flat_map(|g| g.y);
                y.chain(q.into_iter().flat_map(|q| q.data)).map(f32::to_bits).collect::<Vec<_>>()
            })
        };
        let one = run(1);
        assert_eq!(one, run(2));
        assert_eq!(one, run(3));
        assert!(one.iter().any(|v| *v != 0));
    }
}
