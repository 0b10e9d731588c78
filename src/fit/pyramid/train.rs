//! Gradient descent on codes and networks together. The loss is `bits + (P / lambda) MSE` for `P` pixels: it is `P / lambda`
//! times `MSE + lambda bpp`, so that its unit is the bit.

use super::latents::{add_integer_penalty, grid_sizes, Latents};
use super::padded_grid::PaddedGrid;
use super::plan::Anneal;
use super::rate::RateModel;
use super::synth::SynthModel;
use super::view::{PlaneView, PlaneViewMut};
use super::weight_rate::WeightRate;
use crate::fit::loss::{self, VISUAL_MSE, VISUAL_POWER, VISUAL_UNIT};
use crate::fit::rng::Rng;
use crate::fit::soap::{Shape, Soap, SoapRate};
use crate::fit::target::{Measure, Measured};
use crate::fit::Tune;
use crate::image::{Picture, PixelFormat};
use crate::metrics;
use crate::metrics::ssimulacra2::{self, Original, Work};
use crate::models::pyramid::spec::{Module, PyramidSpec};
use crate::models::Codes;
use kernels::fast::adam::AdamStep;
use kernels::Level;
use rayon::prelude::*;
use std::ops::Range;

/// Codes for each unit of a latent, so that one learning rate suits latents and networks: the weights are of order 0.1, the
/// codes of order 1.
pub(super) const GAIN: f32 = 16.0;

/// The learning rate of the networks over that of the latents. 0.9 and 2 instead make 0.1 % less and 0.4 % more J (effort 5,
/// four Kodak pictures).
const NETWORK_RATE: f32 = 1.3;

/// Bound on the norm of the networks' gradient of `MSE + lambda bpp`, which keeps single steps with huge gradients from spoiling
/// the optimiser's moments. It acts in 0.6 to 4 % of the steps. 0.03, 0.3 and no bound change J by less than the luck of fits
/// (-0.8, -1.5 and -1.1 % on average over kodim04, 15 and 23, effort 1, where single fits differ by 2 to 3 %).
const CLIP: f64 = 0.1;

/// Adam's epsilon, in bits: latents whose gradient is smaller than this hardly move. As a number of bits it means the same at
/// every lambda and size of picture. 1 to 4 do equally well, 0.1 and 20 make about 1 % more J.
const EPS: f32 = 1.5;

/// One picture of the fit at the present stage.
pub(super) struct FitPicture {
    pub latents: Latents,
    /// The picture at the stage's scale, planes of samples in `[0, 1]`.
    pub target: Vec<f32>,
    /// Index of the workspace for its size.
    pub workspace: usize,
    /// The same picture as the eye sees it, if the fit is tuned for it.
    pub original: Option<Original>,
}

/// Working memory of a step for one picture at a time. Nothing in it is kept; pictures of one size share it.
pub(super) struct Workspace {
    /// The largest sample of the pictures.
    peak: u16,
    /// Of the picture at full size.
    pub width: usize,
    pub height: usize,
    /// For each grid that is present: the index of its map, if it is synthesised.
    pub map_of_grid: Vec<Option<usize>>,
    /// The codes of the grids that are present, in coding order.
    pub q: Vec<PaddedGrid>,
    /// The gradient by them.
    pub dq: Vec<PaddedGrid>,
    pub rate: RateModel,
    pub synth: SynthModel,
    /// The picture and the gradient by it, if the distortion is not a sum over pixels.
    out: Vec<f32>,
    dout: Vec<f32>,
    /// Of the visual error.
    eye: Work,
}

/// The state of a fit: networks, latents, and their optimisers.
pub struct Trainer {
    /// The shape of the model.
    pub spec: PyramidSpec,
    /// All weights, flat.
    pub weights: Vec<f32>,
    /// The gradient by the weights.
    grad: Vec<f32>,
    /// Its part from the bits, of the last step that computed it.
    bits_grad: Vec<f32>,
    weight_rate: WeightRate,
    soap: Soap,
    pub(super) pictures: Vec<FitPicture>,
    pub(super) workspaces: Vec<Workspace>,
    /// The stage fits pictures at `1/2^finest`.
    finest: u32,
    pub(super) level: Level,
    seed: u64,
    /// Steps made.
    step: u64,
    /// The step at which the optimiser of the latents was reset.
    reset_step: u64,
    /// Pixels of all pictures at full size.
    pixels: f64,
    tune: Tune,
}

