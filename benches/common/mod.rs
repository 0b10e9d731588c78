//! A table of timed rows: `cargo bench --bench NAME -- [FILTER]` runs the rows whose names hold the filter.

use std::time::{Duration, Instant};

/// Prints one row for each call of [`row`](Table::row).
pub struct Table {
    filter: String,
    peak: f64,
}

#[allow(dead_code)] // Not every bench has a table.
impl Table {
    /// Reads the filter from the command line and measures the machine's peak.
    pub fn new() -> Self {
        let filter = std::env::args().skip(1).find(|a| !a.starts_with('-')).unwrap_or_default();
        let level = kernels::Level::best();
        let mut macs = 0;
        let time = best(Duration::from_millis(200), || {
            macs = std::hint::black_box(kernels::fast::peak::fma_peak(level, 100_000, std::hint::black_box(0.5))).0;
        });
        let peak = 2e-9 * macs as f64 / time;
        println!("level {level:?}, one core, f32 FMA peak {peak:.1} GFLOP/s");
        println!("{:<44} {:>10} {:>9} {:>7}", "kernel", "ms", "GFLOP/s", "peak");
        Table { filter, peak }
    }

    /// Whether the filter lets `name` through: lets a caller skip the set-up.
    pub fn wants(&self, name: &str) -> bool {
        name.contains(&self.filter)
    }

    /// Times `run`, which does `macs` multiply-accumulates (0: only the time is printed); returns
    /// seconds.
    #[allow(dead_code)] // Not every bench has rows of its own.
    pub fn row(&self, name: &str, macs: usize, run: impl FnMut()) -> f64 {
        if !self.wants(name) {
            return 0.0;
        }
        let time = best(Duration::from_millis(300), run);
        self.print(name, macs, time);
        time
    }

    /// Prints a row measured elsewhere.
    pub fn print(&self, name: &str, macs: usize, time: f64) {
        let rate = 2e-9 * macs as f64 / time;
        match macs {
            0 => println!("{name:<44} {:>10.3}", 1e3 * time),
            _ => println!("{name:<44} {:>10.3} {rate:>9.1} {:>6.0}%", 1e3 * time, 100.0 * rate / self.peak),
        }
    }
}

/// Seconds of one run: the shortest of many, or their mean time on the processor where that is less
/// (other programs interrupt long runs, and do not count in it). Runs for about `budget` of it.
pub fn best(budget: Duration, mut run: impl FnMut()) -> f64 {
    run();
    let (start, on_cpu) = (Instant::now(), processor_time());
    let (mut shortest, mut mean, mut runs) = (f64::MAX, f64::MAX, 0);
    loop {
        let (begin, before) = (Instant::now(), processor_time());
        run();
        shortest = shortest.min(begin.elapsed().as_secs_f64());
        if let (Some(from), Some(to)) = (before, processor_time()) {
            // Long enough for the ticks.
            let own = to - from;
            shortest = if own.as_millis() >= 50 { shortest.min(own.as_secs_f64()) } else { shortest };
        }
        runs += 1;
        let spent = match (on_cpu, processor_time()) {
            (Some(from), Some(to)) => to - from,
            _ => start.elapsed(),
        };
        if spent >= budget || start.elapsed() >= 10 * budget {
            // Too few ticks of the system's clock say nothing.
            if spent >= budget / 4 {
                mean = spent.as_secs_f64() / runs as f64;
            }
            return shortest.min(mean);
        }
    }
}

/// Time that this thread has run, where the system tells; it counts in ticks of some milliseconds.
fn processor_time() -> Option<Duration> {
    let text = std::fs::read_to_string("/proc/thread-self/schedstat").ok()?;
    text.split_whitespace().next()?.parse().ok().map(Duration::from_nanos)
}
