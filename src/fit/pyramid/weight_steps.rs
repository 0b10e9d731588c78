//! The quantisation of the weights: a step for each group, and the rounding of each weight, by the cost of the file,
//! `bits + (P / lambda) MSE`.

use super::curvature::Curvature;
use super::train::Trainer;
use crate::entropy::weights::MAX_VALUE;
use crate::models::pyramid::model::PyramidModel;
use crate::models::pyramid::quantised::Quantised;
use crate::models::pyramid::spec::{Group, Module};
use crate::models::Codes;
use std::ops::RangeInclusive;

/// The exponents (steps are `2^-exponent`) at which the search starts, by [`Group`]. Those of the networks of the codes are
/// typical ends of the search; those of upsampling and synthesis are finer than typical ends, because from steps that are far
/// too coarse the next finer one need not be better. From two less up to one more for all groups the search ends at the same
/// steps (kodim04, 15 and 23, effort 3, lambda 0.004).
const START_EXPONENTS: [u32; Group::COUNT] = [5, 4, 5, 5, 5, 10, 9, 10];

/// The exponents that are tried: steps from 1/4 to 1/4096. Searches at lambda 0.004 end between 2 and 8 (kodim04, 15 and 23,
/// effort 3), at smaller lambdas at finer steps.
const EXPONENTS: RangeInclusive<u32> = 2..=12;

/// Most Newton steps of [`refit`], and the fraction of each that is made, because the cost is quadratic only for small
/// changes. One step, or six, and fractions from 0.25 to 0.5 change J by at most 0.1 %; whole steps make up to 0.3 % more
/// (kodim04, 15 and 23, effort 3). A step that does not pay is not made.
const NEWTON_STEPS: usize = 3;
const NEWTON_FRACTION: f64 = 0.5;

/// Weights that are rounded together, so that their errors compensate each other: those of the context and feature networks,
/// which change only the bits of the codes, or those of upsampling and synthesis, which change only the distortion.
struct JointRounding<'a> {
    trainer: &'a mut Trainer,
    lambda: f64,
    /// Whether these are the networks of the codes.
    of_codes: bool,
    /// Indices in the flat list of all weights.
    indices: Vec<usize>,
    /// The [`Group`] of each.
    groups: Vec<usize>,
    /// Of the cost by these weights.
    curvature: Curvature,
}

/// Quantises the weights: first those of the networks of the codes, then those of upsampling and synthesis.
pub fn search(trainer: &mut Trainer, lambda: f64) -> Quantised {
    let mut best = Quantised::new(&trainer.spec, &trainer.weights, START_EXPONENTS);
    for of_codes in [true, false] {
        let mut rounding = JointRounding::new(trainer, lambda, of_codes);
        if of_codes {
            refit(rounding.trainer, &rounding.curvature, &rounding.indices);
        }
        rounding.search(&mut best);
    }
    best
}

