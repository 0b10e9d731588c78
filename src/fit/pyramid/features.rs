//! The feature layer of one grid: a pyramid of maps from the coarsest grid to half the grid's resolution.

use super::padded_grid::PaddedGrid;
use super::planes::clear;
use crate::models::pyramid::spec::{Group, PyramidSpec, TensorSpec};
use kernels::fast::context::{feature_stride, PAD};
use kernels::fast::features::{features_backward, features_forward, FeatureRow, FeatureRowGradients};
use kernels::Level;
use rayon::prelude::*;
use std::ops::Range;

/// Rows of a parallel piece (even, so that pieces own the coarser rows under them).
const ROWS: usize = 32;

/// The layer for grids of one scale, see [`kernels::fast::features`].
pub(super) struct FeatureLayer {
    maps: usize,
    inputs: usize,
    weights: Range<usize>,
    bias: Range<usize>,
    /// From the coarsest resolution to the one of the layer.
    steps: Vec<Step>,
}

/// One resolution.
struct Step {
    width: usize,
    stride: usize,
    /// Numbers of the grids of this resolution in coding order.
    grids: [Option<usize>; 2],
    /// `[height][maps][stride]`
    values: Vec<f32>,
    /// Empty for the last step, whose gradient comes from outside.
    gradient: Vec<f32>,
    /// For each piece: `[maps][inputs]`, then `[maps]`.
    dweights: Vec<f32>,
}

impl FeatureLayer {
    /// `None` where the context network sees zeros.
    pub fn new(spec: &PyramidSpec, scale: u32, width: usize, height: usize) -> Option<Self> {
        let tensors = spec.tensors();
        let find = |group| {
            let mine = |t: &&TensorSpec| t.group == group && t.index == scale as usize;
            tensors.iter().find(mine).map(|t| t.range.clone())
        };
        let (weights, bias) = (find(Group::Features)?, find(Group::FeatureBiases)?);
        let (maps, inputs) = (spec.features, spec.feature_inputs(scale));
        let order = spec.coding_order();
        let step = |at: u32| {
            let size = |n: usize, shift: u32| n.div_ceil(1 << shift);
            let (w, h) = (size(width, at), size(height, at));
            let stride = feature_stride(size(width, at - 1)) / 2;
            let mut numbers = (0..order.len()).filter(|g| order[*g].scale == at);
            let len = h * maps * stride;
            Step {
                width: w,
                stride,
                grids: [numbers.next(), numbers.next()],
                values: vec![0.0; len],
                gradient: vec![0.0; if at > scale + 1 { len } else { 0 }],
                dweights: vec![0.0; h.div_ceil(ROWS) * maps * (inputs + 1)],
            }
        };
        let steps: Vec<Step> = (scale + 1..=spec.depth).rev().map(step).collect();
        (!steps.is_empty()).then_some(FeatureLayer { maps, inputs, weights, bias, steps })
    }

    fn last(&self) -> &Step {
        self.steps.last().expect("at least one step")
    }

    /// Values of the maps.
    pub fn len(&self) -> usize {
        self.last().values.len()
    }

    /// The maps that these rows of the grid see: `[ceil(rows / 2)][maps][feature_stride / 2]`.
    pub fn rows(&self, rows: Range<usize>) -> &[f32] {
        let last = self.last();
        let row = self.maps * last.stride;
        &last.values[rows.start / 2 * row..rows.end.div_ceil(2) * row]
    }

    pub fn forward(&mut self, level: Level, weights: &[f32], q: &[PaddedGrid]) {
        let (w, bias) = (&weights[self.weights.clone()], &weights[self.bias.clone()]);
        let (maps, inputs) = (self.maps, self.inputs);
        for n in 0..self.steps.len() {
            let (coarser, rest) = self.steps.split_at_mut(n);
            let coarse = coarser.last();
            let Step { width, stride, grids, values, .. } = &mut rest[0];
            let row_len = maps * *stride;
            values.par_chunks_mut(ROWS * row_len).enumerate().for_each(|(piece, rows)| {
                for (r, out) in rows.chunks_exact_mut(row_len).enumerate() {
                    let y = piece * ROWS + r;
                    let coarse_stride = coarse.map_or(0, |c| c.stride);
                    let row = feature_row(q, w, inputs, y, *width, *stride, coarse_stride, *grids);
                    let below = coarse.map(|c| &c.values[y / 2 * maps * c.stride..][..maps * c.stride]);
                    features_forward(level, &row, below.ok_or(bias), out);
                }
            });
        }
    }

