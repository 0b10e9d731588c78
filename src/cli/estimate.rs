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
