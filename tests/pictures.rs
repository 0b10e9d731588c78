//! Picture files: every kind is read right, comes back, and never makes the reader panic.
#![cfg(feature = "formats")]

use std::path::Path;
use tilefit::container::crc::crc32;
use tilefit::pictures::{read, write, Format, Item, OutFormat, Picture, ReadOptions, Source};
use tilefit::{metadata, Class, Result};

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

#[test]
fn types_are_used() {
    let _ = (metadata::ICC, Class::Format, Format { channels: 1, depth: 8, alpha: false });
    let _: Option<(Item, Picture)> = None;
}