impl JointRounding<'_> {
    fn new(trainer: &mut Trainer, lambda: f64, of_codes: bool) -> JointRounding<'_> {
        let is_mine = |module| of_codes == matches!(module, Module::Context | Module::Features);
        let tensors: Vec<_> = trainer.spec.tensors().into_iter().filter(|t| is_mine(t.module)).collect();
        let indices: Vec<usize> = tensors.iter().flat_map(|t| t.range.clone()).collect();
        let groups = tensors.iter().flat_map(|t| vec![t.group as usize; t.range.len()]).collect();
        let curvature = match of_codes {
            true => trainer.curvature_of_bits(&indices),
            false => trainer.curvature_of_error(&indices, lambda),
        };
        JointRounding { trainer, lambda, of_codes, indices, groups, curvature }
    }

    /// Makes the steps of `best` coarser or finer as long as the cost falls: first those of all groups together, then twice
    /// those of each group.
    fn search(&mut self, best: &mut Quantised) {
        let mut exponents = best.exponents;
        for group in self.groups_in_order() {
            while exponents[group] > 0 && !self.is_exact(group, exponents[group]) {
                exponents[group] -= 1;
            }
        }
        self.round(best, exponents);
        let mut lowest = self.cost(best);
        let mut trial = best.clone();
        let groups = self.groups_in_order();
        // If several steps are too coarse at once, a single finer one need not pay.
        let single = groups.iter().map(std::slice::from_ref);
        for changed in [&groups[..]].into_iter().chain(single.clone()).chain(single) {
            let before = best.exponents;
            for finer in [false, true] {
                // If coarser steps paid, finer ones do not.
                if finer && best.exponents != before {
                    break;
                }
                loop {
                    let mut exponents = best.exponents;
                    for g in changed {
                        exponents[*g] = if finer { exponents[*g] + 1 } else { exponents[*g].saturating_sub(1) };
                    }
                    if !changed.iter().all(|g| EXPONENTS.contains(&exponents[*g]) && self.is_exact(*g, exponents[*g])) {
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

    /// The groups of these weights, in the order of the search.
    fn groups_in_order(&self) -> Vec<usize> {
        [5, 6, 7, 0, 1, 2, 3, 4].into_iter().filter(|g| self.groups.contains(g)).collect()
    }

    /// Whether the integers of a group stay within [`MAX_VALUE`], beyond which they would saturate.
    fn is_exact(&self, group: usize, exponent: u32) -> bool {
        let own = self.indices.iter().zip(&self.groups).filter(|(_, g)| **g == group);
        let largest = own.fold(0f32, |a, (i, _)| a.max(self.trainer.weights[*i].abs()));
        largest * (1u32 << exponent) as f32 <= f32::from(MAX_VALUE)
    }

    /// Rounds these weights in `q` to steps of `2^-exponents`.
    fn round(&self, q: &mut Quantised, exponents: [u32; Group::COUNT]) {
        let mut weights = self.trainer.weights.clone();
        let fitted: Vec<f64> = self.indices.iter().map(|i| f64::from(weights[*i])).collect();
        let steps: Vec<f64> = self.groups.iter().map(|g| 0.5f64.powi(exponents[*g] as i32)).collect();
        self.indices.iter().zip(self.curvature.round(&fitted, &steps)).for_each(|(i, w)| weights[*i] = w as f32);
        for group in self.groups_in_order() {
            q.requantise(&self.trainer.spec, &weights, group, exponents[group]);
        }
    }

    /// The cost of the file with the weights of `q`, in bits, without the part that only depends on the other weights.
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

/// Fits the networks of the codes to the rounded codes by Newton steps; in training they saw codes with noise. It saves 0.1
/// to 0.4 % of the bits of the codes (Kodak pictures).
fn refit(trainer: &mut Trainer, curvature: &Curvature, indices: &[usize]) {
    let mut lowest = trainer.code_bits_with(&trainer.weights.clone());
    for _ in 0..NEWTON_STEPS {
        let change = curvature.newton(&trainer.gradient_of_bits(indices));
        let mut changed = trainer.weights.clone();
        indices.iter().zip(change).for_each(|(i, d)| changed[*i] += (NEWTON_FRACTION * d) as f32);
        let bits = trainer.code_bits_with(&changed);
        if bits >= lowest {
            break;
        }
        (lowest, trainer.weights) = (bits, changed);
    }
}

impl Trainer {
    /// Bits of all codes by the integer networks with the weights of `q`.
    pub fn code_bits(&self, q: &Quantised, codes: &[Codes]) -> f64 {
        let model = PyramidModel::from_quantised(self.spec.clone(), q.clone(), false);
        codes.iter().map(|c| model.code_bits(self.level(), c).iter().sum::<f64>()).sum()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fit::pyramid::reference::{short_fit, waves};

    /// From steps that are all four times too coarse the search finds finer ones, although a single finer one need not pay.
    #[test]
    fn too_coarse_steps_are_left() {
        let (side, lambda, steps) = (64, 1e-4, 200);
        let mut trainer = short_fit(&[waves(side, 4.0)], 1, lambda, steps);
        let mut q = Quantised::new(&trainer.spec, &trainer.weights, [5, 4, 5, 5, 5, 6, 5, 6]);
        JointRounding::new(&mut trainer, lambda, false).search(&mut q);
        let fitted = trainer.mse_with(&trainer.weights.clone());
        let rounded = trainer.mse_with(&q.dequantise(&trainer.spec));
        assert!(rounded < 1.01 * fitted, "{rounded}, {fitted} before");
    }
}
