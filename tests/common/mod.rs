//! Small pyramid files with repeatable weights and codes, for tests that need a real one without a fit.

use tilefit::fit::file::{write, Written};
use tilefit::fit::Fitted;
use tilefit::models::pyramid::model::PyramidModel;
use tilefit::models::pyramid::quantised::Quantised;
use tilefit::models::pyramid::spec::{Group, PyramidSpec};
use tilefit::models::Grid;
use tilefit::{Picture, Rect};
use tilefit_testing::Noise;

/// A file of `count` pictures with weights and codes out of `seed`.
pub fn file(
    spec: &PyramidSpec,
    (width, height): (usize, usize),
    tile: usize,
    split: bool,
    count: usize,
    seed: u64,
) -> Written {
    let mut noise = Noise::new(seed);
    let weights: Vec<f32> =
        (0..spec.weights_count()).map(|_| noise.bits() as f32 / (1u32 << 31) as f32 - 0.5).collect();
    let model = PyramidModel::from_quantised(spec.clone(), Quantised::new(spec, &weights, [4; Group::COUNT]), split);
    let codes = (0..count)
        .map(|_| {
            let mut grid = |shift| {
                let mut g = Grid::new(Rect::whole(width, height).shrunk(shift), 1);
                g.codes.iter_mut().for_each(|c| *c = (noise.bits() % 5) as i16 - 2);
                g
            };
            spec.grids().iter().map(|s| grid(s.shift)).collect()
        })
        .collect();
    let picture = Picture::from_u8(width, height, spec.channels, &vec![0; spec.channels * width * height]);
    let fitted = Fitted { model: Box::new(model), codes, tile };
    write(&fitted, &vec![picture; count], &[], false).expect("a small file")
}
