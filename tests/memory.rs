//! Peak resident memory of the whole process while decoding 16.8 megapixels.
#![cfg(all(feature = "cli", target_os = "linux"))]

#[path = "common/enlarged.rs"]
mod enlarged;

use enlarged::enlarged;
use std::path::{Path, PathBuf};
use std::process::Command;
use tilefit::{Decoder, Limits};

const SIDE: usize = 4096;

const SAMPLES: u64 = 3 * (SIDE * SIDE) as u64;

/// A file of `SIDE` x `SIDE` pixels made from a small one of the same family. It is deleted on drop.
struct Large {
    small: PathBuf,
    large: PathBuf,
}

impl Large {
    fn of(small: &str) -> Self {
        let small = Path::new(env!("CARGO_MANIFEST_DIR")).join(small);
        let bytes = enlarged(&std::fs::read(&small).unwrap(), SIDE, SIDE);
        let large = Path::new(env!("CARGO_TARGET_TMPDIR")).join(small.file_name().unwrap());
        std::fs::write(&large, bytes).unwrap();
        Large { small, large }
    }

    fn check(&self) {
        let whole = peak(&self.large, &[]);
        assert!(whole >= SAMPLES, "{whole} bytes: the samples alone take {SAMPLES}");
        assert!(whole < (64 << 20) + 2 * SAMPLES, "{whole} bytes for {SAMPLES} bytes of samples");
        let preview = peak(&self.large, &["--scale", "1/8"]);
        assert!(preview < whole / 2, "{preview} bytes for the preview, {whole} for all");
        // The region covers several tiles, none of them at the edge.
        let region = peak(&self.large, &["--region", "1700,2100,512,512"]);
        // The memory that the program takes for any file.
        let base = peak(&self.small, &["--region", "0,0,1,1"]);
        assert!(
            10 * (region - base) < whole - base,
            "{region} bytes for a region, {whole} for all, {base} for a pixel"
        );
        let bytes = std::fs::read(&self.large).unwrap();
        let bound = Decoder::new(&bytes, Limits::default()).unwrap().info().decode_memory_bytes;
        assert!(whole - base <= bound, "{whole} bytes, {base} of them for a pixel: the bound is {bound}");
        let megabytes = |n: u64| n as f64 / 1e6;
        eprintln!(
            "{}: {:.1} MB whole, {:.1} at 1/8, {:.1} for 512x512, {:.1} for a pixel of the small file",
            self.large.display(),
            megabytes(whole),
            megabytes(preview),
            megabytes(region),
            megabytes(base)
        );
    }
}

/// Peak resident memory of `tilefit decode`, PNG writing included.
fn peak(file: &Path, more: &[&str]) -> u64 {
    let png = Path::new(env!("CARGO_TARGET_TMPDIR")).join(file.with_extension("png").file_name().unwrap());
    peak_of("decode", file, &png, more)
}

fn peak_of(command: &str, input: &Path, output: &Path, more: &[&str]) -> u64 {
    let out = Command::new(env!("CARGO_BIN_EXE_tilefit"))
        .args([command, "--json", "-f", "-o"])
        .args([output, input])
        .args(more)
        .env("RAYON_NUM_THREADS", "2")
        .output()
        .unwrap();
    assert!(out.status.success(), "{}", String::from_utf8_lossy(&out.stderr));
    std::fs::remove_file(output).unwrap();
    let text = String::from_utf8(out.stdout).unwrap();
    let (_, value) = text.split_once("\"peak_memory_bytes\":").expect(&text);
    value.split(|c: char| !c.is_ascii_digit()).next().unwrap().parse().unwrap()
}

impl Drop for Large {
    fn drop(&mut self) {
        let _ = std::fs::remove_file(&self.large);
    }
}

#[test]
fn pyramid() {
    Large::of("web/samples/nebula.tfit").check();
}

#[test]
fn gdn() {
    Large::of("fixtures/golden/gdn-tiles.tfit").check();
}

#[test]
fn hyperprior() {
    Large::of("fixtures/golden/hyperprior-tiles.tfit").check();
}
