//! `fixtures/golden`: files and their digests, as lines of `results.txt`.

use std::path::PathBuf;
use tilefit::container::header::Header;
use tilefit::crc::crc32;
use tilefit::decoder::{Decoder, MAX_SCALE};
use tilefit::models::{read_model, Codes, Grid, Model};
use tilefit::{Level, Limits};

pub fn folder() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("fixtures/golden")
}

/// Names and bytes, by name.
pub fn files() -> Vec<(String, Vec<u8>)> {
    let mut files: Vec<(String, Vec<u8>)> = std::fs::read_dir(folder())
        .expect("fixtures/golden")
        .map(|f| f.unwrap().path())
        .filter(|p| p.extension().is_some_and(|e| e == "tfit"))
        .map(|p| (p.file_name().unwrap().to_string_lossy().into_owned(), std::fs::read(&p).unwrap()))
        .collect();
    files.sort();
    assert!(!files.is_empty(), "no golden files");
    files
}

pub fn results() -> Vec<String> {
    let text = std::fs::read_to_string(folder().join("results.txt")).expect("results.txt");
    text.lines().filter(|l| !l.starts_with('#')).map(str::to_owned).collect()
}

/// `NAME PICTURE codes CRC`, then `NAME PICTURE WIDTHxHEIGHT 1/N CRC` for each scale.
pub fn digests(name: &str, bytes: &[u8], level: Level) -> Vec<String> {
    let decoder = Decoder::new(bytes, Limits::default()).unwrap_or_else(|e| panic!("{name}: {e}")).with_level(level);
    let header = Header::read(bytes).unwrap();
    let model = read_model(header.family, header.format, &header.description, &header.weights, &Limits::NONE).unwrap();
    let mut lines = Vec::new();
    for picture in 0..header.pictures.len() {
        lines.push(format!(
            "{name} {picture} codes {:08x}",
            codes_digest(&header, model.as_ref(), bytes, picture, level)
        ));
        for scale in 0..=MAX_SCALE {
            let p = decoder.decode_scaled(picture, scale, None).unwrap_or_else(|e| panic!("{name}: {e}"));
            let digest = p.digest();
            lines.push(format!("{name} {picture} {}x{} 1/{} {digest:08x}", p.width, p.height, 1 << scale));
        }
    }
    lines
}

/// CRC-32 of a picture's codes: tile after tile, in each grid after grid, as little-endian i16.
fn codes_digest(header: &Header, model: &dyn Model, bytes: &[u8], picture: usize, level: Level) -> u32 {
    let mut all = Vec::new();
    for tile in 0..header.tiles(picture) {
        let rect = header.tile_rect(picture, tile);
        let mut codes: Codes = model.grids().iter().map(|g| Grid::new(rect.shrunk(g.shift), g.channels)).collect();
        for layer in 0..header.layers {
            let s = header.segment(layer, picture, tile);
            model.decode_tile(level, layer, &bytes[s.offset..s.offset + s.length], &mut codes).unwrap();
        }
        all.extend(codes.iter().flat_map(|g| &g.codes).flat_map(|c| c.to_le_bytes()));
    }
    crc32(&all)
}
