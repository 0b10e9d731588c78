//! Squared error of a picture that is clamped to `[0, 1]`.

use crate::vector::Simd;

/// With `d = clamp(x, 0, 1) - target`: returns the sum of `d^2` and replaces `x` by `scale d` where `0 <= x <= 1`
/// and by 0 elsewhere, the gradient of `scale / 2` times the sum.
pub fn squared_error_scalar(x: &mut [f32], target: &[f32], scale: f32) -> f64 {
    let mut sum = 0.0;
    for (x, t) in x.iter_mut().zip(target) {
        let d = x.clamp(0.0, 1.0) - t;
        sum += (d * d) as f64;
        *x = if (0.0..=1.0).contains(x) { scale * d } else { 0.0 };
    }
    sum
}

kernel! {
    /// [`squared_error_scalar`] at any level.
    pub fn squared_error(x: &mut [f32], target: &[f32], scale: f32) -> f64 = squared_error_lanes;
}

#[inline(always)]
fn squared_error_lanes<S: Simd>(s: S, x: &mut [f32], target: &[f32], scale: f32) -> f64 {
    let n = x.len().min(target.len());
    let whole = n / S::F32_LANES * S::F32_LANES;
    let (zero, one, factor) = (s.splat(0.0), s.splat(1.0), s.splat(scale));
    let mut sum = zero;
    for i in (0..whole).step_by(S::F32_LANES) {
        let v = s.load(&x[i..]);
        let d = s.min(s.max(v, zero), one) - s.load(&target[i..]);
        sum = s.mul_add(d, d, sum);
        let g = s.select_gt(zero, v, zero, factor * d);
        s.store(s.select_gt(v, one, zero, g), &mut x[i..]);
    }
    s.sum(sum) as f64 + squared_error_scalar(&mut x[whole..n], &target[whole..n], scale)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fast::testing::near;
    use crate::Level;

    #[test]
    fn levels_agree_with_the_scalar_twin() {
        let x: Vec<f32> = (0..67).map(|i| (i * 29 % 67) as f32 / 50.0 - 0.2).chain([0.0, 1.0]).collect();
        let target: Vec<f32> = (0..70).map(|i| (i * 13 % 70) as f32 / 69.0).collect();
        for n in 0..x.len() {
            let mut want = x[x.len() - n..].to_vec();
            let sum = squared_error_scalar(&mut want, &target, 0.7);
            for level in Level::available() {
                let mut got = x[x.len() - n..].to_vec();
                near(&[sum as f32], &[squared_error(level, &mut got, &target, 0.7) as f32], 1e-5);
                near(&want, &got, 1e-6);
            }
        }
    }
}
