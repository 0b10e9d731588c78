//! Entropy decoding of the pyramid: `cargo bench --bench decode`. Prints nanoseconds per pixel on one thread, for a model of
//! about 1,000 multiplications per pixel and codes drawn from the model itself.
#![allow(clippy::disallowed_methods)]

use kernels::exact::int_context::{int_context, Contexts, IntContext, Parts, LANES};
use std::time::Instant;
use tilefit::models::pyramid::model::PyramidModel;
use tilefit::models::pyramid::quantised::Quantised;
use tilefit::models::pyramid::spec::PyramidSpec;
use tilefit::models::{Codes, Encode, Grid, Model};
use tilefit::{Level, Rect};
use tilefit_testing::Noise;

/// Prints the shortest of many short runs, which other load hardly disturbs, in nanoseconds per each of `n` units. Benchmarks
/// whose names do not contain the command line's argument are skipped.
fn time(name: &str, n: f64, unit: &str, mut f: impl FnMut()) {
    if std::env::args().skip(1).any(|a| !a.starts_with("--") && !name.contains(&a)) {
        return;
    }
    let run = |f: &mut dyn FnMut()| {
        let start = Instant::now();
        f();
        start.elapsed().as_nanos() as f64
    };
    let best = (0..40).map(|_| run(&mut f)).fold(f64::MAX, f64::min);
    println!("{name} {:.2} ns/{unit}", best / n);
}

fn model(noise: &mut Noise, log_b: f32) -> PyramidModel {
    let spec = PyramidSpec::preset(3, 1, 10, 4, 16);
    let mut weights = vec![0f32; spec.weights_count()];
    for t in spec.tensors() {
        let size = if matches!(t.name, "w3" | "ws") { 0.05 } else { 0.1 };
        weights[t.range.clone()].iter_mut().for_each(|w| *w = noise.signed() as f32 * size * (-log_b.max(0.0)).exp());
        if t.name == "bs" {
            weights[t.range.start + 1] = 4.0 + log_b;
        }
    }
    let quantised = Quantised::new(&spec, &weights, [7, 8, 7, 7, 8, 8, 8, 8]);
    PyramidModel::from_quantised(spec, quantised, false)
}

fn empty(model: &PyramidModel, width: usize, height: usize) -> Codes {
    model.grids().iter().map(|g| Grid::new(Rect::whole(width, height).shrunk(g.shift), 1)).collect()
}

fn main() {
    let (width, height) = (384, 256);
    let pixels = (width * height) as f64;
    let mut noise = Noise::new(1);
    for log_b in [-2.5, -1.5, -0.5, 0.5] {
        let model = model(&mut noise, log_b);
        let mut codes = empty(&model, width, height);
        let bytes: Vec<u8> = (0..width * height * 2).map(|_| noise.bits() as u8).collect();
        // Random bytes decode to codes with the statistics of the model.
        let _ = model.decode_tile(Level::best(), 0, &bytes, &mut codes);
        let segment = model.encode_tile(Level::best(), 0, &codes);
        let bpp = segment.len() as f64 * 8.0 / pixels;
        for level in Level::available() {
            time(&format!("decode_tile/{level:?}/{bpp:.2}bpp"), pixels, "px", || {
                model.decode_tile(level, 0, &segment, &mut codes).expect("own segment")
            });
        }
        time(&format!("code_bits/{:?}/{bpp:.2}bpp/all-threads", Level::best()), pixels, "px", || {
            assert!(model.code_bits(Level::best(), &codes).len() == codes.len())
        });
    }
    for width in [8usize, 14, 20, 26] {
        let mut random = |n: usize| (0..n).map(|_| noise.bits() as i32 % 64 - 32).collect::<Vec<_>>();
        let (w1, w2, w3, ws) = (random(width * width), random(width * width), random(2 * width), random(2 * width));
        let (b1, b2) = (random(width), random(width));
        let parts = Parts { w1: &w1, w2: &w2, w3: &w3, ws: &ws, b1: &b1, b2: &b2, b3: [0, 256] };
        let net = IntContext::new(width, 7, &parts);
        let plane: Vec<i16> = random(4096).iter().map(|v| *v as i16).collect();
        let at: Vec<usize> = (0..width).map(|j| j * 37).collect();
        let lanes = 8 * LANES;
        let contexts = Contexts { plane: &plane, at: &at, features: &[], stride: 0, lanes };
        let (mut mu, mut scale) = (vec![0; lanes], vec![0; lanes]);
        for level in Level::available() {
            time(&format!("int_context/{level:?}/D={width}"), (50 * lanes) as f64, "latent", || {
                (0..50).for_each(|_| int_context(level, &net, contexts, &mut mu, &mut scale))
            });
        }
    }
}
