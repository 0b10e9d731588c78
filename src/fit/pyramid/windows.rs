//! Pictures that are too large to be fitted whole: networks from samples, then codes window by window.
//!
//! A window is a core that takes its codes and a margin that lets them see past its edge. Codes that windows before
//! put into the margin are given: they are contexts and parts of the picture, and do not move. What the fit of a
//! window finds for the rest of the margin is forgotten. Memory follows the window, time the picture.

use super::latents::Held;
use super::plan::Plan;
use super::train::Trainer;
use super::{idle, learn, Clock, Learned};
use crate::error::{Class, Error, Result};
use crate::fit::{FitOptions, Moment, Monitor, Target};
use crate::image::{Picture, Rect};
use crate::models::{Codes, Grid};
use kernels::Level;
use std::sync::atomic::Ordering;
use std::time::Instant;

/// What a fit takes for each pixel that it holds, in bytes (measured: 183).
const BYTES_A_PIXEL: u64 = 190;
/// The picture, its codes and the proof of the file, a pixel of the whole.
const BYTES_KEPT: u64 = 16;
const BYTES_FIXED: u64 = 40 << 20;

/// Cells of all windows' edges: the coarsest grid has one latent a cell.
const CELL: usize = 256;
/// Margin on each side of a core.
const MARGIN: usize = CELL;
const SMALLEST_WINDOW: usize = 4 * CELL;

/// Side of a sample, and all of them together: networks of some thousand weights see enough in that.
const SAMPLE: usize = 1024;
const SAMPLED: usize = 4 << 20;

/// Steps in a stage of a window: as many as the whole fit makes, and never too few for codes that start at zero.
const WINDOW_STEPS: u32 = 200;
/// Part of a time limit that the samples get.
const SAMPLES_TIME: f64 = 0.4;

/// What a fit of `pixels` as a whole takes.
pub fn memory(pixels: usize) -> u64 {
    (BYTES_A_PIXEL + BYTES_KEPT) * pixels as u64 + BYTES_FIXED
}

/// Fits networks to samples of `pictures`, then all codes within `options.max_memory`.
pub fn fit(pictures: &[Picture], options: &FitOptions, plan: Plan, monitor: &mut Monitor) -> Result<Learned> {
    let pixels: usize = pictures.iter().map(Picture::pixels).sum();
    let kept = BYTES_KEPT * pixels as u64 + BYTES_FIXED;
    let room = options.max_memory.saturating_sub(kept) / BYTES_A_PIXEL;
    let side = (room as f64).sqrt() as usize / CELL * CELL;
    if side < SMALLEST_WINDOW {
        let least = kept + BYTES_A_PIXEL * (SMALLEST_WINDOW * SMALLEST_WINDOW) as u64;
        return Err(Error::new(
            Class::Usage,
            format!(
                "a fit of {pixels} pixels needs at least {} MB of memory: raise --max-memory",
                least.div_ceil(1 << 20)
            ),
        ));
    }
    let samples = samples(pictures, SAMPLED.min(room as usize));
    let now = Instant::now();
    let target = match options.target {
        Target::Size(bytes) => Target::Bpp(8.0 * bytes as f64 / pixels as f64),
        other => other,
    };
    let deadline = options.deadline.map(|d| now + d.saturating_duration_since(now).mul_f64(SAMPLES_TIME));
    let mut learned = learn(&samples, &FitOptions { target, deadline, ..options.clone() }, plan, monitor)?;

    let weights = learned.quantised.dequantise(&learned.plan.spec);
    let windows: Vec<(usize, Rect)> =
        pictures.iter().enumerate().flat_map(|(n, p)| cores(p, side - 2 * MARGIN).map(move |core| (n, core))).collect();
    let empty = |p: &Picture| -> Codes {
        let size = |shift: u32| Rect::whole(p.width.div_ceil(1 << shift), p.height.div_ceil(1 << shift));
        learned.plan.spec.grids().iter().map(|g| Grid::new(size(g.shift), 1)).collect()
    };
    let mut codes: Vec<Codes> = pictures.iter().map(empty).collect();
    let mut plan = learned.plan.clone();
    plan.stages.iter_mut().for_each(|s| s.steps = s.steps.max(WINDOW_STEPS));
    // Networks that are given say by themselves what is for which grid.
    plan.kept = 1.0;
    plan.coarse.dearer = 1.0;
    let steps = plan.stages.iter().map(|s| s.steps as u64).sum::<u64>();
    let total = learned.done + steps * windows.len() as u64;
    for (i, (n, core)) in windows.iter().enumerate() {
        let clock = options.deadline.map(|d| {
            let now = Instant::now();
            Clock::new(now + d.saturating_duration_since(now) / (windows.len() - i) as u32, &plan)
        });
        let mut window = Window { plan: &plan, lambda: learned.lambda, clock, weights: &weights, options };
        let psnr = window.fit(&pictures[*n], *core, i as u64, &mut codes[*n], monitor)?;
        learned.done += steps;
        (monitor.report)(Moment { step: learned.done, steps: total, psnr, bytes: 0.0 });
    }
    idle::empty(&learned.plan.spec, &learned.quantised, pictures, &mut codes, learned.lambda);
    learned.codes = codes;
    Ok(learned)
}

