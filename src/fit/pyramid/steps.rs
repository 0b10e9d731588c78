//! The weights' quantisation steps and roundings, chosen by what they cost: `bits + (P / lambda) MSE` of the file.

use super::curvature::Curvature;
use super::train::Trainer;
use crate::models::pyramid::model::PyramidModel;
use crate::models::pyramid::quantised::{group_of, Quantised, GROUPS};
use crate::models::pyramid::spec::Module;
use crate::models::Codes;
use std::ops::RangeInclusive;

/// Where the search starts: what many fits end with.
const START: [u32; 7] = [5, 4, 5, 5, 8, 7, 8];

const EXPONENTS: RangeInclusive<u32> = 2..=12;

/// Times that each group is looked at.
const ROUNDS: usize = 2;

/// Newton steps towards the optimum at whole codes, and the part of them that is made: the quadratic holds in the near only.
const NEWTON_STEPS: usize = 3;
const NEWTON_PART: f64 = 0.5;

/// The weights rounded. Those of context and feature networks move only the bits of the codes, upsampling and synthesis
/// only the distortion.
pub fn search(trainer: &mut Trainer, lambda: f64) -> Quantised {
    let (spec, mut weights) = (trainer.spec.clone(), trainer.weights.clone());
    let mut best = Quantised::new(&spec, &weights, START);
    for of_codes in [true, false] {
        let is_mine = |module| of_codes == matches!(module, Module::Context | Module::Features);
        let tensors: Vec<_> = spec.tensors().into_iter().filter(|t| is_mine(t.module)).collect();
        let places: Vec<usize> = tensors.iter().flat_map(|t| t.range.clone()).collect();
        let groups: Vec<usize> = tensors.iter().flat_map(|t| vec![group_of(t); t.range.len()]).collect();
        let curvature = match of_codes {
            true => trainer.curvature_of_bits(&places),
            false => trainer.curvature_of_error(&places, lambda),
        };
        if of_codes {
            settle(trainer, &curvature, &places);
            weights.clone_from(&trainer.weights);
        }
        let mine: Vec<f64> = places.iter().map(|p| f64::from(weights[*p])).collect();
        let round = |q: &mut Quantised, exponents: [u32; 7]| {
            let steps: Vec<f64> = groups.iter().map(|g| 0.5f64.powi(exponents[*g] as i32)).collect();
            let mut rounded = weights.clone();
            places.iter().zip(curvature.round(&mine, &steps)).for_each(|(p, w)| rounded[*p] = w as f32);
            for (group, _) in GROUPS.iter().enumerate().filter(|(_, (module, _))| is_mine(*module)) {
                q.requantise(&spec, &rounded, group, exponents[group]);
            }
        };
        let mut cost = |q: &Quantised| {
            let bits: f64 = (0..GROUPS.len()).map(|g| q.group_bits(&spec, g)).sum();
            let weights = q.dequantise(&spec);
            bits + match of_codes {
                true => trainer.code_bits_with(&weights),
                false => trainer.pixels() * trainer.mse_with(&weights) / lambda,
            }
        };
        // Integers beyond 2047 are not exactly f16, and would saturate.
        let fits = |group: usize, exponent: u32| {
            let mine = places.iter().zip(&groups).filter(|(_, g)| **g == group);
            mine.fold(0f32, |a, (p, _)| a.max(weights[*p].abs())) * (1u32 << exponent) as f32 <= 2047.0
        };
        let mut exponents = best.exponents;
        for (group, e) in exponents.iter_mut().enumerate() {
            while *e > 0 && !fits(group, *e) {
                *e -= 1;
            }
        }
        round(&mut best, exponents);
        let mut lowest = cost(&best);
        let mut trial = best.clone();
        for _ in 0..ROUNDS {
            for (group, finer) in [4, 5, 6, 0, 1, 2, 3].into_iter().flat_map(|g| [(g, false), (g, true)]) {
                if !groups.contains(&group) {
                    continue;
                }
                loop {
                    let mut exponents = best.exponents;
                    exponents[group] = if finer { exponents[group] + 1 } else { exponents[group].saturating_sub(1) };
                    if !EXPONENTS.contains(&exponents[group]) || !fits(group, exponents[group]) {
                        break;
                    }
                    round(&mut trial, exponents);
                    let c = cost(&trial);
                    if c >= lowest {
                        break;
                    }
                    lowest = c;
                    best = trial.clone();
                }
            }
        }
    }
    best
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
