//! Picture files: every kind is read right, comes back, and never makes the reader panic.
#![cfg(feature = "formats")]

use std::path::Path;
use tilefit::crc::crc32;
use tilefit::pictures::{apply_orientation, read, write, Item, OutFormat, ReadOptions, Source};
use tilefit::{metadata, Class, Picture, PixelFormat, Result};

fn load(data: &[u8]) -> Result<Source> {
    read(data, &ReadOptions::default())
}

fn fixture(name: &str) -> Vec<u8> {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("fixtures").join(name);
    std::fs::read(&path).unwrap_or_else(|e| panic!("{}: {e}", path.display()))
}

fn saved(format: OutFormat, source: &Source) -> (Vec<u8>, Vec<String>) {
    let mut out = Vec::new();
    let warnings = write(format, &source.picture, &source.metadata, &mut out).unwrap();
    (out, warnings)
}

/// One line of a list of expected results.
fn described(result: &Result<Source>) -> String {
    let Ok(Source { picture: p, .. }) = result else { return "refused".into() };
    let bytes: Vec<u8> = p.samples.iter().flat_map(|s| s.to_be_bytes()).collect();
    let (f, alpha) = (p.format, if p.format.alpha { "yes" } else { "no" });
    let crc = crc32(&bytes);
    format!("{}x{} channels {} depth {} alpha {alpha} crc {crc:08x}", p.width, p.height, f.channels, f.depth)
}

#[test]
fn the_whole_png_suite() {
    let list = String::from_utf8(fixture("pngsuite/expected.txt")).unwrap();
    let (mut right, mut refused) = (0, 0);
    for line in list.lines() {
        let (name, expected) = line.split_once(' ').unwrap();
        let result = load(&fixture(&format!("pngsuite/{name}")));
        assert_eq!(described(&result), expected, "{name}: {:?}", result.as_ref().err());
        match &result {
            Ok(s) => {
                // The whole picture and all metadata come back.
                let (again, warnings) = saved(OutFormat::Png, s);
                assert!(warnings.is_empty(), "{name}: {warnings:?}");
                let again = load(&again).unwrap();
                assert_eq!(again.picture, s.picture, "{name}");
                for item in &s.metadata {
                    assert!(again.metadata.contains(item), "{name}: {item:?}");
                }
                assert_eq!(again.metadata.len(), s.metadata.len(), "{name}");
                right += 1;
            }
            Err(e) => {
                assert!(!e.to_string().contains('\n'), "{name}: {e}");
                refused += 1;
            }
        }
    }
    assert_eq!((right, refused), (161, 14));
}

/// Files of other encoders, with the samples that these were given.
#[test]
fn files_of_other_encoders() {
    for (name, expected) in kinds() {
        let result = load(&fixture(&format!("kinds/{name}")));
        let Some((reference, tolerance)) = expected.strip_prefix("near ").and_then(|e| e.split_once(' ')) else {
            assert_eq!(described(&result), expected, "{name}: {:?}", result.as_ref().err());
            continue;
        };
        // Lossy: decoders may differ by a little.
        let (picture, reference) =
            (result.unwrap().picture, load(&fixture(&format!("kinds/{reference}"))).unwrap().picture);
        assert_eq!(
            (picture.width, picture.height, picture.format),
            (reference.width, reference.height, reference.format)
        );
        let difference = picture.samples.iter().zip(&reference.samples).map(|(a, b)| a.abs_diff(*b)).max();
        assert!(difference <= tolerance.parse().ok(), "{name}: {difference:?}");
    }
}

fn kinds() -> Vec<(String, String)> {
    let list = String::from_utf8(fixture("kinds/expected.txt")).unwrap();
    list.lines().map(|line| line.split_once(' ').unwrap()).map(|(a, b)| (a.into(), b.into())).collect()
}