impl Trainer {
    /// Zero latents and random networks; the bias of the stabiliser starts as the mean colour.
    pub fn new(spec: PyramidSpec, pictures: &[Picture], finest: u32, level: Level, seed: u64, tune: Tune) -> Trainer {
        let weights = initial_weights(&spec, pictures, seed);
        let mut trainer = Trainer {
            soap: soap_for(&spec),
            grad: vec![0.0; weights.len()],
            bits_grad: vec![0.0; weights.len()],
            weight_rate: WeightRate::new(&spec),
            weights,
            pictures: Vec::new(),
            workspaces: Vec::new(),
            finest,
            level,
            seed,
            step: 0,
            reset_step: 0,
            pixels: pictures.iter().map(|p| p.pixels() as f64).sum(),
            tune,
            spec,
        };
        trainer.set_pictures(pictures, pictures.iter().map(|_| Latents::default()));
        trainer
    }

    /// Goes on at a finer scale. Latents are multiplied by `kept`, those of the added grids are zero, and the optimiser of the
    /// latents is reset.
    pub fn refine(&mut self, pictures: &[Picture], finest: u32, kept: f32) {
        self.finest = finest;
        self.reset_step = self.step;
        // Freed before the larger workspaces are allocated.
        self.workspaces.clear();
        let shrunk = |mut p: FitPicture| {
            p.latents.shrink(kept);
            p.latents
        };
        let before = std::mem::take(&mut self.pictures);
        self.set_pictures(pictures, before.into_iter().map(shrunk));
    }

