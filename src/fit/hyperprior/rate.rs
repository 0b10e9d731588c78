//! What the codes of family `hyperprior` cost: see [`Rate`].
//!
//! Parameters, in order: the weights of locations and scales, as the file has them; the hyper-analysis, a linear map of the
//! mean logarithm of errors in each cell to its hyper-codes; the densities of the hyper-codes (Balle et al. 2018). The last
//! two are not in the file, whose tables are made of the densities.

use super::block::{Block, Slope};
use crate::entropy::bottleneck;
use crate::fit::checkpoint::{read_floats, write_floats};
use crate::fit::rng::Rng;
use crate::fit::transform::patch::Patch;
use crate::fit::transform::rate::{Moving, Noisy, Rate};
use crate::image::Rect;
use crate::models::hyperprior::{HyperModel, HyperSpec, Tables, CELL, FAR, NEAR, SCALE_HYPER};
use crate::models::transform::weights::{count, Quantised, TensorSpec};
use crate::models::transform::{Stored, TransformSpec};
use crate::models::{Codes, Encode, Grid};
use crate::tensor::Shape;
use kernels::Level;
use rayon::prelude::*;
use std::ops::Range;

/// Quantisation steps of the weights are `2^-EXPONENTS`: of locations, of scales.
const EXPONENTS: [u32; 2] = [7, 6];
/// Codes around a patch whose errors, or whose neighbours' errors, its codes depend on.
const MARGIN: usize = 4;
/// Least probability of a code: in the first stage far below that of the coder, so that values always come back; in the
/// second that of the smallest interval.
const LEAST: [f32; 2] = [1e-9, 1.0 / 65536.0];
/// Side of the blocks in which all codes are looked at, in codes.
const SIDE: usize = 32;
/// What hyper-codes spread over about, at first.
const SPREAD: f32 = 2.0;

/// The start of a leading channel's locations: what a plane through the nearest neighbours predicts.
const PLANE: [f32; 4] = [0.5, 0.5, -0.25, 0.25];
/// The start of scales: a constant, and weights of the logarithms of near and far errors. Close to what fits end with.
const SCALES: [f32; 3] = [0.6, 0.3, 0.1];
/// The start of the hyper-codes' weights in scales.
const HYPER: f32 = 0.1;

/// The rate of a model.
#[derive(Debug)]
pub struct HyperRate {
    spec: HyperSpec,
    tensors: Vec<TensorSpec>,
    /// Weights of locations and scales.
    weights: Vec<f32>,
    /// `[hyper][channels + 1]`, the constant last.
    analysis: Vec<f32>,
    /// What the densities make of their parameters.
    prepared: Vec<f32>,
}

/// Working memory of a thread.
#[derive(Debug, Default)]
pub struct Work {
    block: Block,
    activity: Vec<f32>,
    /// Hyper-codes of a patch and their gradient, `[hyper][cells]`.
    z: Vec<f32>,
    dz: Vec<f32>,
    d_weights: Vec<f32>,
}

/// The hyper-codes of a picture as they move.
#[derive(Debug)]
pub struct Field {
    /// Before rounding, `[hyper][rows][columns]`.
    z: Vec<f32>,
    m: Vec<f32>,
    v: Vec<f32>,
    shape: Shape,
}

impl HyperRate {
    pub fn new(spec: HyperSpec) -> Self {
        let (n, k) = (spec.n(), spec.hyper);
        let tensors = spec.tensors();
        HyperRate {
            weights: vec![0.0; count(&tensors)],
            analysis: vec![0.0; k * (n + 1)],
            prepared: vec![0.0; k * bottleneck::PARAMETERS],
            tensors,
            spec,
        }
    }

    /// Where weights, analysis and densities are among the parameters.
    fn parts(&self) -> [Range<usize>; 3] {
        let ends = [self.weights.len(), self.weights.len() + self.analysis.len()];
        [0..ends[0], ends[0]..ends[1], ends[1]..ends[1] + self.prepared.len()]
    }

    /// The hyper-codes of a patch from the activity of its cells.
    fn analyse(&self, activity: &[f32], z: &mut Vec<f32>) {
        let cells = activity.len() / self.spec.n();
        z.clear();
        for a in self.analysis.chunks_exact(self.spec.n() + 1) {
            let from = z.len();
            z.resize(from + cells, a[self.spec.n()]);
            for (a, t) in a.iter().zip(activity.chunks_exact(cells)) {
                z[from..].iter_mut().zip(t).for_each(|(z, t)| *z += a * t);
            }
        }
    }

