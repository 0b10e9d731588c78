//! A penalty on codes that are not whole.
//!
//! Soft rounding leaves a code between two integers where the picture asks for a part of a step; rounded at the end, it is an
//! error that nothing makes good for. A concave penalty that grows moves it to one of the two while others can still follow
//! (graduated non-convexity, Blake, Zisserman 1987).

use super::math::round;
use crate::vector::Bits;

/// `12 f^2 - 16 |f|^3` and its derivative, `f = q - round(q)`: 0 at integers, 1 halfway between two, flat at both.
pub fn part_scalar(q: f64) -> (f64, f64) {
    let f = q - q.round_ties_even();
    (f * f * (12.0 - 16.0 * f.abs()), 48.0 * f * (0.5 - f.abs()))
}

kernel! {
    /// Adds `height` times the derivative of [`part_scalar`] at each of `q` to `dq`; `|q| < 2^22`.
    pub fn add_part_slope(height: f32, q: &[f32], dq: &mut [f32]) = add_part_slope_lanes;
}

#[inline(always)]
fn add_part_slope_lanes<S: Bits>(s: S, height: f32, q: &[f32], dq: &mut [f32]) {
    let lanes = S::F32_LANES;
    let n = q.len().min(dq.len());
    let end = n / lanes * lanes;
    let (zero, half, factor) = (s.splat(0.0), s.splat(0.5), s.splat(48.0 * height));
    for i in (0..end).step_by(lanes) {
        let v = s.load(&q[i..]);
        let f = v - round(s, v);
        let slope = factor * f * (half - s.max(f, zero - f));
        s.store(s.load(&dq[i..]) + slope, &mut dq[i..]);
    }
    for i in end..n {
        dq[i] += height * part_scalar(q[i].into()).1 as f32;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fast::testing::near;
    use crate::Level;

    #[test]
    fn levels_agree_with_the_scalar_twin() {
        let q: Vec<f32> = (0..67).map(|i| (i * 29 % 67) as f32 * 0.11 - 3.0).collect();
        for n in 0..q.len() {
            let start: Vec<f32> = (0..n).map(|i| i as f32 * 0.1 - 2.0).collect();
            let want: Vec<f32> = (0..n).map(|i| start[i] + 0.7 * part_scalar(q[i].into()).1 as f32).collect();
            for level in Level::available() {
                let mut got = start.clone();
                add_part_slope(level, 0.7, &q[..n], &mut got);
                near(&want, &got, 1e-5);
            }
        }
    }

    #[test]
    fn slope_is_the_derivative() {
        for i in 0..1000 {
            let (q, h) = (i as f64 * 0.0071 - 3.0, 1e-6);
            let numeric = (part_scalar(q + h).0 - part_scalar(q - h).0) / (2.0 * h);
            assert!((numeric - part_scalar(q).1).abs() < 1e-5, "{q}: {numeric} {:?}", part_scalar(q));
        }
        assert_eq!([part_scalar(2.0), part_scalar(-1.5)], [(0.0, 0.0), (1.0, 0.0)]);
    }
}
