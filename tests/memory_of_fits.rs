//! Peak resident memory of a process that fits. It has a process of its own: the peak is that of all that runs in it.
#![cfg(all(feature = "cli", target_os = "linux"))]

use std::path::Path;
use std::time::{Duration, Instant};
use tilefit::{Encoder, Progress, Signal};

/// Time after which a fit is asked to finish.
const FINISH_AFTER: Duration = Duration::from_secs(3);

/// Fits of 0.9 megapixels that are asked to finish early; all memory is allocated by the first full-size steps. They run in this
/// process because the command could only shorten them by a time limit, which lowers the effort. Efforts are in rising order of
/// memory, since the peak is that of the whole process.
#[test]
fn fit() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("fixtures/nebula.png");
    let pictures = [tilefit::cli::files::read_picture(&path, &Default::default()).unwrap().picture];
    let pixels = pictures[0].pixels();
    for effort in [1, 5] {
        let estimate = Encoder::new().effort(effort).plan(&pictures).unwrap().memory;
        // All stages run, each cut short.
        let start = Instant::now();
        let cut = |_: &Progress| if start.elapsed() < FINISH_AFTER { Signal::GoOn } else { Signal::Finish };
        Encoder::new().effort(effort).threads(2).progress(cut).encode_group(&pictures).unwrap();
        let peak = tilefit::cli::report::peak_memory().unwrap();
        eprintln!("effort {effort}: {:.1} MB, {:.1} bytes a pixel", peak as f64 / 1e6, peak as f64 / pixels as f64);
        assert!(peak < 200 * pixels as u64, "{peak} bytes for {pixels} pixels at effort {effort}");
        assert!(peak < estimate, "{peak} bytes at effort {effort}: the estimate is {estimate}");
    }
}
