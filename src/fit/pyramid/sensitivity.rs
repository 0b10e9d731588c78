//! The curvature of a fit's cost by its weights, measured on samples of the codes and of the picture.

use super::curvature::Curvature;
use super::train::{each_rounded, synthesised, Trainer};
use crate::models::pyramid::spec::Module;
use kernels::fast::context::ContextScratch;
use kernels::fast::gemm::{gemm, Matrix};
use rayon::prelude::*;
use std::ops::Range;

/// Codes of each grid that are sampled, of all pictures together, and how many gradients are held at a time. A quarter of the
/// codes makes up to 0.2 % more J, four times as many up to 0.12 % less and take 1.4 times as long (kodim04, 15 and 23,
/// effort 3).
const CODES: usize = 4096;
const CHUNK: usize = 256;

/// A prime: sample `k` is `k * PRIME` modulo the distance of samples further on than regular sampling, so that the samples
/// are taken from all columns of a grid. Any large prime works.
const PRIME: usize = 7919;

/// Of the pictures: how many are sampled, in how many ranges of rows, how many rows these have, and about how many samples are
/// kept of all of them. A third of the samples makes up to 0.16 % more J, three times as many change it by less than 0.1 %
/// (kodim04, 15 and 23, effort 3).
const PICTURES: usize = 8;
const RANGES: usize = 8;
const ROWS: usize = 4;
const VALUES: usize = 3072;

/// Change of a weight by which its effect on the picture is measured: small enough for a linear effect, large enough for f32.
/// Four times more or less changes J by at most 0.1 % (kodim04, 15 and 23, effort 3).
const CHANGE: f32 = 1.0 / 512.0;

/// What is added to the diagonal of a curvature (damping): a part of it, for the networks of the codes alone, and this many
/// bits for a change of 1. The samples say little about directions that hardly matter, and the cost is quadratic only for
/// small changes. Values between 0.03 and 0.3 and between 100 and 10,000 bits change the cost of the file by less than what
/// a rounding has of luck, 0.06 % (kodim13) and 0.4 % (kodim20).
const RELATIVE_DAMPING: f64 = 0.1;
const DAMPING: f64 = 1000.0;

/// Relative rounding error of sums in f32, in terms of the largest entry: the diagonal has at least this.
const ROUNDING_ERROR: f64 = 3e-6;

/// Rows of a matrix that one thread adds to. Any value of this order works.
const BLOCK: usize = 128;

/// A sum of outer products, `[n][n]`.
struct Gram {
    n: usize,
    sum: Vec<f32>,
}

impl Gram {
    fn new(n: usize) -> Gram {
        Gram { n, sum: vec![0.0; n * n] }
    }

    /// The curvature `scale` times the sum, with damping.
    fn finish(self, scale: f64, relative_damping: f64) -> Curvature {
        let mut matrix: Vec<f64> = self.sum.iter().map(|v| scale * f64::from(*v)).collect();
        let largest = matrix.iter().step_by(self.n + 1).fold(0.0, |a: f64, v| a.max(*v));
        let damping = DAMPING.max(ROUNDING_ERROR * largest);
        matrix.iter_mut().step_by(self.n + 1).for_each(|v| *v += relative_damping * *v + damping);
        Curvature::new(matrix)
    }
}

impl Trainer {
    /// The curvature of the bits of the codes by the weights with these indices: the Fisher information, the mean outer
    /// product of the gradients of single codes.
    pub(super) fn curvature_of_bits(&mut self, indices: &[usize]) -> Curvature {
        let n = indices.len();
        let mut gram = Gram::new(n);
        let each = CODES.div_ceil(self.pictures.len());
        let mut rows = vec![0f32; CHUNK * n];
        let end = indices.iter().max().map_or(0, |p| p + 1);
        let (level, weights) = (self.level, &self.weights);
        each_rounded(level, &self.pictures, &mut self.workspaces, |_, c| {
            c.rate.forward(level, weights, &c.q);
            let mut samples = Vec::new();
            for (g, (width, height)) in c.rate.sizes().iter().enumerate() {
                let codes = width * height;
                let taken = codes.min(each);
                let weight = (codes as f32 / taken as f32).sqrt();
                samples.extend((0..taken).map(|k| {
                    // Spread over all rows and all columns.
                    let at = (k * codes / taken + k * PRIME % codes.div_ceil(taken)).min(codes - 1);
                    (g, (at / width, at % width), weight)
                }));
            }
            for chunk in samples.chunks(CHUNK) {
                let rows = &mut rows[..chunk.len() * n];
                let scratch = || (ContextScratch::default(), vec![0f32; end]);
                let work = rows.par_chunks_mut(n).with_min_len(64).zip(chunk);
                work.for_each_init(scratch, |(scratch, gradient), (row, (g, at, weight))| {
                    gradient.fill(0.0);
                    c.rate.gradient_at(&c.q, *g, *at, gradient, scratch);
                    row.iter_mut().zip(indices).for_each(|(r, p)| *r = weight * gradient[*p]);
                });
                let rows = Matrix::new(rows, chunk.len(), n);
                gram.sum.par_chunks_mut(BLOCK * n).enumerate().for_each(|(b, sum)| {
                    let block = b * BLOCK..n.min((b + 1) * BLOCK);
                    gemm(1.0, rows.of_columns(block).transposed(), rows, 1.0, sum);
                });
            }
        });
        // In nats the Fisher information is the expected square of the gradient and the second derivative of the cost, of
        // which the quadratic form has half.
        gram.finish(0.5 * std::f64::consts::LN_2, RELATIVE_DAMPING)
    }

