//! Gradient descent on codes and networks together: `bits + (P / lambda) MSE`, P pixels.

use super::grid::{View, ViewMut};
use super::grid_buf::GridBuf;
use super::latents::Latents;
use super::plan::Anneal;
use super::rate::RateModel;
use super::synth::SynthModel;
use crate::fit::soap::{Shape, Soap, SoapRate};
use crate::fit::target::Measured;
use crate::image::Picture;
use crate::image::Rect;
use crate::models::pyramid::spec::{Module, PyramidGrid, PyramidSpec};
use crate::models::{Codes, Grid};
use kernels::fast::adam::AdamStep;
use kernels::Level;

/// Quantisation steps that a latent moves for each unit of its parameter: with it one learning rate suits
/// latents and networks.
const GAIN: f32 = 16.0;

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
    q: Vec<GridBuf>,
    dq: Vec<GridBuf>,
    rate: RateModel,
    synth: SynthModel,
}

/// The state of a fit.
pub struct Trainer {
    pub spec: PyramidSpec,
    pub weights: Vec<f32>,
    grad: Vec<f32>,
    soap: Soap,
    canvases: Vec<Canvas>,
    finest: u32,
    level: Level,
    seed: u64,
    step: u64,
    /// Pixels of all pictures at full size.
    pixels: f64,
}

impl Trainer {
    /// Zero latents, random networks; the stabiliser's bias starts at the mean colour.
    pub fn new(spec: PyramidSpec, pictures: &[Picture], finest: u32, level: Level, seed: u64) -> Trainer {
        let weights = initial_weights(&spec, pictures, seed);
        let canvases = pictures.iter().map(|p| Canvas::new(&spec, p, finest)).collect();
        Trainer {
            soap: soap_for(&spec),
            grad: vec![0.0; weights.len()],
            weights,
            canvases,
            finest,
            level,
            seed,
            step: 0,
            pixels: pictures.iter().map(|p| p.pixels() as f64).sum(),
            spec,
        }
    }

    /// Goes on at a finer scale; the latents of the grids that appear are zero.
    pub fn refine(&mut self, pictures: &[Picture], finest: u32) {
        for (canvas, picture) in self.canvases.iter_mut().zip(pictures) {
            let old = std::mem::replace(canvas, Canvas::new(&self.spec, picture, finest));
            canvas.latents = old.latents;
            canvas.latents.refine(&self.spec, picture.width, picture.height, finest);
        }
        self.finest = finest;
    }

    /// One step on latents and networks. Returns the loss `MSE + lambda bpp` of the noisy codes.
    pub fn step(&mut self, lambda: f64, anneal: &Anneal) -> f64 {
        let (level, seed, step) = (self.level, self.seed, self.step);
        self.step += 1;
        self.grad.fill(0.0);
        let samples: f64 = self.canvases.iter().map(|c| c.target.len() as f64).sum();
        let weight = self.pixels / (lambda * samples);
        let (mut bits, mut errors) = (0.0, 0.0);
        for (i, c) in self.canvases.iter_mut().enumerate() {
            c.latents.quantise(level, &mut c.q, anneal.temperature, anneal.sigma, GAIN, seed ^ (i as u64) << 48, step);
            for d in &mut c.dq {
                d.fill(0.0);
            }
            bits += c.rate.forward_backward(level, &self.weights, &c.q, &mut c.dq, Some(&mut self.grad));
            errors += c.distortion(level, &self.spec, &self.weights, &mut self.grad, weight as f32);
        }
        let eps = (EPS * self.pixels / lambda) as f32;
        let (beta1, beta2) = anneal.betas;
        let adam = AdamStep { lr: anneal.lr, beta1, beta2, eps, step: self.step as u32 };
        for c in &mut self.canvases {
            c.latents.adam_step(level, &c.dq, GAIN, &adam);
        }
        self.step_networks(lambda, anneal.lr, eps);
        errors / samples + lambda * bits / self.pixels
    }

