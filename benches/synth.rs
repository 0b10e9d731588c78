//! Upsampling and synthesis of the pyramid, and synthesis of family `gdn`, on one thread: `cargo bench --bench synth`.
//!
//! Multiplications are counted by the definition of the layers; forward with backward counts as three times forward.
#![allow(clippy::disallowed_methods)]

mod common;

use common::Table;
use tilefit::fit::pyramid::padded_grid::PaddedGrid;
use tilefit::fit::pyramid::synth::SynthModel;
use tilefit::models::gdn::{spec as gdn_spec, GdnModel};
use tilefit::models::pyramid::spec::PyramidSpec;
use tilefit::models::pyramid::synthesis::synthesise;
use tilefit::models::transform::weights::{Kind, Quantised as Gdn};
use tilefit::models::{Codes, Grid, Model};
use tilefit::{Level, Rect};
use tilefit_testing::Noise;

/// Multiplications per pixel of upsampling, 1x1 layers and 3x3 layers.
fn macs(spec: &PyramidSpec) -> f64 {
    let mut sum = 0.0;
    for s in 0..spec.depth {
        // 8 per value of the grid, and 2 + 4 for each coarser map.
        sum += (8.0 + 6.0 * (spec.depth - s) as f64) / 4f64.powi(s as i32);
    }
    let mut inputs = spec.maps();
    for l in &spec.trunk {
        sum += (l.outputs * inputs * l.kernel * l.kernel) as f64;
        inputs = l.outputs;
    }
    sum + (spec.channels * spec.maps()) as f64
}

/// Runs per measurement, so that the resolution of the clock does not matter.
const RUNS: usize = 10;

/// The synthesis of family `gdn`, with all weights of its hidden layers non-zero, and with one in twenty, as effort 1 gives on
/// smooth pictures. It runs in strips of 64 rows, as in the decoder for wide pictures.
fn gdn(table: &Table) {
    let (width, height, rows) = (1024, 256, 64);
    for n in [12, 16, 20, 24] {
        for (weights, every) in [("dense", 1), ("sparse", 20)] {
            let spec = gdn_spec(n, 3);
            let tensors = spec.tensors();
            let mut noise = Noise::new(1);
            let mut values: Vec<i16> = (0..spec.weights_count()).map(|_| (20.0 * noise.signed()) as i16 | 1).collect();
            for (t, i) in tensors.iter().flat_map(|t| t.range.clone().map(move |i| (t, i))) {
                match t.kind {
                    Kind::Hidden | Kind::Gamma if i % every != 0 => values[i] = 0,
                    Kind::Beta | Kind::Gamma => values[i] = values[i].abs(),
                    _ => {}
                }
            }
            let model = GdnModel::from_quantised(spec, Gdn { exponents: vec![8; tensors.len()], values });
            let mut grid = Grid::new(Rect::whole(width, height).shrunk(3), n);
            grid.codes.iter_mut().for_each(|c| *c = (3.0 * noise.signed()) as i16);
            let (codes, mut out) = (vec![grid], vec![0; 3 * rows * width]);
            for level in Level::available() {
                let name = format!("gdn/{}/n{n}/{weights}", level.name());
                if !table.wants(&name) {
                    continue;
                }
                let macs = model.macs_per_pixel() * (width * height) as f64;
                let time = table.row(&name, macs as usize, || {
                    for y in (0..height).step_by(rows) {
                        let strip = Rect::new(0, y, width, y + rows);
                        model.synthesise(level, &codes, (width, height), strip, 0, 255, &mut out).expect("its codes");
                    }
                });
                println!("    {:.2} megapixels/s", (width * height) as f64 / 1e6 / time);
            }
        }
    }
}

fn main() {
    let table = Table::new();
    gdn(&table);
    let (width, height) = (768, 512);
    let pixels = width * height;
    let pool = rayon::ThreadPoolBuilder::new().num_threads(1).use_current_thread().build().expect("a pool");
    for hidden in [8, 16, 48] {
        let mut noise = Noise::new(1);
        let spec = PyramidSpec::preset(3, pixels, 10, 4, hidden);
        let mut weights: Vec<f32> = (0..spec.weights_count()).map(|_| 0.1 * noise.signed() as f32).collect();
        for t in spec.tensors().iter().filter(|t| t.name == "stab_b") {
            weights[t.range.clone()].fill(0.5);
        }
        let count = (macs(&spec) * pixels as f64) as usize;
        for level in Level::available() {
            let name = format!("train/{}/h{hidden}", level.name());
            if table.wants(&name) {
                let mut model = SynthModel::new(&spec, width, height, 0);
                let buffers = || model.sizes().iter().map(|&(w, h)| PaddedGrid::new(w, h)).collect::<Vec<_>>();
                let (mut grids, mut dgrids) = (buffers(), buffers());
                for g in &mut grids {
                    (0..g.height)
                        .for_each(|y| g.row_mut(y).iter_mut().for_each(|v| *v = (3.0 * noise.signed() as f32).round()));
                }
                let target = vec![0.5f32; 3 * pixels];
                let mut dweights = vec![0f32; weights.len()];
                let views: Vec<_> = grids.iter().map(|g| g.view()).collect();
                let mut dviews: Vec<_> = dgrids.iter_mut().map(|g| g.view_mut()).collect();
                let mut out = vec![0f32; 3 * pixels];
                let time = table.row(&format!("{name}/forward"), RUNS * count, || {
                    (0..RUNS).for_each(|_| pool.install(|| model.forward(level, &weights, &views, &mut out)));
                });
                println!("{:.1} ns/pixel", 1e9 * time / (RUNS * pixels) as f64);
                let time = table.row(&format!("{name}/both"), RUNS * 3 * count, || {
                    pool.install(|| {
                        (0..RUNS).for_each(|_| {
                            let (d, dw) = (&mut dviews, &mut dweights);
                            model.forward_backward(level, &weights, &views, &target, d, dw, 1e-9);
                        });
                    });
                });
                println!("{:.1} ns/pixel", 1e9 * time / (RUNS * pixels) as f64);
            }
            let name = format!("decode/{}/h{hidden}", level.name());
            if table.wants(&name) {
                let mut codes = Codes::new();
                for g in spec.grids() {
                    let mut grid = Grid::new(Rect::whole(width, height).shrunk(g.shift), 1);
                    grid.codes.iter_mut().for_each(|c| *c = (3.0 * noise.signed()) as i16);
                    codes.push(grid);
                }
                let mut out = vec![0; 3 * pixels];
                let time = table.row(&name, RUNS * count, || {
                    let (size, region) = ((width, height), Rect::whole(width, height));
                    (0..RUNS).for_each(|_| {
                        pool.install(|| synthesise(&spec, &weights, level, &codes, size, region, 0, 255, &mut out))
                            .expect("codes of the whole picture");
                    });
                });
                println!("{:.1} ns/pixel", 1e9 * time / (RUNS * pixels) as f64);
            }
        }
    }
}
