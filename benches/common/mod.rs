//! A table of timed rows: `cargo bench --bench NAME -- [FILTER]` runs the rows whose names hold the filter.

use std::time::{Duration, Instant};

/// Prints one row for each call of [`row`](Table::row).
pub struct Table {
    filter: String,
    peak: f64,
}

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

    /// Times `run`, which does `macs` multiply-accumulates (0: only the time is printed); the best of
    /// many runs, seconds.
    pub fn row(&self, name: &str, macs: usize, run: impl FnMut()) -> f64 {
        if !self.wants(name) {
            return 0.0;
        }
        let time = best(Duration::from_millis(400), run);
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

/// The shortest of at least three runs within about `budget`, in seconds of this thread.
fn best(budget: Duration, mut run: impl FnMut()) -> f64 {
    run();
    let start = Instant::now();
    let (mut shortest, mut runs) = (f64::MAX, 0);
    while runs < 3 || start.elapsed() < budget {
        let begin = clock();
        run();
        shortest = shortest.min((clock() - begin).as_secs_f64());
        runs += 1;
    }
    shortest
}

/// Time that this thread has run, where the system tells (so that other programs do not count), else
/// the time of day.
fn clock() -> Duration {
    use std::sync::OnceLock;
    static START: OnceLock<Instant> = OnceLock::new();
    let start = START.get_or_init(Instant::now);
    let own = std::fs::read_to_string("/proc/thread-self/schedstat").ok();
    let own = own.and_then(|text| text.split_whitespace().next()?.parse().ok());
    own.map_or_else(|| start.elapsed(), Duration::from_nanos)
}