    /// Copies the weights with which the synthesis reads the maps of the next coarser scale to the maps of the grids that were
    /// just added; a single grid takes those of the stronger of two. With random weights and zero codes the synthesis would at
    /// first find only the noise of training in these maps, and learn to ignore them.
    pub fn inherit(&mut self) {
        let new = self.spec.maps_of(self.finest, 0);
        let old = self.spec.maps_of(self.finest + 1, 0);
        let inputs = self.spec.maps();
        let tensors = self.spec.tensors();
        let readers = tensors.iter().filter(|t| t.name == "stab_w" || (t.name == "synth_w" && t.index == 0));
        let rows: Vec<_> =
            readers.filter(|t| t.shape.1 == inputs).flat_map(|t| t.range.clone().step_by(inputs)).collect();
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

    /// Sets pictures and workspaces for the present stage.
    fn set_pictures(&mut self, pictures: &[Picture], latents: impl Iterator<Item = Latents>) {
        let (spec, finest) = (&self.spec, self.finest);
        for (picture, mut latents) in pictures.iter().zip(latents) {
            let (width, height) = (picture.width, picture.height);
            latents.refine(spec, width, height, finest);
            let existing = self.workspaces.iter().position(|w| (w.width, w.height) == (width, height));
            let workspace = existing.unwrap_or(self.workspaces.len());
            if existing.is_none() {
                self.workspaces.push(Workspace::new(spec, picture.format.peak(), width, height, finest));
            }
            let target = downsampled(picture, finest);
            let seen = loss::seen(spec.channels);
            let planes = &target[..seen * target.len() / spec.channels];
            let original = (self.tune == Tune::Visual && finest == 0)
                .then(|| Original::new(self.level, planes, seen, width, height, false))
                .flatten();
            self.pictures.push(FitPicture { latents, target, workspace, original });
        }
    }

    /// Makes one step of latents and networks.
    pub fn step(&mut self, lambda: f64, anneal: &Anneal) {
        let lambda = anneal.rate_weight * lambda;
        let (level, seed, step) = (self.level, self.seed, self.step);
        // Each noise is used twice, with opposite signs: momentum cancels most of its effect on the gradients (antithetic
        // variates; Hammersley, Morton, "A new Monte Carlo technique: antithetic variates", 1956).
        let sigma = if step.is_multiple_of(2) { anneal.sigma } else { -anneal.sigma };
        let compute_bits = (step - self.reset_step).is_multiple_of(anneal.bits_every);
        self.step += 1;
        if compute_bits {
            self.bits_grad.fill(0.0);
        }
        self.grad.fill(0.0);
        let weight = self.pixels / (lambda * self.samples());
        let (beta1, beta2) = anneal.betas;
        let adam = AdamStep { lr: anneal.lr, beta1, beta2, eps: EPS, step: (self.step - self.reset_step) as u32 };
        for (i, p) in self.pictures.iter_mut().enumerate() {
            let (latents, c) = (&mut p.latents, &mut self.workspaces[p.workspace]);
            latents.quantise(level, &mut c.q, anneal.temperature, sigma, GAIN, seed ^ (i as u64) << 48, step / 2);
            c.dq.iter_mut().for_each(PaddedGrid::clear);
            if compute_bits {
                c.rate.forward_backward(level, &self.weights, &c.q, &mut c.dq, Some(&mut self.bits_grad));
                latents.store_rate_gradient(&c.dq);
                c.dq.iter_mut().for_each(PaddedGrid::clear);
            }
            match &p.original {
                Some(original) => {
                    c.visual_gradient(level, original, &self.weights, &p.target, &mut self.grad, weight as f32)
                }
                None => c.squared_error_gradient(level, &self.weights, &p.target, &mut self.grad, weight as f32),
            }
            if anneal.integer_penalty > 0.0 {
                add_integer_penalty(level, anneal.integer_penalty, &c.q, &mut c.dq);
            }
            latents.adam_step(level, &c.dq, GAIN, &adam);
        }
        self.grad.iter_mut().zip(&self.bits_grad).for_each(|(g, b)| *g += b);
        self.step_networks(lambda, anneal.lr);
    }

    /// Makes one step of the weights by `grad`.
    fn step_networks(&mut self, lambda: f64, lr: f32) {
        self.weight_rate.add_gradient(&self.weights, &mut self.grad);
        let norm = self.grad.iter().map(|g| (*g as f64).powi(2)).sum::<f64>().sqrt();
        let bound = CLIP * self.pixels / lambda;
        if norm > bound {
            let f = (bound / norm) as f32;
            self.grad.iter_mut().for_each(|g| *g *= f);
        }
        self.soap.step(
            &mut self.weights,
            &self.grad,
            &SoapRate { lr: NETWORK_RATE * lr, eps: EPS, ..Default::default() },
        );
    }

    /// The instructions that the kernels run with.
    pub fn level(&self) -> Level {
        self.level
    }

    /// Pixels of all pictures at full size.
    pub fn pixels(&self) -> f64 {
        self.pixels
    }

    /// Samples of all pictures at the stage's scale.
    pub(super) fn samples(&self) -> f64 {
        self.pictures.iter().map(|p| p.target.len() as f64).sum()
    }

    /// The rounded codes of each picture.
    pub fn codes(&self) -> Vec<Codes> {
        self.pictures.iter().map(|p| p.latents.codes(GAIN)).collect()
    }

    /// Sets the latents of grid `g` of picture `n` to zero.
    pub fn prune(&mut self, n: usize, g: usize) {
        self.pictures[n].latents.grids[g].y.fill(0.0);
    }

    /// Sets the latent of code `i` of grid `g` of picture `n`.
    pub(super) fn set_code(&mut self, n: usize, g: usize, i: usize, code: i16) {
        self.pictures[n].latents.grids[g].y[i] = f32::from(code) / GAIN;
    }

    /// The gradient of `bits + (P / lambda) MSE` by the rounded codes of grid `g` of picture `n`, under networks of `weights`.
    pub(super) fn slopes(&mut self, n: usize, g: usize, weights: &[f32], lambda: f64) -> &PaddedGrid {
        let (level, weight) = (self.level, self.pixels / (lambda * self.samples()));
        let p = &self.pictures[n];
        let c = &mut self.workspaces[p.workspace];
        p.latents.round(level, &mut c.q, GAIN);
        c.dq.iter_mut().for_each(PaddedGrid::clear);
        c.rate.forward_backward(level, weights, &c.q, &mut c.dq, None);
        c.squared_error_gradient(level, weights, &p.target, &mut self.grad, weight as f32);
        &c.dq[g]
    }

    /// Mean squared error of the pictures of the rounded codes under networks of `weights`, samples in `[0, 1]`.
    pub fn mse_with(&mut self, weights: &[f32]) -> f64 {
        let (mut sum, level) = (0.0, self.level);
        each_rounded(level, &self.pictures, &mut self.workspaces, |p, c| {
            sum += c.rounded_error(level, weights, &p.target);
        });
        sum / self.samples()
    }

    /// Bits of the rounded codes under networks of `weights` in floats.
    pub fn code_bits_with(&mut self, weights: &[f32]) -> f64 {
        let (mut bits, level) = (0.0, self.level);
        each_rounded(level, &self.pictures, &mut self.workspaces, |_, c| bits += c.rate.forward(level, weights, &c.q));
        bits
    }

    /// Measures the rounded codes under the present networks in floats: quality of the pictures and bytes of the codes.
    /// The other `measure` is computed in the last stage.
    pub fn measure(&mut self, pictures: &[Picture], measure: Measure) -> Measured {
        let (mut bits, mut sum, mut measured) = (0.0, 0.0, Measured::default());
        let count = self.pictures.len() as f64;
        let (level, weights, mut pictures) = (self.level, &self.weights, pictures.iter());
        each_rounded(level, &self.pictures, &mut self.workspaces, |p, c| {
            bits += c.rate.forward(level, weights, &c.q);
            sum += c.rounded_error(level, weights, &p.target);
            let Some(picture) = pictures.next().filter(|_| self.finest == 0 && measure != Measure::Psnr) else {
                return;
            };
            if let (Measure::Ssimulacra2, Some(original)) = (measure, &p.original) {
                measured.ssimulacra2 += c.score(level, original, weights, p.target.len()) / count;
                return;
            }
            let decoded = c.picture(level, &self.spec, weights, picture.format);
            if measure == Measure::MsSsim {
                measured.ms_ssim += metrics::ms_ssim(picture, &decoded).unwrap_or(1.0) / count;
            } else {
                let seen = |p: &Picture| p.channels(0..loss::seen(p.format.channels));
                measured.ssimulacra2 += metrics::ssimulacra2(&seen(picture), &seen(&decoded)).unwrap_or(100.0) / count;
            }
        });
        Measured { psnr: Measured::new(sum / self.samples(), 0.0).psnr, bytes: bits / 8.0, ..measured }
    }

    /// Appends what a later run needs to go on: weights and latents. Its optimisers start anew.
    pub fn save(&self, out: &mut Vec<u8>) {
        let floats = |v: &[f32], out: &mut Vec<u8>| out.extend(v.iter().flat_map(|f| f.to_le_bytes()));
        floats(&self.weights, out);
        for g in self.pictures.iter().flat_map(|p| &p.latents.grids) {
            floats(&g.y, out);
        }
    }

    /// The inverse of [`Self::save`] at the same stage. Returns false if `bytes` have another length than it expects.
    pub fn restore(&mut self, bytes: &[u8]) -> bool {
        let grids = self.pictures.iter_mut().flat_map(|p| &mut p.latents.grids);
        let targets: Vec<&mut Vec<f32>> = std::iter::once(&mut self.weights).chain(grids.map(|g| &mut g.y)).collect();
        if bytes.len() != 4 * targets.iter().map(|t| t.len()).sum::<usize>() {
            return false;
        }
        let mut values = bytes.chunks_exact(4).map(|b| f32::from_le_bytes([b[0], b[1], b[2], b[3]]));
        targets.into_iter().flatten().zip(&mut values).for_each(|(t, v)| *t = v);
        true
    }
}

/// Runs `f` on each picture and its workspace, in which `q` has its rounded codes.
pub(super) fn each_rounded<'a>(
    level: Level,
    pictures: impl IntoIterator<Item = &'a FitPicture>,
    workspaces: &mut [Workspace],
    mut f: impl FnMut(&'a FitPicture, &mut Workspace),
) {
    for p in pictures {
        let c = &mut workspaces[p.workspace];
        p.latents.round(level, &mut c.q, GAIN);
        f(p, c);
    }
}

impl Workspace {
    fn new(spec: &PyramidSpec, peak: u16, width: usize, height: usize, finest: u32) -> Workspace {
        let present: Vec<_> = spec.coding_order().into_iter().filter(|g| g.scale >= finest).collect();
        // The last coded grid has the first map.
        let map = |n: usize| present[n + 1..].iter().filter(|g| !g.hyper).count();
        let buffers = || grid_sizes(spec, width, height, finest).iter().map(|(w, h)| PaddedGrid::new(*w, *h)).collect();
        Workspace {
            peak,
            width,
            height,
            map_of_grid: (0..present.len()).map(|n| (!present[n].hyper).then(|| map(n))).collect(),
            q: buffers(),
            dq: buffers(),
            rate: RateModel::new(spec, width, height, finest),
            synth: SynthModel::new(spec, width, height, finest),
            out: Vec::new(),
            dout: Vec::new(),
            eye: Work::default(),
        }
    }

