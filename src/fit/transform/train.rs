//! The first stage: analysis, synthesis and what the rate learns are trained together on random patches of the pictures.

use super::net::{Net, ANALYSIS, SYNTHESIS};
use super::patch::{grid_of, Patch};
use super::rate::{Noisy, Rate};
use super::workers::{reduce, Sample, Worker, Workers, BATCH};
use crate::fit::loss::Distortion;
use crate::fit::optim::{cosine, Adam};
use crate::fit::rng::Rng;
use crate::fit::Tune;
use crate::image::Picture;
use crate::models::transform::SHIFT;
use crate::tensor::Shape;

/// Side of a training patch in codes.
const SIDE: usize = 16;

/// Forward and backward of one sample.
fn forward_backward<R: Rate>(
    worker: &mut Worker<R::Work>,
    sample: &mut Sample,
    net: &Net,
    rate: &R,
    pictures: &[Picture],
    patch: &Patch,
    tune: Tune,
    lambda: f64,
    rng: &mut Rng,
) {
    sample.gradient.fill(0.0);
    worker.tape.clear();
    let codes = patch.codes_shape(net.spec.n());
    let shape = Shape::new(net.spec.channels, codes.height << SHIFT, codes.width << SHIFT);
    let input = worker.tape.leaf(shape);
    patch.fill_input(pictures, worker.tape.value_mut(input));
    let y = worker.run(net, ANALYSIS, input);
    let noisy = worker.tape.shifted(y, |y| y.iter_mut().for_each(|y| *y += rng.unit() - 0.5));
    let out = worker.run(net, SYNTHESIS, noisy);
    // loss = cost / (lambda CODED) + bits / pixels
    worker.measure(sample, pictures, patch, tune, out, 1.0 / (R::CODED * lambda));
    let Worker { tape, rate: work, .. } = worker;
    sample.codes.clear();
    sample.codes.extend_from_slice(tape.value(y));
    let (values, d, _) = tape.value_and_gradient(noisy);
    let x = Noisy { clean: &sample.codes, noisy: values, patch, gain: (1.0 / sample.pixels) as f32 };
    let own = &mut sample.gradient[net.ends[0]..net.ends[1]];
    sample.bits = rate.noisy(work, &x, d, own, rng);
    tape.backward(&net.layers, Some(input), &mut sample.gradient);
}

/// The state of the stage.
pub struct Trainer<R: Rate> {
    pub workers: Workers<R::Work>,
    sum: Vec<f32>,
    adam: Adam,
}

/// What a step measured: mean squared error and bits a pixel, with noise for rounding.
#[derive(Clone, Copy, Debug)]
pub struct Seen {
    pub mse: f64,
    pub bpp: f64,
}

impl<R: Rate> Trainer<R> {
    pub fn new(net: &Net) -> Self {
        let n = net.parameters.len();
        Trainer { workers: Workers::new(n), sum: vec![0.0; n], adam: Adam::new(n) }
    }

    /// One step; `progress` of the stage in [0, 1].
    pub fn step(
        &mut self,
        net: &mut Net,
        rate: &mut R,
        pictures: &[Picture],
        tune: Tune,
        lambda: f64,
        seed: u64,
        step: u64,
        progress: f32,
    ) -> Seen {
        net.prepare(0..10);
        rate.prepare(net.rates_own(), false);
        let (shared, shared_rate) = (&*net, &*rate);
        self.workers.each(BATCH, |i, worker, sample| {
            let mut rng = Rng::stream(seed, 2 + step, i as u64);
            let patch = Patch::random(pictures, SIDE, R::ALIGN, &mut rng);
            forward_backward(worker, sample, shared, shared_rate, pictures, &patch, tune, lambda, &mut rng);
        });
        reduce(&self.workers.samples, &mut self.sum);
        net.to_parameters(&mut self.sum);
        rate.unprepare(net.rates_own(), &mut self.sum[net.ends[0]..net.ends[1]]);
        net.step(&mut self.adam, &self.sum, cosine(progress, 1e-3, 5e-5));
        let mut all = Distortion::default();
        let (mut bits, mut pixels) = (0.0, 0.0);
        for sample in &self.workers.samples {
            all.add(&sample.distortion);
            bits += sample.bits;
            pixels += sample.pixels;
        }
        Seen { mse: all.mse(), bpp: R::CODED * bits / pixels }
    }
}

/// Codes of all pictures before rounding, `[channels][height][width]` each: one pass over their patches.
pub fn analyse<W: Default + Send>(net: &mut Net, workers: &mut Workers<W>, pictures: &[Picture]) -> Vec<Vec<f32>> {
    net.prepare(ANALYSIS);
    let n = net.spec.n();
    let grids: Vec<_> = pictures.iter().map(grid_of).collect();
    let mut codes: Vec<Vec<f32>> = grids.iter().map(|(w, h)| vec![0.0; n * w * h]).collect();
    let net = &*net;
    for patches in Patch::partition(pictures, 32, 1).chunks(BATCH) {
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
