//! Writes the golden files that are missing, and all digests: `cargo test --test conformance -- --ignored`. A file
//! that is there stays: it must decode as ever, whatever the fit makes by now.

use super::golden::{digests, files, folder};
use std::path::Path;
use tilefit::container::header::Header;
use tilefit::container::metadata::{write as write_items, Item, CICP, EXIF, ICC};
use tilefit::crc::crc32;
use tilefit::entropy::cdf::{Cdf, TailedCdf};
use tilefit::entropy::range_coder::RangeEncoder;
use tilefit::fit::lossless::Planes;
use tilefit::fit::{self, file, Fitted};
use tilefit::models::hyperprior::{HyperModel, HyperSpec, Tables};
use tilefit::models::lossless::model::LosslessModel;
use tilefit::models::lossless::planes;
use tilefit::models::lossless::values::Values;
use tilefit::models::pyramid::model::PyramidModel;
use tilefit::models::pyramid::quantised::Quantised as PyramidQuantised;
use tilefit::models::pyramid::spec::{PyramidSpec, SynthLayer};
use tilefit::models::transform::weights::{Kind, Quantised};
use tilefit::models::transform::{Stored, TransformSpec};
use tilefit::models::{Codes, Grid};
use tilefit::pictures::{self, ReadOptions};
use tilefit::{Domain, Encoder, Level, Picture, PixelFormat, Rect, Target, WeightCoding};
use tilefit_testing::Noise;

/// A part of the nebula picture, in colour or its green channel.
fn cut(x0: usize, y0: usize, width: usize, height: usize, channels: usize) -> Picture {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("fixtures/nebula.png");
    let whole = pictures::read(&std::fs::read(path).unwrap(), &ReadOptions::default()).unwrap().picture;
    let mut samples = Vec::new();
    for (y, x) in (y0..y0 + height).flat_map(|y| (x0..x0 + width).map(move |x| (y, x))) {
        let pixel = &whole.samples[(y * whole.width + x) * 3..][..3];
        samples.extend_from_slice(if channels == 3 { pixel } else { &pixel[1..2] });
    }
    Picture { width, height, format: PixelFormat::new(channels, 8), samples }
}

/// A picture of `depth` bits from a part of the nebula of four times its size: samples are means of 4x4, so that the lowest bits
/// mean something. Channel `c` is channel `order[c]` of the nebula, 3 what is brighter than the mean (for alpha).
fn deep(x0: usize, y0: usize, width: usize, height: usize, order: &[usize], format: PixelFormat) -> Picture {
    let whole = cut(x0, y0, 4 * width, 4 * height, 3);
    let peak = u32::from(format.peak());
    let mut samples = Vec::new();
    for (y, x) in (0..height).flat_map(|y| (0..width).map(move |x| (y, x))) {
        let sum = |c: usize| -> u32 {
            let rows = (0..4).flat_map(|v| (0..4).map(move |u| (4 * y + v) * 4 * width + 4 * x + u));
            rows.map(|i| u32::from(whole.samples[3 * i + c])).sum()
        };
        let sample = |c: &usize| match *c {
            3 => ((sum(1).saturating_sub(900) * 3).min(4080) * peak / 4080) as u16,
            c => ((u64::from(sum(c)) * u64::from(peak)) / 4080) as u16,
        };
        samples.extend(order.iter().map(sample));
    }
    Picture { width, height, format, samples }
}

