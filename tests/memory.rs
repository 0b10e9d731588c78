//! Peak memory of decoding 16.8 megapixels, as the system counts it for the whole process.
#![cfg(all(feature = "cli", target_os = "linux"))]

#[path = "common/enlarged.rs"]
mod enlarged;

use enlarged::enlarged;
use std::path::{Path, PathBuf};
use std::process::Command;

const SIDE: usize = 4096;
const SAMPLES: u64 = 3 * (SIDE * SIDE) as u64;

/// A file of that side from a small one of the same family, for as long as the tests run.
struct Large(PathBuf);

impl Large {
    fn of(small: &str) -> Self {
        let root = Path::new(env!("CARGO_MANIFEST_DIR"));
        let bytes = enlarged(&std::fs::read(root.join(small)).unwrap(), SIDE, SIDE);
        let name = format!("{}-large.tfit", Path::new(small).file_stem().unwrap().to_string_lossy());
        let path = Path::new(env!("CARGO_TARGET_TMPDIR")).join(name);
        std::fs::write(&path, bytes).unwrap();
        Large(path)
    }

    /// Peak resident memory of `tilefit decode`, PNG writing included.
    fn peak(&self, more: &[&str]) -> u64 {
        let png = self.0.with_extension("png");
        let out = Command::new(env!("CARGO_BIN_EXE_tilefit"))
            .args(["decode", "--json", "-f", "-o"])
            .args([&png, &self.0])
            .args(more)
            .env("RAYON_NUM_THREADS", "2")
            .output()
            .unwrap();
        assert!(out.status.success(), "{}", String::from_utf8_lossy(&out.stderr));
        std::fs::remove_file(png).unwrap();
        let text = String::from_utf8(out.stdout).unwrap();
        let (_, value) = text.split_once("\"peak_memory_bytes\":").expect(&text);
        value.split(|c: char| !c.is_ascii_digit()).next().unwrap().parse().unwrap()
    }

    fn check(&self) {
        let whole = self.peak(&[]);
        eprintln!("{}: {} KB whole", self.0.display(), whole / 1000);
        assert!(whole >= SAMPLES, "{whole} bytes: the samples alone take {SAMPLES}");
        assert!(whole < (64 << 20) + 2 * SAMPLES, "{whole} bytes for {SAMPLES} bytes of samples");
        // Across tiles, none of them at the edge.
        let region = self.peak(&["--region", "1700,2100,512,512"]);
        eprintln!("{}: {} KB region", self.0.display(), region / 1000);
        assert!(10 * region < whole, "{region} bytes for a region, {whole} for all");
    }
}

impl Drop for Large {
    fn drop(&mut self) {
        let _ = std::fs::remove_file(&self.0);
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