/// Every picture comes back through every format that can hold it, with its depth where the format has it.
#[test]
fn written_pictures_come_back() {
    for (name, _) in kinds() {
        let Ok(source) = load(&fixture(&format!("kinds/{name}"))) else { continue };
        for format in [OutFormat::Png, OutFormat::Pam, OutFormat::Tiff, OutFormat::Fits] {
            let p = &source.picture;
            let mut out = Vec::new();
            match write(format, p, &source.metadata, &mut out) {
                Ok(_) => {}
                Err(e) => {
                    assert_eq!(e.class(), Class::Unsupported, "{name} {format:?}: {e}");
                    let partly = p.format.alpha && format == OutFormat::Fits;
                    assert!(partly || (format == OutFormat::Png && p.format.colours() > 3), "{name} {format:?}: {e}");
                    continue;
                }
            }
            let again = load(&out).unwrap_or_else(|e| panic!("{name} {format:?}: {e}"));
            let a = &again.picture;
            assert_eq!(
                (a.width, a.height, a.format.channels),
                (p.width, p.height, p.format.channels),
                "{name} {format:?}"
            );
            assert_eq!(a.format.alpha, p.format.alpha, "{name} {format:?}");
            match format {
                // These have other depths, of which the samples come back.
                OutFormat::Png | OutFormat::Tiff if a.format.depth != p.format.depth => {
                    let narrow: Vec<u16> = a.samples.iter().map(|s| s >> (16 - p.format.depth)).collect();
                    assert_eq!(narrow, p.samples, "{name} {format:?}");
                }
                OutFormat::Fits => same_values(&source, &again, &name),
                _ => assert_eq!(a, p, "{name} {format:?}"),
            }
        }
    }
}

/// FITS keeps the values, which may have other samples.
fn same_values(a: &Source, b: &Source, name: &str) {
    let scale = |s: &Source| {
        let data = s.metadata.iter().find(|i| i.kind == metadata::SCALE).map(|i| i.data.clone());
        let number = |at: usize| data.as_ref().map(|d| f64::from_le_bytes(d[at..at + 8].try_into().unwrap()));
        (number(0).unwrap_or(1.0), number(8).unwrap_or(0.0))
    };
    let ((sa, za), (sb, zb)) = (scale(a), scale(b));
    let f = a.picture.format;
    for (p, q) in a.picture.samples.chunks(f.channels).zip(b.picture.samples.chunks(f.channels)) {
        if f.alpha && p[f.channels - 1] == 0 {
            assert_eq!(q[f.channels - 1], 0, "{name}");
            continue;
        }
        for c in 0..f.colours() {
            let (v, w) = (za + sa * f64::from(p[c]), zb + sb * f64::from(q[c]));
            assert!((v - w).abs() <= 1e-9 * (v.abs() + sa.abs() * 65536.0), "{name}: {v} {w}");
        }
    }
}

/// No beginning of a file panics, and none is taken for a whole picture of other samples.
#[test]
fn every_truncation() {
    for (name, _) in kinds() {
        let data = fixture(&format!("kinds/{name}"));
        let whole = load(&data).ok().map(|s| s.picture);
        // The last number of a text may lose its last digits.
        let end = data.len() - if name.contains("-text") { 3 } else { 0 };
        for n in 0..end {
            match load(&data[..n]) {
                Ok(s) => assert_eq!(Some(s.picture), whole, "{name}: {n} of {} bytes", data.len()),
                Err(e) => assert!(!e.to_string().contains('\n'), "{name}: {n}: {e}"),
            }
        }
    }
}

/// Changed bytes never panic.
#[test]
fn damaged_bytes_do_not_panic() {
    let options = ReadOptions { max_pixels: 1 << 16, frame: Some(1) };
    for (name, _) in kinds() {
        let mut data = fixture(&format!("kinds/{name}"));
        // Each byte of the headers, and some of the rest.
        let step = data.len() / 300 + 1;
        for i in (0..data.len()).filter(|&i| i < 100 || i % step == 0) {
            let before = data[i];
            for other in [0xff, before ^ 1] {
                data[i] = other;
                let _ = read(&data, &options);
            }
            data[i] = before;
        }
    }
}

