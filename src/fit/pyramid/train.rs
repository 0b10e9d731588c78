//! Gradient descent on codes and networks together: `bits + (P / lambda) MSE`, P pixels.

use super::latents::{add_integer_penalty, grid_sizes, Latents};
use super::padded_grid::PaddedGrid;
use super::plan::Anneal;
use super::rate::RateModel;
use super::synth::SynthModel;
use super::view::{PlaneView, PlaneViewMut};
use super::weight_rate::WeightRate;
use crate::fit::loss::MS_SSIM_UNIT;
use crate::fit::rng::Rng;
use crate::fit::soap::{Shape, Soap, SoapRate};
use crate::fit::target::Measured;
use crate::fit::Tune;
use crate::image::Picture;
use crate::metrics;
use crate::models::pyramid::spec::{Module, PyramidSpec};
use crate::models::Codes;
use kernels::fast::adam::AdamStep;
use kernels::fast::ssim::{ms_ssim, ms_ssim_min_side, MS_SSIM_WEIGHTS};
use kernels::fast::Scratch;
use kernels::Level;
use rayon::prelude::*;
#[cfg(test)]
use std::ops::Range;

/// Quantisation steps that a latent moves for each unit of its parameter: with it one learning rate suits
/// latents and networks.
pub(super) const GAIN: f32 = 16.0;

/// Learning rate of the networks over that of latents.
const NETWORKS: f32 = 1.3;

/// Bound on the norm of the networks' gradient of `MSE + lambda bpp`.
const CLIP: f64 = 0.1;

/// One picture at one stage.
pub(super) struct Part {
    pub latents: Latents,
    /// The picture at the stage's scale.
    pub target: Vec<f32>,
    /// Index of the canvas of its size.
    pub canvas: usize,
}

/// What a step needs for one picture at a time; nothing in it lasts, and pictures of one size share it.
pub(super) struct Canvas {
    /// At full size.
    pub width: usize,
    pub height: usize,
    /// For each grid present: where the synthesis has it, if it does.
    pub places: Vec<Option<usize>>,
    /// The grids present in coding order (a prefix of all).
    pub q: Vec<PaddedGrid>,
    pub dq: Vec<PaddedGrid>,
    pub rate: RateModel,
    pub synth: SynthModel,
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
    /// One a picture.
    pub(super) parts: Vec<Part>,
    pub(super) canvases: Vec<Canvas>,
    finest: u32,
    pub(super) level: Level,
    seed: u64,
    step: u64,
    /// The step at which the latents' optimiser started.
    began: u64,
    /// Pixels of all pictures at full size.
    pixels: f64,
    tune: Tune,
}

impl Trainer {
    /// Zero latents, random networks; the stabiliser's bias starts at the mean colour.
    pub fn new(spec: PyramidSpec, pictures: &[Picture], finest: u32, level: Level, seed: u64, tune: Tune) -> Trainer {
        let weights = initial_weights(&spec, pictures, seed);
        let mut trainer = Trainer {
            soap: soap_for(&spec),
            grad: vec![0.0; weights.len()],
            bits_grad: vec![0.0; weights.len()],
            weight_rate: WeightRate::new(&spec),
            weights,
            parts: Vec::new(),
            canvases: Vec::new(),
            finest,
            level,
            seed,
            step: 0,
            began: 0,
            pixels: pictures.iter().map(|p| p.pixels() as f64).sum(),
            tune,
            spec,
        };
        trainer.lay_out(pictures, pictures.iter().map(|_| Latents::default()));
        trainer
    }

    /// Goes on at a finer scale: latents shrink to `kept` of themselves, those of the grids that appear are
    /// zero, and their optimiser starts afresh.
    pub fn refine(&mut self, pictures: &[Picture], finest: u32, kept: f32) {
        self.finest = finest;
        self.began = self.step;
        // What is large goes before its successor comes.
        self.canvases.clear();
        let shrunk = |mut part: Part| {
            part.latents.shrink(kept);
            part.latents
        };
        let parts = std::mem::take(&mut self.parts);
        self.lay_out(pictures, parts.into_iter().map(shrunk));
    }

