//! Weights as integers: one Laplace law a group, its scale in front.

use super::laplace::{Laplace, FRACTION, SCALE_OFFSET};
use super::range_coder::RangeDecoder;
#[cfg(feature = "fit")]
use super::{laplace::costs, range_coder::RangeEncoder};

/// Bits of a scale's index.
const SCALE_BITS: u32 = 5;

/// `b = exp(index/4 - 2)`, at most e^5, in steps that cost less than 0.4 %.
fn law(index: u32) -> Laplace {
    let log_b = (index as i32 * 16) - (2 << FRACTION);
    Laplace::new(0, (log_b + SCALE_OFFSET) as i16)
}

/// The cheapest scale for `values`, and all that they cost in bits.
#[cfg(feature = "fit")]
pub fn best_scale(values: &[i16]) -> (u32, f64) {
    let cost = |index: u32| values.iter().map(|&v| f64::from(law(index).bits(costs(), v))).sum::<f64>();
    let all = (0..1 << SCALE_BITS).map(|index| (index, cost(index) + f64::from(SCALE_BITS)));
    all.min_by(|a, b| a.1.total_cmp(&b.1)).expect("there are scales")
}

#[cfg(feature = "fit")]
pub fn encode_group(encoder: &mut RangeEncoder, values: &[i16]) {
    let (index, _) = best_scale(values);
    encoder.encode_bits(index, SCALE_BITS);
    values.iter().for_each(|&v| law(index).encode(encoder, v));
}

pub fn decode_group(decoder: &mut RangeDecoder, values: &mut [i16]) {
    let law = law(decoder.decode_bits(SCALE_BITS));
    values.iter_mut().for_each(|v| *v = law.decode(decoder));
}

#[cfg(all(test, feature = "fit"))]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn groups_come_back_at_their_price(bits in 0u32..=15, values in prop::collection::vec(any::<i16>(), 0..100)) {
            let values: Vec<i16> = values.iter().map(|v| v >> bits).collect();
            let mut encoder = RangeEncoder::default();
            encode_group(&mut encoder, &values);
            let bytes = encoder.finish();
            let mut back = vec![0; values.len()];
            decode_group(&mut RangeDecoder::new(&bytes), &mut back);
            prop_assert_eq!(&back, &values);
            prop_assert!((bytes.len() as f64 - best_scale(&values).1 / 8.0).abs() < 2.0);
        }
    }
}