    /// Bits of hyper-codes by their densities; `dz = ` and `d += ` gradients.
    fn hyper_bits(&self, z: &[f32], dz: &mut Vec<f32>, d: &mut [f32]) -> f64 {
        dz.clear();
        dz.resize(z.len(), 0.0);
        let cells = z.len() / self.spec.hyper;
        let channels = z.chunks_exact(cells).zip(dz.chunks_exact_mut(cells));
        let densities = self.prepared.chunks_exact(bottleneck::PARAMETERS);
        let d = d.chunks_exact_mut(bottleneck::PARAMETERS);
        channels.zip(densities).zip(d).map(|(((z, dz), p), d)| bottleneck::bits(Level::best(), p, z, dz, d)).sum()
    }

    /// Fills the block with the codes around `core`; returns the core's place in it.
    fn fill(&self, block: &mut Block, x: &Moving, core: Rect) -> Rect {
        let (w, h) = (x.shape.width, x.shape.height);
        let all = core.grown(MARGIN, w, h);
        block.begin(self.spec.n(), all);
        for c in 0..self.spec.n() {
            for (i, y) in (all.y0..all.y1).enumerate() {
                let (from, to) = ((c * h + y) * w + all.x0, (c * all.height() + i) * all.width());
                let to = to..to + all.width();
                let codes = &x.codes[from..from + all.width()];
                block.codes[to.clone()].iter_mut().zip(codes).for_each(|(to, &q)| *to = f32::from(q));
                block.values[to].copy_from_slice(&x.values[from..from + all.width()]);
            }
        }
        block.locate(&self.spec, &self.weights);
        Rect::new(core.x0 - all.x0, core.y0 - all.y0, core.x1 - all.x0, core.y1 - all.y0)
    }

    /// Fills the block with the rounded hyper-codes that `core` depends on.
    fn fill_hyper(&self, block: &mut Block, field: &Field, x: &Moving, core: Rect) {
        let all = core.grown(MARGIN, x.shape.width, x.shape.height);
        let (rows, columns) = (field.shape.height, field.shape.width);
        block.cells.set(all, (0, 0), (rows, columns));
        let window = block.cells.window();
        block.z.clear();
        for (k, y) in (0..self.spec.hyper).flat_map(|k| (window.y0..window.y1).map(move |y| (k, y))) {
            let from = (k * rows + y) * columns;
            block.z.extend(field.z[from + window.x0..from + window.x1].iter().map(|z| z.round()));
        }
    }
}

/// The cells of a core, in rows and columns of hyper-codes.
fn cells_of(core: &Rect) -> Rect {
    Rect::new(core.x0 / CELL, core.y0 / CELL, core.x1.div_ceil(CELL), core.y1.div_ceil(CELL))
}

/// All blocks of a picture.
fn blocks(shape: &Shape) -> Vec<Rect> {
    let (nx, ny) = (shape.width.div_ceil(SIDE), shape.height.div_ceil(SIDE));
    let block = |k: usize| {
        let (x, y) = (k % nx * SIDE, k / nx * SIDE);
        Rect::new(x, y, (x + SIDE).min(shape.width), (y + SIDE).min(shape.height))
    };
    (0..nx * ny).map(block).collect()
}

impl Rate for HyperRate {
    type Field = Field;
    type Work = Work;

    const SPEED: f32 = 5.0;
    const CODED: f64 = 1.0;
    const ALIGN: usize = CELL;
    const SORTS: bool = false;

    fn parameters(&self, rng: &mut Rng) -> Vec<f32> {
        let (n, k) = (self.spec.n(), self.spec.hyper);
        let [weights, analysis, densities] = self.parts();
        let mut parameters = vec![0.0; densities.end];
        let (means, scales) = (self.spec.mean_columns().end, self.spec.scale_columns().end);
        for c in 0..n {
            if c < self.spec.leading() {
                parameters[c * means + 1..][..PLANE.len()].copy_from_slice(&PLANE);
            }
            let scale = &mut parameters[n * means + c * scales..][..scales];
            (scale[0], scale[NEAR], scale[FAR]) = (SCALES[0], SCALES[1], SCALES[2]);
            scale[SCALE_HYPER..SCALE_HYPER + k].fill(HYPER);
        }
        debug_assert_eq!(weights.len(), n * (means + scales));
        for (i, a) in parameters[analysis].chunks_exact_mut(n + 1).enumerate() {
            // The first is the mean of all channels; others begin anywhere.
            a[..n].iter_mut().for_each(|a| *a = if i == 0 { 1.0 } else { 2.0 * rng.unit() - 1.0 } * 4.0 / n as f32);
        }
        bottleneck::start(k, SPREAD, || rng.unit(), &mut parameters[densities]);
        parameters
    }

