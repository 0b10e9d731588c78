#![no_main]

use libfuzzer_sys::fuzz_target;
use tilefit::models::{read_model, GDN, PYRAMID};

fuzz_target!(|data: &[u8]| {
    let Some((&first, rest)) = data.split_first() else { return };
    let (family, channels) = (if first & 1 == 0 { GDN } else { PYRAMID }, if first & 2 == 0 { 1 } else { 3 });
    let length = usize::from(first >> 2).min(rest.len());
    let (description, weights) = rest.split_at(length);
    let _ = read_model(family, channels, description, weights);
});
