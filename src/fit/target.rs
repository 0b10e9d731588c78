//! Derives the `lambda` of the loss from the target: its initial value, and its adaptation during a fit.

use super::water_filling::Spectrum;
use super::{Options, Target, Tune};
use crate::metrics::ssimulacra2;
use std::borrow::Borrow;

/// `lambda = 10^(-1.3 - 0.028 q)`: q 75 is 4e-4 (about 37 dB on photographs), q 100 is 8e-5, q 0 is 0.05.
pub fn quality_to_lambda(q: f64) -> f64 {
    10f64.powf(-1.3 - 0.028 * q)
}

/// Measures of a fit or of its file.
#[derive(Clone, Copy, Debug, Default)]
pub struct Measured {
    /// PSNR in dB over all samples.
    pub psnr: f64,
    /// MS-SSIM; 0 if it was not measured.
    pub ms_ssim: f64,
    /// SSIMULACRA2; 0 if it was not measured.
    pub ssimulacra2: f64,
    /// Bytes of the whole file, or of the part that was measured.
    pub bytes: f64,
}

/// A measure besides PSNR and bytes.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Measure {
    /// No other.
    Psnr,
    /// MS-SSIM.
    MsSsim,
    /// SSIMULACRA2.
    Ssimulacra2,
}

/// Lower bound of the MSE (100 dB), which keeps the PSNR finite.
const MIN_MSE: f64 = 1e-10;

impl Measured {
    /// From the `mse` of samples in `[0, 1]`.
    pub fn new(mse: f64, bytes: f64) -> Measured {
        Measured { psnr: -10.0 * mse.max(MIN_MSE).log10(), bytes, ..Measured::default() }
    }

    /// Mean squared error of samples in `[0, 1]`.
    pub fn mse(&self) -> f64 {
        10f64.powf(-0.1 * self.psnr)
    }

    /// The rate term of the loss, `lambda * bpp`, for pictures of `pixels` pixels in all.
    pub fn rate(&self, lambda: f64, pixels: f64) -> f64 {
        lambda * 8.0 * self.bytes / pixels
    }
}

/// Adapts `lambda` to the target. Targets that fix lambda keep it constant.
#[derive(Clone, Debug)]
pub struct LambdaControl {
    target: Target,
    tune: Tune,
    pixels: f64,
    lambda: f64,
}

/// Loss of quality in dB, and reduction of `ln bytes`, when lambda grows by a factor of e. The values are typical of photographs
/// at 0.1 to 1.5 bpp. Only the speed of convergence depends on them.
const DB_PER_LOG_LAMBDA: f64 = 2.8;
const MS_SSIM_DB_PER_LOG_LAMBDA: f64 = 2.6;
const LOG_BYTES_PER_LOG_LAMBDA: f64 = 0.5;

/// The lambda at a sum of errors of SSIMULACRA2 is about `unit * sum^power`: under `visual`, and under `psnr`.
const VISUAL_LAW: (f64, f64) = (1.8e-4, 1.6);
const PSNR_LAW: (f64, f64) = (6e-5, 1.6);

/// What the logarithm `s` of that sum still falls by in the rest of the last stage, of which `p` is done, is about
/// `(1 - p) (a - b s)` for these `a` and `b`. Two photographs and a texture of 512x512 pixels at efforts 1 and 3, qualities 40 and
/// 80, agree within 0.15.
const SETTLING: (f64, f64) = (0.95, 0.28);

/// A quality under `visual` raises lambda by at most this factor from that of typical photographs: a picture so smooth that it
/// has the score at a far larger lambda is kept better, since the measure hardly sees that contrast is lost.
const MOST_MOVED: f64 = 4.0;

/// Maximum change of `ln lambda` at one measurement, so that a noisy measurement cannot disturb the fit.
const LARGEST_MOVE: f64 = 0.7;

