//! The feature layer of the grids of one scale, forward and backward.
//!
//! A feature is a linear combination of all coarser grids, each upsampled (nearest neighbour) to half the resolution of the
//! grid that sees it. It is computed from the coarsest scale down: the sums of a scale are upsampled, then the terms of the
//! next scale are added.

use super::padded_grid::PaddedGrid;
use super::planes::clear;
use crate::models::pyramid::spec::{Group, PyramidSpec, TensorSpec};
use kernels::fast::context::{feature_stride, PAD};
use kernels::fast::features::{features_backward, features_forward, FeatureRow, FeatureRowGradients};
use kernels::Level;
use rayon::prelude::*;
use std::ops::Range;

/// Rows of a strip: even, so that no two strips write to the same coarser row. Any value of this order works.
const STRIP_ROWS: usize = 32;

/// The layer for grids of one scale, see [`kernels::fast::features`].
pub(super) struct FeatureLayer {
    /// Number of features.
    features: usize,
    /// Number of coarser grids.
    inputs: usize,
    /// Where the weights, `[features][inputs]`, are in the flat list of all.
    weights: Range<usize>,
    /// Where the biases are in the flat list of all.
    bias: Range<usize>,
    /// From the coarsest scale to the one at which the layer runs.
    scales: Vec<FeatureScale>,
}

/// The sums at one scale.
struct FeatureScale {
    /// Values of a row.
    width: usize,
    /// Values of a padded row.
    stride: usize,
    /// Numbers of the grids of this scale in coding order.
    grids: [Option<usize>; 2],
    /// `[height][features][stride]`
    values: Vec<f32>,
    /// The gradient towards `values`. Empty at the last scale, whose gradient is passed to [`FeatureLayer::backward`].
    gradient: Vec<f32>,
    /// Gradients by weights of each strip: `[features][inputs]`, then `[features]` by the biases.
    dweights: Vec<f32>,
}

impl FeatureLayer {
    /// The layer for grids at `scale` of a picture of `width` x `height`; `None` where all features are zero.
    pub fn new(spec: &PyramidSpec, scale: u32, width: usize, height: usize) -> Option<Self> {
        let tensors = spec.tensors();
        let find = |group| {
            let mine = |t: &&TensorSpec| t.group == group && t.index == scale as usize;
            tensors.iter().find(mine).map(|t| t.range.clone())
        };
        let (weights, bias) = (find(Group::Features)?, find(Group::FeatureBiases)?);
        let (features, inputs) = (spec.features, spec.feature_inputs(scale));
        let order = spec.coding_order();
        let sums_at = |at: u32| {
            let size = |n: usize, shift: u32| n.div_ceil(1 << shift);
            let (w, h) = (size(width, at), size(height, at));
            let stride = feature_stride(size(width, at - 1)) / 2;
            let mut numbers = (0..order.len()).filter(|g| order[*g].scale == at);
            let len = h * features * stride;
            FeatureScale {
                width: w,
                stride,
                grids: [numbers.next(), numbers.next()],
                values: vec![0.0; len],
                gradient: vec![0.0; if at > scale + 1 { len } else { 0 }],
                dweights: vec![0.0; h.div_ceil(STRIP_ROWS) * features * (inputs + 1)],
            }
        };
        let scales: Vec<FeatureScale> = (scale + 1..=spec.depth).rev().map(sums_at).collect();
        (!scales.is_empty()).then_some(FeatureLayer { features, inputs, weights, bias, scales })
    }

    /// The scale at which the layer runs.
    fn last(&self) -> &FeatureScale {
        self.scales.last().expect("at least one scale")
    }

    /// Number of values of all features.
    pub fn len(&self) -> usize {
        self.last().values.len()
    }

    /// The features that these rows of the grid see: `[ceil(rows / 2)][features][feature_stride / 2]`.
    pub fn rows(&self, rows: Range<usize>) -> &[f32] {
        let last = self.last();
        let row = self.features * last.stride;
        &last.values[rows.start / 2 * row..rows.end.div_ceil(2) * row]
    }

    /// Computes the features of the grids `q`, all grids in coding order.
    pub fn forward(&mut self, level: Level, weights: &[f32], q: &[PaddedGrid]) {
        let (w, bias) = (&weights[self.weights.clone()], &weights[self.bias.clone()]);
        let (features, inputs) = (self.features, self.inputs);
        for n in 0..self.scales.len() {
            let (coarser, rest) = self.scales.split_at_mut(n);
            let coarse = coarser.last();
            let FeatureScale { width, stride, grids, values, .. } = &mut rest[0];
            let row_len = features * *stride;
            values.par_chunks_mut(STRIP_ROWS * row_len).enumerate().for_each(|(strip, rows)| {
                for (r, out) in rows.chunks_exact_mut(row_len).enumerate() {
                    let y = strip * STRIP_ROWS + r;
                    let coarse_stride = coarse.map_or(0, |c| c.stride);
                    let row = feature_row(q, w, inputs, y, *width, *stride, coarse_stride, *grids);
                    let coarse_row = coarse.map(|c| &c.values[y / 2 * features * c.stride..][..features * c.stride]);
                    features_forward(level, &row, coarse_row.ok_or(bias), out);
                }
            });
        }
    }

