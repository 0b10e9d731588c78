//! Rate-distortion optimisation of the final codes: single codes go up or down by one where that makes the file cheaper.
//!
//! The fit moved real-valued codes under networks in floats. Both have been rounded since, so that some codes are no longer
//! the best ones. What a move costs, `bits + (P / lambda) MSE`, can be estimated from gradients. But of a hundred moves with a
//! negative estimate only two (after long fits) to fifty (after short ones) really save something. So moves are tried, the
//! best estimates first, and judged by their exact cost: the bits by the integer context network and the error of the 8-bit
//! samples. Many moves are tried at once, at distances at which none changes what another does.

use super::train::Trainer;
use crate::fit::file::decoded;
use crate::image::Picture;
use crate::metrics::squares;
use crate::models::pyramid::context::Plane;
use crate::models::pyramid::model::PyramidModel;
use crate::models::{Codes, Model};
use kernels::Level;
use std::ops::Range;

/// The coarsest scale whose codes are tried. Coarser scales have few codes, and each reaches so far that few can be tried at
/// once: including the next one saves 0.01 % of J more, leaving this one out loses 0.08 % (kodim04, 15 and 23, effort 3).
const COARSEST: u32 = 3;

/// Passes between two computations of the gradients, each of which takes as long as a step of the fit. Moves change the
/// gradients in their neighbourhood only: 2 to 16 give the same J within 0.03 % (kodim04, 15 and 23, effort 3).
const PASSES_PER_GRADIENT: usize = 8;

/// A move must save at least this many bits. It excludes moves whose saving is within the rounding of f32 sums; 0 to 0.5 give
/// the same J within 0.01 % (kodim04, 15 and 23, effort 3).
const MIN_SAVING: f64 = 0.02;

/// A change of one code by one.
#[derive(Clone, Copy)]
struct Move {
    /// What it is estimated to cost, in bits.
    estimate: f32,
    /// Twice the index of the code, plus one if the code goes up.
    id: u32,
}

/// Index of the code of a move.
fn code_of(id: u32) -> usize {
    id as usize / 2
}

/// Which way a move goes.
fn step_of(id: u32) -> i16 {
    [-1, 1][id as usize % 2]
}

/// The optimisation of one picture's codes.
struct CodeSearch<'a> {
    model: &'a PyramidModel,
    picture: &'a Picture,
    /// Index of the picture in the trainer.
    index: usize,
    lambda: f64,
    codes: &'a mut Codes,
    /// The picture that the codes decode to.
    decoded: Picture,
    /// While a grid is optimised: the bits of each code of this grid and of those that are coded after it.
    bits: Vec<Vec<f32>>,
}

/// Makes up to `passes` passes through each grid of each picture, as long as `go_on` returns true. The final codes are in
/// `codes` and in the trainer's latents; its weights do not change.
pub fn optimise_codes(
    trainer: &mut Trainer,
    model: &PyramidModel,
    pictures: &[Picture],
    codes: &mut [Codes],
    lambda: f64,
    passes: usize,
    go_on: &mut dyn FnMut() -> bool,
) {
    for (index, (picture, codes)) in pictures.iter().zip(codes).enumerate() {
        let decoded = decoded(model, picture, codes);
        let mut search = CodeSearch { model, picture, index, lambda, codes, decoded, bits: Vec::new() };
        for g in (0..model.grids().len()).rev() {
            if search.scale(g) <= COARSEST {
                search.optimise_grid(trainer, g, passes, go_on);
            }
        }
    }
}

