//! Pruning: grids whose few codes are not worth their bits are set to zero. A grid of zeros takes one bit; a single other
//! code in it makes all of its zeros cost something too.

use crate::fit::file::decoded;
use crate::fit::loss::Judge;
use crate::fit::Tune;
use crate::image::Picture;
use crate::models::pyramid::model::PyramidModel;
use crate::models::pyramid::quantised::Quantised;
use crate::models::pyramid::spec::PyramidSpec;
use crate::models::Codes;
use kernels::Level;

/// A grid is a candidate if at most one in this many of its codes is not 0. It saves the time of trying fuller grids, which are
/// worth their bits: 16 and 256 give the same files for kodim04, 15 and 23 (effort 3).
const SPARSE: usize = 64;

/// Sets the grids to zero whose codes cost more bits than they save in error (by `D + lambda bits / P` of the file), the
/// finest first. Returns these grids, each as index of the picture and of the grid.
pub fn prune(
    spec: &PyramidSpec,
    quantised: &Quantised,
    pictures: &[Picture],
    codes: &mut [Codes],
    lambda: f64,
    tune: Tune,
) -> Vec<(usize, usize)> {
    let model = PyramidModel::from_quantised(spec.clone(), quantised.clone(), false);
    let mut emptied = Vec::new();
    for (n, (picture, codes)) in pictures.iter().zip(codes).enumerate() {
        let mut judge = Judge::new(tune, picture);
        let mut cost = |codes: &Codes| cost(&model, &mut judge, picture, codes, lambda);
        let mut lowest = None;
        for g in (0..codes.len()).rev() {
            let count = codes[g].codes.iter().filter(|c| **c != 0).count();
            if count == 0 || count * SPARSE > codes[g].codes.len() {
                continue;
            }
            let before = *lowest.get_or_insert_with(|| cost(codes));
            let zeros = vec![0; codes[g].codes.len()];
            let kept = std::mem::replace(&mut codes[g].codes, zeros);
            let after = cost(codes);
            if after < before {
                lowest = Some(after);
                emptied.push((n, g));
            } else {
                codes[g].codes = kept;
            }
        }
    }
    emptied
}

/// `P D + lambda bits` of one picture of `P` pixels as it will be decoded, with the distortion `D` of the `judge`.
pub(super) fn cost(model: &PyramidModel, judge: &mut Judge, picture: &Picture, codes: &Codes, lambda: f64) -> f64 {
    let bits: f64 = model.code_bits(Level::best(), codes).iter().sum();
    lambda * bits + picture.pixels() as f64 * judge.distortion(&decoded(model, picture, codes))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fit::pyramid::plan::Plan;
    use crate::image::Rect;
    use crate::models::pyramid::spec::Group;
    use crate::models::{Grid, Model};

    /// A grid with a single useless code is set to zero; a grid that the picture is made of stays.
    #[test]
    fn grids_that_do_not_pay_are_pruned() {
        let (side, lambda) = (96, 1e-2);
        let spec = Plan::new(1, 1, side * side, side, 0.0).spec;
        // Filters at their start values, and a picture made of one code of a coarse grid.
        let mut weights = vec![0.0; spec.weights_count()];
        for t in spec.tensors() {
            match t.name {
                "up" => weights[t.range].copy_from_slice(&[-0.035, -0.105, 0.262, 0.879]),
                "pre" => weights[t.range].copy_from_slice(&[0.0, 0.0, 0.0, 1.0]),
                "stab_w" => weights[t.range].fill(0.05),
                "bs" => weights[t.range].copy_from_slice(&[0.0, 2.0]),
                _ => {}
            }
        }
        let quantised = Quantised::new(&spec, &weights, [8; Group::COUNT]);
        let mut codes: Codes =
            spec.grids().iter().map(|g| Grid::new(Rect::whole(side, side).shrunk(g.shift), 1)).collect();
        let coarse = codes.iter().position(|g| g.codes.len() >= SPARSE).unwrap();
        codes[coarse].codes[SPARSE / 2] = 5;
        let model = PyramidModel::from_quantised(spec.clone(), quantised.clone(), false);
        let mut samples = vec![0; side * side];
        model.synthesise(Level::best(), &codes, (side, side), Rect::whole(side, side), 0, 255, &mut samples).unwrap();
        let pictures = [Picture { width: side, height: side, format: crate::image::PixelFormat::GREY, samples }];
        let wanted = codes.clone();
        let finest = codes.len() - 1;
        codes[finest].codes[side * side / 2] = 1;
        for tune in [Tune::Psnr, Tune::Visual] {
            let mut all = [codes.clone()];
            assert_eq!(prune(&spec, &quantised, &pictures, &mut all, lambda, tune), [(0, finest)]);
            assert_eq!(all[0], wanted);
        }
    }
}
