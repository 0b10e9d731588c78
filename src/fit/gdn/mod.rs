//! Family `gdn`: analysis, synthesis and density are learned on parts of the pictures; then the codes that one
//! pass of the analysis gives are moved directly, with the synthesis, until they cost least.

mod checkpoint;
mod net;
mod rate;
mod refine;
mod start;
mod train;

use super::loss::MS_SSIM_UNIT;
use super::target::{LambdaControl, Measured};
use super::{FitOptions, Fitted, Moment, Monitor, WeightCoding};
use crate::codec;
use crate::error::{Class, Error, Result};
use crate::image::{Picture, Rect};
use crate::metrics;
use crate::models::gdn::weights::Quantised;
use crate::models::gdn::{GdnModel, GdnSpec, MAX_CHANNELS, SHIFT};
use crate::models::{Codes, Grid};
use checkpoint::State;
use net::Net;
use refine::Refiner;
use std::sync::atomic::Ordering;
use std::time::Instant;
use train::Trainer;

/// Steps of the two stages at effort 1; half as many again for each level.
const STEPS: [f64; 2] = [240.0, 120.0];
/// Share of a deadline that the first stage takes, and at which the second ends.
const TRAIN_SHARE: f64 = 0.35;
const REFINE_SHARE: f64 = 0.95;
/// Looks at the whole file in the second stage; fewer at a large picture, where each takes long.
const CHECKS: u64 = 8;
/// Pictures over this many pixels are cut into tiles of `TILE`.
const TILED_FROM: usize = 1 << 22;
const TILE: usize = 2048;

/// Most channels that are chosen: the time of a step grows with their square.
const MOST_CHOSEN: usize = 32;

/// Channels for pictures: weights, some 12 bytes for each of `N^2`, should be some 10 % of the file.
fn channels(pictures: &[Picture], lambda: f64) -> usize {
    let bytes: f64 = pictures.iter().map(|p| expected_bytes(p, lambda)).sum();
    let n = (0.10 * bytes / 12.0).sqrt();
    ((n / 4.0).round() as usize * 4).clamp(4, MOST_CHOSEN)
}

/// About the bytes of a file: what a Haar transform of four levels would take at the distortion where one more
/// bit is worth `lambda`, twice, as measured on photographs and on the nebula.
fn expected_bytes(p: &Picture, lambda: f64) -> f64 {
    let channels = p.channels;
    let mut luma: Vec<f32> = p.samples.chunks_exact(channels).map(|s| f32::from(s[channels / 2]) / 255.0).collect();
    let (mut w, mut h) = (p.width, p.height);
    let noise = (3.0 * lambda / (2.0 * std::f64::consts::LN_2)) as f32;
    let mut bits = 0f64;
    for _ in 0..4 {
        let pitch = w;
        (w, h) = (w / 2, h / 2);
        for y in 0..h {
            let mut row = 0f32;
            for x in 0..w {
                let at = 2 * (y * pitch + x);
                let (a, b, c, d) = (luma[at], luma[at + 1], luma[at + pitch], luma[at + pitch + 1]);
                let energies = [a - b + c - d, a + b - c - d, a - b - c + d].map(|v| 0.25 * v * v);
                row += energies.iter().map(|e| (1.0 + e / noise).log2()).sum::<f32>();
                luma[y * w + x] = 0.5 * (a + b + c + d);
            }
            bits += 0.5 * f64::from(row);
        }
    }
    2.0 * bits / 8.0
}

/// What ends a stage: its steps, or its share of the time.
struct Clock {
    start: Instant,
    steps: u64,
    until: Option<Instant>,
}

impl Clock {
    fn new(steps: u64, until: Option<Instant>) -> Self {
        Clock { start: Instant::now(), steps, until }
    }

    fn progress(&self, step: u64) -> f32 {
        let by_steps = step as f64 / self.steps.max(1) as f64;
        let by_time = self.until.map_or(0.0, |until| {
            let all = until.saturating_duration_since(self.start).as_secs_f64();
            if all > 0.0 {
                self.start.elapsed().as_secs_f64() / all
            } else {
                1.0
            }
        });
        by_steps.max(by_time) as f32
    }
}

