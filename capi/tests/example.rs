//! Compiles the C example against the static library and runs it.

use std::path::{Path, PathBuf};
use std::process::Command;
use tilefit::crc::crc32;
use tilefit::{Decoder, Limits};

/// The static library that cargo built beside this test.
fn library() -> PathBuf {
    let folder = std::env::current_exe().unwrap().parent().unwrap().to_path_buf();
    let ours = |p: &PathBuf| {
        let name = p.file_name().unwrap().to_string_lossy().into_owned();
        name.starts_with("libtilefit_capi") && name.ends_with(".a")
    };
    let built = |p: &PathBuf| p.metadata().unwrap().modified().unwrap();
    let found = std::fs::read_dir(folder).unwrap().map(|f| f.unwrap().path()).filter(ours);
    found.max_by_key(built).expect("libtilefit_capi.a is built beside this test")
}

#[test]
fn the_c_example_decodes() {
    let crate_folder = Path::new(env!("CARGO_MANIFEST_DIR"));
    let program = PathBuf::from(env!("CARGO_TARGET_TMPDIR")).join("decode");
    let out = Command::new("cc")
        .args(["-std=c99", "-Wall", "-Wextra", "-Werror", "-o"])
        .arg(&program)
        .arg(crate_folder.join("examples/decode.c"))
        .arg(library())
        .args(["-lpthread", "-ldl", "-lm"])
        .output()
        .expect("a C compiler (cc)");
    assert!(out.status.success(), "{}", String::from_utf8_lossy(&out.stderr));

    let golden = crate_folder.join("../fixtures/golden");
    let results = std::fs::read_to_string(golden.join("results.txt")).unwrap();
    let profile = crc32(&(0..200u8).map(|i| i.wrapping_mul(i)).collect::<Vec<_>>());
    let metadata = [format!("200 bytes, {profile:08x}"), "26 bytes".into(), "4 bytes".into()];
    let none = || ["0 bytes", "0 bytes", "0 bytes"].map(String::from);
    check(&program, &golden, &results, "gdn-metadata.tfit", metadata);
    // Grey, 10 and 16 bits, bands, alpha apart and blended, several models, lossless.
    for name in [
        "pyramid-colour",
        "pyramid-grey-16",
        "pyramid-rgb-10",
        "pyramid-bands-5",
        "planes-grey-alpha",
        "planes-blended",
        "planes-blended-16",
        "lossless-rgba-16",
    ] {
        check(&program, &golden, &results, &format!("{name}.tfit"), none());
    }
}

/// What the example says of a golden file of one picture.
fn check(program: &Path, golden: &Path, results: &str, name: &str, metadata: [String; 3]) {
    let line = results.lines().find(|l| l.starts_with(&format!("{name} 0 ")) && l.contains(" 1/1 ")).unwrap();
    let digest = line.rsplit(' ').next().unwrap();
    let file = std::fs::read(golden.join(name)).unwrap();
    let decoder = Decoder::new(&file, Limits::default()).unwrap();
    let picture = decoder.decode(0).unwrap();
    assert_eq!(format!("{:08x}", picture.digest()), digest);
    let (width, height, format) = (picture.width, picture.height, picture.format);
    let bytes = picture.to_bytes().len();
    let out = Command::new(program).arg(golden.join(name)).output().unwrap();
    let text = String::from_utf8(out.stdout).unwrap();
    assert!(out.status.success(), "{text}{}", String::from_utf8_lossy(&out.stderr));
    let expected = [
        format!("{width}x{height}, {} channels, 1 pictures", format.channels),
        format!("{} bits{}", format.depth, if format.alpha { ", alpha" } else { "" }),
        format!("digest {digest}, promised {digest}"),
        format!("metadata 1: {}", metadata[0]),
        format!("metadata 2: {}", metadata[1]),
        format!("metadata 3: {}", metadata[2]),
        "region agrees".to_owned(),
        format!("limit: 3 {} pixels", width * height),
        format!("buffer: 4 out has {} bytes", bytes - 1),
        "picture: 4 picture: there is no picture 9".to_owned(),
        "region: 4 region: the region is not inside".to_owned(),
        "null: 1 not a Tilef".to_owned(),
        "length alone: 0 agrees".to_owned(),
        "damaged: 1 ".to_owned(),
    ];
    assert_eq!(text.lines().count(), expected.len(), "{text}");
    for (line, start) in text.lines().zip(&expected) {
        assert!(line.starts_with(start), "{line:?} does not start with {start:?}");
    }
}
