//! Gradient descent on codes and networks together: `bits + (P / lambda) MSE`, P pixels.

use super::grid::{View, ViewMut};
use super::grid_buf::GridBuf;
use super::latents::{Held, Latents};
use super::plan::Anneal;
use super::rate::RateModel;
use super::synth::SynthModel;
use super::weight_rate::WeightRate;
use crate::fit::loss::MS_SSIM_UNIT;
use crate::fit::rng::Rng;
use crate::fit::soap::{Shape, Soap, SoapRate};
use crate::fit::target::Measured;
use crate::fit::Tune;
use crate::image::Picture;
use crate::image::Rect;
use crate::metrics;
use crate::models::pyramid::spec::{Module, PyramidGrid, PyramidSpec};
use crate::models::{Codes, Grid};
use kernels::fast::adam::AdamStep;
use kernels::fast::ssim::{ms_ssim, ms_ssim_min_side, MS_SSIM_WEIGHTS};
use kernels::fast::Scratch;
use kernels::Level;
use rayon::prelude::*;

/// Quantisation steps that a latent moves for each unit of its parameter: with it one learning rate suits
/// latents and networks.
const GAIN: f32 = 16.0;

/// Learning rate of the networks over that of latents.
const NETWORKS: f32 = 1.3;

/// Bound on the norm of the networks' gradient of `MSE + lambda bpp`.
const CLIP: f64 = 0.1;

/// One picture at one stage.
struct Canvas {
    /// Full size.
    width: usize,
    height: usize,
    /// The picture at the stage's scale.
    target: Vec<f32>,
    /// All grids in coding order, the absent ones included: `latents` and `q` hold the present ones (a prefix).
    latents: Latents,
    /// Codes that are not fitted but given.
    held: Option<Held>,
    q: Vec<GridBuf>,
    dq: Vec<GridBuf>,
    rate: RateModel,
    synth: SynthModel,
    /// The output and its gradient, where the distortion is not MSE.
    out: Vec<f32>,
    dout: Vec<f32>,
    scratch: Vec<Scratch>,
}

/// The state of a fit.
pub struct Trainer {
    pub spec: PyramidSpec,
    pub weights: Vec<f32>,
    grad: Vec<f32>,
    /// The bits' part of `grad`, of the last step that looked at them.
    bits_grad: Vec<f32>,
    weight_rate: WeightRate,
    soap: Soap,
    canvases: Vec<Canvas>,
    finest: u32,
    level: Level,
    seed: u64,
    step: u64,
    /// The step at which the latents' optimiser started.
    began: u64,
    /// The networks are given, not fitted.
    frozen: bool,
    /// Pixels of all pictures at full size.
    pixels: f64,
    tune: Tune,
}

impl Trainer {
    /// Zero latents, random networks; the stabiliser's bias starts at the mean colour.
    pub fn new(spec: PyramidSpec, pictures: &[Picture], finest: u32, level: Level, seed: u64, tune: Tune) -> Trainer {
        let weights = initial_weights(&spec, pictures, seed);
        let canvases = pictures.iter().map(|p| Canvas::new(&spec, p, finest)).collect();
        Trainer {
            soap: soap_for(&spec),
            grad: vec![0.0; weights.len()],
            bits_grad: vec![0.0; weights.len()],
            weight_rate: WeightRate::new(&spec),
            weights,
            canvases,
            finest,
            level,
            seed,
            step: 0,
            began: 0,
            frozen: false,
            pixels: pictures.iter().map(|p| p.pixels() as f64).sum(),
            tune,
            spec,
        }
    }

    /// From now on the networks are `weights`, and only latents are fitted; some of those may be given.
    pub fn freeze(&mut self, weights: &[f32], held: Option<Held>) {
        self.weights.copy_from_slice(weights);
        self.frozen = true;
        if let [canvas] = &mut self.canvases[..] {
            canvas.hold(held);
        }
    }