/// Seconds between two checkpoints.
const SAVE_EVERY: f64 = 20.0;

/// Saves now and then, and before an interrupted fit ends.
fn keep(monitor: &mut Monitor, saved: &mut Instant, state: impl FnOnce() -> State) -> Result<()> {
    let stop = monitor.stop.load(Ordering::Relaxed);
    if stop || saved.elapsed().as_secs_f64() > SAVE_EVERY {
        (monitor.save)(&state().write());
        *saved = Instant::now();
    }
    match stop {
        true => Err(Error::new(Class::Interrupted, "interrupted")),
        false => Ok(()),
    }
}

fn state(net: &Net, step: u64, lambda: f64, codes: Vec<Vec<f32>>) -> State {
    State {
        channels: net.spec.n as u32,
        step,
        lambda,
        exponents: net.exponents.clone().unwrap_or_default(),
        parameters: net.parameters.clone(),
        codes,
    }
}

fn fitted(net: &Net, refiner: &Refiner, pictures: &[Picture], options: &FitOptions, steps: u64) -> Fitted {
    let values = net.synthesis_values();
    let model = match (&net.exponents, options.weights) {
        (Some(e), WeightCoding::Coded) => {
            GdnModel::from_quantised(net.spec, Quantised::new(&net.spec, &values, e.clone()))
        }
        _ => GdnModel::from_weights(net.spec, &values),
    };
    let codes = pictures.iter().zip(refiner.codes()).map(|(p, codes)| -> Codes {
        let mut grid = Grid::new(Rect::whole(p.width, p.height).shrunk(SHIFT), net.spec.n);
        grid.codes.copy_from_slice(codes);
        vec![grid]
    });
    let largest = pictures.iter().map(Picture::pixels).max().unwrap_or(0);
    let tile = options.tile.unwrap_or(if largest > TILED_FROM { TILE } else { 0 });
    Fitted { codes: codes.collect(), model: Box::new(model), steps, tile }
}

fn measure(fitted: &Fitted, pictures: &[Picture], options: &FitOptions) -> Result<(Measured, f64)> {
    let written = codec::write_file(fitted, pictures)?;
    let (mut squares, mut samples, mut pixels, mut ms_ssim) = (0.0, 0.0, 0.0, 0.0);
    for (a, b) in pictures.iter().zip(&written.decoded) {
        squares += metrics::mse(a, b) / 65025.0 * a.samples.len() as f64;
        samples += a.samples.len() as f64;
        let wanted = matches!(options.target, super::Target::MsSsim(_)) || options.tune == super::Tune::MsSsim;
        ms_ssim += if wanted { metrics::ms_ssim(a, b).unwrap_or(1.0) * a.pixels() as f64 } else { 0.0 };
        pixels += a.pixels() as f64;
    }
    let mse: f64 = squares / samples;
    let m =
        Measured { psnr: -10.0 * mse.max(1e-10).log10(), ms_ssim: ms_ssim / pixels, bytes: written.bytes.len() as f64 };
    let distortion = if options.tune == super::Tune::MsSsim { (1.0 - m.ms_ssim) * MS_SSIM_UNIT } else { mse };
    Ok((m, distortion))
}