    /// The features that the code at `(y, x)` of the grid sees.
    pub fn at(&self, y: usize, x: usize) -> impl Iterator<Item = f32> + '_ {
        let last = self.last();
        (0..self.features).map(move |feature| last.values[(y / 2 * self.features + feature) * last.stride + x / 2])
    }

    /// Given the gradient by the features at `(y, x)` of the grid, adds the gradient by the weights to `dw`, flat.
    pub fn gradient_at(
        &self,
        q: &[PaddedGrid],
        y: usize,
        x: usize,
        dfeatures: impl Iterator<Item = f32>,
        dw: &mut [f32],
    ) {
        for (feature, d) in dfeatures.take(self.features).enumerate() {
            dw[self.bias.start + feature] += d;
            for (n, scale) in self.scales.iter().rev().enumerate() {
                let (y, x) = (y >> (n + 1), x >> (n + 1));
                for grid in scale.grids.iter().flatten() {
                    let column = self.inputs - 1 - grid;
                    dw[self.weights.start + feature * self.inputs + column] += d * q[*grid].row(y)[x];
                }
            }
        }
    }

    /// Given `dfeatures`, the gradient by all features, adds the gradients by the coarser grids to `dq` and, if they are
    /// wanted, those by the weights to `dweights`, flat.
    pub fn backward(
        &mut self,
        level: Level,
        weights: &[f32],
        q: &[PaddedGrid],
        dfeatures: &[f32],
        dq: &mut [PaddedGrid],
        mut dweights: Option<&mut [f32]>,
    ) {
        let w = &weights[self.weights.clone()];
        let (features, inputs) = (self.features, self.inputs);
        let with_weights = dweights.is_some();
        for n in (0..self.scales.len()).rev() {
            let last = n + 1 == self.scales.len();
            let (coarser, rest) = self.scales.split_at_mut(n);
            let scale = &mut rest[0];
            scale.dweights.fill(0.0);
            let FeatureScale { width, stride, gradient, dweights: partial, .. } = scale;
            let gradient = if last { dfeatures } else { &gradient[..] };
            let (width, stride, row_len) = (*width, *stride, features * *stride);
            let row = |y, coarse_stride, grids| feature_row(q, w, inputs, y, width, stride, coarse_stride, grids);
            for (slot, grid) in scale.grids.iter().enumerate() {
                let Some(grid) = *grid else { continue };
                let dq_stride = dq[grid].stride;
                let strips = dq[grid].rows_mut().par_chunks_mut(STRIP_ROWS * dq_stride);
                let strips = strips.zip(gradient.par_chunks(STRIP_ROWS * row_len));
                let strips = strips.zip(partial.par_chunks_mut(features * (inputs + 1)));
                strips.enumerate().for_each(|(strip, ((dq, gradient), partial))| {
                    let (dw, db) = partial.split_at_mut(features * inputs);
                    let rows = dq.chunks_exact_mut(dq_stride).zip(gradient.chunks_exact(row_len));
                    for (r, (dq, gradient)) in rows.enumerate() {
                        let mut g = FeatureRowGradients {
                            dgrids: [Some(&mut dq[PAD..PAD + width]), None],
                            dcoarse: None,
                            dweights: with_weights.then_some(&mut *dw),
                            dbias: (with_weights && n == 0 && slot == 0).then_some(&mut *db),
                        };
                        features_backward(level, &row(strip * STRIP_ROWS + r, 0, [Some(grid), None]), gradient, &mut g);
                    }
                });
            }
            let Some(coarse) = coarser.last_mut() else { continue };
            clear(&mut coarse.gradient);
            let coarse_stride = coarse.stride;
            let strips = coarse.gradient.par_chunks_mut(STRIP_ROWS / 2 * features * coarse_stride);
            strips.zip(gradient.par_chunks(STRIP_ROWS * row_len)).for_each(|(dcoarse, gradient)| {
                for (r, gradient) in gradient.chunks_exact(row_len).enumerate() {
                    let dcoarse = Some(&mut dcoarse[r / 2 * features * coarse_stride..][..features * coarse_stride]);
                    let mut g = FeatureRowGradients { dgrids: [None, None], dcoarse, dweights: None, dbias: None };
                    features_backward(level, &row(0, coarse_stride, [None, None]), gradient, &mut g);
                }
            });
        }
        if let Some(dweights) = &mut dweights {
            for scale in &self.scales {
                for strip in scale.dweights.chunks_exact(features * (inputs + 1)) {
                    let (dw, db) = strip.split_at(features * inputs);
                    dweights[self.weights.clone()].iter_mut().zip(dw).for_each(|(d, p)| *d += p);
                    dweights[self.bias.clone()].iter_mut().zip(db).for_each(|(d, p)| *d += p);
                }
            }
        }
    }
}

/// Row `y` of one scale in the form that the kernels take, with these `grids` of the scale as inputs.
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
    // The last coded of the `inputs` coarser grids has the first column of the weights.
    let grids = grids.map(|g| g.map(|g| (inputs - 1 - g, q[g].row(y))));
    FeatureRow { width, stride, coarse_stride, weights, inputs, grids }
}