    /// Goes on at a finer scale: latents shrink to `kept` of themselves, those of the grids that appear are
    /// zero, and their optimiser starts afresh.
    pub fn refine(&mut self, pictures: &[Picture], finest: u32, kept: f32) {
        for (canvas, picture) in self.canvases.iter_mut().zip(pictures) {
            let old = std::mem::replace(canvas, Canvas::new(&self.spec, picture, finest));
            canvas.latents = old.latents;
            canvas.latents.refine(&self.spec, picture.width, picture.height, finest);
            canvas.latents.shrink(kept);
            canvas.hold(old.held);
        }
        self.finest = finest;
        self.began = self.step;
    }

    /// One step on latents and networks.
    pub fn step(&mut self, lambda: f64, anneal: &Anneal) {
        let lambda = anneal.dearer * lambda;
        let (level, seed, step) = (self.level, self.seed, self.step);
        // Noise comes in pairs of opposite sign: momentum cancels most of what it does to gradients (antithetic
        // variates, Hammersley, Morton 1956).
        let sigma = if step.is_multiple_of(2) { anneal.sigma } else { -anneal.sigma };
        let look = (step - self.began).is_multiple_of(anneal.bits_every);
        self.step += 1;
        if look {
            self.bits_grad.fill(0.0);
        }
        self.grad.fill(0.0);
        let samples: f64 = self.canvases.iter().map(|c| c.target.len() as f64).sum();
        let weight = self.pixels / (lambda * samples);
        for (i, c) in self.canvases.iter_mut().enumerate() {
            c.latents.quantise(level, &mut c.q, anneal.temperature, sigma, GAIN, seed ^ (i as u64) << 48, step / 2);
            if let Some(held) = &c.held {
                c.latents.hold(held, &mut c.q, GAIN);
            }
            for d in &mut c.dq {
                d.fill(0.0);
            }
            if look {
                let grad = (!self.frozen).then_some(&mut self.bits_grad[..]);
                c.rate.forward_backward(level, &self.weights, &c.q, &mut c.dq, grad);
                c.latents.keep_bits(&c.dq);
                for d in &mut c.dq {
                    d.fill(0.0);
                }
            }
            match self.tune {
                Tune::MsSsim if c.similarity_scales() > 0 => {
                    let weight = MS_SSIM_UNIT * weight * c.target.len() as f64;
                    c.dissimilarity(level, &self.spec, &self.weights, &mut self.grad, weight as f32)
                }
                _ => c.distortion(level, &self.spec, &self.weights, &mut self.grad, weight as f32),
            }
        }
        self.grad.iter_mut().zip(&self.bits_grad).for_each(|(g, b)| *g += b);
        let (beta1, beta2) = anneal.betas;
        let adam = AdamStep { lr: anneal.lr, beta1, beta2, eps: EPS, step: (self.step - self.began) as u32 };
        for c in &mut self.canvases {
            if let Some(held) = &c.held {
                c.latents.release(held, &mut c.dq);
            }
            c.latents.adam_step(level, &c.dq, GAIN, &adam);
        }
        if !self.frozen {
            self.step_networks(lambda, anneal.lr);
        }
    }

    fn step_networks(&mut self, lambda: f64, lr: f32) {
        self.weight_rate.add_gradient(&self.weights, &mut self.grad);
        let norm = self.grad.iter().map(|g| (*g as f64).powi(2)).sum::<f64>().sqrt();
        let bound = CLIP * self.pixels / lambda;
        if norm > bound {
            let f = (bound / norm) as f32;
            self.grad.iter_mut().for_each(|g| *g *= f);
        }
        self.soap.step(&mut self.weights, &self.grad, &SoapRate { lr: NETWORKS * lr, eps: EPS, ..Default::default() });
    }

    pub fn level(&self) -> Level {
        self.level
    }

    /// Pixels of all pictures.
    pub fn pixels(&self) -> f64 {
        self.pixels
    }

