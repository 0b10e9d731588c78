//! Parameters of analysis and synthesis, and the windows of a picture that they are trained on.

use super::bands::Band;
use super::wavelet_start::Packet;
use crate::entropy::bottleneck;
use crate::fit::autograd::{Function, Layer, Layers};
use crate::fit::loss::from_rgb;
use crate::fit::optim::{Adam, CLIP};
use crate::fit::rng::Rng;
use crate::image::{Picture, Rect};
use crate::layers::conv2d::Conv2d;
use crate::layers::conv_transpose2d::ConvTranspose2d;
use crate::layers::gdn::{self, Gdn, LEAST_BETA};
use crate::models::gdn::weights::{Kind, Quantised, TensorSpec};
use crate::models::gdn::{GdnSpec, KERNEL, SHIFT};
use crate::tensor::Shape;
use std::ops::Range;

/// Layers `SYNTHESIS` and `ANALYSIS` of [`Net::layers`].
pub const SYNTHESIS: Range<usize> = 0..5;
pub const ANALYSIS: Range<usize> = 5..10;

/// Codes around a window that its pixels depend on.
pub const HALO: usize = 2;

/// What random weights are, beside those of a random start alone.
const NOISE: f32 = 0.1;

/// The density learns this much faster than the weights.
const DENSITY_RATE: f32 = 5.0;

/// One flat list: the synthesis in file order, the analysis, the density.
#[derive(Debug)]
pub struct Net {
    pub spec: GdnSpec,
    pub layers: Layers,
    pub parameters: Vec<f32>,
    /// Ends of synthesis and analysis.
    pub ends: [usize; 2],
    tensors: Vec<TensorSpec>,
    betas: Vec<Range<usize>>,
    gammas: Vec<Range<usize>>,
    /// Steps of the synthesis's tensors once they are chosen; values are then rounded to them.
    pub exponents: Option<Vec<u32>>,
    /// Parts of the parameters by their ends, and how large a step of theirs is beside a usual weight's.
    scales: Vec<(usize, f32)>,
    rates: Vec<(usize, f32)>,
}

