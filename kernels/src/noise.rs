//! Reproducible test values.

/// `n` values in (-1, 1) that depend on `seed` only.
pub(crate) fn noise(n: usize, seed: usize) -> Vec<f32> {
    let mut state = seed as u64 * 2 + 1;
    let mut next = || {
        state = state.wrapping_mul(6364136223846793005).wrapping_add(1442695040888963407);
        (state >> 40) as f32 / (1 << 23) as f32 - 1.0
    };
    next();
    (0..n).map(|_| next()).collect()
}