    /// The codes as integers, each picture's grids whole. Later calls of [`Self::mse_with`] see them.
    pub fn codes(&mut self) -> Vec<Codes> {
        let spec = &self.spec;
        let grid = |(q, g): (&GridBuf, PyramidGrid), (width, height): (usize, usize)| {
            let side = 1usize << g.scale;
            let rect = Rect::whole(width.div_ceil(side), height.div_ceil(side));
            let rows = (0..rect.height()).flat_map(|y| q.view().row(y, rect.width()));
            Grid { rect, channels: 1, codes: rows.map(|v| *v as i16).collect() }
        };
        let mut all = Vec::new();
        for c in &mut self.canvases {
            c.latents.round(self.level, &mut c.q, GAIN);
            all.push(c.q.iter().zip(spec.coding_order()).map(|x| grid(x, (c.width, c.height))).collect());
        }
        all
    }

    /// Sets the latents of grid `g` of picture `n`, and its last rounded codes, to zero.
    pub fn empty(&mut self, n: usize, g: usize) {
        let c = &mut self.canvases[n];
        c.latents.grids[g].y.fill(0.0);
        c.q[g].fill(0.0);
    }

    /// Mean squared error of the 8-bit pictures of the last rounded codes through `weights`.
    pub fn mse_with(&mut self, weights: &[f32]) -> f64 {
        let (mut errors, mut samples) = (0.0, 0.0);
        for c in &mut self.canvases {
            errors += c.rounded_error(self.level, &self.spec, weights);
            samples += c.target.len() as f64;
        }
        errors / samples
    }

    /// Hard-rounded codes through the float networks: quality of the 8-bit pictures, bytes of the codes.
    /// MS-SSIM is 0 unless `similarity`.
    pub fn measure(&mut self, pictures: &[Picture], similarity: bool) -> Measured {
        let mut bits = 0.0;
        for c in &mut self.canvases {
            c.latents.round(self.level, &mut c.q, GAIN);
            bits += c.rate.forward(self.level, &self.weights, &c.q);
        }
        let weights = std::mem::take(&mut self.weights);
        let measured = self.measure_with(&weights, pictures, similarity);
        self.weights = weights;
        Measured { bytes: bits / 8.0, ..measured }
    }

    /// Quality of the last rounded codes through `weights`; bytes are 0.
    pub fn measure_with(&mut self, weights: &[f32], pictures: &[Picture], similarity: bool) -> Measured {
        let psnr = -10.0 * self.mse_with(weights).max(1e-10).log10();
        let mut ms_ssim = 0.0;
        if similarity && self.finest == 0 {
            for (c, original) in self.canvases.iter_mut().zip(pictures) {
                let decoded = c.rounded(self.level, &self.spec, weights);
                ms_ssim += metrics::ms_ssim(original, &decoded).unwrap_or(1.0) / pictures.len() as f64;
            }
        }
        Measured { psnr, ms_ssim, bytes: 0.0 }
    }

    /// All that a later run needs to go on: weights and latents. The optimisers start afresh.
    pub fn save(&self, out: &mut Vec<u8>) {
        let floats = |v: &[f32], out: &mut Vec<u8>| out.extend(v.iter().flat_map(|f| f.to_le_bytes()));
        floats(&self.weights, out);
        for g in self.canvases.iter().flat_map(|c| &c.latents.grids) {
            floats(&g.y, out);
        }
    }

    /// The inverse of [`Self::save`] at the same stage; false when `bytes` do not fit.
    pub fn restore(&mut self, bytes: &[u8]) -> bool {
        let grids = self.canvases.iter_mut().flat_map(|c| &mut c.latents.grids);
        let targets: Vec<&mut Vec<f32>> = std::iter::once(&mut self.weights).chain(grids.map(|g| &mut g.y)).collect();
        if bytes.len() != 4 * targets.iter().map(|t| t.len()).sum::<usize>() {
            return false;
        }
        let mut values = bytes.chunks_exact(4).map(|b| f32::from_le_bytes([b[0], b[1], b[2], b[3]]));
        targets.into_iter().flatten().zip(&mut values).for_each(|(t, v)| *t = v);
        true
    }
}

/// Adam's epsilon, in bits: latents that hardly matter move little. In these units it means the same at every lambda and
/// size of picture; 1 to 4 serve alike, 0.1 and 20 cost about 1 % of J.
const EPS: f32 = 1.5;