/// The limit is checked before memory is allocated: also for sizes of which no machine has the memory.
#[test]
fn the_pixel_limit() {
    for (name, expected) in kinds() {
        let data = fixture(&format!("kinds/{name}"));
        if expected != "refused" {
            let pixels = load(&data).unwrap().picture;
            let pixels = (pixels.width * pixels.height) as u64;
            let e = read(&data, &ReadOptions { max_pixels: pixels - 1, frame: None }).unwrap_err();
            assert_eq!(e.class(), Class::PixelLimit, "{name}: {e}");
            assert!(read(&data, &ReadOptions { max_pixels: pixels, frame: None }).is_ok(), "{name}");
        }
    }
    for huge in ["P5 4294967295 4294967295 255\n", "P1 100000 100000\n", "PF 99999999 99999999 -1.0\n"] {
        assert_eq!(load(huge.as_bytes()).unwrap_err().class(), Class::PixelLimit);
        // Without a limit the file is too short.
        let e = read(huge.as_bytes(), &ReadOptions { max_pixels: u64::MAX, frame: None }).unwrap_err();
        assert!(matches!(e.class(), Class::Truncated | Class::PixelLimit), "{e}");
    }
}

fn frame(name: &str, frame: u32) -> Result<Source> {
    read(&fixture(&format!("kinds/{name}")), &ReadOptions { frame: Some(frame), ..ReadOptions::default() })
}

/// The frames of the three animations, whose pictures are the first one moved to the right.
#[test]
fn frames_of_animations() {
    for name in ["moving.png", "moving.webp"] {
        assert!(load(&fixture(&format!("kinds/{name}"))).unwrap_err().message().contains("--frame"));
        let first = frame(name, 1).unwrap().picture;
        assert_eq!(first.format, PixelFormat { channels: 4, depth: 8, alpha: true });
        for k in 2..=3 {
            let p = frame(name, k).unwrap().picture;
            for (row, original) in p.samples.chunks(4 * p.width).zip(first.samples.chunks(4 * p.width)) {
                let mut moved = original.to_vec();
                moved.rotate_right(4 * (k as usize - 1));
                // Where the alpha is 0 the colours have no meaning.
                let seen = |row: &[u16]| {
                    row.chunks(4).map(|p| if p[3] == 0 { [0; 4] } else { [p[0], p[1], p[2], p[3]] }).collect::<Vec<_>>()
                };
                assert_eq!(seen(row), seen(&moved), "{name} {k}");
            }
        }
        for k in [0, 4] {
            assert_eq!(frame(name, k).unwrap_err().class(), Class::Argument, "{name}");
        }
    }
    let gif = load(&fixture("kinds/moving.gif")).unwrap();
    assert!(gif.warnings[0].contains("frame 1 of 3"));
    assert_eq!(frame("moving.gif", 1).unwrap().picture, gif.picture);
    assert_ne!(frame("moving.gif", 3).unwrap().picture, gif.picture);
    assert_eq!(frame("pages.tif", 2).unwrap().picture.format.channels, 3);
    assert_eq!(frame("rgb.jpg", 1).unwrap().picture, load(&fixture("kinds/rgb.jpg")).unwrap().picture);
}

