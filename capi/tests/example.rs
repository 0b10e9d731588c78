//! Compiles the C example against the static library and runs it.

use std::path::{Path, PathBuf};
use std::process::Command;
use tilefit::crc::crc32;

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
    check(&program, &golden, &results, "gdn-metadata.tfit", metadata);
    check(&program, &golden, &results, "pyramid-colour.tfit", ["0 bytes", "0 bytes", "0 bytes"].map(String::from));
}

/// What the example says of a golden file of 64x48 pixels.
fn check(program: &Path, golden: &Path, results: &str, name: &str, metadata: [String; 3]) {
    let line = results.lines().find(|l| l.starts_with(&format!("{name} 0 64x48 1/1"))).unwrap();
    let digest = line.rsplit(' ').next().unwrap();
    let out = Command::new(program).arg(golden.join(name)).output().unwrap();
    let text = String::from_utf8(out.stdout).unwrap();
    assert!(out.status.success(), "{text}{}", String::from_utf8_lossy(&out.stderr));
    let expected = [
        "64x48, 3 channels, 1 pictures".to_owned(),
        format!("digest {digest}, promised {digest}"),
        format!("metadata 1: {}", metadata[0]),
        format!("metadata 2: {}", metadata[1]),
        format!("metadata 3: {}", metadata[2]),
        "region agrees".to_owned(),
        "limit: 3 3072 pixels".to_owned(),
        "buffer: 4 out has 9215 bytes".to_owned(),
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