impl Canvas {
    fn new(spec: &PyramidSpec, picture: &Picture, finest: u32) -> Canvas {
        let (width, height) = (picture.width, picture.height);
        let latents = Latents::new(spec, width, height, finest);
        Canvas {
            width,
            height,
            target: reduced(picture, finest),
            q: latents.buffers(),
            dq: latents.buffers(),
            latents,
            held: None,
            rate: RateModel::new(spec, width, height, finest),
            synth: SynthModel::new(spec, width, height, finest),
            out: Vec::new(),
            dout: Vec::new(),
            scratch: (0..spec.channels).map(|_| Scratch::default()).collect(),
        }
    }

    fn hold(&mut self, held: Option<Held>) {
        if let Some(held) = &held {
            self.latents.give(held, GAIN);
        }
        self.held = held;
    }

    /// Adds the gradients of `weight *` the sum of squared errors.
    fn distortion(&mut self, level: Level, spec: &PyramidSpec, weights: &[f32], grad: &mut [f32], weight: f32) {
        let views = synthesised(spec, &self.q);
        let mut gradients = synthesised_mut(spec, &mut self.dq);
        self.synth.forward_backward(level, weights, &views, &self.target, &mut gradients, grad, weight);
    }

    /// Scales of MS-SSIM that the stage's picture has room for.
    fn similarity_scales(&self) -> usize {
        let (w, h) = self.synth.sizes()[0];
        (1..=MS_SSIM_WEIGHTS.len()).rev().find(|&n| w.min(h) >= ms_ssim_min_side(n)).unwrap_or(0)
    }

    /// Adds the gradients of `weight * (1 - MS-SSIM)`, the mean of the channels.
    fn dissimilarity(&mut self, level: Level, spec: &PyramidSpec, weights: &[f32], grad: &mut [f32], weight: f32) {
        let scales = &MS_SSIM_WEIGHTS[..self.similarity_scales()];
        let (w, h) = self.synth.sizes()[0];
        let views = synthesised(spec, &self.q);
        self.out.resize(self.target.len(), 0.0);
        self.dout.resize(self.target.len(), 0.0);
        self.synth.forward(level, weights, &views, &mut self.out);
        self.dout.fill(0.0);
        let scale = -weight / spec.channels as f32;
        let planes = self.target.par_chunks(w * h).zip(self.out.par_chunks(w * h)).zip(self.dout.par_chunks_mut(w * h));
        planes.zip(&mut self.scratch).for_each(|(((a, b), db), scratch)| {
            ms_ssim(level, h, w, scales, a, b, scale, db, scratch);
        });
        let mut gradients = synthesised_mut(spec, &mut self.dq);
        self.synth.backward(level, weights, &views, &self.dout, &mut gradients, grad);
    }

    /// Sum of squared errors of the picture rounded to 8 bits.
    fn rounded_error(&mut self, level: Level, spec: &PyramidSpec, weights: &[f32]) -> f64 {
        self.out.resize(self.target.len(), 0.0);
        self.synth.forward(level, weights, &synthesised(spec, &self.q), &mut self.out);
        let error = |(o, t): (&f32, &f32)| (((o * 255.0).round() - t * 255.0) as f64 / 255.0).powi(2);
        self.out.iter().zip(&self.target).map(error).sum()
    }

    /// The 8-bit picture of the rounded codes; the stage is the last.
    fn rounded(&mut self, level: Level, spec: &PyramidSpec, weights: &[f32]) -> Picture {
        self.out.resize(self.target.len(), 0.0);
        self.synth.forward(level, weights, &synthesised(spec, &self.q), &mut self.out);
        let n = self.width * self.height;
        let sample = |i: usize| (self.out[i % spec.channels * n + i / spec.channels] * 255.0).round() as u8;
        Picture {
            width: self.width,
            height: self.height,
            channels: spec.channels,
            samples: (0..n * spec.channels).map(sample).collect(),
        }
    }
}

/// The grids that the synthesis sees, finest first.
fn synthesised<'a>(spec: &PyramidSpec, q: &'a [GridBuf]) -> Vec<View<'a>> {
    q.iter().zip(spec.coding_order()).filter(|(_, g)| !g.hyper).map(|(q, _)| q.view()).rev().collect()
}

