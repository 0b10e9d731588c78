//! Comparison within a tolerance, for the tests of this contract.

/// Every value of `got` is within `tolerance * (1 + |want|)`.
pub fn near(want: &[f32], got: &[f32], tolerance: f32) {
    assert_eq!(want.len(), got.len());
    for (i, (w, g)) in want.iter().zip(got).enumerate() {
        assert!((w - g).abs() <= tolerance * (1.0 + w.abs()), "value {i}: {g} instead of {w}");
    }
}
