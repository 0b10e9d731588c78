//! The weights' quantisation steps and roundings, chosen by what they cost: `bits + (P / lambda) MSE` of the file.

use super::curvature::Curvature;
use super::train::Trainer;
use crate::models::pyramid::model::PyramidModel;
use crate::models::pyramid::quantised::Quantised;
use crate::models::pyramid::spec::{Group, Module};
use crate::models::Codes;
use std::ops::RangeInclusive;

/// Where the search starts: networks of codes as many fits end with; upsampling and synthesis two finer, because from steps
/// that are far too coarse (bits were cheap) the next finer ones need not look better.
const START: [u32; Group::COUNT] = [5, 4, 5, 5, 5, 10, 9, 10];

const EXPONENTS: RangeInclusive<u32> = 2..=12;

/// Newton steps towards the optimum at whole codes, and the part of them that is made: the quadratic holds in the near only.
const NEWTON_STEPS: usize = 3;
const NEWTON_PART: f64 = 0.5;

/// Weights that are rounded together: those of context and feature networks move only the bits of the codes, those of
/// upsampling and synthesis only the distortion.
struct Half<'a> {
    trainer: &'a mut Trainer,
    lambda: f64,
    of_codes: bool,
    /// In the flat list of weights.
    places: Vec<usize>,
    /// Of each place, its [`Group`].
    groups: Vec<usize>,
    curvature: Curvature,
}

/// The weights rounded, each half in its turn.
pub fn search(trainer: &mut Trainer, lambda: f64) -> Quantised {
    let mut best = Quantised::new(&trainer.spec, &trainer.weights, START);
    for of_codes in [true, false] {
        let mut half = Half::new(trainer, lambda, of_codes);
        if of_codes {
            settle(half.trainer, &half.curvature, &half.places);
        }
        half.search(&mut best);
    }
    best
}

impl Half<'_> {
    fn new(trainer: &mut Trainer, lambda: f64, of_codes: bool) -> Half<'_> {
        let is_mine = |module| of_codes == matches!(module, Module::Context | Module::Features);
        let tensors: Vec<_> = trainer.spec.tensors().into_iter().filter(|t| is_mine(t.module)).collect();
        let places: Vec<usize> = tensors.iter().flat_map(|t| t.range.clone()).collect();
        let groups = tensors.iter().flat_map(|t| vec![t.group as usize; t.range.len()]).collect();
        let curvature = match of_codes {
            true => trainer.curvature_of_bits(&places),
            false => trainer.curvature_of_error(&places, lambda),
        };
        Half { trainer, lambda, of_codes, places, groups, curvature }
    }

    /// Up and down from the steps of `best`, all groups together, then twice one after the other, as long as it pays.
    fn search(&mut self, best: &mut Quantised) {
        let mut exponents = best.exponents;
        for group in self.each_group() {
            while exponents[group] > 0 && !self.fits(group, exponents[group]) {
                exponents[group] -= 1;
            }
        }
        self.round(best, exponents);
        let mut lowest = self.cost(best);
        let mut trial = best.clone();
        let groups = self.each_group();
        // All together first: where several steps are too coarse at once, a finer one alone need not pay.
        let alone = groups.iter().map(std::slice::from_ref);
        for moved in [&groups[..]].into_iter().chain(alone.clone()).chain(alone) {
            let before = best.exponents;
            for finer in [false, true] {
                // A coarser step that paid came from this finer one.
                if finer && best.exponents != before {
                    break;
                }
                loop {
                    let mut exponents = best.exponents;
                    for g in moved {
                        exponents[*g] = if finer { exponents[*g] + 1 } else { exponents[*g].saturating_sub(1) };
                    }
                    if !moved.iter().all(|g| EXPONENTS.contains(&exponents[*g]) && self.fits(*g, exponents[*g])) {
                        break;
                    }
                    self.round(&mut trial, exponents);
                    let cost = self.cost(&trial);
                    if cost >= lowest {
                        break;
                    }
                    lowest = cost;
                    best.clone_from(&trial);
                }
            }
        }
    }

    /// The groups that have weights here, in the order of the search.
    fn each_group(&self) -> Vec<usize> {
        [5, 6, 7, 0, 1, 2, 3, 4].into_iter().filter(|g| self.groups.contains(g)).collect()
    }

    /// Integers beyond 2047 are not exactly f16, and would saturate.
    fn fits(&self, group: usize, exponent: u32) -> bool {
        let mine = self.places.iter().zip(&self.groups).filter(|(_, g)| **g == group);
        mine.fold(0f32, |a, (p, _)| a.max(self.trainer.weights[*p].abs())) * (1u32 << exponent) as f32 <= 2047.0
    }

    /// Rounds these weights in `q`, the steps being `2^-exponents`.
    fn round(&self, q: &mut Quantised, exponents: [u32; Group::COUNT]) {
        let mut weights = self.trainer.weights.clone();
        let mine: Vec<f64> = self.places.iter().map(|p| f64::from(weights[*p])).collect();
        let steps: Vec<f64> = self.groups.iter().map(|g| 0.5f64.powi(exponents[*g] as i32)).collect();
        self.places.iter().zip(self.curvature.round(&mine, &steps)).for_each(|(p, w)| weights[*p] = w as f32);
        for group in self.each_group() {
            q.requantise(&self.trainer.spec, &weights, group, exponents[group]);
        }
    }

    /// What the file costs with the weights of `q`, in bits, but for what the other half decides.
    fn cost(&mut self, q: &Quantised) -> f64 {
        let spec = &self.trainer.spec;
        let bits: f64 = (0..Group::COUNT).map(|g| q.group_bits(spec, g)).sum();
        let weights = q.dequantise(spec);
        bits + match self.of_codes {
            true => self.trainer.code_bits_with(&weights),
            false => self.trainer.pixels() * self.trainer.mse_with(&weights) / self.lambda,
        }
    }
}