impl LambdaControl {
    /// `pixels` is the sum over all pictures, `besides` the number of bytes that the fit does not control (metadata). If the
    /// target does not fix lambda, the initial value is where reverse water-filling on the pictures' `spectrum` meets the target.
    pub fn new<S: Borrow<Spectrum>>(
        options: &Options,
        pixels: usize,
        besides: u64,
        spectrum: impl FnOnce() -> S,
    ) -> Self {
        let pixels = pixels as f64;
        let fitted = |bytes: f64| 8.0 * (bytes - besides as f64).max(1.0) / pixels;
        let solve = |wanted, quality: fn(&Spectrum, f64) -> f64| spectrum().borrow().solve(wanted, quality);
        let lambda = match options.target {
            Target::Quality(q) if options.tune == Tune::Visual => typical_lambda(options.tune, q),
            Target::Quality(q) => quality_to_lambda(q),
            Target::Lambda(l) => l,
            // Nothing is fitted.
            Target::MaxError(_) => f64::MIN_POSITIVE,
            Target::Psnr(db) => solve(db, Spectrum::psnr),
            // The initial value is that of typical photographs; the fit corrects it.
            Target::MsSsim(v) => 1e-3 * ((15.0 - to_db(v)) / MS_SSIM_DB_PER_LOG_LAMBDA).exp(),
            Target::Ssimulacra2(score) => typical_lambda(options.tune, score),
            Target::Bpp(bpp) => solve(fitted(bpp * pixels / 8.0), Spectrum::bpp),
            Target::Size(bytes) => solve(fitted(bytes as f64), Spectrum::bpp),
        };
        LambdaControl { target: options.target, tune: options.tune, pixels, lambda: clamp(lambda) }
    }

    /// The measure that the target needs, besides PSNR and bytes.
    pub fn measure(&self) -> Measure {
        match self.target {
            Target::MsSsim(_) => Measure::MsSsim,
            Target::Ssimulacra2(_) => Measure::Ssimulacra2,
            Target::Quality(_) if self.tune == Tune::Visual => Measure::Ssimulacra2,
            _ => Measure::Psnr,
        }
    }

    /// Whether lambda is adapted during the fit.
    pub fn follows(&self) -> bool {
        self.target.may_be_missed() || self.measure() != Measure::Psnr
    }

    /// The current weight of the rate in the loss.
    pub fn lambda(&self) -> f64 {
        self.lambda
    }

    /// The target of the fit.
    pub fn target(&self) -> Target {
        self.target
    }

    /// Sets the lambda of a checkpoint; a value that is not finite is ignored.
    pub fn set_lambda(&mut self, lambda: f64) {
        self.lambda = if lambda.is_finite() { clamp(lambda) } else { self.lambda };
    }

    /// Changes `ln lambda` by `margin` to the safe side: higher quality for a quality target, fewer bytes for a size target.
    pub fn add_margin(&mut self, margin: f64) {
        let sign = if matches!(self.target, Target::Bpp(_) | Target::Size(_)) { 1.0 } else { -1.0 };
        self.lambda = clamp(self.lambda * (sign * margin).exp());
    }

    /// What `m`, measured when the part `progress` of the last stage was done, will be at its end. Only scores of SSIMULACRA2 are
    /// foreseen: they rise to the end, by so much that a lambda that followed them as they are would be far too small.
    pub fn expected(&self, m: &Measured, progress: f64) -> Measured {
        if self.measure() != Measure::Ssimulacra2 {
            return *m;
        }
        let errors = ssimulacra2::sum_of(m.ssimulacra2.min(99.9)).ln();
        let later = errors - (1.0 - progress) * (SETTLING.0 - SETTLING.1 * errors).max(0.0);
        Measured { ssimulacra2: ssimulacra2::score_of(later.exp()), ..*m }
    }

    /// Changes `ln lambda` by `gain` times the change that should close the gap to the target.
    pub fn follow(&mut self, m: &Measured, gain: f64) {
        let Some(gap) = self.gap(m) else { return };
        let step = gain * gap;
        self.lambda = clamp(self.lambda * step.clamp(-LARGEST_MOVE, LARGEST_MOVE).exp());
        if let Target::Quality(score) = self.target {
            let typical = typical_lambda(self.tune, score);
            self.lambda = self.lambda.min(typical * MOST_MOVED);
        }
    }