/// Only the size of a picture counts where a model is made without a fit.
fn empty(width: usize, height: usize) -> Picture {
    Picture { width, height, format: PixelFormat::RGB, samples: Vec::new() }
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

/// A file of pictures of other kinds than 8-bit grey and RGB.
fn of_kind(encoder: Encoder, pictures: &[Picture]) -> Vec<u8> {
    encoder.effort(1).threads(1).seed(1).encode_group(pictures).unwrap().bytes
}

/// A lossless file whose only segment is coded in mode `mixed`, which the encoder takes only for large pictures.
fn mixed(picture: &Picture) -> Vec<u8> {
    let bytes = lossless(picture, 0, true, 0);
    let mut header = Header::read(&bytes).unwrap();
    let (area, channels) = (picture.pixels(), picture.format.channels);
    let mut planes: Vec<u16> = (0..area * channels).map(|i| picture.samples[i % area * channels + i / area]).collect();
    let layout = planes::Layout { tops: vec![255; channels], order: vec![1, 0, 2], palette: false };
    let mut coder = RangeEncoder::default();
    planes::code(&mut coder, &mut planes, &layout, picture.width, picture.height, planes::Mode::Mixed)
        .expect("memory for a small picture");
    let segment = coder.finish();
    header.segments[0].length = segment.len();
    header.segments[0].crc = crc32(&segment);
    [header.write(), segment].concat()
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
    let quantised = PyramidQuantised::new(&spec, &weights, exponents);
    let model = PyramidModel::from_quantised(spec, quantised, true).with_f16(!far_apart);
    let pictures = [(75, 66), (9, 70)].map(|(width, height)| empty(width, height));
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
    file::write(&fitted, &pictures, &[], false).unwrap().bytes
}

/// A hyperprior that no fit makes: more feature maps at 1/2 than at 1/4, large weights of all locations and scales, codes and
/// hyper-codes that need escapes, tables of few codes, two pictures, tiles.
fn hyperprior_unusual() -> Vec<u8> {
    let mut state = 11u64;
    let mut noise = move || {
        state = state.wrapping_mul(6364136223846793005).wrapping_add(1442695040888963407);
        (state >> 40) as f32 / (1 << 23) as f32 - 1.0
    };
    let spec = HyperSpec { transform: TransformSpec { maps: [5, 3, 7], channels: 3 }, hyper: 3 };
    let mut stored = Quantised::zeros(&spec.transform.tensors());
    for (t, e) in spec.transform.tensors().iter().zip(&mut stored.exponents) {
        *e = 9;
        let positive = matches!(t.kind, Kind::Beta | Kind::Gamma);
        let values = &mut stored.values[t.range.clone()];
        values.iter_mut().for_each(|v| *v = (if positive { 90.0 + 80.0 * noise() } else { 120.0 * noise() }) as i16);
    }
    let mut laws = Quantised::zeros(&spec.tensors());
    laws.exponents = vec![10, 8];
    let mut cube = || {
        let v = noise();
        v * v * v
    };
    laws.values.iter_mut().for_each(|v| *v = (400.0 * cube()) as i16);
    let table = |(first, weights): (i16, &[u32])| TailedCdf::new(first, Cdf::from_weights(weights).unwrap()).unwrap();
    let tables = [(-2, &[5, 9, 20, 7, 3, 1][..]), (7, &[1][..]), (-40, &[1, 1000, 3][..])].map(table);
    let model = HyperModel::new(spec, Stored::Coded(stored), laws, Tables::nearest(&tables).unwrap());
    let pictures = [(75, 66), (9, 70)].map(|(width, height)| empty(width, height));
    let mut codes_of = |p: &Picture| -> Codes {
        let fill = |g: tilefit::models::GridSpec| {
            let mut grid = Grid::new(Rect::whole(p.width, p.height).shrunk(g.shift), g.channels);
            grid.codes.iter_mut().for_each(|c| {
                let v = noise();
                *c = if v > 0.97 { (noise() * 32767.0) as i16 } else { (v * v * v * 6.0) as i16 };
            });
            grid
        };
        spec.grids().map(fill).to_vec()
    };
    let codes = pictures.iter().map(&mut codes_of).collect();
    let fitted = Fitted { model: Box::new(model), codes, tile: 64 };
    file::write(&fitted, &pictures, &[], false).unwrap().bytes
}

/// A file of family `lossless`, with the values that are smallest or with all.
fn lossless(picture: &Picture, max_error: u16, all: bool, tile: usize) -> Vec<u8> {
    let (area, channels) = (picture.width * picture.height, picture.format.channels);
    let samples: Vec<u16> = (0..area * channels).map(|i| picture.samples[i % area * channels + i / area]).collect();
    let planes = Planes { width: picture.width, height: picture.height, samples: &samples };
    let (model, codes) = fit::lossless::encode(&[planes], channels, 8, max_error);
    let model = if all { LosslessModel::new(channels, 8, max_error, Values::All) } else { model };
    let fitted = Fitted { model: Box::new(model), codes, tile };
    file::write(&fitted, std::slice::from_ref(picture), &[], false).unwrap().bytes
}

/// A drawing: flat areas of a few colours with sharp edges, which a slope crosses if `slope`.
fn drawing(width: usize, height: usize, slope: bool) -> Picture {
    let mut samples = Vec::new();
    for (y, x) in (0..height).flat_map(|y| (0..width).map(move |x| (y, x))) {
        let shape = (x / 7 + y / 5) % 4 + 4 * usize::from((x * x + y * y) % 91 < 30);
        let colour: [usize; 3] =
            [[255; 3], [20, 30, 200], [0; 3], [240, 180, 20], [60; 3], [255, 0, 0], [9, 99, 199], [1; 3]][shape];
        let lift = if slope && shape == 0 { 3 * x + y } else { 0 };
        samples.extend(colour.map(|c| c.saturating_sub(lift) as u8));
    }
    Picture::from_u8(width, height, 3, &samples)
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
    write("hyperprior-colour.tfit", &|| fitted("hyperprior", &[colour()], None, coded));
    write("hyperprior-grey-group.tfit", &|| fitted("hyperprior", &[grey(), cut(100, 600, 21, 50, 1)], None, f16));
    write("hyperprior-tiles.tfit", &|| fitted("hyperprior", &[wide()], Some(64), coded));
    write("hyperprior-unusual.tfit", &hyperprior_unusual);
    let colour = std::fs::read(folder().join("gdn-colour.tfit")).unwrap();
    write("gdn-metadata.tfit", &|| with_metadata(&colour));
    let few = |p: Picture| Picture { samples: p.samples.iter().map(|s| s / 3 * 3).collect(), ..p };
    // Flat on the right.
    let partly_flat = |p: Picture| {
        let row = p.width * p.format.channels;
        let keep = |(i, s): (usize, &u16)| if i % row < row / 4 * 3 { *s } else { 200 };
        Picture { samples: p.samples.iter().enumerate().map(keep).collect(), ..p }
    };
    let noise = |mut p: Picture| {
        let mut state = 5u64;
        p.samples.iter_mut().for_each(|s| {
            state = state.wrapping_mul(6364136223846793005).wrapping_add(1442695040888963407);
            *s = (state >> 56) as u16;
        });
        p
    };
    let flat = || Picture::from_u8(9, 8, 1, &[77; 72]);
    write("lossless-colour.tfit", &|| lossless(&cut(400, 300, 32, 24, 3), 0, false, 0));
    write("lossless-near.tfit", &|| lossless(&cut(400, 300, 32, 24, 3), 2, false, 0));
    write("lossless-grey-lists.tfit", &|| lossless(&few(cut(500, 200, 37, 29, 1)), 0, false, 0));
    write("lossless-palette.tfit", &|| lossless(&drawing(50, 40, false), 0, false, 0));
    write("lossless-exact.tfit", &|| lossless(&drawing(70, 40, true), 0, true, 64));
    write("lossless-partly-flat.tfit", &|| lossless(&partly_flat(cut(420, 250, 96, 48, 3)), 0, true, 0));
    write("lossless-noise.tfit", &|| lossless(&noise(cut(0, 0, 20, 10, 3)), 0, false, 0));
    write("lossless-flat.tfit", &|| lossless(&flat(), 0, false, 0));
    write("lossless-mixed.tfit", &|| mixed(&drawing(70, 40, true)));
    // Other kinds of samples.
    let rgb = [0, 1, 2];
    let new = |model: &str| Encoder::new().model(model).target(Target::Quality(95.0));
    let alpha8 = PixelFormat::new(4, 8).with_alpha();
    let rgba = |x0, y0| deep(x0, y0, 48, 32, &[0, 1, 2, 3], alpha8);
    let kind = |order: &[usize], depth| deep(400, 300, 48, 32, order, PixelFormat::new(order.len(), depth));
    write("pyramid-grey-16.tfit", &|| of_kind(new("pyramid"), &[kind(&[1], 16)]));
    // As from a camera of 12 bits.
    let dark = |p: Picture| Picture { samples: p.samples.iter().map(|s| s / 16).collect(), ..p };
    write("pyramid-dark-16.tfit", &|| of_kind(new("pyramid").target(Target::Lambda(1e-7)), &[dark(kind(&[1], 16))]));
    write("pyramid-rgb-16.tfit", &|| of_kind(new("pyramid"), &[kind(&rgb, 16)]));
    write("pyramid-rgb-10.tfit", &|| of_kind(new("pyramid"), &[kind(&rgb, 10)]));
    write("pyramid-bands-4.tfit", &|| of_kind(new("pyramid"), &[kind(&[0, 1, 2, 0], 8)]));
    write("pyramid-bands-5.tfit", &|| of_kind(new("pyramid"), &[kind(&[2, 1, 0, 1, 2], 12)]));
    let transform = |model| Encoder::new().model(model).target(Target::Lambda(3e-5)).channels(6);
    write("gdn-rgb-16.tfit", &|| of_kind(transform("gdn"), &[kind(&rgb, 16)]));
    write("hyperprior-bands-2-12.tfit", &|| of_kind(transform("hyperprior"), &[kind(&[0, 2], 12)]));
    let grey_alpha = || deep(400, 300, 48, 32, &[1, 3], PixelFormat::new(2, 8).with_alpha());
    write("planes-grey-alpha.tfit", &|| of_kind(new("pyramid").alpha_quality(100.0), &[grey_alpha()]));
    write("planes-blended.tfit", &|| of_kind(new("pyramid"), &[rgba(400, 300)]));
    let blended16 = || deep(400, 300, 48, 32, &[0, 1, 2, 3], PixelFormat::new(4, 16).with_alpha());
    write("planes-blended-16.tfit", &|| of_kind(new("pyramid"), &[blended16()]));
    write("planes-alpha-apart.tfit", &|| of_kind(new("pyramid").alpha_quality(80.0), &[rgba(400, 300)]));
    write("planes-equal-colours.tfit", &|| of_kind(new("pyramid"), &[kind(&[1, 1, 1], 8)]));
    let group = || [deep(300, 300, 100, 70, &[0, 1, 2, 3], alpha8), rgba(100, 400)];
    write("planes-tiles-group.tfit", &|| of_kind(new("pyramid").alpha_quality(100.0).tile(64), &group()));
    // Mostly dark, with a few bright pixels, so that the curve bends.
    let high_range = |p: Picture| {
        let lit = |(i, s): (usize, &u16)| if i % 97 < 4 { *s } else { 500 + s / 64 };
        Picture { samples: p.samples.iter().enumerate().map(lit).collect(), ..p }
    };
    let curved = || new("pyramid").domain(Domain::Asinh);
    write("planes-curve.tfit", &|| of_kind(curved(), &[high_range(kind(&rgb, 16))]));
    write("planes-curve-alpha.tfit", &|| {
        let p = deep(400, 300, 48, 32, &[1, 3], PixelFormat::new(2, 12).with_alpha());
        of_kind(curved().alpha_quality(90.0), &[p])
    });
    write("planes-curve-blended.tfit", &|| of_kind(curved(), &[blended16()]));
    write("planes-turned.tfit", &|| of_kind(new("pyramid").tile(64), &[cut(400, 100, 9, 150, 3)]));
    write("planes-turned-alpha.tfit", &|| {
        of_kind(new("pyramid").alpha_quality(100.0), &[deep(300, 100, 17, 180, &[0, 1, 2, 3], alpha8)])
    });
    let exact = |n| Encoder::new().target(Target::MaxError(n));
    write("lossless-rgba-16.tfit", &|| of_kind(exact(0), &[blended16()]));
    write("lossless-near-16.tfit", &|| of_kind(exact(300), &[kind(&rgb, 16)]));
    write("lossless-grey-alpha-10.tfit", &|| {
        of_kind(exact(0), &[deep(400, 300, 48, 32, &[1, 3], PixelFormat::new(2, 10).with_alpha())])
    });
    write("lossless-equal-colours.tfit", &|| of_kind(exact(0), &[kind(&[1, 1, 1], 8)]));
    let mut text = String::from("# file, picture, what, CRC-32: of the codes, or of the samples at a scale\n");
    for (name, bytes) in files() {
        for line in digests(&name, &bytes, Level::SCALAR) {
            text += &(line + "\n");
        }
    }
    std::fs::write(folder().join("results.txt"), text).unwrap();
}