    fn step_networks(&mut self, lambda: f64, lr: f32, eps: f32) {
        let norm = self.grad.iter().map(|g| (*g as f64).powi(2)).sum::<f64>().sqrt();
        let bound = CLIP * self.pixels / lambda;
        if norm > bound {
            let f = (bound / norm) as f32;
            self.grad.iter_mut().for_each(|g| *g *= f);
        }
        self.soap.step(&mut self.weights, &self.grad, &SoapRate { lr, eps, ..Default::default() });
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

    /// Mean squared error of the 8-bit pictures of the last rounded codes through `weights`.
    pub fn mse_with(&mut self, weights: &[f32]) -> f64 {
        let (mut errors, mut samples) = (0.0, 0.0);
        for c in &mut self.canvases {
            errors += c.rounded_error(self.level, &self.spec, weights);
            samples += c.target.len() as f64;
        }
        errors / samples
    }

    /// Hard-rounded codes through the float networks: quality of the 8-bit picture, bytes of the codes.
    pub fn measure(&mut self) -> Measured {
        let (mut bits, mut errors, mut samples) = (0.0, 0.0, 0.0);
        for c in &mut self.canvases {
            c.latents.round(self.level, &mut c.q, GAIN);
            bits += c.rate.forward(self.level, &self.weights, &c.q);
            errors += c.rounded_error(self.level, &self.spec, &self.weights);
            samples += c.target.len() as f64;
        }
        Measured { psnr: -10.0 * (errors / samples).max(1e-10).log10(), bytes: bits / 8.0, ms_ssim: 0.0 }
    }
}

/// Adam's epsilon, in units of the gradient of `MSE + lambda bpp`.
const EPS: f64 = 1e-8;

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
            rate: RateModel::new(spec, width, height, finest),
            synth: SynthModel::new(spec, width, height, finest),
        }
    }

    /// Adds the gradients of `weight *` the sum of squared errors, which is returned.
    fn distortion(&mut self, level: Level, spec: &PyramidSpec, weights: &[f32], grad: &mut [f32], weight: f32) -> f64 {
        let views = synthesised(spec, &self.q);
        let mut gradients = synthesised_mut(spec, &mut self.dq);
        self.synth.forward_backward(level, weights, &views, &self.target, &mut gradients, grad, weight)
    }

    /// Sum of squared errors of the picture rounded to 8 bits.
    fn rounded_error(&mut self, level: Level, spec: &PyramidSpec, weights: &[f32]) -> f64 {
        let mut out = vec![0.0; self.target.len()];
        self.synth.forward(level, weights, &synthesised(spec, &self.q), &mut out);
        let error = |(o, t): (&f32, &f32)| (((o * 255.0).round() - t * 255.0) as f64 / 255.0).powi(2);
        out.iter().zip(&self.target).map(error).sum()
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
    let mut random = Random(seed ^ 0x9e37_79b9_7f4a_7c15);
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
            (Module::Synthesis, "synth_w") if spec.trunk[t.index].kernel == 1 => random.uniform(w, t.shape),
            (Module::Synthesis, "stab_w") => random.uniform(w, t.shape),
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

/// SplitMix64.
struct Random(u64);

impl Random {
    fn unit(&mut self) -> f32 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let z = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        ((z ^ (z >> 31)) >> 40) as f32 / (1 << 24) as f32
    }

    /// Box-Muller.
    fn normal(&mut self) -> f32 {
        let (u, v) = (1.0 - self.unit(), self.unit());
        (-2.0 * u.ln()).sqrt() * (std::f32::consts::TAU * v).cos()
    }

    /// `U(-a, a)`, `a = 1 / (outputs^2 sqrt(inputs))`.
    fn uniform(&mut self, w: &mut [f32], (outputs, inputs): (usize, usize)) {
        let a = 1.0 / ((outputs * outputs) as f32 * (inputs as f32).sqrt());
        w.iter_mut().for_each(|w| *w = a * (2.0 * self.unit() - 1.0));
    }
}
