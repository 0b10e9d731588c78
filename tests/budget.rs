//! What a decode allocates stays within what its header promises, and files that ask for too much are refused before they
//! take it. Allocations are counted on one thread.
#![cfg(feature = "fit")]

#[allow(dead_code)]
mod common;
#[path = "common/enlarged.rs"]
mod enlarged;

use common::file;
use enlarged::enlarged;
use std::path::{Path, PathBuf};
use tilefit::container::header::{Header, PictureInfo};
use tilefit::models::pyramid::spec::PyramidSpec;
use tilefit::{Class, Decoder, Encoder, Limits, Picture, Target};
use tilefit_testing::Noise;

fn root() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR"))
}

/// The most bytes that `work` holds at a time, on one thread, and what it returns.
fn peak<T: Send>(work: impl FnOnce() -> T + Send) -> (u64, T) {
    let one = rayon::ThreadPoolBuilder::new().num_threads(1).build().expect("a thread");
    one.install(|| {
        let mut result = None;
        let info = allocation_counter::measure(|| result = Some(work()));
        (info.bytes_max, result.expect("the work is done"))
    })
}

/// Decodes each picture whole and checks that the promise is kept. Returns the peak and the promise.
fn check(name: &str, bytes: &[u8]) -> (u64, u64) {
    let limits = Limits::default();
    let (held, promise) = peak(|| {
        let decoder = Decoder::new(bytes, limits).unwrap_or_else(|e| panic!("{name}: {e}"));
        for picture in 0..decoder.pictures().len() {
            decoder.decode(picture).unwrap_or_else(|e| panic!("{name}: {e}"));
        }
        decoder.info().decode_memory_bytes
    });
    eprintln!("{name}: {held} bytes held, {promise} promised, {:.3}", promise as f64 / held as f64);
    assert!(held <= promise + promise / 20, "{name}: {held} bytes held, {promise} promised");
    (held, promise)
}

fn golden() -> Vec<(String, Vec<u8>)> {
    let files = std::fs::read_dir(root().join("fixtures/golden")).unwrap().map(|f| f.unwrap().path());
    let files = files.filter(|p| p.extension().is_some_and(|e| e == "tfit"));
    files.map(|p| (p.file_name().unwrap().to_string_lossy().into_owned(), std::fs::read(&p).unwrap())).collect()
}

#[test]
fn golden_files_keep_their_promise() {
    for (name, bytes) in golden() {
        check(&name, &bytes);
    }
}

/// Of pictures that are not tiny the promise is not much more than what is held, either.
#[test]
fn promises_are_close() {
    for small in ["web/samples/nebula.tfit", "fixtures/golden/gdn-tiles.tfit", "fixtures/golden/hyperprior-tiles.tfit"]
    {
        let small = std::fs::read(root().join(small)).unwrap();
        let (held, promise) = check("enlarged", &enlarged(&small, 2048, 2048));
        assert!(promise < held + held / 4, "{held} bytes held, {promise} promised");
    }
}

fn noise(width: usize, height: usize, channels: usize) -> Picture {
    let mut noise = Noise::new(3);
    let samples: Vec<u8> =
        (0..width * height * channels).map(|i| (noise.bits() % 32) as u8 + (i % 200) as u8).collect();
    Picture::from_u8(width, height, channels, &samples)
}

#[test]
fn lossless_files_keep_their_promise() {
    for (width, height, channels) in [(600, 400, 3), (7, 3000, 1), (3000, 7, 4)] {
        let picture = noise(width, height, channels);
        let encoded = Encoder::new().target(Target::MaxError(0)).encode(&picture).unwrap();
        check(&format!("lossless {width}x{height}"), &encoded.bytes);
    }
}

/// One tile of any shape: memory is linear in its area.
#[test]
fn narrow_tiles_keep_their_promise() {
    let mut spec = PyramidSpec::preset(3, 1, 26, 16, 8);
    spec.depth = 8;
    spec.feature_scales = 7;
    let of = |width: usize, height: usize| {
        let bytes = file(&spec, (width, height), 0, false, 1, 7).bytes;
        check(&format!("{width}x{height}"), &bytes).0
    };
    for (a, b) in [(1, 5000), (3, 3000), (64, 2000)] {
        let (wide, tall) = (of(b, a), of(a, b));
        assert!(tall < 3 * wide && wide < 3 * tall, "{wide} bytes for {b}x{a}, {tall} for {a}x{b}");
    }
    let (one, two) = (of(16, 2000), of(16, 4000));
    assert!(two < 3 * one, "{one} bytes for 2000 rows, {two} for 4000");
}

