//! Compares the range coder with that of `constriction`, on the same symbols and probabilities, and the bytes of context coding
//! with those of fixed tables for a gdn file: `cargo bench --bench range_coder`.
#![allow(clippy::disallowed_methods)]

mod common;

use common::best;
use constriction::stream::model::DefaultContiguousCategoricalEntropyModel;
use constriction::stream::queue::{DefaultRangeDecoder, DefaultRangeEncoder};
use constriction::stream::{Decode, Encode};
use std::hint::black_box;
use std::path::Path;
use std::time::Duration;
use tilefit::cli::files;
use tilefit::container::header::Header;
use tilefit::entropy::bottleneck;
use tilefit::entropy::cdf::{Cdf, TailedCdf};
use tilefit::entropy::range_coder::{RangeDecoder, RangeEncoder};
use tilefit::fit::rng::Rng;
use tilefit::models::{read_model, Codes, Grid, GridSpec};
use tilefit::{Encoder, Level, Picture, Target};

const SYMBOLS: usize = 1 << 18;

/// Test distributions: name, table, and the probabilities of the symbols.
fn distributions() -> Vec<(String, Cdf, Vec<f64>)> {
    let mut list = Vec::new();
    for scale in [0.5f64, 4.0, 20.0] {
        let pmf: Vec<f64> = (-60..=60).map(|k: i32| (-f64::from(k.abs()) / scale).exp() + 1e-6).collect();
        list.push((format!("Laplace scale {scale}"), Cdf::from_pmf(&pmf).expect("a table"), pmf));
    }
    let (mut rng, mut p) = (Rng::stream(3, 4, 5), vec![0.0; bottleneck::PARAMETERS]);
    bottleneck::start(1, 4.0, || rng.unit(), &mut p);
    let mut prepared = p.clone();
    bottleneck::prepare(&p, &mut prepared);
    let cdf = bottleneck::table(&prepared).expect("a table").cdf().clone();
    let pmf = (0..cdf.symbols()).map(|s| f64::from(cdf.interval(s).1)).collect();
    list.push(("a bottleneck's table".into(), cdf, pmf));
    list
}

/// Bytes of the codes of a fitted picture with the file's context model, and with the best fixed table of each channel, where
/// the table itself is not counted.
fn contexts_beside_tables() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("fixtures/nebula.png");
    let whole = files::read_picture(&path, &Default::default()).expect("the fixture").picture;
    let (side, stride) = (512, 3 * whole.width);
    let samples = (200..200 + side).flat_map(|y| &whole.samples[y * stride + 600..][..3 * side]);
    let pictures =
        [Picture { width: side, height: side, format: tilefit::PixelFormat::RGB, samples: samples.copied().collect() }];
    let encoder = Encoder::new().model("gdn").target(Target::Lambda(8e-4)).effort(1);
    let encoded = encoder.encode_group(&pictures).expect("a fit");
    let header = Header::read(&encoded.bytes).expect("a header");
    let model = read_model(header.family, header.format, &header.description, &header.weights, &tilefit::Limits::NONE)
        .expect("a model");
    let grid = |s: &GridSpec| Grid::new(header.tile_rect(0, 0).shrunk(s.shift), s.channels);
    let mut grids: Codes = model.grids().iter().map(grid).collect();
    model.decode_tile(Level::best(), 0, &encoded.bytes[header.length..], &mut grids).expect("codes");
    let mut bits = 0.0;
    for grid in &grids {
        for plane in grid.codes.chunks_exact(grid.codes.len() / grid.channels) {
            let (low, high) = (*plane.iter().min().expect("codes"), *plane.iter().max().expect("codes"));
            let mut counts = vec![0u32; (high - low) as usize + 2];
            plane.iter().for_each(|q| counts[(q - low) as usize] += 1);
            let table = TailedCdf::new(low, Cdf::from_weights(&counts).expect("a table")).expect("16 bits");
            bits += plane.iter().map(|&q| table.bits(q)).sum::<f64>();
        }
    }
    let (contexts, tables) = (encoded.report.codes_bytes as f64, bits / 8.0);
    println!(
        "codes of nebula.png, {side}x{side}, gdn: contexts {contexts} bytes, tables {tables:.0} bytes (without the tables)"
    );
    println!("    contexts take {:.2} of what tables take", contexts / tables);
}

fn main() {
    println!("{:<28} {:>12} {:>14} {:>8}", "coder", "Msymbols/s", "constriction", "ratio");
    for (distribution, cdf, pmf) in distributions() {
        let sum: f64 = pmf.iter().sum();
        let mut rng = Rng::stream(1, 2, 3);
        let symbols: Vec<usize> = (0..SYMBOLS)
            .map(|_| {
                let mut left = f64::from(rng.unit()) * sum;
                let found = pmf.iter().position(|p| {
                    left -= p;
                    left < 0.0
                });
                found.unwrap_or(pmf.len() / 2)
            })
            .collect();
        let budget = Duration::from_millis(300);

        let encode = || {
            let mut encoder = RangeEncoder::default();
            symbols.iter().for_each(|&s| cdf.encode(&mut encoder, s));
            encoder.finish()
        };
        let bytes = encode();
        let mut out = vec![0; SYMBOLS];
        let encoding = best(budget, || drop(black_box(encode())));
        let decoding = best(budget, || {
            let mut decoder = RangeDecoder::new(&bytes);
            out.iter_mut().for_each(|s| *s = cdf.decode(&mut decoder));
        });
        assert_eq!(out, symbols);

        let model = DefaultContiguousCategoricalEntropyModel::from_floating_point_probabilities_fast(&pmf, None)
            .expect("a model");
        let encode = || {
            let mut encoder = DefaultRangeEncoder::new();
            encoder.encode_iid_symbols(symbols.iter().copied(), &model).expect("symbols of the model");
            encoder.into_compressed().expect("memory")
        };
        let words = encode();
        let their_encoding = best(budget, || drop(black_box(encode())));
        let their_decoding = best(budget, || {
            let mut decoder = DefaultRangeDecoder::from_compressed(&words[..]).expect("a stream");
            let decoded = decoder.decode_iid_symbols(SYMBOLS, &model);
            out.iter_mut().zip(decoded).for_each(|(to, s)| *to = s.expect("a symbol"));
        });
        assert_eq!(out, symbols);

        for (what, ours, theirs) in [("encode", encoding, their_encoding), ("decode", decoding, their_decoding)] {
            let rate = |seconds: f64| SYMBOLS as f64 / seconds / 1e6;
            let name = format!("{what}, {distribution}");
            println!("{name:<28} {:>12.1} {:>14.1} {:>8.2}", rate(ours), rate(theirs), theirs / ours);
        }
        println!("{:<28} {:>12} {:>14}", "    bytes", bytes.len(), 4 * words.len());
    }
    contexts_beside_tables();
}
