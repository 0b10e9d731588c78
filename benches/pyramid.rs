//! Speed of the pyramid's training on one thread, whole steps and kernels: `cargo bench --bench pyramid [level ...]`.
//!
//! Times are the shortest of several runs. On a shared machine only ratios within one run are meaningful.
#![allow(clippy::disallowed_methods)]

mod common;

use kernels::fast::adam::{adam, AdamStep};
use kernels::fast::context::{
    context, feature_stride, ContextBand, ContextGradients, ContextNet, ContextScratch, PAD, SLACK,
};
use kernels::fast::quantise::{quantise, Quantise};
use kernels::Level;
use std::hint::black_box;
use std::time::Instant;
use tilefit::fit::pyramid::plan::Plan;
use tilefit::fit::pyramid::train::Trainer;
use tilefit::fit::Tune;
use tilefit::models::pyramid::spec::{SynthLayer, NEIGHBOURS};
use tilefit::Picture;

const WIDTH: usize = 768;
const ROWS: usize = 32;

/// Nanoseconds per latent, the shortest of `runs` runs.
fn best(runs: usize, latents: usize, mut f: impl FnMut()) -> f64 {
    f();
    let one = |_| {
        let start = Instant::now();
        f();
        start.elapsed().as_secs_f64() * 1e9 / latents as f64
    };
    (0..runs).map(one).fold(f64::INFINITY, f64::min)
}

fn numbers(n: usize, scale: f32) -> Vec<f32> {
    (0..n).map(|i| (((i * 7919 + 31) % 1009) as f32 / 504.5 - 1.0) * scale).collect()
}

fn context_rows(level: Level, spatial: usize, features: usize) {
    let d = spatial + features;
    let mut net = ContextNet::new(level, spatial, features);
    net.set(&numbers(net.weights_count(), 0.2));
    let stride = WIDTH + 2 * PAD;
    let q = numbers((ROWS + PAD) * stride + SLACK, 1.5);
    let maps = numbers(ROWS / 2 * features * feature_stride(WIDTH), 1.0);
    let (mut dq, mut dmaps) = (vec![0f32; q.len()], vec![0f32; maps.len()]);
    let mut dweights = vec![0f32; net.weights_count()];
    let mut scratch = ContextScratch::default();
    let band = ContextBand {
        net: &net,
        neighbours: &NEIGHBOURS,
        q: &q,
        stride,
        width: WIDTH,
        rows: 0..ROWS,
        features: Some(&maps),
    };
    let runs = if level == Level::SCALAR { 3 } else { 60 };
    let forward = best(runs, WIDTH * ROWS, || {
        black_box(context(level, &band, None, &mut scratch));
    });
    let both = best(runs, WIDTH * ROWS, || {
        let mut g = ContextGradients { dq: &mut dq, dfeatures: Some(&mut dmaps), dweights: Some(&mut dweights) };
        black_box(context(level, &band, Some(&mut g), &mut scratch));
    });
    let mac = (2 * d * d + 4 * d) as f64;
    println!("context_forward/{level:?}/{d:<3} {forward:8.2} ns/latent {:7.1} GFLOP/s", 2.0 * mac / forward);
    println!("context_backward/{level:?}/{d:<3} {both:7.2} ns/latent {:7.1} GFLOP/s (with forward)", 6.0 * mac / both);
}

fn latent_rows(level: Level) {
    let n = 8192;
    let (mut y, dq, mut dqdy, mut q) = (numbers(n, 0.2), numbers(n, 1.0), vec![0.0; n], vec![0.0; n]);
    let (bits, mut m, mut v) = (vec![0.0; n], vec![0.0; n], vec![0.0; n]);
    let p = Quantise { gain: 16.0, temperature: 0.3, sigma: 0.2, key: [1, 2] };
    let ns = best(100, n, || quantise(level, &p, 0, black_box(&y), &mut q, &mut dqdy));
    println!("quantise/{level:?} {ns:8.2} ns/latent");
    let a = AdamStep { lr: 1e-3, beta1: 0.9, beta2: 0.999, eps: 1e-8, step: 5 };
    let ns = best(100, n, || adam(level, &a, 16.0, black_box(&dq), &dqdy, &bits, &mut y, &mut m, &mut v));
    println!("adam/{level:?} {ns:8.2} ns/latent");
}

/// Three steps of a whole fit on one thread. One of the three computes the rate, so a third of the time is the mean of a step.
fn steps(table: &common::Table) {
    let (width, height) = (768, 512);
    let sample = |i: usize| {
        let (x, y, c) = ((i / 3 % width) as f64, (i / 3 / width) as f64, (i % 3) as f64);
        (128.0 + 60.0 * (x / (7.0 + c)).sin() * (y / 23.0).cos() + 40.0 * ((x * y) / 9000.0).sin()) as u8
    };
    let picture = Picture::from_u8(width, height, 3, &(0..3 * width * height).map(sample).collect::<Vec<u8>>());
    let pictures = [picture];
    let one = rayon::ThreadPoolBuilder::new().num_threads(1).build().unwrap();
    // The largest networks of each effort: at effort 3 they take about a thousand multiplications per pixel.
    for effort in [1, 3, 9] {
        let name = format!("3 steps at effort {effort}, 768x512");
        if !table.wants(&name) {
            continue;
        }
        let plan = Plan::of(&pictures, effort, f64::INFINITY);
        let spec = &plan.spec;
        // Multiplications per pixel, without the few of the upsampling.
        let d = spec.spatial + spec.features;
        let context = (2 * d * d + 4 * d) * 4 / 3;
        let layer = |inputs: usize, l: &SynthLayer| inputs * l.outputs * l.kernel * l.kernel;
        let inputs = std::iter::once(spec.maps()).chain(spec.trunk.iter().map(|l| l.outputs));
        let synthesis: usize = spec.trunk.iter().zip(inputs).map(|(l, i)| layer(i, l)).sum::<usize>() + 3 * spec.maps();
        let anneal = plan.course(plan.stages.len() - 1)(0.5);
        let mut trainer = Trainer::new(spec.clone(), &pictures, 0, Level::best(), 1, Tune::Psnr);
        let macs = width * height * (3 * context + 3 * 3 * synthesis);
        table.row(&name, macs, || one.install(|| (0..3).for_each(|_| trainer.step(1e-3, &anneal))));
    }
}

fn main() {
    steps(&common::Table::new());
    let names: Vec<String> = std::env::args().skip(1).filter(|a| !a.starts_with('-')).collect();
    for level in Level::available() {
        if !names.is_empty() && !names.iter().any(|n| n == level.name()) {
            continue;
        }
        for (spatial, features) in [(6, 2), (10, 4), (14, 6), (20, 6)] {
            context_rows(level, spatial, features);
        }
        latent_rows(level);
    }
}
