//! The rate in training: bits of all grids by the context network and the feature layers in floats, with gradients.

use super::features::FeatureLayer;
use super::latents::grid_sizes;
use super::padded_grid::PaddedGrid;
use super::scratch_pool::ScratchPool;
use crate::models::pyramid::spec::{Module, PyramidSpec, NEIGHBOURS};
use kernels::fast::context::{
    context, feature_stride, ContextBand, ContextGradients, ContextNet, ContextScratch, PAD, SLACK,
};
use kernels::fast::features::{narrow, widen};
use kernels::Level;
use rayon::prelude::*;
use std::ops::Range;

/// About how many codes a strip has at least: some ten to a hundred microseconds of work, so that starting a thread for it pays.
/// Any value of this order works.
const STRIP_CODES: usize = 2048;

/// Least rows of a strip: even, and at least `PAD`, so that the gradients that it adds above itself, which its contexts
/// reach, belong to the strip before.
const MIN_STRIP_ROWS: usize = 16;

/// Values of the features of one code: at most 16 features, [`feature_stride`] of a row of one code each.
const FEATURES_OF_ONE: usize = 16 * 16;

/// The rate of the grids of pictures of one size. A call allocates nothing once each thread has run one.
pub struct RateModel {
    spec: PyramidSpec,
    /// See [`sizes`](Self::sizes).
    sizes: Vec<(usize, usize)>,
    strips: Vec<RateStrip>,
    /// For each grid its feature layer.
    features: Vec<Option<FeatureLayer>>,
    /// The context network with the weights of the last call.
    net: Option<(Level, ContextNet)>,
    /// Where the weights of the context network are in the flat list of all.
    context_weights: Range<usize>,
    /// Bits of each grid at the last call.
    bits: Vec<f64>,
    /// Gradients by the features of all strips, one strip after the other.
    dfeatures: Vec<f32>,
    scratch: ScratchPool<StripScratch>,
}

/// A strip of one grid: rows, and their part of the rate and of its gradients.
struct RateStrip {
    grid: usize,
    rows: Range<usize>,
    bits: f64,
    /// Gradient by the codes of rows `rows.start - PAD .. rows.end`, padded.
    dq: Vec<f32>,
    /// Gradient by the weights of the context network.
    dweights: Vec<f32>,
    /// Number of values of its features, at their own resolution.
    features_len: usize,
}

/// Working memory of a thread for one strip.
#[derive(Default)]
struct StripScratch {
    context: ContextScratch,
    /// The features at the resolution of the grid: each value twice.
    features: Vec<f32>,
    /// The gradient by them.
    dfeatures: Vec<f32>,
}

impl RateModel {
    /// For pictures of `width` x `height`, of which the grids of scales from `finest` on are present.
    pub fn new(spec: &PyramidSpec, width: usize, height: usize, finest: u32) -> Self {
        let sizes = grid_sizes(spec, width, height, finest);
        let context = spec.tensors().iter().filter(|t| t.module == Module::Context).map(|t| t.range.len()).sum();
        let order = spec.coding_order();
        let features: Vec<_> =
            (0..sizes.len()).map(|g| FeatureLayer::new(spec, order[g].scale, width, height)).collect();
        let mut strips = Vec::new();
        // The large grids first, so that small strips remain to keep all threads busy at the end.
        for (grid, &(w, h)) in sizes.iter().enumerate().rev() {
            let rows = STRIP_CODES.div_ceil(w).max(MIN_STRIP_ROWS).next_multiple_of(2);
            let features_row = features[grid].is_some() as usize * spec.features * feature_stride(w) / 2;
            for start in (0..h).step_by(rows) {
                let rows = start..h.min(start + rows);
                strips.push(RateStrip {
                    grid,
                    bits: 0.0,
                    dq: vec![0.0; (rows.len() + PAD) * (w + 2 * PAD) + SLACK],
                    dweights: vec![0.0; context],
                    features_len: rows.len().div_ceil(2) * features_row,
                    rows,
                });
            }
        }
        RateModel {
            spec: spec.clone(),
            bits: vec![0.0; sizes.len()],
            sizes,
            dfeatures: vec![0.0; strips.iter().map(|s| s.features_len).sum()],
            strips,
            features,
            net: None,
            context_weights: 0..context,
            scratch: ScratchPool::new(),
        }
    }