fn hostile() -> Vec<(String, Vec<u8>)> {
    let files = std::fs::read_dir(root().join("fixtures/hostile")).unwrap().map(|f| f.unwrap().path());
    let files: Vec<_> = files.filter(|p| p.extension().is_some_and(|e| e == "tfit")).collect();
    assert!(files.len() > 5);
    files.iter().map(|p| (p.file_name().unwrap().to_string_lossy().into_owned(), std::fs::read(p).unwrap())).collect()
}

/// Small files that ask for much are refused, or decoded within the limits.
#[test]
fn hostile_files_stay_within_the_limits() {
    for max_memory in [2 << 30, 40 << 20] {
        let limits = Limits { max_memory, ..Limits::default() };
        for (name, bytes) in hostile() {
            let (held, result) = peak(|| {
                let decoder = Decoder::new(&bytes, limits)?;
                let promise = decoder.info().decode_memory_bytes;
                decoder.decode(0).map(|_| promise)
            });
            let result = result.map_err(|e| e.to_string());
            eprintln!("{name}: {held} bytes held of {max_memory}: {result:?}");
            assert!(held <= max_memory + max_memory / 20, "{name}: {held} bytes held of {max_memory}");
        }
    }
}

/// A file of the largest picture that the format allows is refused before it takes memory, whatever limit it is that refuses.
#[test]
fn the_largest_picture_is_refused_at_once() {
    for (name, bytes) in golden() {
        let mut header = Header::read(&bytes).unwrap();
        if header.pictures.len() > 1 || bytes.len() > 1000 {
            continue;
        }
        for (width, height) in [(1 << 20, 1 << 20), (1 << 30, 1 << 10), (1 << 10, 1 << 30)] {
            header.tile = 0;
            header.pictures = vec![PictureInfo { width, height, digest: 0 }];
            header.segments.truncate(header.layers);
            let end = header.segments.last().map_or(0, |s| s.offset + s.length) - header.length;
            let huge = [header.write(), bytes[Header::read(&bytes).unwrap().length..][..end].to_vec()].concat();
            let default = Limits::default();
            for (limits, class) in [
                (default, Class::PixelLimit),
                (Limits { max_pixels: u64::MAX, ..default }, Class::MemoryLimit),
                (Limits { max_work: 1 << 40, ..Limits::NONE }, Class::WorkLimit),
            ] {
                let (held, result) = peak(|| Decoder::new(&huge, limits)?.decode(0).map(|_| ()));
                assert_eq!(result.unwrap_err().class(), class, "{name} {width}x{height}");
                assert!(held < 10 << 20, "{name} {width}x{height}: {held} bytes held");
            }
        }
    }
}

/// Work is known before it starts, and limited.
#[test]
fn work_is_limited() {
    for (name, bytes) in golden() {
        let work = Decoder::new(&bytes, Limits::default()).unwrap().info().decode_work;
        let decode =
            |max_work| Decoder::new(&bytes, Limits { max_work, ..Limits::NONE }).unwrap().decode(0).map(|_| ());
        assert!(work > 0 && decode(work).is_ok(), "{name}: {work}");
        if Decoder::new(&bytes, Limits::NONE).unwrap().pictures().len() == 1 {
            assert_eq!(decode(work - 1).unwrap_err().class(), Class::WorkLimit, "{name}");
        }
    }
}

/// `decode` refuses what `verify` refuses.
#[test]
fn bytes_after_the_last_segment_are_refused() {
    let mut bytes = std::fs::read(Path::new(&root()).join("fixtures/golden/pyramid-colour.tfit")).unwrap();
    bytes.push(0);
    let decoder = Decoder::new(&bytes, Limits::default()).unwrap();
    for e in [decoder.verify().unwrap_err(), decoder.decode(0).unwrap_err()] {
        assert_eq!(e.class(), Class::Format);
    }
    // A partial decode shows what is there.
    assert!(decoder.decode_partial(0, 0, None).unwrap().1.is_empty());
}