    /// Adds the gradients of `weight` times the sum of squared errors: by the codes to `dq`, by the weights to `grad`.
    fn squared_error_gradient(&mut self, level: Level, weights: &[f32], target: &[f32], grad: &mut [f32], weight: f32) {
        let views = synthesised(&self.map_of_grid, &self.q);
        let mut gradients = synthesised_mut(&self.map_of_grid, &mut self.dq);
        self.synth.forward_backward(level, weights, &views, target, &mut gradients, grad, weight);
    }

    /// Adds the gradients of `weight` times the [visual](crate::fit::loss::visual) distortion times the number of samples: by the codes to `dq`, by the weights
    /// to `grad`.
    fn visual_gradient(
        &mut self,
        level: Level,
        original: &Original,
        weights: &[f32],
        target: &[f32],
        grad: &mut [f32],
        weight: f32,
    ) {
        /// Samples that one thread takes at a time.
        const ROWS: usize = 1 << 14;
        /// A score of 99.9. Nearer to equality the power is too steep.
        const LEAST_ERRORS: f64 = 2e-4;
        let views = synthesised(&self.map_of_grid, &self.q);
        self.out.resize(target.len(), 0.0);
        self.dout.resize(target.len(), 0.0);
        self.synth.forward(level, weights, &views, &mut self.out);
        let seen = original.samples();
        let by_squares = |range: Range<usize>, dout: &mut [f32], share: f64| {
            let factor = (2.0 * f64::from(weight) * share) as f32;
            let planes = self.out[range.clone()].par_chunks(ROWS).zip(target[range].par_chunks(ROWS));
            dout.par_chunks_mut(ROWS)
                .zip(planes)
                .for_each(|(d, (o, t))| d.iter_mut().zip(o).zip(t).for_each(|((d, o), t)| *d = factor * (o - t)));
        };
        let (looked_at, others) = self.dout.split_at_mut(seen);
        by_squares(0..seen, looked_at, VISUAL_MSE);
        by_squares(seen..target.len(), others, 1.0);
        let weight = f64::from(weight) * target.len() as f64;
        let by_errors = |sum: f64| VISUAL_UNIT * VISUAL_POWER * sum.max(LEAST_ERRORS).powf(VISUAL_POWER - 1.0);
        let scale = |sum: f64| (weight * by_errors(sum)) as f32;
        original.error_gradient(&self.out[..seen], scale, &mut self.eye, looked_at);
        let mut gradients = synthesised_mut(&self.map_of_grid, &mut self.dq);
        self.synth.backward(level, weights, &views, &self.dout, &mut gradients, grad);
    }