/// See [`FitFn`](super::FitFn).
pub fn fit(pictures: &[Picture], options: &FitOptions, monitor: &mut Monitor) -> Result<Fitted> {
    let pixels: usize = pictures.iter().map(Picture::pixels).sum();
    let mut control = LambdaControl::new(options, pictures);
    let resumed = monitor.resume.take().map(|b| State::read(&b)).transpose()?;
    let given = resumed.as_ref().map(|r| r.channels as usize).or(options.channels);
    if let Some(r) = &resumed {
        control.set_lambda(r.lambda);
    }
    let n = given.unwrap_or_else(|| channels(pictures, control.lambda()));
    if !(1..=MAX_CHANNELS).contains(&n) {
        return Err(Error::new(Class::Usage, format!("{n} channels: 1 to {MAX_CHANNELS} are possible")));
    }
    let spec = GdnSpec::new(n, pictures[0].channels);
    let moves = !matches!(options.target, super::Target::Quality(_) | super::Target::Lambda(_));
    let looks = match (pixels > TILED_FROM, moves) {
        (false, _) => CHECKS,
        (true, moves) => CHECKS / if moves { 2 } else { 4 },
    };
    let growth = 1.5f64.powi(options.effort as i32 - 1);
    let [train_steps, refine_steps] = STEPS.map(|s| (s * growth) as u64);
    let begin = Instant::now();
    let share = |s: f64| options.deadline.map(|d| begin + d.saturating_duration_since(begin).mul_f64(s));

    let samples: u64 = pictures[0].samples.iter().map(|&s| u64::from(s)).sum();
    let mean = samples as f32 / pictures[0].samples.len() as f32 / 255.0;
    let mut net = Net::new(spec, mean, control.lambda(), options.seed);
    let mut start = 0;
    if let Some(r) = &resumed {
        let sizes = pictures.iter().map(|p| n * net::grid_of(p).0 * net::grid_of(p).1);
        let fits = r.codes.is_empty() || sizes.eq(r.codes.iter().map(Vec::len));
        if r.parameters.len() != net.parameters.len() || !fits {
            return Err(Error::format("the checkpoint is of other pictures: start without --resume"));
        }
        net.parameters.copy_from_slice(&r.parameters);
        start = r.step;
    }
    let resumed = resumed.map(|r| (r.exponents, r.codes)).filter(|(_, codes)| !codes.is_empty());
    let mut saved = Instant::now();
    let mut trainer = Trainer::new(&net);
    let clock = Clock::new(train_steps, share(TRAIN_SHARE));
    let (mut step, mut mse, mut bpp) = (if resumed.is_some() { train_steps } else { start }, 0.0, 0.0);
    let all = train_steps + refine_steps;
    let weight_bytes = 0.3 * spec.weights_count() as f64;
    loop {
        let progress = clock.progress(step);
        if progress >= 1.0 {
            break;
        }
        keep(monitor, &mut saved, || state(&net, step, control.lambda(), Vec::new()))?;
        let now = trainer.step(&mut net, pictures, options.tune, control.lambda(), options.seed, step, progress);
        let fade = if mse == 0.0 { 1.0 } else { 0.02 };
        mse += fade * (now.mse - mse);
        bpp += fade * (now.bpp - bpp);
        let m = Measured { psnr: -10.0 * mse.log10(), ms_ssim: 0.0, bytes: bpp * pixels as f64 / 8.0 + weight_bytes };
        if moves && step % 50 == 49 && progress > 0.3 && !matches!(options.target, super::Target::MsSsim(_)) {
            control.follow(&m, 0.2);
        }
        step += 1;
        if step % 10 == 0 {
            (monitor.report)(Moment { step, steps: all, psnr: m.psnr, bytes: m.bytes });
        }
    }

    let mut lanes;
    let mut refiner;
    let (mut k, mut checks) = (0, 0);
    if let Some((exponents, codes)) = resumed {
        lanes = trainer.lanes;
        refiner = Refiner::new(&net, pictures, codes);
        net.exponents = (!exponents.is_empty()).then_some(exponents);
        k = start;
    } else {
        let codes = train::analyse(&mut net, &mut trainer.lanes, pictures);
        lanes = trainer.lanes;
        refiner = Refiner::new(&net, pictures, codes);
        refiner.sort_channels(&mut net);
        refiner.update_rates(n);
    }
    let coded = options.weights == WeightCoding::Coded;
    let clock = Clock::new(refine_steps, share(REFINE_SHARE));
    let mut best: Option<(bool, f64, Fitted)> = None;
    loop {
        let progress = clock.progress(k);
        keep(monitor, &mut saved, || state(&net, k, control.lambda(), refiner.values()))?;
        let due = (progress * looks as f32) as u64 >= checks;
        if due {
            if coded && (net.exponents.is_none() || checks == looks / 2) {
                refiner.choose_steps(&mut net, &mut lanes, pictures, options.tune, control.lambda());
            }
            checks += 1;
            let now = fitted(&net, &refiner, pictures, options, step + k);
            let (m, distortion) = measure(&now, pictures, options)?;
            let loss = distortion + control.lambda() * 8.0 * m.bytes / pixels as f64;
            let met = control.met(&m);
            (monitor.report)(Moment { step: step + k, steps: all, psnr: m.psnr, bytes: m.bytes });
            let better = best.as_ref().is_none_or(|(was, b, _)| (met && !was) || (met == *was && loss < *b) || moves);
            if better && (met || best.as_ref().is_none_or(|(was, ..)| !was)) {
                best = Some((met, loss, now));
            }
            control.follow(&m, if progress < 0.5 { 0.7 } else { 0.5 });
        }
        if progress >= 1.0 {
            break;
        }
        let d = refiner.step(&mut net, &mut lanes, pictures, options.tune, control.lambda(), options.seed, k, progress);
        k += 1;
        let bytes = refiner.bits() / 8.0 + weight_bytes;
        (monitor.report)(Moment { step: step + k, steps: all, psnr: -10.0 * d.mse().log10(), bytes });
    }
    let (met, _, best) = best.expect("the last step is looked at");
    if !met {
        return Err(Error::new(Class::Target, "the target was not reached: raise --effort, or ask for less"));
    }
    Ok(best)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fit::Tune;

    fn waves(width: usize, height: usize) -> Picture {
        let sample = |i: usize| {
            let (x, y, c) = (i / 3 % width, i / 3 / width, i % 3);
            (128.0 + 90.0 * (x as f32 * 0.17 + c as f32).sin() * (y as f32 * 0.11 + 0.3).cos()) as u8
        };
        Picture { width, height, channels: 3, samples: (0..3 * width * height).map(sample).collect() }
    }

    #[test]
    fn more_channels_for_more_detail() {
        let flat = Picture { samples: vec![90; 3 << 18], width: 512, height: 512, channels: 3 };
        let busy = Picture {
            samples: (0..3 << 18).map(|i| ((i % 9973) * (i % 9973) / 7 % 251) as u8).collect(),
            ..flat.clone()
        };
        let n = |p: &Picture, lambda| channels(std::slice::from_ref(p), lambda);
        assert_eq!((n(&flat, 1e-3), n(&busy, 1e-4)), (4, MOST_CHOSEN));
        assert!(n(&busy, 5e-2) < n(&busy, 1e-3) || n(&busy, 1e-3) == MOST_CHOSEN);
        assert_eq!(n(&waves(1, 1), 1e-3), 4);
    }

    /// The rounding of weights, of which the last steps know, costs less than 0.1 dB.
    #[test]
    fn rounded_weights_lose_little() {
        let pictures = [waves(96, 64)];
        let (spec, lambda) = (GdnSpec::new(6, 3), 5e-4);
        let mut net = Net::new(spec, 0.5, lambda, 1);
        let mut trainer = Trainer::new(&net);
        for k in 0..300 {
            trainer.step(&mut net, &pictures, Tune::Psnr, lambda, 1, k, k as f32 / 300.0);
        }
        let codes = train::analyse(&mut net, &mut trainer.lanes, &pictures);
        let mut refiner = Refiner::new(&net, &pictures, codes);
        let lanes = &mut trainer.lanes;
        refiner.choose_steps(&mut net, lanes, &pictures, Tune::Psnr, lambda);
        for k in 0..150 {
            refiner.step(&mut net, lanes, &pictures, Tune::Psnr, lambda, 1, k, k as f32 / 150.0);
        }
        let psnr = |net: &mut Net, lanes: &mut [train::Lane]| {
            net.prepare(net::SYNTHESIS);
            -10.0 * refiner.distortion(net, lanes, &pictures, Tune::Psnr, &[0]).mse().log10()
        };
        let rounded = psnr(&mut net, lanes);
        net.exponents = None;
        let float = psnr(&mut net, lanes);
        assert!(rounded > 28.0 && rounded > float - 0.1, "{rounded} dB, with float weights {float} dB");
    }
}