impl CodeSearch<'_> {
    fn optimise_grid(&mut self, trainer: &mut Trainer, g: usize, passes: usize, go_on: &mut dyn FnMut() -> bool) {
        let scale = self.scale(g);
        // How many pixels a move may change on each side, and the distance between moves that are tried at once, in codes.
        let reach: usize = (4 << scale) + 4;
        let distance = (2 * reach + 1).div_ceil(1 << scale);
        let (width, height) = self.size(g);
        if self.codes[g].codes.iter().all(|c| *c == 0) {
            return;
        }
        self.bits = (g..self.codes.len()).map(|i| self.code_bits(i)).collect();
        let curvature = self.curvature(g, distance);
        let mut tried = vec![false; 2 * width * height];
        let mut moves: Vec<Move> = Vec::new();
        for pass in 0..passes {
            if !go_on() {
                return;
            }
            if pass % PASSES_PER_GRADIENT == 0 {
                moves = self.promising_moves(trainer, g, curvature, &tried);
                if moves.is_empty() {
                    return;
                }
            }
            if moves.is_empty() {
                continue;
            }
            // The codes that are too near to a chosen move.
            let mut blocked = vec![false; width * height];
            let mut chosen: Vec<u32> = Vec::new();
            moves.retain(|&Move { id, .. }| {
                let i = code_of(id);
                if blocked[i] {
                    return true;
                }
                let (x, y) = (i % width, i / width);
                let columns = x.saturating_sub(distance)..(x + distance + 1).min(width);
                for y in y.saturating_sub(distance)..(y + distance + 1).min(height) {
                    blocked[y * width..][columns.clone()].fill(true);
                }
                tried[id as usize] = true;
                chosen.push(id);
                false
            });
            self.try_moves(trainer, g, &chosen, reach);
        }
    }

    /// Makes moves that do not influence each other, and takes back those that do not save enough.
    fn try_moves(&mut self, trainer: &mut Trainer, g: usize, moves: &[u32], reach: usize) {
        let (scale, (width, _)) = (self.scale(g), self.size(g));
        moves.iter().for_each(|id| self.codes[g].codes[code_of(*id)] += step_of(*id));
        let mut decoded = decoded(self.model, self.picture, self.codes);
        let mut bits: Vec<Vec<f32>> = (g..self.codes.len()).map(|i| self.code_bits(i)).collect();
        for id in moves {
            let i = code_of(*id);
            let around = |at: usize, end: usize| {
                let middle = (at << scale) + (1 << scale) / 2;
                middle.saturating_sub(reach)..(middle + reach + 1).min(end)
            };
            let (xs, ys) = (around(i % width, self.picture.width), around(i / width, self.picture.height));
            let codes = self.codes_within(g, &xs, &ys);
            let change = |&(k, ref at): &(usize, Range<usize>)| -> f64 {
                let pairs = bits[k][at.clone()].iter().zip(&self.bits[k][at.clone()]);
                pairs.map(|(new, old)| f64::from(new - old)).sum()
            };
            let samples = self.samples_within(&xs, &ys);
            let error_change = |at: &Range<usize>| self.squares(&decoded, at) - self.squares(&self.decoded, at);
            let squares: i64 = samples.iter().map(error_change).sum();
            let cost = codes.iter().map(change).sum::<f64>() + squares as f64 * self.bits_per_square();
            if cost < -MIN_SAVING {
                trainer.set_code(self.index, g, i, self.codes[g].codes[i]);
            } else {
                self.codes[g].codes[i] -= step_of(*id);
                codes.iter().for_each(|(k, at)| bits[*k][at.clone()].copy_from_slice(&self.bits[*k][at.clone()]));
                for at in samples {
                    decoded.samples[at.clone()].copy_from_slice(&self.decoded.samples[at]);
                }
            }
        }
        (self.decoded, self.bits) = (decoded, bits);
    }

    /// The moves of grid `g` that were not tried yet and have a negative estimate, the lowest first. The estimate has the
    /// error by its gradient and mean curvature, the bits of the code itself exactly, and the bits of the codes that have it as
    /// a context by their gradient.
    fn promising_moves(&self, trainer: &mut Trainer, g: usize, curvature: f32, tried: &[bool]) -> Vec<Move> {
        let width = self.size(g).0;
        let slopes = trainer.slopes(self.index, g, self.model.weights(), self.lambda);
        let mut moves = Vec::new();
        for (i, [down, up]) in self.bit_changes(g).into_iter().enumerate() {
            // The gradient includes the code's own bits, which `down` and `up` have exactly.
            let slope = slopes.row(i / width)[i % width] - (up - down) / 2.0;
            let estimates = [curvature - slope + down, curvature + slope + up];
            let both = (2 * i as u32..).zip(estimates).map(|(id, estimate)| Move { estimate, id });
            moves.extend(both.filter(|m| m.estimate < 0.0 && !tried[m.id as usize]));
        }
        moves.sort_unstable_by(|a, b| a.estimate.total_cmp(&b.estimate).then(a.id.cmp(&b.id)));
        moves
    }

    /// The mean increase of the error, in bits, by a change of one code of grid `g`, beside the part that its gradient has:
    /// measured by changing all codes at this distance from each other at once.
    fn curvature(&mut self, g: usize, distance: usize) -> f32 {
        let (width, height) = self.size(g);
        let kept = self.codes[g].codes.clone();
        let mut count = 0;
        for y in (distance.min(height) / 2..height).step_by(distance) {
            for x in (distance.min(width) / 2..width).step_by(distance) {
                let code = &mut self.codes[g].codes[y * width + x];
                *code = code.saturating_add(1);
                count += 1;
            }
        }
        let changed = decoded(self.model, self.picture, self.codes);
        self.codes[g].codes = kept;
        (squares(&changed.samples, &self.decoded.samples) as f64 * self.bits_per_square() / f64::from(count)) as f32
    }

    /// Scale of grid `g`.
    fn scale(&self, g: usize) -> u32 {
        self.model.grids()[g].shift
    }

    /// Width and height of grid `g`.
    fn size(&self, g: usize) -> (usize, usize) {
        (self.codes[g].rect.width(), self.codes[g].rect.height())
    }

    /// The codes of grid `g` and of those after it within these columns and rows of pixels, row by row: the grid, counted from
    /// `g`, and a range of its codes.
    fn codes_within(&self, g: usize, xs: &Range<usize>, ys: &Range<usize>) -> Vec<(usize, Range<usize>)> {
        let rows = |k: usize| {
            let (scale, (width, _)) = (self.scale(g + k), self.size(g + k));
            let [xs, ys] = [xs, ys].map(|r| r.start >> scale..r.end.div_ceil(1 << scale));
            ys.map(move |y| (k, y * width + xs.start..y * width + xs.end))
        };
        (0..self.bits.len()).flat_map(rows).collect()
    }

    /// The samples within these columns and rows of pixels, row by row.
    fn samples_within(&self, xs: &Range<usize>, ys: &Range<usize>) -> Vec<Range<usize>> {
        let (width, n) = (self.picture.width, self.picture.format.channels);
        ys.clone().map(|y| (y * width + xs.start) * n..(y * width + xs.end) * n).collect()
    }

    /// Sum of squared errors of these samples of `decoded`.
    fn squares(&self, decoded: &Picture, at: &Range<usize>) -> i64 {
        squares(&decoded.samples[at.clone()], &self.picture.samples[at.clone()]) as i64
    }

    /// What one unit of squared error of samples costs, in bits.
    fn bits_per_square(&self) -> f64 {
        1.0 / (f64::from(self.picture.format.peak()).powi(2) * self.lambda * self.picture.format.channels as f64)
    }

    /// The grids as the context network takes them.
    fn planes(&self) -> Vec<Plane<'_>> {
        self.model.planes(self.codes).collect()
    }

    /// Bits of each code of grid `i`.
    fn code_bits(&self, i: usize) -> Vec<f32> {
        self.model.context.each_code(Level::best(), &self.planes(), i, |code, price| price(code))
    }

    /// By how many bits of its own each code of grid `g` would change if it went down by one, and up by one.
    fn bit_changes(&self, g: usize) -> Vec<[f32; 2]> {
        let changes = |code: i16, price: &dyn Fn(i16) -> f32| {
            let change = |c: Option<i16>| c.map_or(f32::INFINITY, |c| price(c) - price(code));
            [change(code.checked_sub(1)), change(code.checked_add(1))]
        };
        self.model.context.each_code(Level::best(), &self.planes(), g, changes)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fit::pyramid::reference::{short_fit, waves};
    use crate::fit::pyramid::weight_steps;
    use crate::fit::Tune;

    const LAMBDA: f64 = 3e-4;

    /// The cost of the file without its weights, in bits.
    fn cost(model: &PyramidModel, pictures: &[Picture], codes: &[Codes]) -> f64 {
        pictures
            .iter()
            .zip(codes)
            .map(|(p, c)| {
                let mut judge = crate::fit::loss::Judge::new(Tune::Psnr, p);
                crate::fit::pyramid::prune::cost(model, &mut judge, p, c, LAMBDA) / LAMBDA
            })
            .sum()
    }

    /// Every move that is kept makes the file cheaper: moves that are tried at once do not influence each other, and change
    /// nothing outside the pixels and codes that are compared.
    #[test]
    fn optimised_codes_cost_less() {
        let pictures = [waves(80, 12.0), waves(112, 5.0)];
        let mut trainer = short_fit(&pictures, 3, LAMBDA, 120);
        let quantised = weight_steps::search(&mut trainer, LAMBDA);
        let model = PyramidModel::from_quantised(trainer.spec.clone(), quantised, false);
        let (fitted, weights) = (trainer.codes(), trainer.weights.clone());
        let mut codes = fitted.clone();
        optimise_codes(&mut trainer, &model, &pictures, &mut codes, LAMBDA, 20, &mut || false);
        assert_eq!(codes, fitted, "no moves without time");
        optimise_codes(&mut trainer, &model, &pictures, &mut codes, LAMBDA, 20, &mut || true);
        assert_eq!((trainer.codes(), &trainer.weights), (codes.clone(), &weights));
        let grids = |codes: &[Codes]| codes.iter().flatten().flat_map(|g| g.codes.clone()).collect::<Vec<_>>();
        let moved = grids(&codes).iter().zip(grids(&fitted)).filter(|(a, b)| **a != *b).count();
        let saved = cost(&model, &pictures, &fitted) - cost(&model, &pictures, &codes);
        assert!(moved > 100 && saved > MIN_SAVING * moved as f64, "{moved} codes moved, {saved} bits saved");
    }
}
