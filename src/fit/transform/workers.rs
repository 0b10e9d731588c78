//! Who works on the samples of a batch.
//!
//! A tape belongs to a thread and not to a sample: its few megabytes then stay in the cache from sample to sample.
//! What a sample leaves behind belongs to it, so that sums do not depend on threads.

use super::net::Net;
use super::patch::Patch;
use crate::fit::autograd::{Tape, Var};
use crate::fit::loss::{self, Distortion};
use crate::fit::Tune;
use crate::image::Picture;
use crate::models::transform::SHIFT;
use kernels::{Level, Window};
use rayon::prelude::*;
use std::sync::Mutex;

/// Samples of a batch.
pub const BATCH: usize = 8;

/// The tools of one thread.
#[derive(Debug)]
pub struct Worker<W> {
    pub tape: Tape,
    target: Vec<f32>,
    work: loss::Work,
    /// Of the rate.
    pub rate: W,
}

/// What one sample leaves behind.
#[derive(Debug, Default)]
pub struct Sample {
    pub gradient: Vec<f32>,
    /// Codes, or their gradient.
    pub codes: Vec<f32>,
    /// The gradient of their bits.
    pub rate: Vec<f32>,
    pub distortion: Distortion,
    pub bits: f64,
    pub pixels: f64,
}

/// One worker a thread, and the samples of a batch.
#[derive(Debug)]
pub struct Workers<W> {
    workers: Vec<Mutex<Worker<W>>>,
    pub samples: Vec<Sample>,
}

impl<W: Default + Send> Worker<W> {
    fn new() -> Self {
        let (target, rate) = (Vec::new(), W::default());
        Worker { tape: Tape::new(Level::best()), target, work: loss::Work::default(), rate }
    }

    /// Layers `which` one after another.
    pub fn run(&mut self, net: &Net, which: std::ops::Range<usize>, x: Var) -> Var {
        which.fold(x, |x, i| self.tape.call(&net.layers, i, x))
    }

    /// The distortion of `patch`'s core, with its gradient times `gain / samples`.
    pub fn measure(
        &mut self,
        sample: &mut Sample,
        pictures: &[Picture],
        patch: &Patch,
        tune: Tune,
        out: Var,
        gain: f64,
    ) {
        let (inner, pixels) = (patch.inner(SHIFT), patch.pixels(pictures));
        let window = Window { y0: inner.y0, x0: inner.x0, height: pixels.height(), width: pixels.width() };
        patch.fill_target(pictures, &mut self.target);
        let gain = (gain / self.target.len() as f64) as f32;
        let level = self.tape.level();
        let (planes, d, scratch) = self.tape.value_and_gradient(out);
        let target = &self.target;
        sample.distortion =
            loss::distortion(level, tune, out.shape, planes, &window, target, gain, d, &mut self.work, scratch);
        sample.pixels = pixels.area() as f64;
    }
}

impl<W: Default + Send> Workers<W> {
    /// For gradients of `parameters` values.
    pub fn new(parameters: usize) -> Self {
        let sample = || Sample { gradient: vec![0.0; parameters], ..Sample::default() };
        Workers {
            workers: (0..rayon::current_num_threads()).map(|_| Mutex::new(Worker::new())).collect(),
            samples: (0..BATCH).map(|_| sample()).collect(),
        }
    }

    /// Does `work` for each sample up to `count`, at the worker of the thread that does it.
    pub fn each(&mut self, count: usize, work: impl Fn(usize, &mut Worker<W>, &mut Sample) + Sync) {
        let workers = &self.workers;
        self.samples[..count].par_iter_mut().enumerate().for_each(|(i, sample)| {
            let own = rayon::current_thread_index().unwrap_or(0) % workers.len();
            // A sample that panicked leaves nothing that the next one reads.
            let mut worker = workers[own].lock().unwrap_or_else(|broken| broken.into_inner());
            work(i, &mut worker, sample);
        });
    }
}

/// Sums the gradients of samples in their order.
pub fn reduce(samples: &[Sample], sum: &mut [f32]) {
    let patch = 1 << 14;
    sum.par_chunks_mut(patch).enumerate().for_each(|(i, sum)| {
        sum.fill(0.0);
        for sample in samples {
            let n = sum.len();
            sum.iter_mut().zip(&sample.gradient[i * patch..][..n]).for_each(|(s, g)| *s += g);
        }
    });
}
