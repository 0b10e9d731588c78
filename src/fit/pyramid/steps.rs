//! The weights' quantisation steps, chosen by what they cost: `MSE + lambda * bits / pixels` of the real file.

use super::train::Trainer;
use crate::models::pyramid::model::PyramidModel;
use crate::models::pyramid::quantised::{group_of, Quantised, GROUPS};
use crate::models::pyramid::spec::Module;
use crate::models::Codes;

/// Where the search starts: fine enough to cost no quality.
const START: [u32; 7] = [8, 8, 8, 8, 10, 11, 12];

/// Steps of `2^-4` and coarser are never worth their distortion.
const COARSEST: u32 = 4;

/// One group after the other, each from fine to coarse while the cost falls. Context and feature weights move
/// only the bits of the codes, upsampling and synthesis only the distortion.
pub fn search(trainer: &mut Trainer, codes: &[Codes], lambda: f64) -> Quantised {
    let weights = trainer.weights.clone();
    let spec = trainer.spec.clone();
    let mut start = START;
    for t in spec.tensors() {
        let largest = weights[t.range.clone()].iter().fold(0f32, |a, w| a.max(w.abs()));
        let group = group_of(&t);
        // Integers beyond 2047 are not exactly f16, and would saturate.
        while start[group] > 0 && largest * (1u32 << start[group]) as f32 > 2047.0 {
            start[group] -= 1;
        }
    }
    let mut best = Quantised::new(&spec, &weights, start);
    for (group, &(module, _)) in GROUPS.iter().enumerate() {
        let mut cost = |q: &Quantised| {
            let weight_bits = q.group_bits(&spec, group);
            let rest = match module {
                Module::Context | Module::Features => lambda * trainer.code_bits(q, codes),
                _ => trainer.pixels() * trainer.mse_with(&q.dequantise(&spec)),
            };
            lambda * weight_bits + rest
        };
        let mut lowest = cost(&best);
        let mut trial = best.clone();
        let mut worse = 0;
        for exponent in (COARSEST..start[group]).rev() {
            trial.requantise(&spec, &weights, group, exponent);
            let c = cost(&trial);
            if c < lowest {
                lowest = c;
                best = trial.clone();
                worse = 0;
            } else {
                worse += 1;
                if worse == 2 {
                    break;
                }
            }
        }
    }
    best
}

impl Trainer {
    /// Bits of all codes by the integer networks of `q`.
    pub fn code_bits(&self, q: &Quantised, codes: &[Codes]) -> f64 {
        let model = PyramidModel::from_quantised(self.spec.clone(), q.clone(), false);
        codes.iter().map(|c| model.code_bits(self.level(), c).iter().sum::<f64>()).sum()
    }
}