/// Fits the networks of the codes to whole codes: before, they saw them with noise. 0.1 to 0.4 % of their bits.
fn settle(trainer: &mut Trainer, curvature: &Curvature, places: &[usize]) {
    let mut lowest = trainer.code_bits_with(&trainer.weights.clone());
    for _ in 0..NEWTON_STEPS {
        let way = curvature.newton(&trainer.gradient_of_bits(places));
        let mut moved = trainer.weights.clone();
        places.iter().zip(way).for_each(|(p, d)| moved[*p] += (NEWTON_PART * d) as f32);
        let bits = trainer.code_bits_with(&moved);
        if bits >= lowest {
            break;
        }
        (lowest, trainer.weights) = (bits, moved);
    }
}

impl Trainer {
    /// Bits of all codes by the integer networks of `q`.
    pub fn code_bits(&self, q: &Quantised, codes: &[Codes]) -> f64 {
        let model = PyramidModel::from_quantised(self.spec.clone(), q.clone(), false);
        codes.iter().map(|c| model.code_bits(self.level(), c).iter().sum::<f64>()).sum()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fit::pyramid::reference::{short_fit, waves};

    /// Steps that are all four times too coarse: a finer one alone need not pay, all together do.
    #[test]
    fn too_coarse_steps_are_left() {
        let (side, lambda, steps) = (64, 1e-4, 200);
        let mut trainer = short_fit(&[waves(side, 4.0)], 1, lambda, steps);
        let mut q = Quantised::new(&trainer.spec, &trainer.weights, [5, 4, 5, 5, 5, 6, 5, 6]);
        Half::new(&mut trainer, lambda, false).search(&mut q);
        let fitted = trainer.mse_with(&trainer.weights.clone());
        let rounded = trainer.mse_with(&q.dequantise(&trainer.spec));
        assert!(rounded < 1.01 * fitted, "{rounded}, {fitted} before");
    }
}
