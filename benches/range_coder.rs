//! The range coder beside `constriction`'s, same symbols, same 16-bit-wide statistics: `cargo bench --bench range_coder`.

mod common;

use common::best;
use constriction::stream::model::DefaultContiguousCategoricalEntropyModel;
use constriction::stream::queue::{DefaultRangeDecoder, DefaultRangeEncoder};
use constriction::stream::{Decode, Encode};
use std::hint::black_box;
use std::time::Duration;
use tilefit::entropy::cdf::Cdf;
use tilefit::entropy::range_coder::{RangeDecoder, RangeEncoder};
use tilefit::fit::rng::Rng;

const SYMBOLS: usize = 1 << 18;

fn main() {
    println!("{:<28} {:>12} {:>14} {:>8}", "coder", "Msymbols/s", "constriction", "ratio");
    for scale in [0.5f64, 4.0, 20.0] {
        let pmf: Vec<f64> = (-60..=60).map(|k: i32| (-f64::from(k.abs()) / scale).exp() + 1e-6).collect();
        let sum: f64 = pmf.iter().sum();
        let cdf = Cdf::from_pmf(&pmf).expect("a table");
        let mut rng = Rng::stream(1, 2, 3);
        let symbols: Vec<usize> = (0..SYMBOLS)
            .map(|_| {
                let mut left = f64::from(rng.unit()) * sum;
                let found = pmf.iter().position(|p| {
                    left -= p;
                    left < 0.0
                });
                found.unwrap_or(60)
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
            let name = format!("{what}, Laplace scale {scale}");
            println!("{name:<28} {:>12.1} {:>14.1} {:>8.2}", rate(ours), rate(theirs), theirs / ours);
        }
        println!("{:<28} {:>12} {:>14}", "    bytes", bytes.len(), 4 * words.len());
    }
}
