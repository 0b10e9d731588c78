//! Compares the command `tilefit-decode` with the library.
#![cfg(feature = "png")]

use std::path::PathBuf;
use std::process::{Command, Output};
use tilefit::decoder::Decoder;
use tilefit::{Limits, Picture, Rect};

fn golden(name: &str) -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("fixtures/golden").join(name)
}

fn run(arguments: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_tilefit-decode")).args(arguments).output().unwrap()
}

fn decode(name: &str, more: &[&str]) -> Picture {
    decode_with_info(name, more).0
}

fn decode_with_info(name: &str, more: &[&str]) -> (Picture, png::Info<'static>) {
    let path = golden(name);
    let out = run(&[&[path.to_str().unwrap(), "-"], more].concat());
    assert!(out.status.success(), "{}", String::from_utf8_lossy(&out.stderr));
    let mut reader = png::Decoder::new(std::io::Cursor::new(out.stdout)).read_info().unwrap();
    let mut samples = vec![0; reader.output_buffer_size().unwrap()];
    let info = reader.next_frame(&mut samples).unwrap();
    reader.finish().unwrap();
    let channels = if info.color_type == png::ColorType::Rgb { 3 } else { 1 };
    let picture = Picture::from_u8(info.width as usize, info.height as usize, channels, &samples);
    (picture, reader.info().clone())
}

#[test]
fn keeps_metadata() {
    let (_, info) = decode_with_info("gdn-metadata.tfit", &["--scale", "1/8"]);
    let profile: Vec<u8> = (0..200u8).map(|i| i.wrapping_mul(i)).collect();
    assert_eq!(info.icc_profile.as_deref(), Some(&profile[..]));
    assert!(info.exif_metadata.unwrap().starts_with(b"II*\0"));
    let colour = info.coding_independent_code_points.unwrap();
    assert_eq!((colour.color_primaries, colour.transfer_function), (9, 16));
    let (_, info) = decode_with_info("gdn-colour.tfit", &[]);
    assert!(info.icc_profile.is_none() && info.exif_metadata.is_none());
}

#[test]
fn writes_the_same_pixels_as_png() {
    for name in ["pyramid-colour.tfit", "pyramid-grey.tfit", "pyramid-tiles.tfit"] {
        let data = std::fs::read(golden(name)).unwrap();
        let decoder = Decoder::new(&data, Limits::default()).unwrap();
        assert_eq!(decode(name, &[]), decoder.decode(0).unwrap(), "{name}");
        let region = Rect::new(3, 5, 30, 27);
        assert_eq!(decode(name, &["--region", "3,5,27,22"]), decoder.decode_region(0, region).unwrap(), "{name}");
        assert_eq!(decode(name, &["--scale", "1/4"]), decoder.decode_scaled(0, 2, None).unwrap(), "{name}");
    }
    let data = std::fs::read(golden("pyramid-unusual.tfit")).unwrap();
    let second = Decoder::new(&data, Limits::default()).unwrap().decode(1).unwrap();
    assert_eq!(decode("pyramid-unusual.tfit", &["--image", "2"]), second);
}

#[test]
fn errors_have_one_line_and_an_exit_code() {
    let file = golden("pyramid-grey.tfit");
    let file = file.to_str().unwrap();
    let two = golden("pyramid-unusual.tfit");
    let cases: [(&[&str], i32, &str); 7] = [
        (&[file], 2, "an output"),
        (&[file, "-", "--scale", "1/3"], 2, "1/2"),
        (&[file, "-", "--region", "1,2,0,4"], 2, "W and H"),
        (&[file, "-", "--region", "30,2,20,4"], 2, "not inside"),
        (&[two.to_str().unwrap(), "-"], 2, "2 pictures"),
        (&["no-such-file", "-"], 1, "no-such-file"),
        (&[concat!(env!("CARGO_MANIFEST_DIR"), "/Cargo.toml"), "-"], 6, "signature"),
    ];
    for (arguments, code, words) in cases {
        let out = run(arguments);
        let message = String::from_utf8(out.stderr).unwrap();
        assert_eq!(out.status.code(), Some(code), "{arguments:?}: {message}");
        assert!(message.contains(words) && message.lines().count() == 1, "{arguments:?}: {message}");
        assert!(out.stdout.is_empty());
    }
}

#[test]
fn existing_files_are_overwritten_only_with_force() {
    let out = std::env::temp_dir().join(format!("tilefit-decode-{}.png", std::process::id()));
    std::fs::write(&out, b"mine").unwrap();
    let (file, to) = (golden("pyramid-grey.tfit"), out.to_str().unwrap());
    assert_eq!(run(&[file.to_str().unwrap(), to]).status.code(), Some(4));
    assert_eq!(std::fs::read(&out).unwrap(), b"mine");
    assert!(run(&[file.to_str().unwrap(), to, "-f"]).status.success());
    assert!(std::fs::read(&out).unwrap().starts_with(b"\x89PNG"));
    std::fs::remove_file(&out).unwrap();
}
