//! Bits of all grids under the context network and the feature layers, with gradients, in parallel.
//!
//! The partition into bands and the order of all sums depend on the sizes only, never on the threads.

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

/// Latents of a band, at least about; an even number of rows, and no fewer than `PAD` of them so that what a
/// band adds above itself stays within its neighbour.
const BAND: usize = 2048;
const BAND_ROWS: usize = 16;

/// ScratchPool for the features of one latent.
const MAPS: usize = 16 * 16;

/// The rate of one picture's grids. All working memory is here: calls allocate nothing once each thread has run.
pub struct RateModel {
    spec: PyramidSpec,
    sizes: Vec<(usize, usize)>,
    bands: Vec<Band>,
    /// For each grid: its feature layer.
    features: Vec<Option<FeatureLayer>>,
    net: Option<(Level, ContextNet)>,
    context_weights: Range<usize>,
    bits: Vec<f64>,
    /// Gradients of the features of all bands, one after the other.
    dmaps: Vec<f32>,
    room: ScratchPool<BandScratch>,
}

/// Rows of one grid, and what they add to gradients.
struct Band {
    grid: usize,
    rows: Range<usize>,
    bits: f64,
    /// Rows `rows.start - PAD .. rows.end`, padded.
    dq: Vec<f32>,
    dweights: Vec<f32>,
    /// Values of its features, at their own resolution.
    features: usize,
}

/// What a thread computes a band in.
#[derive(Default)]
struct BandScratch {
    context: ContextScratch,
    /// The features, each value twice, and their gradients.
    maps: Vec<f32>,
    dmaps: Vec<f32>,
}

impl RateModel {
    /// For a picture of `width` x `height`; grids of scales below `finest` are absent.
    pub fn new(spec: &PyramidSpec, width: usize, height: usize, finest: u32) -> Self {
        let sizes = grid_sizes(spec, width, height, finest);
        let context = spec.tensors().iter().filter(|t| t.module == Module::Context).map(|t| t.range.len()).sum();
        let order = spec.coding_order();
        let features: Vec<_> =
            (0..sizes.len()).map(|g| FeatureLayer::new(spec, order[g].scale, width, height)).collect();
        let mut bands = Vec::new();
        // The large grids first: the small bands fill the gaps at the end.
        for (grid, &(w, h)) in sizes.iter().enumerate().rev() {
            let rows = BAND.div_ceil(w).max(BAND_ROWS).next_multiple_of(2);
            let maps = features[grid].is_some() as usize * spec.features * feature_stride(w) / 2;
            for start in (0..h).step_by(rows) {
                let rows = start..h.min(start + rows);
                bands.push(Band {
                    grid,
                    bits: 0.0,
                    dq: vec![0.0; (rows.len() + PAD) * (w + 2 * PAD) + SLACK],
                    dweights: vec![0.0; context],
                    features: rows.len().div_ceil(2) * maps,
                    rows,
                });
            }
        }
        RateModel {
            spec: spec.clone(),
            bits: vec![0.0; sizes.len()],
            sizes,
            dmaps: vec![0.0; bands.iter().map(|b| b.features).sum()],
            bands,
            features,
            net: None,
            context_weights: 0..context,
            room: ScratchPool::new(),
        }
    }

    /// Width and height of each grid, in coding order.
    pub fn sizes(&self) -> &[(usize, usize)] {
        &self.sizes
    }

    /// Bits of each grid at the last call.
    pub fn grid_bits(&self) -> &[f64] {
        &self.bits
    }

    /// Bits of all grids `q`, in coding order. `weights` are all weights of the spec, flat.
    pub fn forward(&mut self, level: Level, weights: &[f32], q: &[PaddedGrid]) -> f64 {
        self.run(level, weights, q, None, None)
    }

    /// Bits; adds their gradients by the codes and, if asked for, by the weights.
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

    /// Adds the gradient by the weights of the bits of one latent, at `(y, x)` of a grid, to `dweights`; the weights and
    /// `q` are those of the last call.
    pub fn gradient_at(
        &self,
        q: &[PaddedGrid],
        grid: usize,
        (y, x): (usize, usize),
        dweights: &mut [f32],
        scratch: &mut ContextScratch,
    ) {
        let (level, net) = self.net.as_ref().expect("a call went before");
        // The latent and its neighbours as a grid of their own: it is the last of its row, its neighbours are the padding.
        const SIDE: usize = 2 * PAD + 1;
        let mut near = [0f32; SIDE * (PAD + 1) + SLACK];
        for (r, row) in near[..SIDE * (PAD + 1)].chunks_exact_mut(SIDE).enumerate() {
            row.copy_from_slice(&q[grid].data[(y + r) * q[grid].stride + x..][..SIDE]);
        }
        let layer = self.features[grid].as_ref();
        let stride = feature_stride(1);
        let (mut maps, mut dmaps) = ([0f32; MAPS], [0f32; MAPS]);
        for (n, v) in layer.iter().flat_map(|l| l.at(y, x)).enumerate() {
            maps[n * stride] = v;
        }
        let features = layer.map(|_| &maps[..]);
        let band = ContextBand { net, neighbours: &NEIGHBOURS, q: &near, stride: SIDE, width: 1, rows: 0..1, features };
        let mut gradients = ContextGradients {
            dq: &mut [0f32; SIDE * (PAD + 1) + SLACK],
            dfeatures: layer.map(|_| &mut dmaps[..]),
            dweights: Some(&mut dweights[self.context_weights.clone()]),
        };
        context(*level, &band, Some(&mut gradients), scratch);
        if let Some(layer) = layer {
            layer.gradient_at(q, y, x, dmaps.iter().step_by(stride).copied(), dweights);
        }
    }

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