impl Net {
    /// A wavelet packet of the first of `bands` and a little noise, with codes for a loss that weighs bits by `lambda`. `mean` is the picture's
    /// mean luma.
    pub fn new(spec: GdnSpec, bands: &[Band], mean: f32, lambda: f64, seed: u64) -> Self {
        let n = spec.n;
        let mut at = 0;
        let mut part = |len: usize| {
            at += len;
            at - len..at
        };
        let mut list = Vec::new();
        for (i, outputs) in [n, n, spec.channels].into_iter().enumerate() {
            let f = ConvTranspose2d { inputs: n, outputs, kernel: KERNEL, stride: 2 };
            list.push(Layer {
                function: Function::ConvTranspose2d(f),
                weights: part(f.weights_len()),
                bias: part(outputs),
            });
            if i < 2 {
                let f = Gdn { channels: n, inverse: true };
                list.push(Layer { function: Function::Gdn(f), bias: part(n), weights: part(n * n) });
            }
        }
        let synthesis = list[4].bias.end;
        for (i, inputs) in [spec.channels, n, n].into_iter().enumerate() {
            let f = Conv2d { inputs, outputs: n, kernel: KERNEL, stride: 2 };
            list.push(Layer { function: Function::Conv2d(f), weights: part(f.weights_len()), bias: part(n) });
            if i < 2 {
                let f = Gdn { channels: n, inverse: false };
                list.push(Layer { function: Function::Gdn(f), bias: part(n), weights: part(n * n) });
            }
        }
        let analysis = list[9].bias.end;
        let total = analysis + n * bottleneck::PARAMETERS;
        let mut parameters = vec![0f32; total];
        let mut rng = Rng::stream(seed, 1, 0);
        let (mut betas, mut gammas) = (Vec::new(), Vec::new());
        for (i, layer) in list.iter().enumerate() {
            match layer.function {
                Function::Gdn(_) => {
                    parameters[layer.bias.clone()].fill(gdn::parameter_of(1.0));
                    for (k, g) in parameters[layer.weights.clone()].iter_mut().enumerate() {
                        *g = gdn::parameter_of(if k % (n + 1) == 0 { 0.1 } else { 1e-3 });
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
        let packet = Packet::new(n, bands, step);
        let taps = |i: usize| (i / KERNEL, i % KERNEL);
        for (k, level) in packet.levels.iter().enumerate() {
            let (down, up) = (list[5 + 2 * k].weights.start, list[4 - 2 * k].weights.start);
            let finer = if k == 0 { spec.channels } else { n };
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
        bottleneck::start(n, 10.0, || rng.unit(), &mut parameters[analysis..]);
        let ends = [synthesis, analysis];
        // Weights next to the codes are as small, or large, as the codes' steps: so are the moves of Adam.
        let mut scales: Vec<(usize, f32)> = Vec::new();
        for (i, layer) in list.iter().enumerate() {
            let convolution = !matches!(layer.function, Function::Gdn(_));
            let largest = parameters[layer.weights.clone()].iter().fold(0f32, |m, w| m.max(w.abs()));
            let scale = if convolution { largest } else { 1.0 };
            scales.push((layer.weights.end, scale));
            scales.push((layer.bias.end, if i == 9 { scale } else { 1.0 }));
        }
        scales.push((total, DENSITY_RATE));
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
        values.extend_from_slice(&self.parameters[..self.ends[1]]);
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
        let rounded = Quantised::new(&self.spec, &values, exponents.clone()).dequantise(&self.spec);
        self.parameters[..rounded.len()].copy_from_slice(&rounded);
        for r in self.betas.iter().chain(&self.gammas).filter(|r| r.end <= self.ends[0]) {
            self.parameters[r.clone()].iter_mut().for_each(|v| *v = gdn::parameter_of(*v));
        }
        for (t, e) in self.tensors.iter().zip(&mut exponents) {
            *e = (*e + bits).min(Quantised::finest(&rounded[t.range.clone()])).max(*e);
        }
        self.exponents = Some(exponents);
    }

    /// Gradients of the layers' values (all, or the synthesis's alone) become those of the parameters.
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
        let block = w.len() / self.spec.n;
        let old = self.parameters[w.clone()].to_vec();
        for (to, &from) in order.iter().enumerate() {
            self.parameters[w.start + to * block..][..block].copy_from_slice(&old[from * block..][..block]);
        }
    }
}

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

    /// A patch of `side` codes anywhere, or the whole of a smaller picture.
    pub fn random(pictures: &[Picture], side: usize, rng: &mut Rng) -> Self {
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
        let (x0, y0) = (rng.below(w - cw + 1), rng.below(h - ch + 1));
        Self::new(pictures, picture, Rect::new(x0, y0, x0 + cw, y0 + ch))
    }

    /// All patches of `side` codes of all pictures.
    pub fn partition(pictures: &[Picture], side: usize) -> Vec<Patch> {
        let mut patches = Vec::new();
        for (i, p) in pictures.iter().enumerate() {
            let (w, h) = grid_of(p);
            // Equal shares, so that no sliver is left.
            let (nx, ny) = (w.div_ceil(side), h.div_ceil(side));
            for k in 0..nx * ny {
                let (x, y) = (k % nx, k / nx);
                let core = Rect::new(x * w / nx, y * h / ny, (x + 1) * w / nx, (y + 1) * h / ny);
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

    /// What the analysis sees: all codes' pixels, YCoCg minus one half, the picture's edge repeated beyond it.
    pub fn fill_input(&self, pictures: &[Picture], out: &mut [f32]) {
        let p = &pictures[self.picture];
        let (w, h) = (self.all.width() << SHIFT, self.all.height() << SHIFT);
        let n = w * h;
        for y in 0..h {
            let py = ((self.all.y0 << SHIFT) + y).min(p.height - 1);
            for x in 0..w {
                let px = ((self.all.x0 << SHIFT) + x).min(p.width - 1);
                let s = &p.samples[(py * p.width + px) * p.channels..][..p.channels];
                let v = |c: usize| f32::from(s[c]) / 255.0;
                if p.channels == 3 {
                    let yuv = from_rgb(v(0), v(1), v(2));
                    out[y * w + x] = yuv[0] - 0.5;
                    out[n + y * w + x] = yuv[1];
                    out[2 * n + y * w + x] = yuv[2];
                } else {
                    out[y * w + x] = v(0) - 0.5;
                }
            }
        }
    }

    /// The samples of [`pixels`](Self::pixels), planes in [0, 1].
    pub fn fill_target(&self, pictures: &[Picture], out: &mut Vec<f32>) {
        let p = &pictures[self.picture];
        let r = self.pixels(pictures);
        out.clear();
        for c in 0..p.channels {
            for y in r.y0..r.y1 {
                let row = &p.samples[(y * p.width + r.x0) * p.channels..][..r.width() * p.channels];
                out.extend(row[c..].iter().step_by(p.channels).map(|&s| f32::from(s) / 255.0));
            }
        }
    }
}
