//! Parameters of synthesis, rate and analysis.

use super::bands::Band;
use super::rate::Rate;
use super::wavelet_start::Packet;
use crate::fit::autograd::{Function, Layer, Layers};
use crate::fit::optim::{Adam, CLIP};
use crate::fit::rng::Rng;
use crate::layers::conv2d::Conv2d;
use crate::layers::conv_transpose2d::ConvTranspose2d;
use crate::layers::gdn::{self, Gdn, LEAST_BETA};
use crate::models::transform::weights::{Kind, Quantised, TensorSpec};
use crate::models::transform::{TransformSpec, KERNEL, LAYERS};
use std::ops::Range;

/// Layers `SYNTHESIS` and `ANALYSIS` of [`Net::layers`].
pub const SYNTHESIS: Range<usize> = 0..5;
pub const ANALYSIS: Range<usize> = 5..10;

/// What random weights are, beside those of a random start alone.
const NOISE: f32 = 0.1;

/// One flat list: the synthesis in file order, what the rate learns, the analysis.
#[derive(Debug)]
pub struct Net {
    pub spec: TransformSpec,
    pub layers: Layers,
    pub parameters: Vec<f32>,
    /// Ends of synthesis and rate.
    pub ends: [usize; 2],
    pub tensors: Vec<TensorSpec>,
    betas: Vec<Range<usize>>,
    gammas: Vec<Range<usize>>,
    /// Steps of the synthesis's tensors once they are chosen; values are then rounded to them.
    pub exponents: Option<Vec<u32>>,
    /// Parts of the parameters by their ends, and how large a step of theirs is beside a usual weight's.
    scales: Vec<(usize, f32)>,
    rates: Vec<(usize, f32)>,
}

