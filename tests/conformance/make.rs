//! Writes the golden files that are missing, and all digests: `cargo test --test conformance -- --ignored`. A file
//! that is there stays: it must decode as ever, whatever the fit makes by now.

use super::golden::{digests, files, folder};
use std::path::Path;
use tilefit::cli::png_io::{read_file, ReadLimits};
use tilefit::container::header::Header;
use tilefit::container::metadata::{write as write_items, Item, CICP, EXIF, ICC};
use tilefit::fit::{file, Fitted};
use tilefit::models::pyramid::model::PyramidModel;
use tilefit::models::pyramid::quantised::Quantised;
use tilefit::models::pyramid::spec::{PyramidSpec, SynthLayer};
use tilefit::models::{Codes, Grid};
use tilefit::{Encoder, Level, Picture, Rect, Target, WeightCoding};
use tilefit_testing::Noise;

/// A part of the nebula picture, in colour or its green channel.
fn cut(x0: usize, y0: usize, width: usize, height: usize, channels: usize) -> Picture {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("fixtures/nebula.png");
    let whole = read_file(&path, &ReadLimits::default()).unwrap().picture;
    let mut samples = Vec::new();
    for (y, x) in (y0..y0 + height).flat_map(|y| (x0..x0 + width).map(move |x| (y, x))) {
        let pixel = &whole.samples[(y * whole.width + x) * 3..][..3];
        samples.extend_from_slice(if channels == 3 { pixel } else { &pixel[1..2] });
    }
    Picture { width, height, channels, samples }
}

fn fitted(model: &str, pictures: &[Picture], tile: Option<usize>, weights: WeightCoding) -> Vec<u8> {
    // So small a picture is not worth a gdn model unless bits cost next to nothing.
    let encoder = Encoder::new().model(model).effort(1).threads(1).seed(1).weights(weights);
    let encoder = match model {
        "pyramid" => encoder.target(Target::Quality(60.0)),
        _ => encoder.target(Target::Lambda(3e-5)).channels(12),
    };
    let encoder = match tile {
        Some(side) => encoder.tile(side),
        None => encoder,
    };
    encoder.encode_group(pictures).unwrap().bytes
}

/// What no fit makes: a trunk of no usual form, hyper-grids nearly everywhere but where `second` grids are, weights as f16,
/// sums that saturate, codes that need escapes, two pictures, tiles in two layers. Or weights of far apart steps, coded.
fn unusual(second: u8, far_apart: bool) -> Vec<u8> {
    let mut noise = Noise::new(7);
    let mut noise = || noise.signed() as f32;
    let layer = |outputs, kernel, residual, relu| SynthLayer { outputs, kernel, residual, relu };
    let spec = PyramidSpec {
        channels: 3,
        depth: 5,
        hyper_from: 1,
        second,
        spatial: 26,
        features: 3,
        feature_scales: 4,
        outputs_apart: far_apart,
        trunk: vec![
            layer(6 + second.count_ones() as usize, 1, true, true),
            layer(9, 1, false, true),
            layer(3, 1, false, false),
            layer(3, 3, false, true),
            layer(3, 3, true, false),
        ],
    };
    let mut weights: Vec<f32> = (0..spec.weights_count()).map(|_| 0.3 * noise()).collect();
    for t in spec.tensors() {
        let start: &[f32] = match t.name {
            "up" => &[-0.04, -0.1, 0.25, 0.9],
            "pre" => &[0.0, -0.02, 0.03, 0.2],
            _ => continue,
        };
        for (i, at) in t.range.enumerate() {
            weights[at] = start[i % start.len()] * (1.0 + 0.2 * noise());
        }
    }
    let exponents = if far_apart { [1, 15, 3, 9, 2, 10, 5, 12] } else { [9, 11, 0, 8, 6, 10, 10, 12] };
    let quantised = Quantised::new(&spec, &weights, exponents);
    let model = PyramidModel::from_quantised(spec, quantised, true).with_f16(!far_apart);
    let pictures =
        [(75, 66), (9, 70)].map(|(width, height)| Picture { width, height, channels: 3, samples: Vec::new() });
    let mut codes_of = |p: &Picture| -> Codes {
        let grids = model.spec().grids();
        let fill = |g: &tilefit::models::GridSpec| {
            let mut grid = Grid::new(Rect::whole(p.width, p.height).shrunk(g.shift), 1);
            // Mostly small; now and then far beyond the table; one scale empty.
            grid.codes.iter_mut().filter(|_| g.shift != 2).for_each(|c| {
                let v = noise();
                *c = if v > 0.98 { (noise() * 32767.0) as i16 } else { (v * v * v * 2.9) as i16 };
            });
            grid
        };
        grids.iter().map(fill).collect()
    };
    let codes = pictures.iter().map(&mut codes_of).collect();
    let fitted = Fitted { model: Box::new(model), codes, tile: 64 };
    file::write(&fitted, &pictures, &[]).unwrap().bytes
}