    /// Sum of squared errors of the picture rounded to integer samples.
    fn rounded_error(&mut self, level: Level, weights: &[f32], target: &[f32]) -> f64 {
        self.synth.rounded_error(level, weights, &synthesised(&self.map_of_grid, &self.q), target, self.peak.into())
    }

    /// The SSIMULACRA2 score of the codes `q`, whose picture has `samples` samples, in the last stage.
    fn score(&mut self, level: Level, original: &Original, weights: &[f32], samples: usize) -> f64 {
        self.out.resize(samples, 0.0);
        self.synth.forward(level, weights, &synthesised(&self.map_of_grid, &self.q), &mut self.out);
        ssimulacra2::score_of(original.error(&self.out[..original.samples()], &mut self.eye))
    }

    /// The picture of the codes `q`, in the last stage.
    fn picture(&mut self, level: Level, spec: &PyramidSpec, weights: &[f32], format: PixelFormat) -> Picture {
        let (n, channels) = (self.width * self.height, spec.channels);
        self.out.resize(n * channels, 0.0);
        self.synth.forward(level, weights, &synthesised(&self.map_of_grid, &self.q), &mut self.out);
        let sample = |i: usize| (self.out[i % channels * n + i / channels] * f32::from(self.peak)).round() as u16;
        let samples = (0..n * channels).map(sample).collect();
        Picture { width: self.width, height: self.height, format, samples }
    }
}

/// Most synthesised grids: two at each of 9 scales.
const MAX_MAPS: usize = 2 * 9;

/// The grids of `q` that are synthesised, in the order of their maps.
pub(super) fn synthesised<'a>(map_of_grid: &[Option<usize>], q: &'a [PaddedGrid]) -> [PlaneView<'a>; MAX_MAPS] {
    let mut views = [PlaneView { data: &[], stride: 0 }; MAX_MAPS];
    for (map, q) in map_of_grid.iter().zip(q) {
        if let Some(map) = map {
            views[*map] = q.view();
        }
    }
    views
}

