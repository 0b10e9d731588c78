//! How the cost of a fit answers to its weights, measured on samples of the rounded codes and of the picture.

use super::curvature::Curvature;
use super::train::{each_rounded, synthesised, Trainer};
use crate::models::pyramid::spec::Module;
use kernels::fast::context::ContextScratch;
use kernels::fast::gemm::{gemm, Matrix};
use rayon::prelude::*;
use std::ops::Range;

/// Codes of each grid that are looked at, and how many at a time.
const CODES: usize = 4096;
const CHUNK: usize = 256;

/// A prime: codes of a grid are taken from all columns.
const SPREAD: usize = 7919;

/// Pictures, strips of them and rows of these that are looked at; values of all of them.
const PICTURES: usize = 8;
const STRIPS: usize = 8;
const ROWS: usize = 4;
const VALUES: usize = 3072;

/// Move of a weight by which its effect on the picture is measured.
const MOVE: f32 = 1.0 / 512.0;

/// What curvatures have besides on their diagonal: a part of it, and bits for a whole unit. Samples say little of
/// directions that hardly count, and the cost is quadratic in the near only.
const OWN: f64 = 0.1;
const BESIDES: f64 = 1000.0;

/// Part of the largest entry that sums in f32 may be off by.
const NOISE: f64 = 3e-6;

/// Rows of a matrix that one thread adds to.
const BLOCK: usize = 128;

/// A sum of outer products.
struct Gram {
    n: usize,
    sum: Vec<f32>,
}

impl Gram {
    fn new(n: usize) -> Gram {
        Gram { n, sum: vec![0.0; n * n] }
    }

    fn finish(self, scale: f64, own: f64) -> Curvature {
        let mut matrix: Vec<f64> = self.sum.iter().map(|v| scale * f64::from(*v)).collect();
        let largest = matrix.iter().step_by(self.n + 1).fold(0.0, |a: f64, v| a.max(*v));
        let besides = BESIDES.max(NOISE * largest);
        matrix.iter_mut().step_by(self.n + 1).for_each(|v| *v += own * *v + besides);
        Curvature::new(matrix)
    }
}

