//! Who works on the samples of a batch.
//!
//! A tape belongs to a thread and not to a sample: its few megabytes then stay in the cache from sample to sample.
//! What a sample leaves behind belongs to it, so that sums do not depend on threads.

use super::net::{Net, Part};
use crate::fit::autograd::{Tape, Var};
use crate::fit::loss::{self, Distortion};
use crate::fit::Tune;
use crate::image::Picture;
use crate::models::gdn::SHIFT;
use kernels::{Level, Window};
use rayon::prelude::*;
use std::sync::Mutex;

/// Samples of a batch.
pub const LANES: usize = 8;

/// The tools of one thread.
#[derive(Debug)]
pub struct Desk {
    pub tape: Tape,
    target: Vec<f32>,
    work: loss::Work,
    /// Codes of one channel, and their gradient.
    pub row: Vec<f32>,
    pub d_row: Vec<f32>,
}

/// What one sample leaves behind.
#[derive(Debug, Default)]
pub struct Lane {
    pub gradient: Vec<f32>,
    /// Codes, or their gradient.
    pub codes: Vec<f32>,
    pub distortion: Distortion,
    pub bits: f64,
    pub pixels: f64,
}

/// Desks and lanes.
#[derive(Debug)]
pub struct Team {
    desks: Vec<Mutex<Desk>>,
    pub lanes: Vec<Lane>,
}

impl Desk {
    fn new() -> Self {
        let (target, row, d_row) = (Vec::new(), Vec::new(), Vec::new());
        Desk { tape: Tape::new(Level::best()), target, work: loss::Work::default(), row, d_row }
    }

    /// Layers `which` one after another.
    pub fn run(&mut self, net: &Net, which: std::ops::Range<usize>, x: Var) -> Var {
        which.fold(x, |x, i| self.tape.call(&net.layers, i, x))
    }

    /// The distortion of `part`'s core, with its gradient times `gain / samples`.
    pub fn measure(&mut self, lane: &mut Lane, pictures: &[Picture], part: &Part, tune: Tune, out: Var, gain: f64) {
        let (inner, pixels) = (part.inner(SHIFT), part.pixels(pictures));
        let window = Window { y0: inner.y0, x0: inner.x0, height: pixels.height(), width: pixels.width() };
        part.fill_target(pictures, &mut self.target);
        let gain = (gain / self.target.len() as f64) as f32;
        let level = self.tape.level();
        let (planes, d, scratch) = self.tape.value_and_gradient(out);
        let target = &self.target;
        lane.distortion =
            loss::distortion(level, tune, out.shape, planes, &window, target, gain, d, &mut self.work, scratch);
        lane.pixels = pixels.area() as f64;
    }
}

impl Team {
    /// For gradients of `parameters` values.
    pub fn new(parameters: usize) -> Self {
        let lane = || Lane { gradient: vec![0.0; parameters], ..Lane::default() };
        Team {
            desks: (0..rayon::current_num_threads()).map(|_| Mutex::new(Desk::new())).collect(),
            lanes: (0..LANES).map(|_| lane()).collect(),
        }
    }

    /// Does `work` for each lane up to `count`, at the desk of the thread that does it.
    pub fn each(&mut self, count: usize, work: impl Fn(usize, &mut Desk, &mut Lane) + Sync) {
        let desks = &self.desks;
        self.lanes[..count].par_iter_mut().enumerate().for_each(|(i, lane)| {
            let own = rayon::current_thread_index().unwrap_or(0) % desks.len();
            // A sample that panicked leaves nothing that the next one reads.
            let mut desk = desks[own].lock().unwrap_or_else(|broken| broken.into_inner());
            work(i, &mut desk, lane);
        });
    }
}

/// Sums the gradients of lanes in their order.
pub fn reduce(lanes: &[Lane], sum: &mut [f32]) {
    let part = 1 << 14;
    sum.par_chunks_mut(part).enumerate().for_each(|(i, sum)| {
        sum.fill(0.0);
        for lane in lanes {
            let n = sum.len();
            sum.iter_mut().zip(&lane.gradient[i * part..][..n]).for_each(|(s, g)| *s += g);
        }
    });
}