    /// The gradient of the bits by the weights with these indices.
    pub(super) fn gradient_of_bits(&mut self, indices: &[usize]) -> Vec<f64> {
        let mut gradient = vec![0f32; self.weights.len()];
        let (level, weights) = (self.level, &self.weights);
        each_rounded(level, &self.pictures, &mut self.workspaces, |_, c| {
            c.rate.forward_backward(level, weights, &c.q, &mut c.dq, Some(&mut gradient));
        });
        indices.iter().map(|p| f64::from(gradient[*p])).collect()
    }

    /// The curvature of `(P / lambda) MSE` by the weights with these indices, from the effect of each weight on the picture,
    /// which is measured by finite differences.
    pub(super) fn curvature_of_error(&mut self, indices: &[usize], lambda: f64) -> Curvature {
        let n = indices.len();
        let mut gram = Gram::new(n);
        let tensors = self.spec.tensors();
        let upsampling: Vec<Range<usize>> =
            tensors.iter().filter(|t| t.module == Module::Upsampling).map(|t| t.range.clone()).collect();
        let upsamples = |i: usize| upsampling.iter().any(|r| r.contains(&i));
        let sampled = self.pictures.len().min(PICTURES);
        let sampled: Vec<usize> = (0..sampled).map(|k| k * self.pictures.len() / sampled).collect();
        let mut samples = 0.0;
        let level = self.level;
        each_rounded(level, sampled.iter().map(|k| &self.pictures[*k]), &mut self.workspaces, |p, c| {
            let grids = synthesised(&c.map_of_grid, &c.q);
            let ranges = RANGES.div_ceil(sampled.len());
            let rows = ROWS.min(c.height);
            let first = |k| (c.height - rows) * (2 * k + 1) / (2 * ranges);
            let ranges: Vec<_> = (0..ranges).map(|k| first(k)..first(k) + rows).collect();
            let every = (ranges.len() * rows * c.width * self.spec.channels * sampled.len() / VALUES) | 1;
            let synth = &mut c.synth;
            let mut values = Vec::new();
            let mut sample = |weights: &[f32], changed: bool, out: &mut Vec<f32>| {
                values.clear();
                synth.rows(level, weights, &grids, &ranges, changed, &mut values);
                out.extend(values.iter().step_by(every));
            };
            let mut weights = self.weights.clone();
            let mut base = Vec::new();
            sample(&weights, true, &mut base);
            // The samples with each weight changed, then the derivatives by each weight.
            let mut effects = Vec::with_capacity(n * base.len());
            let mut changed = false;
            for i in indices {
                let kept = weights[*i];
                weights[*i] += CHANGE;
                changed |= upsamples(*i);
                sample(&weights, changed, &mut effects);
                changed = upsamples(*i);
                weights[*i] = kept;
            }
            let scale = (p.target.len() as f32 / base.len() as f32).sqrt() / CHANGE;
            for effect in effects.chunks_exact_mut(base.len()) {
                effect.iter_mut().zip(&base).for_each(|(e, b)| *e = scale * (*e - b));
            }
            let all = Matrix::new(&effects, n, base.len());
            let blocks = gram.sum.par_chunks_mut(BLOCK * n).zip(effects.par_chunks(BLOCK * base.len()));
            blocks.for_each(|(sum, effects)| {
                gemm(1.0, Matrix::new(effects, effects.len() / base.len(), base.len()), all.transposed(), 1.0, sum);
            });
            samples += p.target.len() as f64;
        });
        gram.finish(self.pixels() / (lambda * samples), 0.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fit::pyramid::reference;
    use crate::fit::pyramid::train::GAIN;
    use crate::fit::rng::Rng;
    use crate::image::Picture;
    use crate::models::pyramid::quantised::Quantised;

    const LAMBDA: f64 = 3e-5;

    /// A short fit of a picture whose rows are all sampled; `noise` is the seed of its noise.
    fn fitted(noise: u64) -> Trainer {
        let (width, height) = (40, RANGES * ROWS);
        let mut random = Rng::stream(noise, 0, 0);
        let sample = |i: usize| {
            let (x, y) = ((i / 3 % width) as f32, (i / 3 / width) as f32);
            (128.0 + 50.0 * (x * 0.3).sin() * (y * 0.2).cos() + 8.0 * random.normal()) as u8
        };
        let samples: Vec<u8> = (0..width * height * 3).map(sample).collect();
        reference::short_fit(&[Picture::from_u8(width, height, 3, &samples)], 3, LAMBDA, 300)
    }

    fn indices(trainer: &Trainer, modules: &[Module]) -> Vec<usize> {
        let tensors = trainer.spec.tensors();
        tensors.iter().filter(|t| modules.contains(&t.module)).flat_map(|t| t.range.clone()).collect()
    }

    /// What rounding these modules together costs, over what rounding each weight by itself costs at the same steps.
    fn together_over_alone(trainer: &mut Trainer, modules: &[Module]) -> f64 {
        let (spec, weights) = (trainer.spec.clone(), trainer.weights.clone());
        let of_codes = modules[0] == Module::Context;
        let indices = indices(trainer, modules);
        let curvature =
            if of_codes { trainer.curvature_of_bits(&indices) } else { trainer.curvature_of_error(&indices, LAMBDA) };
        let mut cost = |weights: &[f32]| match of_codes {
            true => trainer.code_bits_with(weights),
            false => trainer.pixels() * trainer.mse_with(weights) / LAMBDA,
        };
        let fitted: Vec<f64> = indices.iter().map(|p| f64::from(weights[*p])).collect();
        let exact = cost(&weights);
        let (mut excess_together, mut excess_alone) = (0.0, 0.0);
        // A single rounding may be lucky or unlucky: the sum over several steps is compared.
        for coarser in 0..4 {
            let exponents = [5, 5, 5, 5, 5, 8, 8, 8].map(|e| e - coarser);
            let mut steps: Vec<f64> = Vec::new();
            for t in spec.tensors().iter().filter(|t| modules.contains(&t.module)) {
                steps.resize(steps.len() + t.range.len(), 0.5f64.powi(exponents[t.group as usize] as i32));
            }
            let mut together = weights.clone();
            indices.iter().zip(curvature.round(&fitted, &steps)).for_each(|(p, w)| together[*p] = w as f32);
            let rounded = Quantised::new(&spec, &weights, exponents).dequantise(&spec);
            let mut alone = weights.clone();
            indices.iter().for_each(|p| alone[*p] = rounded[*p]);
            excess_together += cost(&together) - exact;
            excess_alone += cost(&alone) - exact;
        }
        excess_together / excess_alone
    }

    /// It holds for most fits, not for all: at steps as coarse as these the cost is not always quadratic.
    #[test]
    fn rounding_together_costs_less_than_each_by_itself() {
        let mut fits: Vec<Trainer> = (5..11).map(fitted).collect();
        for modules in [[Module::Context, Module::Features], [Module::Upsampling, Module::Synthesis]] {
            let ratios: Vec<f64> = fits.iter_mut().map(|fit| together_over_alone(fit, &modules)).collect();
            let better = ratios.iter().filter(|ratio| **ratio < 0.7).count();
            let mean = ratios.iter().product::<f64>().powf(1.0 / ratios.len() as f64);
            assert!(better >= 5 && mean < 0.7, "{modules:?}: {ratios:?}");
        }
    }

    /// If the target is the fit's own output, so that the weights are at an optimum, a small change of the weights costs what
    /// the quadratic form says.
    #[test]
    fn curvature_is_that_of_the_error() {
        let mut trainer = fitted(5);
        let indices = indices(&trainer, &[Module::Upsampling, Module::Synthesis]);
        let weights = trainer.weights.clone();
        let mut out = Vec::new();
        let p = &mut trainer.pictures[0];
        let c = &mut trainer.workspaces[p.workspace];
        p.latents.round(trainer.level, &mut c.q, GAIN);
        let grids = synthesised(&c.map_of_grid, &c.q);
        out.resize(p.target.len(), 0.0);
        c.synth.forward(trainer.level, &weights, &grids, &mut out);
        let kept = std::mem::replace(&mut p.target, out);
        let curvature = trainer.curvature_of_error(&indices, LAMBDA);
        let mut random = Rng::stream(6, 0, 0);
        for _ in 0..8 {
            let moves: Vec<f64> = indices.iter().map(|_| 1e-3 * f64::from(random.normal())).collect();
            let mut moved = weights.clone();
            indices.iter().zip(&moves).for_each(|(p, m)| moved[*p] += *m as f32);
            let c = &mut trainer.workspaces[0];
            let grids = synthesised(&c.map_of_grid, &c.q);
            let mut changed = vec![0.0; kept.len()];
            c.synth.forward(trainer.level, &moved, &grids, &mut changed);
            let squares = changed.iter().zip(&trainer.pictures[0].target).map(|(a, b)| f64::from(a - b).powi(2));
            let cost = squares.sum::<f64>() / kept.len() as f64 * trainer.pixels() / LAMBDA;
            let damping: f64 = moves.iter().map(|m| DAMPING * m * m).sum();
            let predicted = curvature.cost(&moves) - damping;
            assert!((cost / predicted - 1.0).abs() < 0.1, "{cost} bits, {predicted} predicted");
        }
    }
}
