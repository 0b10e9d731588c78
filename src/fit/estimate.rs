//! Estimates time and memory of a fit before it starts, and chooses an effort that fits a time limit.
//!
//! The estimates are rough figures for two cores. Each family has measured some efforts; the others are scaled by their number
//! of steps. Other machines differ.

use super::narrow::ROW;
use super::options::{Options, EFFORTS};
use super::{Cost, Family};
use crate::error::{Class, Error, Result};
use std::time::Duration;

/// A fit may be cut to this fraction of its estimated time. Its networks still converge then, and the next lower effort would
/// hardly make a smaller file. With less time, networks sized for long fits stay far from convergence.
const MAX_CUT: f64 = 0.5;

/// Width of the pictures on which times were measured.
const MEASURED_WIDTH: f64 = 768.0;

/// Estimates assume no speed-up from more threads than this.
const MOST_THREADS: usize = 8;

/// A time limit may be exceeded by this time or this factor to reach a result. A fit that would exceed both is an error before
/// it starts.
const OVERRUN: Duration = Duration::from_secs(2);
const OVERRUN_FACTOR: f64 = 1.1;

/// The size of a fit.
#[derive(Clone, Copy, Debug)]
pub struct Work {
    /// Sum of the pixels of all pictures.
    pub pixels: usize,
    /// Sum of the rows of all pictures, as they are fitted.
    pub rows: usize,
    /// Samples per pixel.
    pub channels: usize,
    /// Number of threads.
    pub threads: usize,
}

impl Work {
    fn cost(&self, family: &Family, options: &Options) -> Cost {
        let cost = (family.cost)(options, self.pixels, self.channels);
        let a_row = |width: f64| 1.0 + ROW / width;
        let narrow = (a_row(self.pixels as f64 / self.rows as f64) / a_row(MEASURED_WIDTH)).max(1.0);
        let speed = self.threads.clamp(1, MOST_THREADS) as f64 / 2.0 / narrow;
        Cost { seconds: cost.seconds / speed, least_seconds: cost.least_seconds / speed, ..cost }
    }

    /// Time and memory of a fit at the options' effort.
    pub fn estimate(&self, family: &Family, options: &Options, limit: Option<Duration>) -> (Duration, u64) {
        let cost = self.cost(family, options);
        let time = Duration::from_secs_f64(cost.seconds);
        let least = Duration::from_secs_f64(cost.least_seconds);
        (limit.map_or(time, |limit| time.min(limit.max(least))), cost.memory)
    }

    /// The effort of the fit: that of the options, or the highest below it that the time limit allows.
    ///
    /// # Errors
    /// [`Class::Target`] if even the minimum steps of the lowest effort take clearly longer than the limit.
    pub fn affordable(&self, family: &Family, options: &Options, limit: Option<Duration>) -> Result<u32> {
        let Some(limit) = limit else { return Ok(options.effort) };
        let cost = |effort| self.cost(family, &Options { effort, ..options.clone() });
        let whole = |effort: &u32| Duration::from_secs_f64(MAX_CUT * cost(*effort).seconds) <= limit;
        let effort = (*EFFORTS.start() + 1..=options.effort).rev().find(whole).unwrap_or(*EFFORTS.start());
        let least = Duration::from_secs_f64(cost(effort).least_seconds);
        if least > (limit + OVERRUN).max(limit.mul_f64(OVERRUN_FACTOR)) {
            let what = format!(
                "no result is possible within {:.0} s: the shortest fit takes about {:.0} s",
                limit.as_secs_f64(),
                least.as_secs_f64()
            );
            return Err(Error::new(Class::Target, what));
        }
        Ok(effort)
    }

    /// Returns [`Class::MemoryLimit`] if the fit needs more than `limit` bytes. The message names a family that needs less.
    pub fn check_memory(&self, family: &Family, options: &Options, limit: u64) -> Result<()> {
        let need = self.cost(family, options).memory;
        if need <= limit {
            return Ok(());
        }
        let megabytes = |bytes: u64| bytes.div_ceil(1 << 20);
        let smaller = super::FAMILIES.iter().map(|f| (self.cost(f, options).memory, f.name)).min();
        let hint = match smaller {
            Some((less, name)) if less <= limit => format!("; {name} needs {} MB", megabytes(less)),
            _ => String::new(),
        };
        let (need, limit) = (megabytes(need), megabytes(limit));
        let what = format!(
            "fitting {} pixels with {} needs {need} MB of memory, the limit is {limit} MB",
            self.pixels, family.name
        );
        Err(Error::new(Class::MemoryLimit, what + &hint))
    }
}

#[cfg(test)]
mod tests {
    use super::super::FAMILIES;
    use super::*;

    #[test]
    fn time_limits_lower_the_effort() {
        for family in FAMILIES {
            let work = Work { pixels: 4 << 20, rows: 2 << 10, channels: 3, threads: 2 };
            let effort = |effort, seconds: Option<f64>| {
                let limit = seconds.map(Duration::from_secs_f64);
                work.affordable(family, &Options { effort, ..Options::default() }, limit).unwrap()
            };
            assert_eq!([1, 5, 9].map(|asked| effort(asked, None)), [1, 5, 9]);
            assert_eq!([1, 5, 9].map(|asked| effort(asked, Some(1e6))), [1, 5, 9]);
            let limits = [60.0, 100.0, 300.0, 1000.0, 3000.0].map(|limit| effort(9, Some(limit)));
            assert!(limits.is_sorted() && limits[0] < limits[4], "{limits:?}");
        }
    }

    #[test]
    fn narrow_pictures_take_longer() {
        let seconds = |rows| {
            let work = Work { pixels: 5000, rows, channels: 3, threads: 2 };
            work.estimate(&FAMILIES[0], &Options::default(), None).0.as_secs_f64()
        };
        assert!((10.0..30.0).contains(&(seconds(5000) / seconds(1))));
        assert_eq!(seconds(6), seconds(1));
    }

    #[test]
    fn too_short_time_limits_and_too_little_memory_are_errors() {
        let work = Work { pixels: 100 << 20, rows: 10 << 10, channels: 3, threads: 2 };
        let options = Options::default();
        for family in FAMILIES {
            let error = work.affordable(family, &options, Some(Duration::from_secs(1))).unwrap_err();
            assert_eq!(error.class(), Class::Target);
            assert!(work.check_memory(family, &options, u64::MAX).is_ok());
            assert_eq!(work.check_memory(family, &options, 1 << 20).unwrap_err().class(), Class::MemoryLimit);
        }
        let between = work.cost(&FAMILIES[0], &options).memory - 1;
        assert!(work.check_memory(&FAMILIES[0], &options, between).unwrap_err().message().contains("gdn needs"));
    }
}