    /// The change of `ln lambda` that should meet the target; `None` for a fixed lambda. It is positive if the quality is above
    /// its target or the size above its limit.
    pub fn gap(&self, m: &Measured) -> Option<f64> {
        Some(match self.target {
            Target::Ssimulacra2(score) => score_gap(m.ssimulacra2, score),
            Target::Quality(score) if self.tune == Tune::Visual => score_gap(m.ssimulacra2, score),
            Target::Quality(_) | Target::Lambda(_) | Target::MaxError(_) => return None,
            Target::Psnr(db) => (m.psnr - db) / DB_PER_LOG_LAMBDA,
            Target::MsSsim(v) => (to_db(m.ms_ssim) - to_db(v)) / MS_SSIM_DB_PER_LOG_LAMBDA,
            Target::Bpp(bpp) => (8.0 * m.bytes / self.pixels / bpp).ln() / LOG_BYTES_PER_LOG_LAMBDA,
            Target::Size(bytes) => (m.bytes / bytes as f64).ln() / LOG_BYTES_PER_LOG_LAMBDA,
        })
    }

    /// Whether the quality of `m` is above a quality target. Further steps will only raise it.
    pub fn exceeds(&self, m: &Measured) -> bool {
        let of_size = matches!(self.target, Target::Bpp(_) | Target::Size(_));
        !of_size && self.gap(m).is_some_and(|gap| gap > 0.0)
    }

    /// Whether `m` meets the target: at least the quality, at most the size.
    pub fn met(&self, m: &Measured) -> bool {
        match self.target {
            Target::Quality(_) | Target::Lambda(_) | Target::MaxError(_) => true,
            Target::Psnr(db) => m.psnr >= db,
            Target::MsSsim(v) => m.ms_ssim >= v,
            Target::Ssimulacra2(score) => m.ssimulacra2 >= score,
            Target::Bpp(bpp) => 8.0 * m.bytes / self.pixels <= bpp,
            Target::Size(bytes) => m.bytes <= bytes as f64,
        }
    }

    /// The rank of a file; a higher rank is better. Files that meet the target rank above those that miss it. Files that miss it
    /// are ordered by their gap; files that meet a quality target by bytes, a size target by distortion. With a fixed lambda the
    /// order is that of the loss.
    pub fn rank(&self, m: &Measured) -> (bool, f64) {
        let met = self.met(m);
        let distortion = self.tune.distortion(m.mse(), Some(m.ms_ssim), Some(m.ssimulacra2));
        let cost = match (self.target, self.gap(m)) {
            (_, Some(gap)) if !met => gap.abs(),
            (Target::Quality(_) | Target::Lambda(_) | Target::MaxError(_), _) => {
                distortion + m.rate(self.lambda, self.pixels)
            }
            (Target::Psnr(_) | Target::MsSsim(_) | Target::Ssimulacra2(_), _) => m.bytes,
            (Target::Bpp(_) | Target::Size(_), _) => distortion,
        };
        (met, -cost)
    }
}

/// The lambda of typical photographs at a score of SSIMULACRA2.
fn typical_lambda(tune: Tune, score: f64) -> f64 {
    let (unit, power) = if tune == Tune::Visual { VISUAL_LAW } else { PSNR_LAW };
    unit * ssimulacra2::sum_of(score.min(99.0)).powf(power)
}

/// The change of `ln lambda` that should move a score to the `wanted` one.
fn score_gap(score: f64, wanted: f64) -> f64 {
    let log_errors = |score: f64| ssimulacra2::sum_of(score.min(99.9)).ln();
    VISUAL_LAW.1 * (log_errors(wanted) - log_errors(score))
}

/// The reduction of the gap to the target divided by the change of `ln lambda` that caused it. `None` if lambda did not change,
/// at an end of its range.
pub fn response(before: f64, now: f64, moved: f64) -> Option<f64> {
    (moved != 0.0).then(|| (before - now) / moved)
}