/// How one window is fitted.
struct Window<'a> {
    plan: &'a Plan,
    lambda: f64,
    clock: Option<Clock>,
    weights: &'a [f32],
    options: &'a FitOptions,
}

impl Window<'_> {
    /// Fits the window around `core` and puts the core's codes into `codes`; gives the window's PSNR.
    fn fit(&mut self, p: &Picture, core: Rect, n: u64, codes: &mut Codes, monitor: &mut Monitor) -> Result<f64> {
        let rect = core.grown(MARGIN, p.width, p.height);
        let pictures = [crop(p, rect)];
        let spec = &self.plan.spec;
        let seed = self.options.seed.wrapping_add(n + 1);
        let finest = self.plan.stages[0].finest;
        let mut trainer = Trainer::new(spec.clone(), &pictures, finest, Level::best(), seed, self.options.tune);
        let held = Held {
            top: core.y0 - rect.y0,
            left: core.x0 - rect.x0,
            bottom: core.y1 - rect.y0,
            codes: codes.iter().zip(spec.grids()).map(|(g, s)| cut(g, coarse(rect, s.shift))).collect(),
        };
        trainer.freeze(self.weights, Some(held));
        for (i, stage) in self.plan.stages.iter().enumerate() {
            if i > 0 {
                trainer.refine(&pictures, stage.finest, self.plan.kept);
            }
            let started = Instant::now();
            for step in 0..stage.steps {
                let late = self.clock.as_ref().map_or(0.0, |c| c.progress(i, started));
                let progress = late.max(step as f64 / stage.steps as f64);
                if progress >= 1.0 {
                    break;
                }
                if monitor.stop.load(Ordering::Relaxed) {
                    return Err(Error::new(Class::Interrupted, "interrupted"));
                }
                trainer.step(self.lambda, &self.plan.anneal(i, progress));
            }
        }
        let fitted = trainer.codes();
        for ((to, from), s) in codes.iter_mut().zip(&fitted[0]).zip(spec.grids()) {
            let (core, rect) = (coarse(core, s.shift), coarse(rect, s.shift));
            for y in core.y0..core.y1 {
                let start = (y - rect.y0) * rect.width() + core.x0 - rect.x0;
                let at = y * to.rect.width() + core.x0;
                to.codes[at..at + core.width()].copy_from_slice(&from.codes[start..start + core.width()]);
            }
        }
        Ok(trainer.measure_with(self.weights, &pictures, false).psnr)
    }
}

/// Cores of `side` in the order in which they are fitted.
fn cores(p: &Picture, side: usize) -> impl Iterator<Item = Rect> + '_ {
    let across = move |y: usize| (0..p.width).step_by(side).map(move |x| (x, y));
    let cut = move |(x, y): (usize, usize)| Rect::new(x, y, (x + side).min(p.width), (y + side).min(p.height));
    (0..p.height).step_by(side).flat_map(across).map(cut)
}

