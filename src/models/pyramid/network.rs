//! The weights of upsampling and synthesis in the form that the kernels take; shared by decoder and training.

use crate::models::pyramid::spec::{PyramidSpec, TensorSpec};
use alloc::{vec, vec::Vec};
use kernels::exact::pointwise::{Layer, Pointwise};
use std::ops::Range;

/// A 3x3 layer of `C` channels. A residual layer has 1 added to the centre weight from each channel to itself.
#[derive(Clone, Debug)]
pub(crate) struct Conv {
    /// `[C][C][3][3]`
    pub weights: Vec<f32>,
    pub bias: Vec<f32>,
    pub relu: bool,
}

/// Upsampling and synthesis of pictures at `1/2^finest`. Grids of finer scales count as zero: their maps, and the weights
/// of these, are left out.
#[derive(Clone, Debug)]
pub(crate) struct Network {
    /// Scale of the output.
    pub finest: usize,
    /// Taps `a b c d` of the upsampling to each scale.
    pub up: Vec<[f32; 4]>,
    /// Taps `a b c d` of the filter of each scale's grids.
    pub pre: Vec<[f32; 4]>,
    /// The 1x1 layers, with the stabiliser as their linear bypass. A residual layer has 1 added to its diagonal.
    pub pixels: Pointwise,
    /// The 3x3 layers.
    pub convs: Vec<Conv>,
    spec: PyramidSpec,
    /// Where each of them stands in the flat weights.
    pub ranges: Ranges,
}

/// Ranges of the flat list of all weights.
#[derive(Clone, Debug)]
pub(crate) struct Ranges {
    /// By scale.
    pub up: Vec<Range<usize>>,
    /// By scale.
    pub pre: Vec<Range<usize>>,
    /// Weights and bias of each layer of the trunk, then of the stabiliser.
    pub layers: Vec<(Range<usize>, Range<usize>)>,
}

impl Ranges {
    fn new(spec: &PyramidSpec) -> Self {
        let tensors = spec.tensors();
        let named = |name: &str| -> Vec<TensorSpec> { tensors.iter().filter(|t| t.name == name).cloned().collect() };
        // The file has the coarsest scale first.
        let by_scale = |name: &str| named(name).into_iter().rev().map(|t| t.range).collect();
        let pairs = |w: &str, b: &str| named(w).into_iter().zip(named(b)).map(|(w, b)| (w.range, b.range)).collect();
        let mut layers: Vec<_> = pairs("synth_w", "synth_b");
        layers.extend::<Vec<_>>(pairs("stab_w", "stab_b"));
        Ranges { up: by_scale("up"), pre: by_scale("pre"), layers }
    }
}

impl Network {
    /// All weights zero.
    ///
    /// # Panics
    /// Unless the trunk is 1x1 layers, the last of them linear and with the picture's channels, then 3x3 layers of
    /// these channels.
    pub fn new(spec: &PyramidSpec, finest: usize) -> Self {
        let split = spec.trunk.iter().position(|l| l.kernel != 1).unwrap_or(spec.trunk.len());
        let (ones, threes) = spec.trunk.split_at(split);
        let last = ones.last().expect("a trunk starts with a 1x1 layer");
        assert!(!last.relu && last.outputs == spec.channels, "the last 1x1 layer is linear, to the picture's channels");
        assert!(threes.iter().all(|l| l.kernel == 3 && l.outputs == spec.channels), "3x3 layers keep the channels");
        let mut inputs = spec.maps_at(finest as u32);
        let mut layers = Vec::new();
        for l in ones {
            let weights = vec![0.0; inputs * l.outputs];
            layers.push(Layer { inputs, outputs: l.outputs, relu: l.relu, weights, bias: vec![0.0; l.outputs] });
            inputs = l.outputs;
        }
        let c = spec.channels;
        let conv = |relu| Conv { weights: vec![0.0; 9 * c * c], bias: vec![0.0; c], relu };
        Network {
            finest,
            up: vec![[0.0; 4]; spec.depth as usize],
            pre: vec![[0.0; 4]; spec.depth as usize],
            pixels: Pointwise { layers, bypass: vec![0.0; c * (spec.maps_at(finest as u32))] },
            convs: threes.iter().map(|l| conv(l.relu)).collect(),
            spec: spec.clone(),
            ranges: Ranges::new(spec),
        }
    }