/// Clamps lambda to the range that gives useful files.
fn clamp(lambda: f64) -> f64 {
    lambda.clamp(1e-7, 1.0)
}

/// MS-SSIM in dB, `-10 log10(1 - v)`: equal steps on this scale are similar visual steps.
fn to_db(ms_ssim: f64) -> f64 {
    -10.0 * (1.0 - ms_ssim).max(1e-9).log10()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn quality_is_monotone_and_75_is_4e_4() {
        assert!((quality_to_lambda(75.0) / 4e-4 - 1.0).abs() < 0.01);
        assert!((0..100).all(|q| quality_to_lambda(q as f64) > quality_to_lambda(q as f64 + 1.0)));
    }

    fn control(target: Target) -> LambdaControl {
        LambdaControl { target, tune: Tune::Psnr, pixels: 1e6, lambda: 1e-3 }
    }

    /// Of two files that meet the target, the one closer to the target is not better if it takes more bytes.
    #[test]
    fn files_rank_by_target_then_by_rate_or_distortion() {
        let file = |psnr, bytes| Measured { psnr, bytes, ..Default::default() };
        let worst_to_best = |target, files: [Measured; 4]| {
            let control = control(target);
            assert!(files.windows(2).all(|f| control.rank(&f[0]) < control.rank(&f[1])), "{target:?}");
        };
        worst_to_best(
            Target::Psnr(37.0),
            [file(35.0, 900.0), file(36.9, 950.0), file(37.0, 9000.0), file(37.4, 990.0)],
        );
        worst_to_best(
            Target::Size(1000),
            [file(40.0, 1300.0), file(30.0, 1100.0), file(31.0, 1000.0), file(32.0, 800.0)],
        );
    }

    /// Only quality targets count: the size still falls during a fit.
    #[test]
    fn only_quality_targets_are_exceeded() {
        let m = Measured { psnr: 38.0, ms_ssim: 0.97, ssimulacra2: 70.0, bytes: 900.0 };
        let exceeds = |target| control(target).exceeds(&m);
        assert!(exceeds(Target::Psnr(37.0)) && exceeds(Target::MsSsim(0.96)) && exceeds(Target::Ssimulacra2(69.0)));
        assert!(!exceeds(Target::Psnr(39.0)) && !exceeds(Target::MsSsim(0.98)));
        assert!(![Target::Size(800), Target::Size(1000), Target::Bpp(1.0), Target::Lambda(1e-3)]
            .into_iter()
            .any(exceeds));
    }

    /// The expected score is above the measured one until the stage ends, and the more so the earlier.
    #[test]
    fn scores_are_expected_to_rise() {
        let control = control(Target::Ssimulacra2(60.0));
        let expected = |score, progress| {
            control.expected(&Measured { ssimulacra2: score, ..Default::default() }, progress).ssimulacra2
        };
        for score in [10.0, 30.0, 70.0, 95.0] {
            let all = [0.3, 0.6, 0.9, 1.0].map(|p| expected(score, p));
            assert!(all.windows(2).all(|p| p[0] > p[1]), "{all:?}");
            assert!((all[3] - score).abs() < 1e-6);
        }
    }

    /// On a codec that behaves as `psnr = 20 - 2.2 ln lambda` the control finds the target.
    #[test]
    fn control_converges() {
        let mut c = control(Target::Psnr(37.0));
        for _ in 0..20 {
            let m = Measured { psnr: 20.0 - 2.2 * c.lambda().ln(), ..Default::default() };
            c.follow(&m, 0.7);
        }
        assert!((20.0 - 2.2 * c.lambda().ln() - 37.0).abs() < 0.01);
        let mut c = control(Target::Size(5000));
        for _ in 0..20 {
            let m = Measured { bytes: 300.0 * c.lambda().powf(-0.6), ..Default::default() };
            c.follow(&m, 0.7);
        }
        assert!((300.0 * c.lambda().powf(-0.6) - 5000.0).abs() < 5.0);
    }
}