/// `rect`, whose left and top are multiples of the cell, in a grid's own coordinates.
fn coarse(rect: Rect, shift: u32) -> Rect {
    let up = |v: usize| v.div_ceil(1 << shift);
    Rect::new(rect.x0 >> shift, rect.y0 >> shift, up(rect.x1), up(rect.y1))
}

fn cut(grid: &Grid, rect: Rect) -> Grid {
    let row = |y: usize| &grid.codes[y * grid.rect.width() + rect.x0..][..rect.width()];
    Grid { rect, channels: 1, codes: (rect.y0..rect.y1).flat_map(row).copied().collect() }
}

fn crop(p: &Picture, rect: Rect) -> Picture {
    let row = |y: usize| &p.samples[(y * p.width + rect.x0) * p.channels..][..rect.width() * p.channels];
    Picture {
        width: rect.width(),
        height: rect.height(),
        channels: p.channels,
        samples: (rect.y0..rect.y1).flat_map(row).copied().collect(),
    }
}

/// Squares spread over the pictures, `pixels` of them together or a little less.
fn samples(pictures: &[Picture], pixels: usize) -> Vec<Picture> {
    let count = (pixels / (SAMPLE * SAMPLE)).max(1);
    let spot = |i: usize| {
        let p = &pictures[i * pictures.len() / count];
        let (w, h) = (p.width.min(SAMPLE), p.height.min(SAMPLE));
        // A golden-ratio lattice has no two spots in a row or a column.
        let (u, v) = ((i as f64 + 0.5) / count as f64, (0.5 + 0.618_034 * i as f64).fract());
        let (x, y) = ((u * (p.width - w) as f64) as usize, (v * (p.height - h) as f64) as usize);
        crop(p, Rect::new(x, y, x + w, y + h))
    };
    (0..count).map(spot).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fit::{pyramid, Tune, WeightCoding};
    use std::sync::atomic::AtomicBool;

    /// A picture in windows: within the memory, no seams, and about as good as the whole fit.
    #[test]
    fn windows_are_as_good_as_the_whole() {
        let (width, height) = (1100, 520);
        let sample = |i: usize| {
            let (x, y) = ((i % width) as f64, (i / width) as f64);
            (128.0 + 60.0 * (x / 37.0).sin() + 50.0 * (y / 23.0 + x / 91.0).cos()) as u8
        };
        let picture = Picture { width, height, channels: 1, samples: (0..width * height).map(sample).collect() };
        let fit = |in_windows: bool| {
            let options = FitOptions {
                target: Target::Lambda(2e-3),
                tune: Tune::Psnr,
                effort: 1,
                deadline: None,
                threads: 2,
                max_memory: 260 << 20,
                seed: 1,
                tile: None,
                weights: WeightCoding::Coded,
                channels: None,
            };
            let stop = AtomicBool::new(false);
            let mut monitor = Monitor { report: &mut |_| {}, stop: &stop, save: &mut |_| {}, resume: None };
            let mut plan = Plan::new(1, 1, width * height, height, 2e-3);
            plan.stages.iter_mut().for_each(|s| s.steps = 80);
            let pictures = [picture.clone()];
            let learned = if in_windows {
                super::fit(&pictures, &options, plan, &mut monitor)
            } else {
                learn(&pictures, &options, plan, &mut monitor)
            };
            let fitted = pyramid::package(&pictures, &options, learned.unwrap());
            let written = crate::codec::write_file(&fitted, &pictures).unwrap();
            let error = |r: std::ops::Range<usize>| {
                let d = |i: usize| f64::from(written.decoded[0].samples[i]) - f64::from(picture.samples[i]);
                r.clone().map(|i| d(i).powi(2)).sum::<f64>() / r.len() as f64
            };
            let cost =
                error(0..width * height) / 65025.0 + 2e-3 * 8.0 * written.bytes.len() as f64 / (width * height) as f64;
            // The rows on both sides of the seam at 512.
            (cost, error(506 * width..518 * width))
        };
        let (whole, edge) = fit(false);
        let (in_windows, seam) = fit(true);
        assert!(in_windows < 1.3 * whole, "J {in_windows} in windows, {whole} as a whole");
        assert!(seam < 2.0 * edge, "error {seam} at the seam, {edge} there as a whole");
    }
}