    /// The synthesis sees the grids that have just appeared as it sees those of the next coarser scale, a lone one as the
    /// stronger of two. With weights of chance and codes of zero it would at first see nothing in them but the noise of
    /// training, and learn to ignore them.
    pub fn inherit(&mut self) {
        let new = self.spec.maps_of(self.finest, 0);
        let old = self.spec.maps_of(self.finest + 1, 0);
        let inputs = self.spec.maps();
        let tensors = self.spec.tensors();
        let sees = tensors.iter().filter(|t| t.name == "stab_w" || (t.name == "synth_w" && t.index == 0));
        let rows: Vec<_> = sees.filter(|t| t.shape.1 == inputs).flat_map(|t| t.range.clone().step_by(inputs)).collect();
        let sources = if new.len() == old.len() {
            old
        } else {
            let strength = |map: &usize| rows.iter().map(|r| self.weights[r + map].powi(2)).sum::<f32>();
            let strongest = old.max_by(|a, b| strength(a).total_cmp(&strength(b)));
            strongest.map_or(0..0, |map| map..map + 1)
        };
        for (to, from) in new.zip(sources) {
            rows.iter().for_each(|r| self.weights[r + to] = self.weights[r + from]);
        }
    }

    fn lay_out(&mut self, pictures: &[Picture], latents: impl Iterator<Item = Latents>) {
        let (spec, finest) = (&self.spec, self.finest);
        for (picture, mut latents) in pictures.iter().zip(latents) {
            let (width, height) = (picture.width, picture.height);
            latents.refine(spec, width, height, finest);
            let known = self.canvases.iter().position(|c| (c.width, c.height) == (width, height));
            let canvas = known.unwrap_or(self.canvases.len());
            if known.is_none() {
                self.canvases.push(Canvas::new(spec, width, height, finest));
            }
            self.parts.push(Part { latents, target: reduced(picture, finest), canvas });
        }
    }

