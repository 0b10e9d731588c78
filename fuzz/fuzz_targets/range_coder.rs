#![no_main]

use libfuzzer_sys::fuzz_target;
use tilefit::entropy::cdf::Cdf;
use tilefit::entropy::range_coder::RangeDecoder;

fuzz_target!(|data: &[u8]| {
    let (head, stream) = data.split_at(data.len().min(16));
    let weights: Vec<u32> = head.iter().map(|&b| u32::from(b)).collect();
    let mut decoder = RangeDecoder::new(stream);
    let table = Cdf::from_weights(&weights);
    for i in 0..4 * stream.len() + 4 {
        match i % 3 {
            0 => assert!(decoder.decode_bits(1 + i as u32 % 16) < 1 << 16),
            1 if decoder.decode_golomb().is_err() => return,
            _ => {
                if let Ok(table) = &table {
                    assert!(table.decode(&mut decoder) < weights.len());
                }
            }
        }
    }
    let _ = decoder.finish();
});