impl Net {
    /// A wavelet packet of the first of `bands` and a little noise, with codes for a loss that weighs bits by `lambda`.
    /// `mean` is the pictures' mean luma.
    pub fn new<R: Rate>(spec: TransformSpec, rate: &R, bands: &[Band], mean: f32, lambda: f64, seed: u64) -> Self {
        let mut at = 0;
        let mut part = |len: usize| {
            at += len;
            at - len..at
        };
        let mut list = Vec::new();
        for i in 0..LAYERS {
            let (inputs, outputs) = (spec.maps[i], spec.outputs(i));
            let f = ConvTranspose2d { inputs, outputs, kernel: KERNEL, stride: 2 };
            list.push(Layer {
                function: Function::ConvTranspose2d(f),
                weights: part(f.weights_len()),
                bias: part(outputs),
            });
            if i + 1 < LAYERS {
                let f = Gdn { channels: outputs, inverse: true };
                list.push(Layer { function: Function::Gdn(f), bias: part(outputs), weights: part(outputs * outputs) });
            }
        }
        let synthesis = list[4].bias.end;
        // Its values come last: they are drawn after those of the transforms.
        let rates_own = part(rate.parameters(&mut Rng::stream(seed, 0, 0)).len());
        for i in (0..LAYERS).rev() {
            let (inputs, outputs) = (spec.outputs(i), spec.maps[i]);
            let f = Conv2d { inputs, outputs, kernel: KERNEL, stride: 2 };
            list.push(Layer { function: Function::Conv2d(f), weights: part(f.weights_len()), bias: part(outputs) });
            if i > 0 {
                let f = Gdn { channels: outputs, inverse: false };
                list.push(Layer { function: Function::Gdn(f), bias: part(outputs), weights: part(outputs * outputs) });
            }
        }
        let total = list[9].bias.end;
        let mut parameters = vec![0f32; total];
        let mut rng = Rng::stream(seed, 1, 0);
        let (mut betas, mut gammas) = (Vec::new(), Vec::new());
        for (i, layer) in list.iter().enumerate() {
            match layer.function {
                Function::Gdn(f) => {
                    parameters[layer.bias.clone()].fill(gdn::parameter_of(1.0));
                    for (k, g) in parameters[layer.weights.clone()].iter_mut().enumerate() {
                        *g = gdn::parameter_of(if k % (f.channels + 1) == 0 { 0.1 } else { 1e-3 });
                    }
                    betas.push(layer.bias.clone());
                    gammas.push(layer.weights.clone());
                }
                Function::Conv2d(f) => {
                    // The last layer makes codes of a few units.
                    let gain = NOISE * if i == 9 { 8.0 } else { 1.0 };
                    let a = gain * (3.0 / (f.inputs * KERNEL * KERNEL) as f32).sqrt();
                    parameters[layer.weights.clone()].iter_mut().for_each(|w| *w = a * (2.0 * rng.unit() - 1.0));
                }
                Function::ConvTranspose2d(f) => {
                    let gain = NOISE * if i == 0 { 1.0 / 8.0 } else { 1.0 };
                    let a = gain * (3.0 * 4.0 / (f.inputs * KERNEL * KERNEL) as f32).sqrt();
                    parameters[layer.weights.clone()].iter_mut().for_each(|w| *w = a * (2.0 * rng.unit() - 1.0));
                }
            }
        }
        // A uniform error of this step costs as much as it saves.
        let step = (12.0 * lambda / (2.0 * std::f64::consts::LN_2)).sqrt() as f32;
        let packet = Packet::new(spec.maps, bands, step);
        let taps = |i: usize| (i / KERNEL, i % KERNEL);
        for (k, level) in packet.levels.iter().enumerate() {
            let (down, up) = (list[5 + 2 * k].weights.start, list[4 - 2 * k].weights.start);
            let finer = spec.outputs(LAYERS - 1 - k);
            for t in level {
                for (at, (u, v)) in (0..KERNEL * KERNEL).map(|i| (i, taps(i))) {
                    parameters[down + (t.coarse * finer + t.fine) * KERNEL * KERNEL + at] += t.analysis(u, v);
                    parameters[up + (t.coarse * finer + t.fine) * KERNEL * KERNEL + at] += t.synthesis(u, v);
                }
            }
        }
        // Codes around 0: the first map carries the mean of luma.
        parameters[list[5].bias.start] = 0.5 - mean;
        parameters[list[4].bias.start] = mean;
        if spec.channels != 3 {
            parameters[list[4].bias.start + 1..][..spec.channels - 1].fill(0.5);
        }
        parameters[rates_own.clone()].copy_from_slice(&rate.parameters(&mut rng));
        let ends = [synthesis, rates_own.end];
        // Weights next to the codes are as small, or large, as the codes' steps: so are the moves of Adam.
        let mut scales: Vec<(usize, f32)> = Vec::new();
        for (i, layer) in list.iter().enumerate() {
            let convolution = !matches!(layer.function, Function::Gdn(_));
            let largest = parameters[layer.weights.clone()].iter().fold(0f32, |m, w| m.max(w.abs()));
            let scale = if convolution { largest } else { 1.0 };
            scales.push((layer.weights.end, scale));
            scales.push((layer.bias.end, if i == 9 { scale } else { 1.0 }));
        }
        scales.push((rates_own.end, R::SPEED));
        scales.sort_by_key(|(end, _)| *end);
        let rates = scales.clone();
        Net {
            tensors: spec.tensors(),
            spec,
            layers: Layers::new(list),
            parameters,
            ends,
            betas,
            gammas,
            exponents: None,
            scales,
            rates,
        }
    }

    /// Moves the first parameters, as many as there are gradients.
    pub fn step(&mut self, adam: &mut Adam, gradient: &[f32], rate: f32) {
        let end = gradient.len();
        self.rates.clear();
        self.rates.extend(self.scales.iter().filter(|(e, _)| *e <= end).map(|(e, scale)| (*e, rate * scale)));
        adam.step(&mut self.parameters[..end], gradient, &self.rates, CLIP);
    }