    /// The features at a latent.
    pub fn at(&self, y: usize, x: usize) -> impl Iterator<Item = f32> + '_ {
        let last = self.last();
        (0..self.maps).map(move |map| last.values[(y / 2 * self.maps + map) * last.stride + x / 2])
    }

    /// Adds the gradients of the weights, given those of the features at one latent.
    pub fn gradient_at(
        &self,
        q: &[PaddedGrid],
        y: usize,
        x: usize,
        dfeatures: impl Iterator<Item = f32>,
        dw: &mut [f32],
    ) {
        for (map, d) in dfeatures.take(self.maps).enumerate() {
            dw[self.bias.start + map] += d;
            for (n, step) in self.steps.iter().rev().enumerate() {
                let (y, x) = (y >> (n + 1), x >> (n + 1));
                for grid in step.grids.iter().flatten() {
                    let column = self.inputs - 1 - grid;
                    dw[self.weights.start + map * self.inputs + column] += d * q[*grid].row(y)[x];
                }
            }
        }
    }

    /// From the gradient `dmaps` of the maps to those of the coarser grids and of the layer's weights.
    pub fn backward(
        &mut self,
        level: Level,
        weights: &[f32],
        q: &[PaddedGrid],
        dmaps: &[f32],
        dq: &mut [PaddedGrid],
        mut dweights: Option<&mut [f32]>,
    ) {
        let w = &weights[self.weights.clone()];
        let (maps, inputs) = (self.maps, self.inputs);
        let with_weights = dweights.is_some();
        for n in (0..self.steps.len()).rev() {
            let last = n + 1 == self.steps.len();
            let (coarser, rest) = self.steps.split_at_mut(n);
            let step = &mut rest[0];
            step.dweights.fill(0.0);
            let Step { width, stride, gradient, dweights: partial, .. } = step;
            let gradient = if last { dmaps } else { &gradient[..] };
            let (width, stride, dmaps_len) = (*width, *stride, maps * *stride);
            let row = |y, coarse_stride, grids| feature_row(q, w, inputs, y, width, stride, coarse_stride, grids);
            for (slot, grid) in step.grids.iter().enumerate() {
                let Some(grid) = *grid else { continue };
                let dq_stride = dq[grid].stride;
                let pieces = dq[grid].rows_mut().par_chunks_mut(ROWS * dq_stride);
                let pieces = pieces.zip(gradient.par_chunks(ROWS * dmaps_len));
                let pieces = pieces.zip(partial.par_chunks_mut(maps * (inputs + 1)));
                pieces.enumerate().for_each(|(piece, ((dq, dmaps), partial))| {
                    let (dw, db) = partial.split_at_mut(maps * inputs);
                    let rows = dq.chunks_exact_mut(dq_stride).zip(dmaps.chunks_exact(dmaps_len));
                    for (r, (dq, dmaps)) in rows.enumerate() {
                        let mut g = FeatureRowGradients {
                            dgrids: [Some(&mut dq[PAD..PAD + width]), None],
                            dcoarse: None,
                            dweights: with_weights.then_some(&mut *dw),
                            dbias: (with_weights && n == 0 && slot == 0).then_some(&mut *db),
                        };
                        features_backward(level, &row(piece * ROWS + r, 0, [Some(grid), None]), dmaps, &mut g);
                    }
                });
            }
            let Some(coarse) = coarser.last_mut() else { continue };
            clear(&mut coarse.gradient);
            let coarse_stride = coarse.stride;
            let pieces = coarse.gradient.par_chunks_mut(ROWS / 2 * maps * coarse_stride);
            pieces.zip(gradient.par_chunks(ROWS * dmaps_len)).for_each(|(dcoarse, dmaps)| {
                for (r, dmaps) in dmaps.chunks_exact(dmaps_len).enumerate() {
                    let under = &mut dcoarse[r / 2 * maps * coarse_stride..][..maps * coarse_stride];
                    let mut g =
                        FeatureRowGradients { dgrids: [None, None], dcoarse: Some(under), dweights: None, dbias: None };
                    features_backward(level, &row(0, coarse_stride, [None, None]), dmaps, &mut g);
                }
            });
        }
        if let Some(dweights) = &mut dweights {
            for step in &self.steps {
                for piece in step.dweights.chunks_exact(maps * (inputs + 1)) {
                    let (dw, db) = piece.split_at(maps * inputs);
                    dweights[self.weights.clone()].iter_mut().zip(dw).for_each(|(d, p)| *d += p);
                    dweights[self.bias.clone()].iter_mut().zip(db).for_each(|(d, p)| *d += p);
                }
            }
        }
    }
}

/// Row `y` of one resolution, with those `grids` of it.
fn feature_row<'a>(
    q: &'a [PaddedGrid],
    weights: &'a [f32],
    inputs: usize,
    y: usize,
    width: usize,
    stride: usize,
    coarse_stride: usize,
    grids: [Option<usize>; 2],
) -> FeatureRow<'a> {
    // The newest grid has the first column; `inputs` grids come before the layer's own.
    let grids = grids.map(|g| g.map(|g| (inputs - 1 - g, q[g].row(y))));
    FeatureRow { width, stride, coarse_stride, weights, inputs, grids }
}
