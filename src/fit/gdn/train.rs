//! The first stage: analysis, synthesis and density are learned together on random patches of the pictures.

use super::net::{Net, Patch, ANALYSIS, SYNTHESIS};
use super::workers::{reduce, Sample, Worker, Workers, BATCH};
use crate::entropy::bottleneck;
use crate::fit::loss::Distortion;
use crate::fit::optim::{cosine, Adam};
use crate::fit::rng::Rng;
use crate::fit::Tune;
use crate::image::Picture;
use crate::models::gdn::SHIFT;
use crate::tensor::Shape;
use kernels::Level;

/// What the file's coder, which knows a code's neighbours, takes of the density's bits: measured on the nebula.
pub const CODED: f64 = 0.6;
/// Side of a training patch in codes.
const SIDE: usize = 16;

/// Forward and backward of one sample.
fn forward_backward(
    worker: &mut Worker,
    sample: &mut Sample,
    net: &Net,
    prepared: &[f32],
    pictures: &[Picture],
    patch: &Patch,
    tune: Tune,
    lambda: f64,
    rng: &mut Rng,
) {
    sample.gradient.fill(0.0);
    worker.tape.clear();
    let codes = patch.codes_shape(net.spec.n);
    let shape = Shape::new(net.spec.channels, codes.height << SHIFT, codes.width << SHIFT);
    let input = worker.tape.leaf(shape);
    patch.fill_input(pictures, worker.tape.value_mut(input));
    let y = worker.run(net, ANALYSIS, input);
    let noisy = worker.tape.shifted(y, |y| y.iter_mut().for_each(|y| *y += rng.unit() - 0.5));
    let out = worker.run(net, SYNTHESIS, noisy);
    // loss = cost / (lambda CODED) + bits / pixels
    worker.measure(sample, pictures, patch, tune, out, 1.0 / (CODED * lambda));
    let inner = patch.inner(0);
    let Worker { tape, row, d_row, .. } = worker;
    let (values, d, _) = tape.value_and_gradient(noisy);
    let gain = (1.0 / sample.pixels) as f32;
    sample.bits = 0.0;
    let level = Level::best();
    let (before, d_prepared) = sample.gradient.split_at_mut(net.ends[1]);
    for c in 0..net.spec.n {
        let rows = (inner.y0..inner.y1).map(|y| (c * codes.height + y) * codes.width);
        row.clear();
        rows.clone().for_each(|at| row.extend_from_slice(&values[at + inner.x0..at + inner.x1]));
        d_row.clear();
        d_row.resize(row.len(), 0.0);
        let p = c * bottleneck::PARAMETERS..(c + 1) * bottleneck::PARAMETERS;
        sample.bits += bottleneck::bits(level, &prepared[p.clone()], row, d_row, &mut d_prepared[p]);
        for (at, d_row) in rows.zip(d_row.chunks_exact(inner.width())) {
            d[at + inner.x0..at + inner.x1].iter_mut().zip(d_row).for_each(|(d, r)| *d += gain * r);
        }
    }
    d_prepared.iter_mut().for_each(|d| *d *= gain);
    tape.backward(&net.layers, Some(input), before);
}

/// The state of the stage.
pub struct Trainer {
    pub workers: Workers,
    prepared: Vec<f32>,
    sum: Vec<f32>,
    adam: Adam,
}

/// What a step measured: mean squared error and bits a pixel, with noise for rounding.
#[derive(Clone, Copy, Debug)]
pub struct Noisy {
    pub mse: f64,
    pub bpp: f64,
}

impl Trainer {
    pub fn new(net: &Net) -> Self {
        let n = net.parameters.len();
        Trainer {
            workers: Workers::new(n),
            prepared: vec![0.0; n - net.ends[1]],
            sum: vec![0.0; n],
            adam: Adam::new(n),
        }
    }

    /// One step; `progress` of the stage in [0, 1].
    pub fn step(
        &mut self,
        net: &mut Net,
        pictures: &[Picture],
        tune: Tune,
        lambda: f64,
        seed: u64,
        step: u64,
        progress: f32,
    ) -> Noisy {
        net.prepare(0..10);
        bottleneck::prepare(&net.parameters[net.ends[1]..], &mut self.prepared);
        let (shared, prepared) = (&*net, &self.prepared);
        self.workers.each(BATCH, |i, worker, sample| {
            let mut rng = Rng::stream(seed, 2 + step, i as u64);
            let patch = Patch::random(pictures, SIDE, &mut rng);
            forward_backward(worker, sample, shared, prepared, pictures, &patch, tune, lambda, &mut rng);
        });
        reduce(&self.workers.samples, &mut self.sum);
        net.to_parameters(&mut self.sum);
        let density = net.ends[1];
        bottleneck::unprepare(&net.parameters[density..], &mut self.sum[density..]);
        net.step(&mut self.adam, &self.sum, cosine(progress, 1e-3, 5e-5));
        let mut all = Distortion::default();
        let (mut bits, mut pixels) = (0.0, 0.0);
        for sample in &self.workers.samples {
            all.add(&sample.distortion);
            bits += sample.bits;
            pixels += sample.pixels;
        }
        Noisy { mse: all.mse(), bpp: CODED * bits / pixels }
    }
}

/// Codes of all pictures before rounding, `[channels][height][width]` each: one pass over their patches.
pub fn analyse(net: &mut Net, workers: &mut Workers, pictures: &[Picture]) -> Vec<Vec<f32>> {
    net.prepare(ANALYSIS);
    let n = net.spec.n;
    let grids: Vec<_> = pictures.iter().map(super::net::grid_of).collect();
    let mut codes: Vec<Vec<f32>> = grids.iter().map(|(w, h)| vec![0.0; n * w * h]).collect();
    let net = &*net;
    for patches in Patch::partition(pictures, 32).chunks(BATCH) {
        workers.each(patches.len(), |i, worker, sample| {
            worker.tape.clear();
            let shape = patches[i].codes_shape(n);
            let input = worker.tape.leaf(Shape::new(net.spec.channels, shape.height << SHIFT, shape.width << SHIFT));
            patches[i].fill_input(pictures, worker.tape.value_mut(input));
            let y = worker.run(net, ANALYSIS, input);
            sample.codes.clear();
            sample.codes.extend_from_slice(worker.tape.value(y));
        });
        for (patch, sample) in patches.iter().zip(&workers.samples) {
            let (inner, shape, (w, h)) = (patch.inner(0), patch.codes_shape(n), grids[patch.picture]);
            for c in 0..n {
                for (i, row) in (inner.y0..inner.y1).enumerate() {
                    let from = (c * shape.height + row) * shape.width;
                    let to = (c * h + patch.core.y0 + i) * w + patch.core.x0;
                    codes[patch.picture][to..to + inner.width()]
                        .copy_from_slice(&sample.codes[from + inner.x0..from + inner.x1]);
                }
            }
        }
    }
    codes
}
