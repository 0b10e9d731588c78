//! The last choice of codes, for the file as it will be: one goes up or down by one where that costs less.
//!
//! Codes were fitted to networks in floats and among codes that were not whole yet; both have been rounded since. What a
//! move costs, `bits + (P / lambda) MSE`, is told in advance by slopes, but of a hundred moves that look worth it two (after long fits)
//! to fifty (after short ones) are, and which ones only the integers of the context network and the 8-bit samples tell. So
//! moves are tried, many at a time, so far from each other that none changes what another does, the most promising first.

use super::train::Trainer;
use crate::fit::file::decoded;
use crate::image::Picture;
use crate::metrics::{squares, PEAK_SQUARE};
use crate::models::pyramid::context::Plane;
use crate::models::pyramid::model::PyramidModel;
use crate::models::{Codes, Model};
use kernels::Level;
use std::ops::Range;

/// The coarsest scale whose codes are tried: there are few beyond, and each reaches far.
const COARSEST: u32 = 3;

/// Passes between two looks at the slopes.
const LOOK: usize = 8;

/// A move has to save so much, in bits.
const LEAST: f64 = 0.02;

/// What a move is told to cost, and which it is: twice the code's place, and one more if it goes up.
type Move = (f32, u32);

/// One picture's choice.
struct Choice<'a> {
    model: &'a PyramidModel,
    picture: &'a Picture,
    /// Its number.
    n: usize,
    lambda: f64,
    /// As the file will have them: codes, the picture, and the bits of the codes of each grid, where they count.
    codes: &'a mut Codes,
    decoded: Picture,
    bits: Vec<Vec<f32>>,
}

/// Makes `passes` through each grid of each picture, as long as `go_on` says so. The codes end in `codes` and in the trainer's latents,
/// whose weights are not touched.
pub fn optimise_codes(
    trainer: &mut Trainer,
    model: &PyramidModel,
    pictures: &[Picture],
    codes: &mut [Codes],
    lambda: f64,
    passes: usize,
    go_on: &mut dyn FnMut() -> bool,
) {
    for (n, (picture, codes)) in pictures.iter().zip(codes).enumerate() {
        let decoded = decoded(model, picture, codes);
        let mut choice = Choice { model, picture, n, lambda, codes, decoded, bits: Vec::new() };
        for g in (0..model.grids().len()).rev() {
            if choice.scale(g) <= COARSEST {
                choice.grid(trainer, g, passes, go_on);
            }
        }
    }
}

