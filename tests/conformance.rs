//! Golden files decode to the same codes and samples on every instruction set and with any number of threads. Whole pictures at
//! all scales are compared with `results.txt`, regions with the whole pictures.

#[path = "conformance/golden.rs"]
mod golden;
#[cfg(feature = "cli")]
#[path = "conformance/make.rs"]
mod make;

use golden::{digests, files, results};
use tilefit::decoder::Decoder;
use tilefit::{Level, Limits, Picture, Rect};
use tilefit_testing::Noise;

/// Runs `f` in a pool of `threads` threads.
#[cfg(feature = "threads")]
fn with_threads(threads: usize, f: impl FnOnce() + Send) {
    rayon::ThreadPoolBuilder::new().num_threads(threads).build().unwrap().install(f);
}
#[cfg(not(feature = "threads"))]
fn with_threads(_: usize, f: impl FnOnce() + Send) {
    f();
}

/// CI lists the instruction sets to test (`TILEFIT_LEVELS=scalar,sse2,avx2`). A missing one must fail, not be skipped.
#[test]
fn required_levels_are_available() {
    if let Ok(names) = std::env::var("TILEFIT_LEVELS") {
        for name in names.split(',') {
            assert!(Level::named(name).is_some(), "TILEFIT_LEVELS: this machine has no {name}");
        }
    }
}

#[test]
fn every_level_and_thread_count_gives_the_golden_digests() {
    let want = results();
    for (name, bytes) in files() {
        let expected: Vec<&String> = want.iter().filter(|l| l.starts_with(&format!("{name} "))).collect();
        assert!(!expected.is_empty(), "{name} is not in results.txt");
        for level in Level::available() {
            for threads in [1, 2] {
                with_threads(threads, || {
                    let got = digests(&name, &bytes, level);
                    assert_eq!(got.iter().collect::<Vec<_>>(), expected, "{level:?}, {threads} threads");
                });
            }
        }
    }
    let listed = want.iter().filter_map(|l| l.split(' ').next()).collect::<std::collections::BTreeSet<_>>();
    assert_eq!(listed.len(), files().len(), "results.txt does not list exactly the golden files");
}

#[test]
fn golden_files_verify() {
    for (name, bytes) in files() {
        Decoder::new(&bytes, Limits::default()).and_then(|d| d.verify()).unwrap_or_else(|e| panic!("{name}: {e}"));
    }
}

/// `tests/reference` was written from docs/FORMAT.md alone, without this program. Without python3 or numpy the test is skipped
/// on a developer's machine and fails under CI.
#[test]
fn the_reference_decoder_agrees() {
    let script = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/reference/decode.py");
    let has_numpy = std::process::Command::new("python3").args(["-c", "import numpy"]).output();
    if !has_numpy.is_ok_and(|o| o.status.success()) {
        assert!(std::env::var_os("CI").is_none(), "python3 with numpy is needed: python3 -m pip install numpy");
        eprintln!("not run: python3 with numpy is missing");
        return;
    }
    let out = std::process::Command::new("python3")
        .args(["-B", script])
        .args(files().iter().map(|(name, _)| golden::folder().join(name)))
        .output()
        .unwrap();
    assert!(out.status.success(), "{}", String::from_utf8_lossy(&out.stderr));
    let got = String::from_utf8(out.stdout).unwrap();
    assert_eq!(got.lines().collect::<Vec<_>>(), results());
}

/// The samples of region `r` of `whole`.
fn crop(whole: &Picture, r: Rect) -> Vec<u16> {
    let row = |y: usize| {
        &whole.samples[(y * whole.width + r.x0) * whole.format.channels..][..r.width() * whole.format.channels]
    };
    (r.y0..r.y1).flat_map(|y| row(y).to_vec()).collect()
}

#[test]
fn regions_equal_parts_of_the_whole_picture() {
    let mut noise = Noise::new(1);
    let mut below = |n: usize| noise.below(n);
    for (name, bytes) in files() {
        let count = Decoder::new(&bytes, Limits::default()).unwrap().pictures().len();
        for level in Level::available() {
            let decoder = Decoder::new(&bytes, Limits::default()).unwrap().with_level(level);
            for (picture, scale) in (0..count).flat_map(|p| [(p, 0), (p, 2)]) {
                let whole = decoder.decode_scaled(picture, scale, None).unwrap();
                let (w, h) = (whole.width, whole.height);
                for i in 0..6 {
                    let (x0, y0) = if i == 0 { (w - 1, h - 1) } else { (below(w), below(h)) };
                    let region = Rect::new(x0, y0, x0 + 1 + below(w - x0), y0 + 1 + below(h - y0));
                    with_threads(1 + i % 2, || {
                        let got = decoder.decode_scaled(picture, scale, Some(region)).unwrap();
                        assert!(got.samples == crop(&whole, region), "{name} {level:?} 1/2^{scale} {region:?}");
                    });
                }
            }
        }
    }
}