    /// Number of maps that are left out.
    fn absent(&self) -> usize {
        self.spec.maps() - self.spec.maps_at(self.finest as u32)
    }

    /// Sets all weights from the flat list of [`PyramidSpec::tensors`].
    pub fn load(&mut self, weights: &[f32]) {
        let absent = self.absent();
        let four = |r: &Range<usize>| -> [f32; 4] { weights[r.clone()].try_into().expect("four taps") };
        for s in 0..self.up.len() {
            self.up[s] = four(&self.ranges.up[s]);
            self.pre[s] = four(&self.ranges.pre[s]);
        }
        let ones = self.pixels.layers.len();
        for (n, layer) in self.pixels.layers.iter_mut().enumerate() {
            let (w, b) = &self.ranges.layers[n];
            let skip = if n == 0 { absent } else { 0 };
            let rows = weights[w.clone()].chunks_exact(layer.inputs + skip);
            for (o, (to, from)) in layer.weights.chunks_exact_mut(layer.inputs).zip(rows).enumerate() {
                to.copy_from_slice(&from[skip..]);
                if self.spec.trunk[n].residual && o >= skip {
                    to[o - skip] += 1.0;
                }
            }
            layer.bias.copy_from_slice(&weights[b.clone()]);
        }
        let (w, b) = &self.ranges.layers[self.spec.trunk.len()];
        let maps = self.spec.maps();
        let rows = weights[w.clone()].chunks_exact(maps);
        for (to, from) in self.pixels.bypass.chunks_exact_mut(maps - absent).zip(rows) {
            to.copy_from_slice(&from[absent..]);
        }
        for (to, from) in self.pixels.layers[ones - 1].bias.iter_mut().zip(&weights[b.clone()]) {
            *to += from;
        }
        let c = self.spec.channels;
        for (n, conv) in self.convs.iter_mut().enumerate() {
            let (w, b) = &self.ranges.layers[ones + n];
            conv.weights.copy_from_slice(&weights[w.clone()]);
            conv.bias.copy_from_slice(&weights[b.clone()]);
            if self.spec.trunk[ones + n].residual {
                for o in 0..c {
                    conv.weights[(o * c + o) * 9 + 4] += 1.0;
                }
            }
        }
    }

    /// Adds gradients of the layers to `dweights`, the gradients of the flat weights. `from` has them in the order of the
    /// kernels: weights and bias of each 1x1 layer, the bypass, weights and bias of each 3x3 layer.
    #[cfg(feature = "fit")]
    pub fn scatter_layers(&self, from: &[f32], dweights: &mut [f32]) {
        let mut at = 0;
        let mut add = |to: Range<usize>, inputs: usize, skip: usize, dweights: &mut [f32]| {
            for row in dweights[to].chunks_exact_mut(inputs + skip) {
                row[skip..].iter_mut().zip(&from[at..]).for_each(|(d, v)| *d += v);
                at += inputs;
            }
        };
        let mut bias_at = 0;
        for (n, layer) in self.pixels.layers.iter().enumerate() {
            let (w, b) = &self.ranges.layers[n];
            add(w.clone(), layer.inputs, if n == 0 { self.absent() } else { 0 }, dweights);
            add(b.clone(), 1, 0, dweights);
            bias_at += layer.weights.len() + layer.bias.len();
        }
        let (w, b) = &self.ranges.layers[self.spec.trunk.len()];
        add(w.clone(), self.spec.maps() - self.absent(), self.absent(), dweights);
        let c = self.spec.channels;
        dweights[b.clone()].iter_mut().zip(&from[bias_at - c..]).for_each(|(d, v)| *d += v);
        for (w, b) in &self.ranges.layers[self.pixels.layers.len()..self.spec.trunk.len()] {
            for to in [w, b] {
                dweights[to.clone()].iter_mut().zip(&from[at..]).for_each(|(d, v)| *d += v);
                at += to.len();
            }
        }
    }
}