impl Choice<'_> {
    /// Moves codes of grid `g`.
    fn grid(&mut self, trainer: &mut Trainer, g: usize, passes: usize, go_on: &mut dyn FnMut() -> bool) {
        let scale = self.scale(g);
        // Whole pixels that a move may change, on each side; and codes between two moves.
        let reach: usize = (4 << scale) + 4;
        let apart = (2 * reach + 1).div_ceil(1 << scale);
        let (width, height) = self.size(g);
        if self.codes[g].codes.iter().all(|c| *c == 0) {
            return;
        }
        self.bits = (g..self.codes.len()).map(|i| self.bits_of(i)).collect();
        let curvature = self.curvature(g, apart);
        let mut tried = vec![false; 2 * width * height];
        let mut moves: Vec<Move> = Vec::new();
        for pass in 0..passes {
            if !go_on() {
                return;
            }
            if pass % LOOK == 0 {
                moves = self.moves(trainer, g, curvature, &tried);
                if moves.is_empty() {
                    return;
                }
            }
            if moves.is_empty() {
                continue;
            }
            let mut near = vec![false; width * height];
            let mut chosen: Vec<usize> = Vec::new();
            moves.retain(|&(_, which)| {
                let which = which as usize;
                let i = which / 2;
                if near[i] {
                    return true;
                }
                let (x, y) = (i % width, i / width);
                let columns = x.saturating_sub(apart)..(x + apart + 1).min(width);
                for y in y.saturating_sub(apart)..(y + apart + 1).min(height) {
                    near[y * width..][columns.clone()].fill(true);
                }
                tried[which] = true;
                chosen.push(which);
                false
            });
            self.pass(trainer, g, &chosen, reach);
        }
    }

    /// Makes moves that do not meet, and takes back those that do not pay.
    fn pass(&mut self, trainer: &mut Trainer, g: usize, moves: &[usize], reach: usize) {
        let (scale, (width, _)) = (self.scale(g), self.size(g));
        moves.iter().for_each(|which| self.codes[g].codes[which / 2] += step(*which));
        let mut decoded = decoded(self.model, self.picture, self.codes);
        let mut bits: Vec<Vec<f32>> = (g..self.codes.len()).map(|i| self.bits_of(i)).collect();
        for which in moves {
            let i = which / 2;
            let around = |at: usize, end: usize| {
                let middle = (at << scale) + (1 << scale) / 2;
                middle.saturating_sub(reach)..(middle + reach + 1).min(end)
            };
            let (xs, ys) = (around(i % width, self.picture.width), around(i / width, self.picture.height));
            let rows = self.rows(g, &xs, &ys);
            let change = |&(k, ref at): &(usize, Range<usize>)| -> f64 {
                let pairs = bits[k][at.clone()].iter().zip(&self.bits[k][at.clone()]);
                pairs.map(|(new, old)| f64::from(new - old)).sum()
            };
            let samples = self.samples(&xs, &ys);
            let worse = |at: &Range<usize>| self.error(&decoded, at) - self.error(&self.decoded, at);
            let squares: i64 = samples.iter().map(worse).sum();
            let cost = rows.iter().map(change).sum::<f64>() + squares as f64 * self.bits_a_square();
            if cost < -LEAST {
                trainer.set_code(self.n, g, i, self.codes[g].codes[i]);
            } else {
                self.codes[g].codes[i] -= step(*which);
                rows.iter().for_each(|(k, at)| bits[*k][at.clone()].copy_from_slice(&self.bits[*k][at.clone()]));
                for at in samples {
                    decoded.samples[at.clone()].copy_from_slice(&self.decoded.samples[at]);
                }
            }
        }
        (self.decoded, self.bits) = (decoded, bits);
    }

    /// The moves of grid `g` that have not been tried and look worth it, by what they are told to cost: the error by slope and
    /// curvature, the code's own bits as they are, those of the codes that see it by their slope.
    fn moves(&self, trainer: &mut Trainer, g: usize, curvature: f32, tried: &[bool]) -> Vec<Move> {
        let width = self.size(g).0;
        let slopes = trainer.slopes(self.n, g, self.model.weights(), self.lambda);
        let mut moves = Vec::new();
        for (i, [down, up]) in self.own_bits(g).into_iter().enumerate() {
            // The slope has the code's own bits in it, which are known better.
            let slope = slopes.row(i / width)[i % width] - (up - down) / 2.0;
            let told = [curvature - slope + down, curvature + slope + up];
            let worth = (2 * i..).zip(told).filter(|(which, told)| *told < 0.0 && !tried[*which]);
            moves.extend(worth.map(|(which, told)| (told, which as u32)));
        }
        moves.sort_unstable_by(|a, b| a.0.total_cmp(&b.0).then(a.1.cmp(&b.1)));
        moves
    }

    /// What a move of a code of grid `g` costs by its square, on average: codes `apart` are moved to see it.
    fn curvature(&mut self, g: usize, apart: usize) -> f32 {
        let (width, height) = self.size(g);
        let kept = self.codes[g].codes.clone();
        let mut count = 0;
        for y in (apart.min(height) / 2..height).step_by(apart) {
            for x in (apart.min(width) / 2..width).step_by(apart) {
                let code = &mut self.codes[g].codes[y * width + x];
                *code = code.saturating_add(1);
                count += 1;
            }
        }
        let moved = decoded(self.model, self.picture, self.codes);
        self.codes[g].codes = kept;
        (squares(&moved.samples, &self.decoded.samples) as f64 * self.bits_a_square() / f64::from(count)) as f32
    }

    fn scale(&self, g: usize) -> u32 {
        self.model.grids()[g].shift
    }

    fn size(&self, g: usize) -> (usize, usize) {
        (self.codes[g].rect.width(), self.codes[g].rect.height())
    }

    /// Rows of the bits of grid `g` and those after it within columns and rows of the picture: grid, counted from `g`, and codes.
    fn rows(&self, g: usize, xs: &Range<usize>, ys: &Range<usize>) -> Vec<(usize, Range<usize>)> {
        let of = |k: usize| {
            let (scale, (width, _)) = (self.scale(g + k), self.size(g + k));
            let [xs, ys] = [xs, ys].map(|r| r.start >> scale..r.end.div_ceil(1 << scale));
            ys.map(move |y| (k, y * width + xs.start..y * width + xs.end))
        };
        (0..self.bits.len()).flat_map(of).collect()
    }

    /// The samples of these columns and rows, row by row.
    fn samples(&self, xs: &Range<usize>, ys: &Range<usize>) -> Vec<Range<usize>> {
        let (width, n) = (self.picture.width, self.picture.channels);
        ys.clone().map(|y| (y * width + xs.start) * n..(y * width + xs.end) * n).collect()
    }

    fn error(&self, decoded: &Picture, at: &Range<usize>) -> i64 {
        squares(&decoded.samples[at.clone()], &self.picture.samples[at.clone()]) as i64
    }

    /// What an error of one step of one 8-bit sample costs.
    fn bits_a_square(&self) -> f64 {
        1.0 / (PEAK_SQUARE * self.lambda * self.picture.channels as f64)
    }

    fn planes(&self) -> Vec<Plane<'_>> {
        self.model.planes(self.codes).collect()
    }

    /// Bits of each code of grid `i`.
    fn bits_of(&self, i: usize) -> Vec<f32> {
        self.model.context.each_code(Level::best(), &self.planes(), i, |code, price| price(code))
    }

    /// What each code of grid `g` would cost if it were one less, and one more, beside what it costs.
    fn own_bits(&self, g: usize) -> Vec<[f32; 2]> {
        let moved = |code: i16, price: &dyn Fn(i16) -> f32| {
            let cost = |c: Option<i16>| c.map_or(f32::INFINITY, |c| price(c) - price(code));
            [cost(code.checked_sub(1)), cost(code.checked_add(1))]
        };
        self.model.context.each_code(Level::best(), &self.planes(), g, moved)
    }
}

