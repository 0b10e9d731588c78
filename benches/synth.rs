//! Upsampling and synthesis of the pyramid on one thread, ten passes a row: `cargo bench --bench synth`.
//!
//! Multiplications: what the definition needs, three times that for forward and backward.
#![allow(clippy::disallowed_methods)]

mod common;

use common::Table;
use tilefit::fit::pyramid::padded_grid::PaddedGrid;
use tilefit::fit::pyramid::synth::SynthModel;
use tilefit::models::pyramid::spec::PyramidSpec;
use tilefit::models::pyramid::synthesis::synthesise;
use tilefit::models::{Codes, Grid};
use tilefit::{Level, Rect};

/// Multiplications a pixel of upsampling, 1x1 layers and 3x3 layers.
fn macs(spec: &PyramidSpec) -> f64 {
    let mut sum = 0.0;
    for s in 0..spec.depth {
        // 8 a value of the grid; 2 and 4 of each coarser map.
        sum += (8.0 + 6.0 * (spec.depth - s) as f64) / 4f64.powi(s as i32);
    }
    let mut inputs = spec.maps();
    for l in &spec.trunk {
        sum += (l.outputs * inputs * l.kernel * l.kernel) as f64;
        inputs = l.outputs;
    }
    sum + (spec.channels * spec.maps()) as f64
}

/// Runs in a row: the clock's own step must not count.
const RUNS: usize = 10;

fn main() {
    let table = Table::new();
    let (width, height) = (768, 512);
    let pixels = width * height;
    let noise = |i: usize| (i.wrapping_mul(2654435761) >> 8 & 0xffff) as f32 / 32768.0 - 1.0;
    let pool = rayon::ThreadPoolBuilder::new().num_threads(1).use_current_thread().build().expect("a pool");
    for hidden in [8, 16, 48] {
        let spec = PyramidSpec::preset(3, pixels, 10, 4, hidden);
        let mut weights: Vec<f32> = (0..spec.weights_count()).map(|i| 0.1 * noise(i)).collect();
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
                    (0..g.height).for_each(|y| {
                        g.row_mut(y).iter_mut().enumerate().for_each(|(x, v)| *v = (3.0 * noise(y * 977 + x)).round())
                    });
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
                    grid.codes.iter_mut().enumerate().for_each(|(i, c)| *c = (3.0 * noise(i)) as i16);
                    codes.push(grid);
                }
                let mut out = vec![0; 3 * pixels];
                let time = table.row(&name, RUNS * count, || {
                    let (size, region) = ((width, height), Rect::whole(width, height));
                    (0..RUNS).for_each(|_| {
                        pool.install(|| synthesise(&spec, &weights, level, &codes, size, region, 0, &mut out))
                            .expect("codes of the whole picture");
                    });
                });
                println!("{:.1} ns/pixel", 1e9 * time / (RUNS * pixels) as f64);
            }
        }
    }
}