    fn prepare(&mut self, parameters: &[f32], second: bool) {
        let [weights, analysis, densities] = self.parts();
        self.weights.copy_from_slice(&parameters[weights]);
        if second {
            for (t, e) in self.tensors.iter().zip(EXPONENTS) {
                Quantised::round(t, e, &mut self.weights);
            }
        }
        self.analysis.copy_from_slice(&parameters[analysis]);
        bottleneck::prepare(&parameters[densities], &mut self.prepared);
    }

    fn unprepare(&self, parameters: &[f32], d: &mut [f32]) {
        let densities = self.parts()[2].clone();
        bottleneck::unprepare(&parameters[densities.clone()], &mut d[densities]);
    }

    fn noisy(&self, work: &mut Work, x: &Noisy, d: &mut [f32], d_parameters: &mut [f32], rng: &mut Rng) -> f64 {
        let Work { block, activity, z, dz, d_weights } = work;
        let (core, all) = (x.patch.core, x.patch.all);
        let inner = x.patch.inner(0);
        block.begin(self.spec.n(), all);
        block.codes.iter_mut().zip(x.clean).for_each(|(q, y)| *q = y.round());
        block.values.copy_from_slice(x.noisy);
        block.locate(&self.spec, &self.weights);
        block.activity(self.spec.n(), (inner.y0, inner.x0), core, activity);
        self.analyse(activity, z);
        z.iter_mut().for_each(|z| *z += rng.unit() - 0.5);
        let [weights, analysis, densities] = self.parts();
        let mut bits = self.hyper_bits(z, dz, &mut d_parameters[densities]);
        // Hyper-codes of the patch alone: beyond its edge they repeat.
        let cells = cells_of(&core);
        block.cells.set(all, (core.y0, core.x0), (cells.height(), cells.width()));
        block.z.clear();
        block.z.extend_from_slice(z);
        d_weights.clear();
        d_weights.resize(weights.len(), 0.0);
        bits += block.bits(&self.spec, &self.weights, inner, Slope::Derivative, LEAST[0], d_weights);
        d_parameters[weights].iter_mut().zip(&*d_weights).for_each(|(d, w)| *d += w);
        dz.iter_mut().zip(&block.dz).for_each(|(d, b)| *d += b);
        let cells = cells.area();
        for (dz, d) in dz.chunks_exact(cells).zip(d_parameters[analysis].chunks_exact_mut(self.spec.n() + 1)) {
            for (t, d) in activity.chunks_exact(cells).zip(&mut d[..]) {
                *d += dz.iter().zip(t).map(|(dz, t)| dz * t).sum::<f32>();
            }
            d[self.spec.n()] += dz.iter().sum::<f32>();
        }
        d_parameters.iter_mut().for_each(|d| *d *= x.gain);
        let of_block = block.d_codes.iter().zip(&block.d_values);
        d.iter_mut().zip(of_block).for_each(|(d, (a, b))| *d += x.gain * (a + b));
        bits
    }

    fn field(&self, x: &Moving) -> Field {
        let (rows, columns) = (x.shape.height.div_ceil(CELL), x.shape.width.div_ceil(CELL));
        let shape = Shape::new(self.spec.hyper, rows, columns);
        let zeros = || vec![0.0; shape.len()];
        let mut field = Field { z: zeros(), m: zeros(), v: zeros(), shape };
        let blocks = blocks(&x.shape);
        let analysed: Vec<Vec<f32>> = blocks
            .par_iter()
            .map_init(Work::default, |work, core| {
                let inner = self.fill(&mut work.block, x, *core);
                work.block.activity(self.spec.n(), (inner.y0, inner.x0), *core, &mut work.activity);
                self.analyse(&work.activity, &mut work.z);
                work.z.clone()
            })
            .collect();
        for (core, z) in blocks.iter().zip(analysed) {
            let cells = cells_of(core);
            for (k, z) in z.chunks_exact(cells.area()).enumerate() {
                for (y, row) in z.chunks_exact(cells.width()).enumerate() {
                    let to = (k * rows + cells.y0 + y) * columns + cells.x0;
                    field.z[to..to + row.len()].copy_from_slice(row);
                }
            }
        }
        field
    }

    fn refresh(&self, _: &mut Field, _: &Moving) {}