    /// One step on latents and networks.
    pub fn step(&mut self, lambda: f64, anneal: &Anneal) {
        let lambda = anneal.rate_weight * lambda;
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
        let weight = self.pixels / (lambda * self.samples());
        let (beta1, beta2) = anneal.betas;
        let adam = AdamStep { lr: anneal.lr, beta1, beta2, eps: EPS, step: (self.step - self.began) as u32 };
        for (i, part) in self.parts.iter_mut().enumerate() {
            let (latents, c) = (&mut part.latents, &mut self.canvases[part.canvas]);
            latents.quantise(level, &mut c.q, anneal.temperature, sigma, GAIN, seed ^ (i as u64) << 48, step / 2);
            c.dq.iter_mut().for_each(PaddedGrid::clear);
            if look {
                c.rate.forward_backward(level, &self.weights, &c.q, &mut c.dq, Some(&mut self.bits_grad));
                latents.store_rate_gradient(&c.dq);
                c.dq.iter_mut().for_each(PaddedGrid::clear);
            }
            match self.tune {
                Tune::MsSsim if c.similarity_scales() > 0 => {
                    let weight = MS_SSIM_UNIT * weight * part.target.len() as f64;
                    c.dissimilarity(level, &self.spec, &self.weights, &part.target, &mut self.grad, weight as f32)
                }
                _ => c.distortion(level, &self.weights, &part.target, &mut self.grad, weight as f32),
            }
            if anneal.whole > 0.0 {
                add_integer_penalty(level, anneal.whole, &c.q, &mut c.dq);
            }
            latents.adam_step(level, &c.dq, GAIN, &adam);
        }
        self.grad.iter_mut().zip(&self.bits_grad).for_each(|(g, b)| *g += b);
        self.step_networks(lambda, anneal.lr);
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

    /// Samples of all pictures at the stage's scale.
    pub(super) fn samples(&self) -> f64 {
        self.parts.iter().map(|p| p.target.len() as f64).sum()
    }

    /// The codes as integers, each picture's grids whole.
    pub fn codes(&self) -> Vec<Codes> {
        self.parts.iter().map(|p| p.latents.codes(GAIN)).collect()
    }

    /// Sets the latents of grid `g` of picture `n` to zero.
    pub fn prune(&mut self, n: usize, g: usize) {
        self.parts[n].latents.grids[g].y.fill(0.0);
    }

    /// Sets the latent of code `i` of grid `g` of picture `n`.
    pub(super) fn set_code(&mut self, n: usize, g: usize, i: usize, code: i16) {
        self.parts[n].latents.grids[g].y[i] = f32::from(code) / GAIN;
    }

    /// Slopes of `bits + (P / lambda) MSE` by the rounded codes of grid `g` of picture `n`, the networks being of `weights`.
    pub(super) fn slopes(&mut self, n: usize, g: usize, weights: &[f32], lambda: f64) -> &PaddedGrid {
        let (level, weight) = (self.level, self.pixels / (lambda * self.samples()));
        let part = &self.parts[n];
        let c = &mut self.canvases[part.canvas];
        part.latents.round(level, &mut c.q, GAIN);
        c.dq.iter_mut().for_each(PaddedGrid::clear);
        c.rate.forward_backward(level, weights, &c.q, &mut c.dq, None);
        c.distortion(level, weights, &part.target, &mut self.grad, weight as f32);
        &c.dq[g]
    }

    /// Mean squared error of the 8-bit pictures of the rounded codes through `weights`.
    pub fn mse_with(&mut self, weights: &[f32]) -> f64 {
        let (mut sum, level) = (0.0, self.level);
        each_rounded(level, &self.parts, &mut self.canvases, |part, c| {
            sum += c.rounded_error(level, weights, &part.target);
        });
        sum / self.samples()
    }

    /// Bits of the rounded codes through the networks of `weights`, in floats.
    pub fn code_bits_with(&mut self, weights: &[f32]) -> f64 {
        let (mut bits, level) = (0.0, self.level);
        each_rounded(level, &self.parts, &mut self.canvases, |_, c| bits += c.rate.forward(level, weights, &c.q));
        bits
    }

    /// Hard-rounded codes through the float networks: quality of the 8-bit pictures, bytes of the codes.
    /// MS-SSIM is 0 unless `similarity`.
    pub fn measure(&mut self, pictures: &[Picture], similarity: bool) -> Measured {
        let (mut bits, mut sum, mut ms_ssim) = (0.0, 0.0, 0.0);
        let (level, weights, mut pictures) = (self.level, &self.weights, pictures.iter());
        each_rounded(level, &self.parts, &mut self.canvases, |part, c| {
            bits += c.rate.forward(level, weights, &c.q);
            sum += c.rounded_error(level, weights, &part.target);
            if let Some(picture) = pictures.next().filter(|_| similarity && self.finest == 0) {
                ms_ssim += metrics::ms_ssim(picture, &c.picture(level, &self.spec, weights)).unwrap_or(1.0);
            }
        });
        ms_ssim /= self.parts.len() as f64;
        Measured { psnr: -10.0 * (sum / self.samples()).max(1e-10).log10(), ms_ssim, bytes: bits / 8.0 }
    }

    /// All that a later run needs to go on: weights and latents. The optimisers start afresh.
    pub fn save(&self, out: &mut Vec<u8>) {
        let floats = |v: &[f32], out: &mut Vec<u8>| out.extend(v.iter().flat_map(|f| f.to_le_bytes()));
        floats(&self.weights, out);
        for g in self.parts.iter().flat_map(|p| &p.latents.grids) {
            floats(&g.y, out);
        }
    }

    /// The inverse of [`Self::save`] at the same stage; false when `bytes` do not fit.
    pub fn restore(&mut self, bytes: &[u8]) -> bool {
        let grids = self.parts.iter_mut().flat_map(|p| &mut p.latents.grids);
        let targets: Vec<&mut Vec<f32>> = std::iter::once(&mut self.weights).chain(grids.map(|g| &mut g.y)).collect();
        if bytes.len() != 4 * targets.iter().map(|t| t.len()).sum::<usize>() {
            return false;
        }
        let mut values = bytes.chunks_exact(4).map(|b| f32::from_le_bytes([b[0], b[1], b[2], b[3]]));
        targets.into_iter().flatten().zip(&mut values).for_each(|(t, v)| *t = v);
        true
    }
}

/// Shows `f` each part with its rounded codes in its canvas.
pub(super) fn each_rounded<'a>(
    level: Level,
    parts: impl IntoIterator<Item = &'a Part>,
    canvases: &mut [Canvas],
    mut f: impl FnMut(&'a Part, &mut Canvas),
) {
    for part in parts {
        let c = &mut canvases[part.canvas];
        part.latents.round(level, &mut c.q, GAIN);
        f(part, c);
    }
}

/// Adam's epsilon, in bits: latents that hardly matter move little. In these units it means the same at every lambda and
/// size of picture; 1 to 4 serve alike, 0.1 and 20 cost about 1 % of J.
const EPS: f32 = 1.5;

impl Canvas {
    fn new(spec: &PyramidSpec, width: usize, height: usize, finest: u32) -> Canvas {
        let present: Vec<_> = spec.coding_order().into_iter().filter(|g| g.scale >= finest).collect();
        let after = |n: usize| present[n + 1..].iter().filter(|g| !g.hyper).count();
        let buffers = || grid_sizes(spec, width, height, finest).iter().map(|(w, h)| PaddedGrid::new(*w, *h)).collect();
        Canvas {
            width,
            height,
            places: (0..present.len()).map(|n| (!present[n].hyper).then(|| after(n))).collect(),
            q: buffers(),
            dq: buffers(),
            rate: RateModel::new(spec, width, height, finest),
            synth: SynthModel::new(spec, width, height, finest),
            out: Vec::new(),
            dout: Vec::new(),
            scratch: (0..spec.channels).map(|_| Scratch::default()).collect(),
        }
    }

