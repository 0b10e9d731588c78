//! What a run will cost, said before it starts.
//!
//! Rough figures for two cores: some efforts were measured, the others follow from their steps. Other
//! machines differ, which is why the sentence says "about".

use super::report;
use crate::fit::{pyramid, FitOptions};
use std::time::{Duration, Instant};

pub struct Estimate {
    pub time: Duration,
    pub memory: u64,
}

/// Seconds of a pyramid fit: a part for each megapixel at efforts 1 to 9, on two cores.
const PYRAMID_SECONDS: [f64; 9] = [25.0, 45.0, 70.0, 100.0, 150.0, 270.0, 480.0, 850.0, 1500.0];
/// Seconds of the two stages of a gdn fit at effort 1, on two cores and at 24 channels. Each effort takes half as many
/// steps again.
const GDN_SECONDS: [f64; 2] = [14.0, 22.0];
/// Pixels that a part of the first stage, and a step of the second, sees at most: larger pictures take no longer.
const GDN_PART: f64 = 160.0 * 160.0;
const GDN_STEP: f64 = 1e6;
/// Its passes over all tiles: analysis, looks at the whole file.
const GDN_SECONDS_A_MEGAPIXEL: f64 = 2.0;
/// Its memory, measured at 32 channels.
const GDN_BYTES_A_PIXEL: f64 = 33.0;

/// A fit may be cut to this part of its estimate: its networks still learn, and the next lower effort would hardly make a
/// smaller file. Cut further, networks that are made for long fits stay raw.
const CUT: f64 = 0.5;

/// The effort to fit with: the one asked for, or the highest below it that the time allows.
pub fn affordable(model: &str, pixels: u64, channels: usize, options: &FitOptions) -> u32 {
    let Some(deadline) = options.deadline else { return options.effort };
    let time = deadline.saturating_duration_since(Instant::now());
    let whole = |effort| estimate(model, pixels, channels, &FitOptions { effort, deadline: None, ..options.clone() });
    (2..=options.effort).rev().find(|e| whole(*e).time.mul_f64(CUT) <= time).unwrap_or(1)
}

/// `pixels` of all pictures that are fitted together, `channels` of one.
pub fn estimate(model: &str, pixels: u64, channels: usize, options: &FitOptions) -> Estimate {
    let megapixels = pixels as f64 / 1e6;
    let level = options.effort as usize - 1;
    let (seconds, memory) = match model {
        "gdn" => {
            let shares = [(pixels as f64).sqrt() + 32.0, pixels as f64 / GDN_STEP];
            let steps = GDN_SECONDS[0] * (shares[0].powi(2) / GDN_PART).min(1.0) + GDN_SECONDS[1] * shares[1].min(1.0);
            let seconds = steps * 1.5f64.powi(level as i32) + GDN_SECONDS_A_MEGAPIXEL * megapixels;
            (seconds, (40e6 + (GDN_BYTES_A_PIXEL + 2.0 * channels as f64) * pixels as f64) as u64)
        }
        _ => {
            let seconds = PYRAMID_SECONDS[level] * megapixels.max(0.02) * pyramid::plan::passes(pixels as usize);
            (seconds, pyramid::memory(options.effort, pixels as usize))
        }
    };
    let mut time = Duration::from_secs_f64(seconds * 2.0 / options.threads.clamp(1, 8) as f64);
    if let Some(deadline) = options.deadline {
        time = time.min(deadline.saturating_duration_since(Instant::now()));
    }
    Estimate { time, memory }
}

impl Estimate {
    pub fn words(&self) -> String {
        format!("about {}, {} of memory", report::time(self.time), report::size(self.memory as f64))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn time_limits_lower_the_effort() {
        let options = |effort, limit: Option<f64>| FitOptions {
            effort,
            deadline: limit.map(|s| Instant::now() + Duration::from_secs_f64(s)),
            threads: 2,
            ..FitOptions::default()
        };
        for model in ["pyramid", "gdn"] {
            let effort = |asked, limit| affordable(model, 4 << 20, 3, &options(asked, limit));
            assert_eq!([1, 5, 9].map(|asked| effort(asked, None)), [1, 5, 9]);
            assert_eq!([1, 5, 9].map(|asked| effort(asked, Some(0.0))), [1, 1, 1]);
            assert_eq!([1, 5, 9].map(|asked| effort(asked, Some(1e6))), [1, 5, 9]);
            let limits = [1.0, 30.0, 100.0, 300.0, 1000.0, 3000.0].map(|limit| effort(9, Some(limit)));
            assert!(limits.is_sorted() && limits[1] < limits[5], "{limits:?}");
        }
    }
}
