//! The latents, their optimiser state, and their passage to codes.

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

/// Latents per parallel piece.
const PIECE: usize = 8192;

/// One grid's latents `y` (codes are near `gain * y`), Adam moments, `dq / d(gain y)` of the last
/// quantisation, and the gradient of the bits by `gain y` when they were last looked at; `[height][width]`.
#[derive(Clone, Debug, Default)]
pub struct LatentGrid {
    pub scale: u32,
    pub width: usize,
    pub y: Vec<f32>,
    pub m: Vec<f32>,
    pub v: Vec<f32>,
    pub dqdy: Vec<f32>,
    pub bits: Vec<f32>,
}

/// All grids in coding order, those of scales below `finest` absent.
#[derive(Clone, Debug, Default)]
pub struct Latents {
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
        LatentGrid { scale, width, y: zero.clone(), m: zero.clone(), v: zero.clone(), dqdy: zero.clone(), bits: zero }
    }

    /// Latents in the rows of one parallel piece.
    fn piece(&self) -> usize {
        (PIECE / self.width).max(1) * self.width
    }
}

impl Latents {
    /// All zero.
    pub fn new(spec: &PyramidSpec, width: usize, height: usize, finest: u32) -> Self {
        let mut latents = Latents::default();
        latents.refine(spec, width, height, finest);
        latents
    }

    /// Adds the grids that become present when `finest` falls: zeros, with fresh moments.
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

    /// Multiplies all latents by `factor`; a new phase's optimiser.
    pub fn shrink(&mut self, factor: f32) {
        for g in &mut self.grids {
            g.y.iter_mut().for_each(|y| *y *= factor);
            g.m.fill(0.0);
            g.v.fill(0.0);
        }
    }

    /// Training codes `q` by the soft, noisy proxy of [`kernels::fast::quantise`]; the noise is that of
    /// `(seed, step)` and the latent's place. Keeps `dq/d(gain y)` for [`adam_step`](Self::adam_step).
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
            // Coding order is coarsest first: a grid keeps its number when finer grids join.
            let p = Quantise { gain, temperature, sigma, key: Quantise::key(seed, step, n) };
            let (width, piece, stride) = (g.width, g.piece(), q.stride);
            let pieces = g.y.par_chunks(piece).zip(g.dqdy.par_chunks_mut(piece));
            let rows = q.rows_mut().par_chunks_mut(piece / width * stride);
            pieces.zip(rows).enumerate().for_each(|(i, ((y, dqdy), q))| {
                let rows = y.chunks_exact(width).zip(dqdy.chunks_exact_mut(width)).zip(q.chunks_exact_mut(stride));
                for (r, ((y, dqdy), q)) in rows.enumerate() {
                    quantise(level, &p, (i * piece + r * width) as u32, y, &mut q[PAD..PAD + width], dqdy);
                }
            });
        });
    }

    /// Codes by plain rounding, `q = round(gain y)`, halves to even.
    pub fn round(&self, level: Level, q: &mut [PaddedGrid], gain: f32) {
        self.grids.par_iter().zip(q).for_each(|(g, q)| {
            let (width, stride) = (g.width, q.stride);
            let rows = q.rows_mut().chunks_exact_mut(stride);
            for (y, q) in g.y.chunks_exact(width).zip(rows) {
                round_to(level, gain, y, &mut q[PAD..PAD + width]);
            }
        });
    }

    /// Keeps the gradients of the bits by the codes of the last [`quantise`](Self::quantise) for this Adam step
    /// and those to come.
    pub fn keep_bits(&mut self, dq: &[PaddedGrid]) {
        self.grids.par_iter_mut().zip(dq).for_each(|(g, dq)| {
            let (width, piece) = (g.width, g.piece());
            let pieces = g.bits.par_chunks_mut(piece).zip(g.dqdy.par_chunks(piece)).enumerate();
            pieces.for_each(|(i, (bits, dqdy))| {
                for (r, (bits, dqdy)) in bits.chunks_exact_mut(width).zip(dqdy.chunks_exact(width)).enumerate() {
                    let dq = dq.row(i * (piece / width) + r);
                    bits.iter_mut().zip(dqdy).zip(dq).for_each(|((b, k), d)| *b = k * d);
                }
            });
        });
    }

    /// One Adam step of all latents, given the gradients of the distortion by the codes of the last
    /// [`quantise`](Self::quantise). `adam.step` counts from 1.
    pub fn adam_step(&mut self, level: Level, dq: &[PaddedGrid], gain: f32, step: &AdamStep) {
        self.grids.par_iter_mut().zip(dq).for_each(|(g, dq)| {
            let (width, piece) = (g.width, g.piece());
            let state = g.y.par_chunks_mut(piece).zip(g.m.par_chunks_mut(piece)).zip(g.v.par_chunks_mut(piece));
            let slopes = g.dqdy.par_chunks(piece).zip(g.bits.par_chunks(piece));
            state.zip(slopes).enumerate().for_each(|(i, (((y, m), v), (dqdy, bits)))| {
                for (r, at) in (0..y.len()).step_by(width).enumerate() {
                    let row = at..at + width;
                    let dq = dq.row(i * (piece / width) + r);
                    let (y, m, v) = (&mut y[row.clone()], &mut m[row.clone()], &mut v[row.clone()]);
                    adam(level, step, gain, dq, &dqdy[row.clone()], &bits[row], y, m, v);
                }
            });
        });
    }
}

/// Adds to `dq` the gradient of `height` bits for each code of `q` halfway between two integers, see [`kernels::fast::whole`].
pub fn draw_to_whole(level: Level, height: f32, q: &[PaddedGrid], dq: &mut [PaddedGrid]) {
    q.par_iter().zip(dq).for_each(|(q, dq)| {
        let pieces = q.rows().par_chunks(PIECE).zip(dq.rows_mut().par_chunks_mut(PIECE));
        pieces.for_each(|(q, dq)| add_part_slope(level, height, q, dq));
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
