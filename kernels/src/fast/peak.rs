//! What the machine can do at best: the yardstick of the benches.

use crate::vector::Simd;

kernel! {
    /// `rounds` rounds of 12 independent fused multiply-adds on whole vectors; returns the number of
    /// multiply-accumulates done, and a value that keeps them from being removed.
    pub fn fma_peak(rounds: usize, x: f32) -> (usize, f32) = chains;
}

#[inline(always)]
fn chains<S: Simd>(s: S, rounds: usize, x: f32) -> (usize, f32) {
    let (a, b) = (s.splat(x), s.splat(1.0 - x));
    let mut sums = [s.splat(x); 12];
    for _ in 0..rounds {
        for sum in &mut sums {
            *sum = s.mul_add(*sum, a, b);
        }
    }
    let mut total = sums[0];
    for sum in &sums[1..] {
        total = total + *sum;
    }
    let mut buffer = [0f32; 16];
    s.store(total, &mut buffer);
    (rounds * 12 * S::F32_LANES, buffer[0])
}