    /// Adds the gradients of `weight *` the sum of squared errors.
    pub(super) fn distortion(&mut self, level: Level, weights: &[f32], target: &[f32], grad: &mut [f32], weight: f32) {
        let views = synthesised(&self.places, &self.q);
        let mut gradients = synthesised_mut(&self.places, &mut self.dq);
        self.synth.forward_backward(level, weights, &views, target, &mut gradients, grad, weight);
    }

    /// Scales of MS-SSIM that the stage's picture has room for.
    fn similarity_scales(&self) -> usize {
        let (w, h) = self.synth.sizes()[0];
        (1..=MS_SSIM_WEIGHTS.len()).rev().find(|&n| w.min(h) >= ms_ssim_min_side(n)).unwrap_or(0)
    }

    /// Adds the gradients of `weight * (1 - MS-SSIM)`, the mean of the channels.
    fn dissimilarity(
        &mut self,
        level: Level,
        spec: &PyramidSpec,
        weights: &[f32],
        target: &[f32],
        grad: &mut [f32],
        weight: f32,
    ) {
        let scales = &MS_SSIM_WEIGHTS[..self.similarity_scales()];
        let (w, h) = self.synth.sizes()[0];
        let views = synthesised(&self.places, &self.q);
        self.out.resize(target.len(), 0.0);
        self.dout.resize(target.len(), 0.0);
        self.synth.forward(level, weights, &views, &mut self.out);
        self.dout.fill(0.0);
        let scale = -weight / spec.channels as f32;
        let planes = target.par_chunks(w * h).zip(self.out.par_chunks(w * h)).zip(self.dout.par_chunks_mut(w * h));
        planes.zip(&mut self.scratch).for_each(|(((a, b), db), scratch)| {
            ms_ssim(level, h, w, scales, a, b, scale, db, scratch);
        });
        let mut gradients = synthesised_mut(&self.places, &mut self.dq);
        self.synth.backward(level, weights, &views, &self.dout, &mut gradients, grad);
    }

    /// Sum of squared errors of the picture rounded to 8 bits.
    fn rounded_error(&mut self, level: Level, weights: &[f32], target: &[f32]) -> f64 {
        self.synth.rounded_error(level, weights, &synthesised(&self.places, &self.q), target)
    }

    /// The 8-bit picture; the stage is the last.
    fn picture(&mut self, level: Level, spec: &PyramidSpec, weights: &[f32]) -> Picture {
        let (n, channels) = (self.width * self.height, spec.channels);
        self.out.resize(n * channels, 0.0);
        self.synth.forward(level, weights, &synthesised(&self.places, &self.q), &mut self.out);
        let sample = |i: usize| (self.out[i % channels * n + i / channels] * 255.0).round() as u8;
        let samples = (0..n * channels).map(sample).collect();
        Picture { width: self.width, height: self.height, channels, samples }
    }
}

/// Synthesised grids at most: two a scale.
const MOST: usize = 2 * 9;

/// The grids of `q` that the synthesis sees, at their places.
pub(super) fn synthesised<'a>(places: &[Option<usize>], q: &'a [PaddedGrid]) -> [PlaneView<'a>; MOST] {
    let mut views = [PlaneView { data: &[], stride: 0 }; MOST];
    for (place, q) in places.iter().zip(q) {
        if let Some(place) = place {
            views[*place] = q.view();
        }
    }
    views
}