    /// Width and height of the grids that are present, in coding order.
    pub fn sizes(&self) -> &[(usize, usize)] {
        &self.sizes
    }

    /// Bits of each grid at the last call.
    pub fn grid_bits(&self) -> &[f64] {
        &self.bits
    }

    /// Bits of the grids `q`, in coding order. `weights` are all weights of the model, flat.
    pub fn forward(&mut self, level: Level, weights: &[f32], q: &[PaddedGrid]) -> f64 {
        self.run(level, weights, q, None, None)
    }

    /// As [`forward`](Self::forward); adds the gradients by the codes to `dq` and, if they are wanted, those by the weights to
    /// `dweights`, flat.
    pub fn forward_backward(
        &mut self,
        level: Level,
        weights: &[f32],
        q: &[PaddedGrid],
        dq: &mut [PaddedGrid],
        dweights: Option<&mut [f32]>,
    ) -> f64 {
        self.run(level, weights, q, Some(dq), dweights)
    }

    /// Adds the gradient of the bits of one code, at `(y, x)` of a grid, by the weights to `dweights`, flat. The weights and `q`
    /// are those of the last call of another method.
    pub fn gradient_at(
        &self,
        q: &[PaddedGrid],
        grid: usize,
        (y, x): (usize, usize),
        dweights: &mut [f32],
        scratch: &mut ContextScratch,
    ) {
        let (level, net) = self.net.as_ref().expect("a call before this one");
        // The code and its neighbours as a grid of one code, of which the neighbours are the padding.
        const SIDE: usize = 2 * PAD + 1;
        let mut neighbourhood = [0f32; SIDE * (PAD + 1) + SLACK];
        for (r, row) in neighbourhood[..SIDE * (PAD + 1)].chunks_exact_mut(SIDE).enumerate() {
            row.copy_from_slice(&q[grid].data[(y + r) * q[grid].stride + x..][..SIDE]);
        }
        let layer = self.features[grid].as_ref();
        let stride = feature_stride(1);
        let (mut features, mut dfeatures) = ([0f32; FEATURES_OF_ONE], [0f32; FEATURES_OF_ONE]);
        for (n, v) in layer.iter().flat_map(|l| l.at(y, x)).enumerate() {
            features[n * stride] = v;
        }
        let (q_one, features) = (&neighbourhood, layer.map(|_| &features[..]));
        let one = ContextBand { net, neighbours: &NEIGHBOURS, q: q_one, stride: SIDE, width: 1, rows: 0..1, features };
        let mut gradients = ContextGradients {
            dq: &mut [0f32; SIDE * (PAD + 1) + SLACK],
            dfeatures: layer.map(|_| &mut dfeatures[..]),
            dweights: Some(&mut dweights[self.context_weights.clone()]),
        };
        context(*level, &one, Some(&mut gradients), scratch);
        if let Some(layer) = layer {
            layer.gradient_at(q, y, x, dfeatures.iter().step_by(stride).copied(), dweights);
        }
    }