impl Trainer {
    /// Of the bits of the codes by the weights at `places`: the mean product of the gradients of single codes (their
    /// Fisher information).
    pub(super) fn curvature_of_bits(&mut self, places: &[usize]) -> Curvature {
        let n = places.len();
        let mut gram = Gram::new(n);
        let each = CODES.div_ceil(self.parts.len());
        let mut rows = vec![0f32; CHUNK * n];
        let end = places.iter().max().map_or(0, |p| p + 1);
        let (level, weights) = (self.level, &self.weights);
        each_rounded(level, &self.parts, &mut self.canvases, |_, c| {
            c.rate.forward(level, weights, &c.q);
            let mut samples = Vec::new();
            for (g, (width, height)) in c.rate.sizes().iter().enumerate() {
                let codes = width * height;
                let taken = codes.min(each);
                let weight = (codes as f32 / taken as f32).sqrt();
                samples.extend((0..taken).map(|k| {
                    // Spread over rows and columns alike.
                    let at = (k * codes / taken + k * SPREAD % codes.div_ceil(taken)).min(codes - 1);
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
                    row.iter_mut().zip(places).for_each(|(r, p)| *r = weight * gradient[*p]);
                });
                let rows = Matrix::new(rows, chunk.len(), n);
                gram.sum.par_chunks_mut(BLOCK * n).enumerate().for_each(|(b, sum)| {
                    let block = b * BLOCK..n.min((b + 1) * BLOCK);
                    gemm(1.0, rows.of_columns(block).transposed(), rows, 1.0, sum);
                });
            }
        });
        // In nats, information is the mean square of the gradient, and twice the cost of a move.
        gram.finish(0.5 * std::f64::consts::LN_2, OWN)
    }

    /// The gradient of the bits by the weights at `places`.
    pub(super) fn gradient_of_bits(&mut self, places: &[usize]) -> Vec<f64> {
        let mut gradient = vec![0f32; self.weights.len()];
        let (level, weights) = (self.level, &self.weights);
        each_rounded(level, &self.parts, &mut self.canvases, |_, c| {
            c.rate.forward_backward(level, weights, &c.q, &mut c.dq, Some(&mut gradient));
        });
        places.iter().map(|p| f64::from(gradient[*p])).collect()
    }

    /// Of `(P / lambda) MSE` by the weights at `places`: what each does to the picture, by differences.
    pub(super) fn curvature_of_error(&mut self, places: &[usize], lambda: f64) -> Curvature {
        let n = places.len();
        let mut gram = Gram::new(n);
        let tensors = self.spec.tensors();
        let upsampling: Vec<Range<usize>> =
            tensors.iter().filter(|t| t.module == Module::Upsampling).map(|t| t.range.clone()).collect();
        let upsamples = |p: usize| upsampling.iter().any(|r| r.contains(&p));
        let looked_at = self.parts.len().min(PICTURES);
        let looked_at: Vec<usize> = (0..looked_at).map(|k| k * self.parts.len() / looked_at).collect();
        let mut samples = 0.0;
        let level = self.level;
        each_rounded(level, looked_at.iter().map(|k| &self.parts[*k]), &mut self.canvases, |part, c| {
            let grids = synthesised(&c.places, &c.q);
            let strips = STRIPS.div_ceil(looked_at.len());
            let rows = ROWS.min(c.height);
            let first = |k| (c.height - rows) * (2 * k + 1) / (2 * strips);
            let strips: Vec<_> = (0..strips).map(|k| first(k)..first(k) + rows).collect();
            let every = (strips.len() * rows * c.width * self.spec.channels * looked_at.len() / VALUES) | 1;
            let synth = &mut c.synth;
            let mut values = Vec::new();
            let mut look = |weights: &[f32], coarse: bool, out: &mut Vec<f32>| {
                values.clear();
                synth.rows(level, weights, &grids, &strips, coarse, &mut values);
                out.extend(values.iter().step_by(every));
            };
            let mut weights = self.weights.clone();
            let mut base = Vec::new();
            look(&weights, true, &mut base);
            let mut moves = Vec::with_capacity(n * base.len());
            let mut coarse = false;
            for p in places {
                let kept = weights[*p];
                weights[*p] += MOVE;
                coarse |= upsamples(*p);
                look(&weights, coarse, &mut moves);
                coarse = upsamples(*p);
                weights[*p] = kept;
            }
            let scale = (part.target.len() as f32 / base.len() as f32).sqrt() / MOVE;
            for moved in moves.chunks_exact_mut(base.len()) {
                moved.iter_mut().zip(&base).for_each(|(m, b)| *m = scale * (*m - b));
            }
            let all = Matrix::new(&moves, n, base.len());
            let blocks = gram.sum.par_chunks_mut(BLOCK * n).zip(moves.par_chunks(BLOCK * base.len()));
            blocks.for_each(|(sum, moves)| {
                gemm(1.0, Matrix::new(moves, moves.len() / base.len(), base.len()), all.transposed(), 1.0, sum);
            });
            samples += part.target.len() as f64;
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

    /// A short fit of a picture whose rows are all looked at; `noise` is the number of its noise.
    fn fitted(noise: u64) -> Trainer {
        let (width, height) = (40, STRIPS * ROWS);
        let mut random = Rng::stream(noise, 0, 0);
        let sample = |i: usize| {
            let (x, y) = ((i / 3 % width) as f32, (i / 3 / width) as f32);
            (128.0 + 50.0 * (x * 0.3).sin() * (y * 0.2).cos() + 8.0 * random.normal()) as u8
        };
        let samples = (0..width * height * 3).map(sample).collect();
        reference::short_fit(&[Picture { width, height, channels: 3, samples }], 3, LAMBDA, 300)
    }

    fn places(trainer: &Trainer, modules: &[Module]) -> Vec<usize> {
        let tensors = trainer.spec.tensors();
        tensors.iter().filter(|t| modules.contains(&t.module)).flat_map(|t| t.range.clone()).collect()
    }

    /// What the rounding of one half costs, its own over that of each weight by itself at the same steps.
    fn together_over_alone(trainer: &mut Trainer, modules: &[Module]) -> f64 {
        let (spec, weights) = (trainer.spec.clone(), trainer.weights.clone());
        let of_codes = modules[0] == Module::Context;
        let places = places(trainer, modules);
        let curvature =
            if of_codes { trainer.curvature_of_bits(&places) } else { trainer.curvature_of_error(&places, LAMBDA) };
        let mut cost = |weights: &[f32]| match of_codes {
            true => trainer.code_bits_with(weights),
            false => trainer.pixels() * trainer.mse_with(weights) / LAMBDA,
        };
        let mine: Vec<f64> = places.iter().map(|p| f64::from(weights[*p])).collect();
        let exact = cost(&weights);
        let (mut excess_together, mut excess_alone) = (0.0, 0.0);
        // One rounding has luck, good or bad: the sum over several steps.
        for coarser in 0..4 {
            let exponents = [5, 5, 5, 5, 5, 8, 8, 8].map(|e| e - coarser);
            let mut steps: Vec<f64> = Vec::new();
            for t in spec.tensors().iter().filter(|t| modules.contains(&t.module)) {
                steps.resize(steps.len() + t.range.len(), 0.5f64.powi(exponents[t.group as usize] as i32));
            }
            let mut together = weights.clone();
            places.iter().zip(curvature.round(&mine, &steps)).for_each(|(p, w)| together[*p] = w as f32);
            let rounded = Quantised::new(&spec, &weights, exponents).dequantise(&spec);
            let mut alone = weights.clone();
            places.iter().for_each(|p| alone[*p] = rounded[*p]);
            excess_together += cost(&together) - exact;
            excess_alone += cost(&alone) - exact;
        }
        excess_together / excess_alone
    }

    /// For most fits: at steps as coarse as these the quadratic may fail one (3.8 times the cost in one of twelve).
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

    /// Where the picture is what the fit makes of it, a small move costs what the quadratic says.
    #[test]
    fn curvature_is_that_of_the_error() {
        let mut trainer = fitted(5);
        let places = places(&trainer, &[Module::Upsampling, Module::Synthesis]);
        let weights = trainer.weights.clone();
        let mut out = Vec::new();
        let part = &mut trainer.parts[0];
        let c = &mut trainer.canvases[part.canvas];
        part.latents.round(trainer.level, &mut c.q, GAIN);
        let grids = synthesised(&c.places, &c.q);
        out.resize(part.target.len(), 0.0);
        c.synth.forward(trainer.level, &weights, &grids, &mut out);
        let kept = std::mem::replace(&mut part.target, out);
        let curvature = trainer.curvature_of_error(&places, LAMBDA);
        let mut random = Rng::stream(6, 0, 0);
        for _ in 0..8 {
            let moves: Vec<f64> = places.iter().map(|_| 1e-3 * f64::from(random.normal())).collect();
            let mut moved = weights.clone();
            places.iter().zip(&moves).for_each(|(p, m)| moved[*p] += *m as f32);
            let c = &mut trainer.canvases[0];
            let grids = synthesised(&c.places, &c.q);
            let mut changed = vec![0.0; kept.len()];
            c.synth.forward(trainer.level, &moved, &grids, &mut changed);
            let squares = changed.iter().zip(&trainer.parts[0].target).map(|(a, b)| f64::from(a - b).powi(2));
            let cost = squares.sum::<f64>() / kept.len() as f64 * trainer.pixels() / LAMBDA;
            let besides: f64 = moves.iter().map(|m| BESIDES * m * m).sum();
            let said = curvature.cost(&moves) - besides;
            assert!((cost / said - 1.0).abs() < 0.1, "{cost} bits, where {said} were said");
        }
    }
}