/// Metadata of each format, and what comes back in each other.
#[test]
fn metadata_comes_back() {
    use metadata::*;
    let kinds_of = |s: &Source| s.metadata.iter().map(|i| i.kind).collect::<Vec<_>>();
    let jpeg = load(&fixture("kinds/rgb.jpg")).unwrap();
    for kind in [ICC, EXIF, XMP, PHYS, TEXT] {
        assert!(kinds_of(&jpeg).contains(&kind), "{kind}");
    }
    let (png, warnings) = saved(OutFormat::Png, &jpeg);
    assert!(warnings.is_empty(), "{warnings:?}");
    let again = load(&png).unwrap();
    assert!(jpeg.metadata.iter().all(|i| again.metadata.contains(i)));
    let (tiff, warnings) = saved(OutFormat::Tiff, &jpeg);
    assert_eq!(warnings, ["TIFF has no place for text \"Comment\""]);
    let again = load(&tiff).unwrap();
    let turned = |s: &Source| {
        let mut picture = s.picture.clone();
        apply_orientation(&mut picture, &s.metadata.iter().find(|i| i.kind == EXIF).unwrap().data).unwrap();
        picture
    };
    assert_eq!(turned(&again), turned(&jpeg));
    assert_eq!(turned(&again).width, jpeg.picture.height);
    for kind in [ICC, XMP, PHYS] {
        let one = |s: &Source| s.metadata.iter().find(|i| i.kind == kind).cloned();
        assert_eq!(one(&again), one(&jpeg), "{kind}");
    }
    let webp = load(&fixture("kinds/rgb.webp")).unwrap();
    assert_eq!(kinds_of(&webp), [ICC, EXIF, XMP]);

    let geo = load(&fixture("kinds/geo.tif")).unwrap();
    assert!(kinds_of(&geo).contains(&metadata::TIFF));
    let (again, warnings) = saved(OutFormat::Tiff, &geo);
    assert!(warnings.is_empty(), "{warnings:?}");
    let again = load(&again).unwrap();
    assert!(geo.metadata.iter().all(|i| again.metadata.contains(i)), "{:?} {:?}", geo.metadata, again.metadata);
    assert!(saved(OutFormat::Png, &geo).1[0].contains("TIFF tags"));

    for name in ["uint16.fits", "holes.fits", "cube.fits"] {
        let fits = load(&fixture(&format!("kinds/{name}"))).unwrap();
        let (again, warnings) = saved(OutFormat::Fits, &fits);
        assert!(warnings.is_empty(), "{warnings:?}");
        let cards = |s: &Source| s.metadata.iter().find(|i| i.kind == FITS).cloned().unwrap();
        assert_eq!(cards(&load(&again).unwrap()), cards(&fits), "{name}");
        assert!(saved(OutFormat::Pam, &fits).1[0].contains("FITS cards"));
    }
}

/// A picture of 10 bits is a PNG of 16 bits with sBIT.
#[test]
fn depths_between_8_and_16() {
    let ten = load(&fixture("kinds/grey10.pgm")).unwrap();
    let png = load(&saved(OutFormat::Png, &ten).0).unwrap();
    assert!(png.metadata.contains(&Item { kind: metadata::SBIT, data: vec![10] }));
    for (wide, narrow) in png.picture.samples.iter().zip(&ten.picture.samples) {
        assert_eq!(*wide, narrow << 6 | narrow >> 4);
    }
    assert_eq!(load(&saved(OutFormat::Pgm, &ten).0).unwrap().picture, ten.picture);
}

/// A chunk of a PNG.
fn chunk(kind: &[u8; 4], body: &[u8]) -> Vec<u8> {
    let checked = [&kind[..], body].concat();
    [&(body.len() as u32).to_be_bytes()[..], &checked, &crc32(&checked).to_be_bytes()].concat()
}

/// The picture `kinds/rgb.jpg.png` with a chunk after its IHDR.
fn with_chunk(kind: &[u8; 4], body: &[u8]) -> Source {
    let data = fixture("kinds/rgb.jpg.png");
    load(&[&data[..33], &chunk(kind, body), &data[33..]].concat()).unwrap()
}