    /// Bits, and the gradients that are wanted.
    fn run(
        &mut self,
        level: Level,
        weights: &[f32],
        q: &[PaddedGrid],
        dq: Option<&mut [PaddedGrid]>,
        mut dweights: Option<&mut [f32]>,
    ) -> f64 {
        assert_eq!(q.len(), self.sizes.len());
        let net = match &mut self.net {
            Some((at, net)) if *at == level => net,
            net => &mut net.insert((level, ContextNet::new(level, self.spec.spatial, self.spec.features))).1,
        };
        net.set(&weights[self.context_weights.clone()]);
        let net = &*net;
        for layer in self.features.iter_mut().flatten() {
            layer.forward(level, weights, q);
        }

        let (layers, pool, with_gradients) = (&self.features, &self.scratch, dq.is_some());
        let with_weights = dweights.is_some();
        let run = |strip: &mut RateStrip, dfeatures: &mut [f32], scratch: &mut StripScratch| {
            let grid = &q[strip.grid];
            let layer = layers[strip.grid].as_ref();
            if let Some(layer) = layer {
                scratch.features.resize(2 * dfeatures.len(), 0.0);
                widen(level, layer.rows(strip.rows.clone()), &mut scratch.features);
            }
            let features = layer.map(|_| &scratch.features[..]);
            let job = ContextBand {
                net,
                neighbours: &NEIGHBOURS,
                q: &grid.data,
                stride: grid.stride,
                width: grid.width,
                rows: strip.rows.clone(),
                features,
            };
            let mut g = with_gradients.then(|| {
                strip.dq.fill(0.0);
                strip.dweights.fill(0.0);
                scratch.dfeatures.clear();
                scratch.dfeatures.resize(2 * dfeatures.len(), 0.0);
                ContextGradients {
                    dq: &mut strip.dq,
                    dfeatures: features.map(|_| &mut scratch.dfeatures[..]),
                    dweights: with_weights.then_some(&mut strip.dweights[..]),
                }
            });
            strip.bits = context(level, &job, g.as_mut(), &mut scratch.context);
            if with_gradients {
                narrow(level, &mut scratch.dfeatures);
                dfeatures.copy_from_slice(&scratch.dfeatures[..dfeatures.len()]);
            }
        };
        for_each_strip(&mut self.strips, &mut self.dfeatures, &|strip, dfeatures| {
            pool.lend(StripScratch::default, |scratch| run(strip, dfeatures, scratch));
        });

        self.bits.fill(0.0);
        for strip in &self.strips {
            self.bits[strip.grid] += strip.bits;
            if let Some(dw) = dweights.as_deref_mut() {
                dw[self.context_weights.clone()].iter_mut().zip(&strip.dweights).for_each(|(d, s)| *d += s);
            }
        }
        if let Some(dq) = dq {
            let strips = &self.strips;
            dq.par_iter_mut().enumerate().for_each(|(grid, dq)| add_strip_gradients(strips, grid, dq));
            let mut remaining = &self.dfeatures[..];
            for layer in self.features.iter_mut().flatten() {
                // Strips have the grids in the opposite order.
                let (others, dfeatures) = remaining.split_at(remaining.len() - layer.len());
                layer.backward(level, weights, q, dfeatures, dq, dweights.as_deref_mut());
                remaining = others;
            }
        }
        self.bits.iter().sum()
    }
}

/// Runs `f` on each strip and its part of `dfeatures`, in parallel.
fn for_each_strip(strips: &mut [RateStrip], dfeatures: &mut [f32], f: &(impl Fn(&mut RateStrip, &mut [f32]) + Sync)) {
    match strips {
        [] => {}
        [strip] => f(strip, dfeatures),
        _ => {
            let (first, second) = strips.split_at_mut(strips.len() / 2);
            let (before, after) = dfeatures.split_at_mut(first.iter().map(|s| s.features_len).sum());
            rayon::join(|| for_each_strip(first, before, f), || for_each_strip(second, after, f));
        }
    }
}

/// Adds the gradients of the strips of one grid, each by its own rows and by the rows above, to `dq`.
fn add_strip_gradients(strips: &[RateStrip], grid: usize, dq: &mut PaddedGrid) {
    let (width, stride) = (dq.width, dq.stride);
    let first = strips.iter().position(|s| s.grid == grid).expect("each grid has a strip");
    let strips = &strips[first..][..strips[first..].iter().take_while(|s| s.grid == grid).count()];
    let chunk = strips[0].rows.len() * stride;
    dq.rows_mut().par_chunks_mut(chunk).enumerate().for_each(|(i, rows)| {
        let add = |to: &mut [f32], from: &[f32]| {
            to[PAD..PAD + width].iter_mut().zip(&from[PAD..]).for_each(|(t, f)| *t += f);
        };
        for (to, from) in rows.chunks_exact_mut(stride).zip(strips[i].dq[PAD * stride..].chunks_exact(stride)) {
            add(to, from);
        }
        if let Some(next) = strips.get(i + 1) {
            let end = rows.len() - PAD * stride;
            for (to, from) in rows[end..].chunks_exact_mut(stride).zip(next.dq.chunks_exact(stride)) {
                add(to, from);
            }
        }
    });
}

#[cfg(test)]
#[path = "rate_tests.rs"]
mod tests;