fn synthesised_mut<'a>(places: &[Option<usize>], q: &'a mut [PaddedGrid]) -> [PlaneViewMut<'a>; MOST] {
    let mut views = std::array::from_fn(|_| PlaneViewMut { data: &mut [], stride: 0 });
    for (place, q) in places.iter().zip(q) {
        if let Some(place) = place {
            views[*place] = q.view_mut();
        }
    }
    views
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fit::pyramid::plan::Plan;

    /// The second grid of a scale takes after the second, a lone grid after the stronger of two; nothing else changes.
    #[test]
    fn new_grids_inherit_their_place() {
        let pictures = [Picture { width: 64, height: 64, channels: 3, samples: vec![90; 3 * 64 * 64] }];
        let plan = Plan::new(5, 3, 64 * 64, 64, 0.0);
        let mut trainer = Trainer::new(plan.spec.clone(), &pictures, 3, Level::best(), 1, Tune::Psnr);
        let inputs = plan.spec.maps();
        let tensor = |name: &str| plan.spec.tensors().into_iter().find(|t| t.name == name).unwrap().range;
        let (first, bypass) = (tensor("synth_w"), tensor("stab_w"));
        let column = |w: &[f32], map: usize| {
            let rows = first.clone().step_by(inputs).chain(bypass.clone().step_by(inputs));
            rows.map(|r| w[r + map]).collect::<Vec<_>>()
        };
        let mut inherited = |finest: u32, pairs: &[(usize, usize)]| {
            trainer.refine(&pictures, finest, 1.0);
            let before = trainer.weights.clone();
            trainer.inherit();
            for map in 0..inputs {
                let source = pairs.iter().find(|p| p.0 == map).map_or(map, |p| p.1);
                assert_eq!(column(&trainer.weights, map), column(&before, source), "map {map} at 1/2^{finest}");
            }
            // Bar the columns, all is as it was.
            let changed = before.iter().zip(&trainer.weights).filter(|(a, b)| a != b).count();
            assert_eq!(changed, pairs.len() * column(&before, 0).len());
            // The second map of scale 2 is the stronger one when scale 1 comes.
            trainer.weights[bypass.start + 3] = 9.0;
        };
        // Maps: scale 0, scale 1, both of scale 2, both of scale 3, and so on.
        inherited(2, &[(2, 4), (3, 5)]);
        inherited(1, &[(1, 3)]);
        inherited(0, &[(0, 1)]);
    }

    /// Memory grows in the first steps of a stage alone; what a matrix product of the networks' optimiser packs, it gives
    /// back.
    #[test]
    fn steps_take_no_memory() {
        const PACKED: u64 = 64 << 10;
        let (width, height) = (200, 180);
        let sample = |i: usize| (i % 251 * (i / 3 % width) / 200) as u8;
        let samples = (0..3 * width * height).map(sample).collect();
        let pictures = [Picture { width, height, channels: 3, samples }];
        // One thread, this one: the counter counts a thread's.
        let pool = rayon::ThreadPoolBuilder::new().num_threads(1).use_current_thread().build().unwrap();
        pool.install(|| {
            for tune in [Tune::Psnr, Tune::MsSsim] {
                let plan = Plan::new(5, 3, width * height, height, 1e5);
                let mut trainer = Trainer::new(plan.spec.clone(), &pictures, 0, Level::best(), 1, tune);
                let course = plan.course(plan.stages.len() - 1);
                let mut count = |steps: Range<u32>| {
                    let run = |k: u32| trainer.step(1e-3, &course(f64::from(k) / 99.0));
                    allocation_counter::measure(|| steps.for_each(run))
                };
                assert!(count(0..4).bytes_current > 0, "the counter counts");
                // Looks at the bits and new bases of the networks' optimiser are among them.
                let later = count(4..40);
                assert_eq!(later.bytes_current, 0, "{tune:?}");
                assert!(later.bytes_max < PACKED, "{tune:?}: {} bytes", later.bytes_max);
            }
        });
    }
}