/// Which way a move goes.
fn step(which: usize) -> i16 {
    [-1, 1][which % 2]
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fit::pyramid::reference::{short_fit, waves};
    use crate::fit::pyramid::weight_steps;
    use crate::fit::Tune;

    const LAMBDA: f64 = 3e-4;

    /// What the file costs but for its weights, in bits.
    fn cost(model: &PyramidModel, pictures: &[Picture], codes: &[Codes]) -> f64 {
        pictures
            .iter()
            .zip(codes)
            .map(|(p, c)| crate::fit::pyramid::prune::cost(model, p, c, LAMBDA, Tune::Psnr) / LAMBDA)
            .sum()
    }

    /// Every move that is kept makes the file cheaper: moves do not meet, and reach no further than is looked.
    #[test]
    fn chosen_codes_cost_less() {
        let pictures = [waves(80, 12.0), waves(112, 5.0)];
        let mut trainer = short_fit(&pictures, 3, LAMBDA, 120);
        let quantised = weight_steps::search(&mut trainer, LAMBDA);
        let model = PyramidModel::from_quantised(trainer.spec.clone(), quantised, false);
        let (fitted, weights) = (trainer.codes(), trainer.weights.clone());
        let mut codes = fitted.clone();
        optimise_codes(&mut trainer, &model, &pictures, &mut codes, LAMBDA, 20, &mut || false);
        assert_eq!(codes, fitted, "no time, no moves");
        optimise_codes(&mut trainer, &model, &pictures, &mut codes, LAMBDA, 20, &mut || true);
        assert_eq!((trainer.codes(), &trainer.weights), (codes.clone(), &weights));
        let grids = |codes: &[Codes]| codes.iter().flatten().flat_map(|g| g.codes.clone()).collect::<Vec<_>>();
        let moved = grids(&codes).iter().zip(grids(&fitted)).filter(|(a, b)| **a != *b).count();
        let saved = cost(&model, &pictures, &fitted) - cost(&model, &pictures, &codes);
        assert!(moved > 100 && saved > LEAST * moved as f64, "{moved} codes moved, {saved} bits saved");
    }
}