fn synthesised_mut<'a>(spec: &PyramidSpec, q: &'a mut [GridBuf]) -> Vec<ViewMut<'a>> {
    q.iter_mut().zip(spec.coding_order()).filter(|(_, g)| !g.hyper).map(|(q, _)| q.view_mut()).rev().collect()
}

/// Planes in `[0, 1]` of the picture at `1/2^shift`: means of the pixels that a coarser pixel covers.
fn reduced(picture: &Picture, shift: u32) -> Vec<f32> {
    let (w, h, n) = (picture.width, picture.height, picture.channels);
    let side = 1usize << shift;
    let (cw, ch) = (w.div_ceil(side), h.div_ceil(side));
    let mut out = Vec::with_capacity(cw * ch * n);
    for c in 0..n {
        for y in 0..ch {
            let rows = y * side..((y + 1) * side).min(h);
            for x in 0..cw {
                let columns = x * side..((x + 1) * side).min(w);
                let count = (rows.len() * columns.len()) as f32;
                let sum: u32 = rows
                    .clone()
                    .flat_map(|r| columns.clone().map(move |x| (r * w + x) * n + c))
                    .map(|i| picture.samples[i] as u32)
                    .sum();
                out.push(sum as f32 / (255.0 * count));
            }
        }
    }
    out
}

fn soap_for(spec: &PyramidSpec) -> Soap {
    Soap::new(spec.tensors().iter().map(|t| Shape { start: t.range.start, rows: t.shape.0, cols: t.shape.1 }))
}

/// Networks before the first step: the context network passes its input on, the upsampling is bicubic, the
/// trunk is random and small, 3x3 layers are identities.
fn initial_weights(spec: &PyramidSpec, pictures: &[Picture], seed: u64) -> Vec<f32> {
    let mut random = Rng::stream(seed, 0, 0);
    let mut weights = vec![0f32; spec.weights_count()];
    for t in spec.tensors() {
        let w = &mut weights[t.range.clone()];
        match (t.module, t.name) {
            (Module::Context, "w3" | "ws") => w.iter_mut().for_each(|w| *w = random.normal() / 4.0),
            (Module::Features, "feature_w") => {
                let k = t.shape.0 as f32;
                w.iter_mut().for_each(|w| *w = random.normal() / (k * k));
            }
            (Module::Upsampling, "up") => w.copy_from_slice(&UP),
            (Module::Upsampling, _) => w.copy_from_slice(&PRE),
            (Module::Synthesis, "synth_w") if spec.trunk[t.index].kernel == 1 => uniform(&mut random, w, t.shape),
            (Module::Synthesis, "stab_w") => uniform(&mut random, w, t.shape),
            (Module::Synthesis, "stab_b") => mean_colour(pictures, w),
            _ => {}
        }
    }
    weights
}

/// Bicubic interpolation (a = -0.75) at half-pixel phases.
const UP: [f32; 4] = [-0.035_156_25, -0.105_468_75, 0.261_718_75, 0.878_906_25];
/// No filter: with its skip connection, a gain of 2.
const PRE: [f32; 4] = [0.0, 0.0, 0.0, 1.0];

fn mean_colour(pictures: &[Picture], out: &mut [f32]) {
    let pixels: usize = pictures.iter().map(|p| p.pixels()).sum();
    for (c, o) in out.iter_mut().enumerate() {
        let samples = |p: &Picture| p.samples[c..].iter().step_by(p.channels).map(|s| *s as u64).sum::<u64>();
        *o = (pictures.iter().map(samples).sum::<u64>() as f64 / (255.0 * pixels as f64)) as f32;
    }
}

/// `U(-a, a)`, `a = 1 / (outputs^2 sqrt(inputs))`.
fn uniform(random: &mut Rng, w: &mut [f32], (outputs, inputs): (usize, usize)) {
    let a = 1.0 / ((outputs * outputs) as f32 * (inputs as f32).sqrt());
    w.iter_mut().for_each(|w| *w = a * (2.0 * random.unit() - 1.0));
}