    /// Makes the layers' values of the parameters.
    pub fn prepare(&mut self, which: Range<usize>) {
        let values = &mut self.layers.values;
        values.clear();
        values.extend_from_slice(&self.parameters);
        for (ranges, least) in [(&self.betas, LEAST_BETA), (&self.gammas, 0.0)] {
            for r in ranges {
                values[r.clone()].iter_mut().for_each(|v| *v = gdn::value_of(*v, least));
            }
        }
        if let Some(exponents) = &self.exponents {
            self.tensors.iter().zip(exponents).for_each(|(t, &e)| Quantised::round(t, e, values));
        }
        self.layers.pack(which);
    }

    /// Values of the synthesis that the file gets, before rounding.
    pub fn synthesis_values(&self) -> Vec<f32> {
        let mut values = self.parameters[..self.ends[0]].to_vec();
        for (ranges, least) in [(&self.betas, LEAST_BETA), (&self.gammas, 0.0)] {
            for r in ranges.iter().filter(|r| r.end <= self.ends[0]) {
                values[r.clone()].iter_mut().for_each(|v| *v = gdn::value_of(*v, least));
            }
        }
        values
    }

    /// Makes the steps of the weights finer by up to `bits`. Weights first become what they are rounded to: between the
    /// coarse steps they wandered freely.
    pub fn refine_steps(&mut self, bits: u32) {
        let Some(mut exponents) = self.exponents.take() else { return };
        let values = self.synthesis_values();
        let rounded = Quantised::new(&self.tensors, &values, exponents.clone()).dequantise(&self.tensors);
        self.parameters[..rounded.len()].copy_from_slice(&rounded);
        for r in self.betas.iter().chain(&self.gammas).filter(|r| r.end <= self.ends[0]) {
            self.parameters[r.clone()].iter_mut().for_each(|v| *v = gdn::parameter_of(*v));
        }
        for (t, e) in self.tensors.iter().zip(&mut exponents) {
            *e = (*e + bits).min(Quantised::finest(&rounded[t.range.clone()])).max(*e);
        }
        self.exponents = Some(exponents);
    }

    /// Parameters of the rate.
    pub fn rates_own(&self) -> &[f32] {
        &self.parameters[self.ends[0]..self.ends[1]]
    }

    /// Gradients of the layers' values (all, or the first alone) become those of the parameters.
    pub fn to_parameters(&self, d: &mut [f32]) {
        let end = d.len();
        for (ranges, least) in [(&self.betas, LEAST_BETA), (&self.gammas, 0.0)] {
            for r in ranges.iter().filter(|r| r.end <= end) {
                for i in r.clone() {
                    d[i] = gdn::parameter_gradient(self.parameters[i], least, d[i]);
                }
            }
        }
    }

    /// Adds the gradient of the weights' bits, by a Laplace law of each tensor; `gain` is what a bit costs.
    pub fn add_weights_rate(&self, d: &mut [f32], gain: f32) {
        let Some(exponents) = &self.exponents else { return };
        for (t, &e) in self.tensors.iter().zip(exponents) {
            if matches!(t.kind, Kind::Beta | Kind::Vector) {
                continue;
            }
            let scale = (1u32 << e) as f32;
            let values = &self.layers.values[t.range.clone()];
            let mean = values.iter().map(|v| v.abs()).sum::<f32>() * scale / t.range.len() as f32;
            let slope = gain * scale * (1.0 + 1.0 / mean.max(0.02)).log2();
            for i in t.range.clone() {
                d[i] += slope * self.parameters[i].signum() * if t.kind == Kind::Gamma { 0.5 } else { 1.0 };
            }
        }
    }

    /// Puts the channels of the codes in the order `order`, first the synthesis's inputs.
    pub fn reorder(&mut self, order: &[usize]) {
        let w = self.layers.list[0].weights.clone();
        let block = w.len() / self.spec.n();
        let old = self.parameters[w.clone()].to_vec();
        for (to, &from) in order.iter().enumerate() {
            self.parameters[w.start + to * block..][..block].copy_from_slice(&old[from * block..][..block]);
        }
    }
}