/// The same picture with all kinds of metadata, one that nobody knows, and one of a picture that is not there.
fn with_metadata(bytes: &[u8]) -> Vec<u8> {
    let mut header = Header::read(bytes).unwrap();
    let codes = &bytes[header.length..];
    // EXIF of one entry: turn the picture a quarter to the right.
    let exif = b"II*\0\x08\0\0\0\x01\0\x12\x01\x03\0\x01\0\0\0\x06\0\0\0\0\0\0\0";
    // No profile that means anything.
    let profile: Vec<u8> = (0..200u8).map(|i| i.wrapping_mul(i)).collect();
    let items =
        [(7, 200, &b"?"[..]), (0, ICC, &profile), (0, 77, b"later"), (0, EXIF, exif), (0, CICP, &[9, 16, 0, 1])];
    let items = items.map(|(picture, kind, data)| Item { picture, kind, data: data.to_vec() });
    header.metadata = write_items(&items).unwrap();
    [&header.write(), codes].concat()
}

#[test]
#[ignore = "writes golden files"]
fn make() {
    let write = |name: &str, bytes: &dyn Fn() -> Vec<u8>| {
        let path = folder().join(name);
        if !path.exists() {
            std::fs::write(path, bytes()).unwrap();
        }
    };
    let colour = || cut(400, 300, 64, 48, 3);
    let grey = || cut(500, 200, 37, 29, 1);
    let wide = || cut(300, 420, 130, 70, 3);
    let (coded, f16) = (WeightCoding::Coded, WeightCoding::F16);
    write("pyramid-colour.tfit", &|| fitted("pyramid", &[colour()], None, coded));
    write("pyramid-grey.tfit", &|| fitted("pyramid", &[grey()], None, coded));
    write("pyramid-tiles.tfit", &|| fitted("pyramid", &[wide()], Some(64), coded));
    write("pyramid-unusual.tfit", &|| unusual(0, false));
    write("pyramid-second.tfit", &|| unusual(0b10_1110, false));
    write("pyramid-apart.tfit", &|| unusual(0b10_1110, true));
    write("pyramid-chroma.tfit", &|| fitted("pyramid", &[colour()], None, coded));
    write("pyramid-outputs.tfit", &|| fitted("pyramid", &[colour()], None, coded));
    write("gdn-colour.tfit", &|| fitted("gdn", &[colour()], None, coded));
    write("gdn-grey-group.tfit", &|| fitted("gdn", &[grey(), cut(100, 600, 21, 50, 1)], None, f16));
    write("gdn-tiles.tfit", &|| fitted("gdn", &[wide()], Some(64), coded));
    let colour = std::fs::read(folder().join("gdn-colour.tfit")).unwrap();
    write("gdn-metadata.tfit", &|| with_metadata(&colour));
    let mut text = String::from("# file, picture, what, CRC-32: of the codes, or of the samples at a scale\n");
    for (name, bytes) in files() {
        for line in digests(&name, &bytes, Level::SCALAR) {
            text += &(line + "\n");
        }
    }
    std::fs::write(folder().join("results.txt"), text).unwrap();
}