    fn moving(
        &self,
        work: &mut Work,
        field: &Field,
        x: &Moving,
        patch: &Patch,
        d: &mut Vec<f32>,
        d_parameters: &mut [f32],
    ) -> f64 {
        let inner = self.fill(&mut work.block, x, patch.core);
        self.fill_hyper(&mut work.block, field, x, patch.core);
        let Work { block, z, dz, d_weights, .. } = work;
        let [weights, _, densities] = self.parts();
        d_weights.clear();
        d_weights.resize(weights.len(), 0.0);
        let mut bits = block.bits(&self.spec, &self.weights, inner, Slope::Steps, LEAST[1], d_weights);
        d_parameters[weights].iter_mut().zip(&*d_weights).for_each(|(d, w)| *d += w);
        // The hyper-codes of the core.
        let (cells, window) = (cells_of(&patch.core), block.cells.window());
        z.clear();
        for (k, y) in (0..self.spec.hyper).flat_map(|k| (cells.y0..cells.y1).map(move |y| (k, y))) {
            let from = (k * window.height() + y - window.y0) * window.width();
            z.extend_from_slice(&block.z[from + cells.x0 - window.x0..from + cells.x1 - window.x0]);
        }
        bits += self.hyper_bits(z, dz, &mut d_parameters[densities]);
        let mut to = dz.chunks_exact_mut(cells.width());
        for (k, y) in (0..self.spec.hyper).flat_map(|k| (cells.y0..cells.y1).map(move |y| (k, y))) {
            let from = (k * window.height() + y - window.y0) * window.width();
            let of_block = &block.dz[from + cells.x0 - window.x0..from + cells.x1 - window.x0];
            to.next().into_iter().flatten().zip(of_block).for_each(|(d, b)| *d += b);
        }
        d.clear();
        let width = patch.core.grown(MARGIN, x.shape.width, x.shape.height).width();
        let height = block.codes.len() / self.spec.n() / width;
        for (c, y) in (0..self.spec.n()).flat_map(|c| (inner.y0..inner.y1).map(move |y| (c, y))) {
            let from = (c * height + y) * width;
            let row = from + inner.x0..from + inner.x1;
            d.extend(block.d_codes[row.clone()].iter().zip(&block.d_values[row]).map(|(a, b)| a + b));
        }
        d.extend_from_slice(dz);
        bits
    }

    fn advance(&self, field: &mut Field, _: usize, patch: &Patch, d: &[f32], _: f64, rate: f32, visit: i32) {
        let (rows, columns) = (field.shape.height, field.shape.width);
        let (c1, c2) = (1.0 - 0.9f32.powi(visit), 1.0 - 0.99f32.powi(visit));
        let cells = cells_of(&patch.core);
        let places = (0..self.spec.hyper).flat_map(|k| (cells.y0..cells.y1).map(move |y| (k * rows + y) * columns));
        for (from, d) in places.zip(d.chunks_exact(cells.width())) {
            for (k, g) in (from + cells.x0..).zip(d) {
                field.m[k] += 0.1 * (g - field.m[k]);
                field.v[k] += 0.01 * (g * g - field.v[k]);
                field.z[k] -= rate * (field.m[k] / c1) / ((field.v[k] / c2).sqrt() + 1e-3);
            }
        }
    }

    fn add_weights_rate(&self, parameters: &[f32], d: &mut [f32], gain: f32) {
        for (t, e) in self.tensors.iter().zip(EXPONENTS) {
            let scale = (1u32 << e) as f32;
            let values = &self.weights[t.range.clone()];
            let mean = values.iter().map(|v| v.abs()).sum::<f32>() * scale / t.range.len() as f32;
            let slope = gain * scale * (1.0 + 1.0 / mean.max(0.02)).log2();
            for row in t.range.clone().step_by(t.columns) {
                // Not the constant.
                (row + 1..row + t.columns).for_each(|i| d[i] += slope * parameters[i].signum());
            }
        }
    }

    fn weights_bits(&self, parameters: &[f32]) -> f64 {
        self.quantised(parameters).bits(&self.tensors)
    }

    fn model(&self, spec: TransformSpec, stored: Stored, parameters: &[f32]) -> Box<dyn Encode> {
        let spec = HyperSpec { transform: spec, hyper: self.spec.hyper };
        let densities = self.prepared.chunks_exact(bottleneck::PARAMETERS);
        let tables: Vec<_> = densities.map(|p| bottleneck::table(p).expect("codes near the median")).collect();
        let tables = Tables::nearest(&tables).expect("codes near the median");
        Box::new(HyperModel::new(spec, stored, self.quantised(parameters), tables))
    }

    fn codes(&self, field: &Field, grid: Grid) -> Codes {
        let mut z = Grid::new(Rect::whole(field.shape.width, field.shape.height), self.spec.hyper);
        z.codes.iter_mut().zip(&field.z).for_each(|(q, z)| *q = z.round() as i16);
        vec![z, grid]
    }

    fn save(&self, field: &Field, out: &mut Vec<u8>) {
        write_floats(out, &field.z);
    }

    fn restore(&self, field: &mut Field, state: &mut &[u8]) -> bool {
        read_floats(state, &mut field.z)
    }
}

impl HyperRate {
    fn quantised(&self, parameters: &[f32]) -> Quantised {
        Quantised::new(&self.tensors, &parameters[self.parts()[0].clone()], EXPONENTS.to_vec())
    }
}
