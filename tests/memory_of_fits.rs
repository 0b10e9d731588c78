//! Peak resident memory of a process that fits. Each fit has a process of its own: the peak is that of all that ran in it, and
//! what an earlier fit left in pieces would be counted with the next.
#![cfg(all(feature = "cli", target_os = "linux"))]

use std::path::Path;
use std::time::{Duration, Instant};
use tilefit::{Encoder, Progress, Signal, Tune};

/// Time after which a fit is asked to finish.
const FINISH_AFTER: Duration = Duration::from_secs(3);

/// Tells the process that fits its effort, its distortion, and the bytes a pixel that it may take.
const FIT: &str = "TILEFIT_MEMORY_OF_FIT";

/// This test program again, in a process that runs `one_fit` alone.
#[test]
fn fits_keep_to_their_memory() {
    for fit in ["1 psnr 200", "5 psnr 200", "1 visual 400"] {
        let mut command = std::process::Command::new(std::env::current_exe().unwrap());
        let output = command.args(["--exact", "one_fit", "--ignored", "--nocapture"]).env(FIT, fit).output().unwrap();
        let text = String::from_utf8_lossy(&[output.stdout, output.stderr].concat()).into_owned();
        assert!(output.status.success() && text.contains("1 passed"), "{text}");
        eprint!("{text}");
    }
}

/// A fit of 0.9 megapixels that is asked to finish early; all memory is allocated by the first full-size steps. The command could
/// only shorten it by a time limit, which lowers the effort.
#[test]
#[ignore = "runs in a process of its own, started by the other test"]
fn one_fit() {
    let fit = std::env::var(FIT).unwrap();
    let [effort, tune, most] = fit.split(' ').collect::<Vec<_>>()[..] else { panic!("{fit}") };
    let (effort, most): (u32, u64) = (effort.parse().unwrap(), most.parse().unwrap());
    let new = || Encoder::new().effort(effort).tune(if tune == "visual" { Tune::Visual } else { Tune::Psnr });
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("fixtures/nebula.png");
    let pictures = [tilefit::cli::files::read_picture(&path, &Default::default()).unwrap().picture];
    let pixels = pictures[0].pixels();
    let estimate = new().plan(&pictures).unwrap().memory;
    // All stages run, each cut short.
    let start = Instant::now();
    let cut = |_: &Progress| if start.elapsed() < FINISH_AFTER { Signal::GoOn } else { Signal::Finish };
    new().threads(2).progress(cut).encode_group(&pictures).unwrap();
    let peak = tilefit::cli::report::peak_memory().unwrap();
    eprintln!("effort {effort}, {tune}: {:.1} MB, {:.1} bytes a pixel", peak as f64 / 1e6, peak as f64 / pixels as f64);
    assert!(peak < most * pixels as u64, "{peak} bytes for {pixels} pixels at effort {effort}");
    assert!(peak < estimate, "{peak} bytes at effort {effort}: the estimate is {estimate}");
}