#[test]
fn what_a_png_cannot_keep_has_a_warning() {
    let zlib = |data: &[u8]| tilefit::pictures::metadata::deflated(data);
    for (kind, body, warning) in [
        (b"iCCP", b"x\0\0notzlib".to_vec(), "the ICC profile cannot be read"),
        (b"iCCP", [b"x\0\0", &zlib(&[0; 200])[..]].concat(), "is damaged"),
        (b"iCCP", [b"x\0\0", &zlib(&vec![0; (1 << 24) + 1])[..]].concat(), "more than 16777216 bytes"),
        (b"zTXt", [b"Title\0\0", &zlib(&vec![b' '; (1 << 24) + 1])[..]].concat(), "more than 16777216 bytes"),
        (b"gAMA", vec![1, 2, 3], "gAMA has a wrong length"),
        (b"eXIf", b"EXIF".to_vec(), "not EXIF"),
        (b"abCD", vec![], "abCD depends on"),
    ] {
        let s = with_chunk(kind, &body);
        assert_eq!((s.warnings.len(), s.metadata.len()), (1, 0), "{:?}", s.warnings);
        assert!(s.warnings[0].contains(warning), "{:?}", s.warnings);
    }
    let kept = with_chunk(b"abCd", b"safe to copy");
    assert!(kept.warnings.is_empty());
    assert_eq!(load(&saved(OutFormat::Png, &kept).0).unwrap().metadata, kept.metadata);
}

/// Profiles are stored deflated.
#[test]
fn a_long_profile_stays_short() {
    let mut profile = vec![0; 1 << 22];
    profile[..4].copy_from_slice(&(1u32 << 22).to_be_bytes());
    profile[36..40].copy_from_slice(b"acsp");
    let stream = tilefit::pictures::metadata::deflated(&profile);
    let s = with_chunk(b"iCCP", &[b"x\0\0", &stream[..]].concat());
    assert!(s.warnings.is_empty() && s.metadata[0].data.len() < 10_000, "{:?}", s.warnings);
    assert_eq!(load(&saved(OutFormat::Png, &s).0).unwrap().metadata, s.metadata);
}

#[test]
fn other_formats_have_a_name() {
    for (data, name) in [
        (&b"\0\0\0\x20ftypavif"[..], "AVIF"),
        (b"\0\0\0\x0cJXL \r\n\x87\n", "JPEG XL"),
        (b"8BPS", "Photoshop"),
        (b"TFIT", ".tfit"),
        (b"", "empty"),
        (b"hello, world", "not a picture"),
    ] {
        assert!(load(data).unwrap_err().message().contains(name), "{name}");
    }
}

#[test]
fn names_choose_the_format() {
    use tilefit::pictures::writer_for;
    for (name, format) in [
        ("-", OutFormat::Png),
        ("a.PNG", OutFormat::Png),
        ("a.tif", OutFormat::Tiff),
        ("b.fits", OutFormat::Fits),
        ("c.pam", OutFormat::Pam),
    ] {
        assert_eq!(writer_for(Path::new(name)).unwrap(), format);
    }
    for name in ["x.jpg", "x", "x.png.gz"] {
        assert_eq!(writer_for(Path::new(name)).unwrap_err().class(), Class::Argument);
    }
}

#[test]
fn formats_refuse_what_they_cannot_hold() {
    let picture = |channels, alpha| Picture {
        width: 2,
        height: 1,
        format: PixelFormat { channels, depth: 16, alpha },
        samples: (0..2 * channels as u16).map(|i| i * 1000 + 1).collect(),
    };
    for (format, channels, alpha, hint) in [
        (OutFormat::Png, 5, false, ".tif"),
        (OutFormat::Png, 2, false, ".tif"),
        (OutFormat::Pgm, 3, false, ".ppm"),
        (OutFormat::Ppm, 4, true, ".pam"),
        (OutFormat::Fits, 2, true, ".png"),
    ] {
        let mut out = Vec::new();
        let e = write(format, &picture(channels, alpha), &[], &mut out).unwrap_err();
        assert!(e.class() == Class::Unsupported && e.message().contains(hint) && out.is_empty(), "{e}");
    }
    for channels in 1..=16 {
        for format in [OutFormat::Pam, OutFormat::Tiff, OutFormat::Fits] {
            let mut out = Vec::new();
            write(format, &picture(channels, false), &[], &mut out).unwrap();
            assert_eq!(load(&out).unwrap().picture, picture(channels, false), "{format:?} {channels}");
        }
    }
}