/// As [`synthesised`].
fn synthesised_mut<'a>(map_of_grid: &[Option<usize>], q: &'a mut [PaddedGrid]) -> [PlaneViewMut<'a>; MAX_MAPS] {
    let mut views = std::array::from_fn(|_| PlaneViewMut { data: &mut [], stride: 0 });
    for (map, q) in map_of_grid.iter().zip(q) {
        if let Some(map) = map {
            views[*map] = q.view_mut();
        }
    }
    views
}

/// Planes of the picture at `1/2^shift`, samples in `[0, 1]`: means of the pixels that a coarser pixel covers.
fn downsampled(picture: &Picture, shift: u32) -> Vec<f32> {
    let (w, h, n) = (picture.width, picture.height, picture.format.channels);
    let peak = f32::from(picture.format.peak());
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
                    .map(|i| u32::from(picture.samples[i]))
                    .sum();
                out.push(sum as f32 / (peak * count));
            }
        }
    }
    out
}

/// The optimiser of the networks.
fn soap_for(spec: &PyramidSpec) -> Soap {
    Soap::new(spec.tensors().iter().map(|t| Shape { start: t.range.start, rows: t.shape.0, cols: t.shape.1 }))
}

/// The networks before the first step. The hidden layers of the context network, which are residual, start as the identity,
/// and so do the 3x3 layers; the upsampling starts as bicubic interpolation; everything else is small and random.
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
/// The identity. A grid is added to its filtered self, so that maps start as twice their grids.
const PRE: [f32; 4] = [0.0, 0.0, 0.0, 1.0];

/// The mean sample of each channel, in `[0, 1]`.
fn mean_colour(pictures: &[Picture], out: &mut [f32]) {
    let pixels: usize = pictures.iter().map(|p| p.pixels()).sum();
    let peak = pictures.first().map_or(1.0, |p| f64::from(p.format.peak()));
    for (c, o) in out.iter_mut().enumerate() {
        let samples = |p: &Picture| p.samples[c..].iter().step_by(p.format.channels).map(|s| *s as u64).sum::<u64>();
        *o = (pictures.iter().map(samples).sum::<u64>() as f64 / (peak * pixels as f64)) as f32;
    }
}

/// Uniform numbers in `(-a, a)` with `a = 1 / (outputs^2 sqrt(inputs))`, as Cool-chic starts its synthesis.
fn uniform(random: &mut Rng, w: &mut [f32], (outputs, inputs): (usize, usize)) {
    let a = 1.0 / ((outputs * outputs) as f32 * (inputs as f32).sqrt());
    w.iter_mut().for_each(|w| *w = a * (2.0 * random.unit() - 1.0));
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fit::pyramid::plan::Plan;

    /// Of two new maps each inherits from the one of its number, a single one from the stronger of two; nothing else changes.
    #[test]
    fn new_maps_inherit_their_weights() {
        let pictures = [Picture::from_u8(64, 64, 3, &vec![90; 3 * 64 * 64])];
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
            // Nothing outside these columns has changed.
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

    /// Only the first steps of a stage allocate memory that they keep; the matrix products of the networks' optimiser allocate
    /// a little and free it.
    #[test]
    fn steps_take_no_memory() {
        const PACKED: u64 = 64 << 10;
        let (width, height) = (200, 180);
        let sample = |i: usize| (i % 251 * (i / 3 % width) / 200) as u8;
        let samples: Vec<u8> = (0..3 * width * height).map(sample).collect();
        let pictures = [Picture::from_u8(width, height, 3, &samples)];
        // The counter counts the allocations of one thread.
        let pool = rayon::ThreadPoolBuilder::new().num_threads(1).use_current_thread().build().unwrap();
        pool.install(|| {
            for tune in [Tune::Psnr, Tune::Visual] {
                let plan = Plan::new(5, 3, width * height, height, 1e5);
                let mut trainer = Trainer::new(plan.spec.clone(), &pictures, 0, Level::best(), 1, tune);
                let course = plan.course(plan.stages.len() - 1);
                let mut count = |steps: Range<u32>| {
                    let run = |k: u32| trainer.step(1e-3, &course(f64::from(k) / 99.0));
                    allocation_counter::measure(|| steps.for_each(run))
                };
                assert!(count(0..4).bytes_current > 0, "the counter counts");
                // Among these are steps that compute the bits, and steps that refresh the bases of the networks' optimiser.
                let later = count(4..40);
                assert_eq!(later.bytes_current, 0, "{tune:?}");
                assert!(later.bytes_max < PACKED, "{tune:?}: {} bytes", later.bytes_max);
            }
        });
    }
}