        let (features, room, gradients) = (&self.features, &self.room, dq.is_some());
        let with_weights = dweights.is_some();
        let run = |band: &mut Band, dmaps: &mut [f32], scratch: &mut BandScratch| {
            let grid = &q[band.grid];
            let layer = features[band.grid].as_ref();
            if let Some(layer) = layer {
                scratch.maps.resize(2 * dmaps.len(), 0.0);
                widen(level, layer.rows(band.rows.clone()), &mut scratch.maps);
            }
            let maps = layer.map(|_| &scratch.maps[..]);
            let job = ContextBand {
                net,
                neighbours: &NEIGHBOURS,
                q: &grid.data,
                stride: grid.stride,
                width: grid.width,
                rows: band.rows.clone(),
                features: maps,
            };
            let mut g = gradients.then(|| {
                band.dq.fill(0.0);
                band.dweights.fill(0.0);
                scratch.dmaps.clear();
                scratch.dmaps.resize(2 * dmaps.len(), 0.0);
                ContextGradients {
                    dq: &mut band.dq,
                    dfeatures: maps.map(|_| &mut scratch.dmaps[..]),
                    dweights: with_weights.then_some(&mut band.dweights[..]),
                }
            });
            band.bits = context(level, &job, g.as_mut(), &mut scratch.context);
            if gradients {
                narrow(level, &mut scratch.dmaps);
                dmaps.copy_from_slice(&scratch.dmaps[..dmaps.len()]);
            }
        };
        each_band(&mut self.bands, &mut self.dmaps, &|band, dmaps| {
            room.lend(BandScratch::default, |scratch| run(band, dmaps, scratch));
        });

        self.bits.fill(0.0);
        for band in &self.bands {
            self.bits[band.grid] += band.bits;
            if let Some(dw) = dweights.as_deref_mut() {
                dw[self.context_weights.clone()].iter_mut().zip(&band.dweights).for_each(|(d, b)| *d += b);
            }
        }
        if let Some(dq) = dq {
            let bands = &self.bands;
            dq.par_iter_mut().enumerate().for_each(|(grid, dq)| gather_bands(bands, grid, dq));
            let mut rest = &self.dmaps[..];
            for layer in self.features.iter_mut().flatten() {
                // Bands are in the opposite order.
                let (others, dmaps) = rest.split_at(rest.len() - layer.len());
                layer.backward(level, weights, q, dmaps, dq, dweights.as_deref_mut());
                rest = others;
            }
        }
        self.bits.iter().sum()
    }
}

/// Runs `f` on each band with its part of `dmaps`, in parallel.
fn each_band(bands: &mut [Band], dmaps: &mut [f32], f: &(impl Fn(&mut Band, &mut [f32]) + Sync)) {
    match bands {
        [] => {}
        [band] => f(band, dmaps),
        _ => {
            let (first, second) = bands.split_at_mut(bands.len() / 2);
            let (before, after) = dmaps.split_at_mut(first.iter().map(|b| b.features).sum());
            rayon::join(|| each_band(first, before, f), || each_band(second, after, f));
        }
    }
}

/// Adds to one grid's gradient what its bands hold: each its own rows, and the rows above it.
fn gather_bands(bands: &[Band], grid: usize, dq: &mut PaddedGrid) {
    let (width, stride) = (dq.width, dq.stride);
    let first = bands.iter().position(|b| b.grid == grid).expect("each grid has a band");
    let mine = &bands[first..][..bands[first..].iter().take_while(|b| b.grid == grid).count()];
    let chunk = mine[0].rows.len() * stride;
    dq.rows_mut().par_chunks_mut(chunk).enumerate().for_each(|(i, rows)| {
        let add = |to: &mut [f32], from: &[f32]| {
            to[PAD..PAD + width].iter_mut().zip(&from[PAD..]).for_each(|(t, f)| *t += f);
        };
        for (to, from) in rows.chunks_exact_mut(stride).zip(mine[i].dq[PAD * stride..].chunks_exact(stride)) {
            add(to, from);
        }
        if let Some(below) = mine.get(i + 1) {
            let end = rows.len() - PAD * stride;
            for (to, from) in rows[end..].chunks_exact_mut(stride).zip(below.dq.chunks_exact(stride)) {
                add(to, from);
            }
        }
    });
}

#[cfg(test)]
#[path = "rate_tests.rs"]
mod tests;
