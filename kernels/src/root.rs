//! The square root where `core` has none.

/// The f32 nearest to the root, as IEEE 754 asks for; NaN below zero.
///
/// Newton in f64 comes within a few 2^-52, and a root of 24 bits is never as near as 2^-50 to the middle of two
/// neighbours.
pub(crate) fn root(a: f32) -> f32 {
    let x = f64::from(a);
    if x == 0.0 || a.is_nan() || a == f32::INFINITY {
        return a;
    }
    if x < 0.0 {
        return f32::NAN;
    }
    // Half the exponent: within 4 %.
    let mut y = f64::from_bits((x.to_bits() >> 1) + 0x1ff7_a3be_a91d_9b1b);
    for _ in 0..4 {
        y = 0.5 * (y + x / y);
    }
    y as f32
}

#[cfg(test)]
mod tests {
    #[test]
    fn roots_are_those_of_the_processor() {
        let check = |bits: u32| {
            let a = f32::from_bits(bits);
            let (got, want) = (super::root(a), a.sqrt());
            assert!(got.to_bits() == want.to_bits() || (got.is_nan() && want.is_nan()), "{a:e}: {got:e}, not {want:e}");
        };
        // All mantissas of an even and an odd exponent, then samples of everything.
        (0x3f80_0000..0x4080_0000).for_each(check);
        (0..=u32::MAX).step_by(9973).for_each(check);
        [0, 1, 2, 0x007f_ffff, 0x7f7f_ffff, 0x7f80_0000, 0x8000_0000, 0xff80_0000].into_iter().for_each(check);
    }
}
