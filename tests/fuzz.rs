//! Runs the fuzz targets' functions on the golden files, unchanged and with random changes.
#![cfg(feature = "cli")]

#[path = "../fuzz/src/lib.rs"]
mod bodies;
#[path = "conformance/golden.rs"]
#[allow(dead_code)]
mod golden;

use tilefit::container::header::Header;
use tilefit::PixelFormat;
use tilefit_testing::Noise;

/// Number of changed inputs for each valid one.
const CHANGES: u64 = 60;

/// Prints the input's name if the function panics.
struct Case<'a>(&'a str, u64);

impl Drop for Case<'_> {
    fn drop(&mut self) {
        if std::thread::panicking() {
            eprintln!("input {}, change {}", self.0, self.1);
        }
    }
}

/// One to four random changes: a bit flipped, a byte set, a part removed or duplicated, the end cut off.
fn changed(good: &[u8], seed: u64) -> Vec<u8> {
    let mut noise = Noise::new(seed);
    let mut bytes = good.to_vec();
    for _ in 0..1 + noise.bits() % 4 {
        let n = bytes.len().max(1);
        let (a, b) = (noise.bits() as usize % n, noise.bits() as usize % n);
        let part = a.min(b)..(a.max(b)).min(a.min(b) + 40).min(bytes.len());
        match noise.bits() % 8 {
            0 => bytes.truncate(a),
            1 => drop(bytes.drain(part)),
            2 => {
                let copy = bytes[part].to_vec();
                bytes.splice(a.min(bytes.len())..a.min(bytes.len()), copy);
            }
            3 if a < bytes.len() => bytes[a] = [0, 1, 127, 128, 255][b % 5],
            _ if a < bytes.len() => bytes[a] ^= 1 << (b % 8),
            _ => {}
        }
    }
    bytes
}

fn run(body: fn(&[u8]), inputs: impl IntoIterator<Item = (String, Vec<u8>)>) {
    for (name, good) in inputs {
        let _case = Case(&name, 0);
        body(&good);
        for seed in 1..=CHANGES {
            let _case = Case(&name, seed);
            body(&changed(&good, seed));
        }
    }
}

/// The name of each golden file with the part of it that `part` extracts.
fn of_files(part: impl Fn(&Header, &[u8]) -> Vec<u8>) -> Vec<(String, Vec<u8>)> {
    golden::files().into_iter().map(|(name, bytes)| (name, part(&Header::read(&bytes).unwrap(), &bytes))).collect()
}

#[test]
fn decode() {
    run(bodies::decode, golden::files());
}

#[test]
fn parts() {
    let beginning = |h: &Header| u16::try_from(h.length).unwrap().to_le_bytes();
    run(bodies::parts, of_files(|h, bytes| [&beginning(h)[..], bytes].concat()));
}

#[test]
fn header() {
    run(bodies::header, golden::files());
}

#[test]
fn metadata() {
    run(bodies::metadata, of_files(|h, _| h.metadata.clone()));
}

#[test]
fn weights() {
    let first = |h: &Header| {
        let PixelFormat { channels, depth, .. } = h.format;
        [h.family, channels as u8 - 1, depth as u8 - 8, h.description.len() as u8]
    };
    run(bodies::weights, of_files(|h, _| [&first(h)[..], &h.description[..], &h.weights[..]].concat()));
}

#[test]
fn range_coder() {
    run(bodies::range_coder, of_files(|h, bytes| bytes[h.length.saturating_sub(16)..].to_vec()));
}

#[test]
fn picture() {
    let fixtures = std::path::Path::new(env!("CARGO_MANIFEST_DIR"));
    let names = ["fixtures/odd.png", "fixtures/line.png", "fixtures/grey.png", "web/samples/coffee.jpg"];
    run(bodies::picture, names.map(|n| (n.to_owned(), std::fs::read(fixtures.join(n)).unwrap())));
}
