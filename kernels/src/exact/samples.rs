//! f32 planes to 8-bit samples.

use crate::vector::Simd;

/// `out[i*stride] = clamp(round(255*x[i]), 0, 255)`, halves up; NaN gives 0.
pub fn to_samples_scalar(x: &[f32], out: &mut [u8], stride: usize) {
    for (i, &v) in x.iter().enumerate() {
        let v = v * 255.0 + 0.5;
        let v = if v > 0.0 { v } else { 0.0 };
        let v = if v < 255.0 { v } else { 255.0 };
        out[i * stride] = v as u8;
    }
}

kernel! {
    /// [`to_samples_scalar`] at any level.
    pub fn to_samples(x: &[f32], out: &mut [u8], stride: usize) = to_samples_lanes;
}

#[inline(always)]
fn to_samples_lanes<S: Simd>(s: S, x: &[f32], out: &mut [u8], stride: usize) {
    let lanes = S::F32_LANES;
    let whole = x.len() / lanes * lanes;
    assert!(whole == 0 || (whole - 1) * stride < out.len());
    let mut scaled = [0f32; 16];
    for i in (0..whole).step_by(lanes) {
        let v = s.load(&x[i..]) * s.splat(255.0) + s.splat(0.5);
        let v = s.min(s.max(v, s.splat(0.0)), s.splat(255.0));
        s.store(v, &mut scaled);
        // SAFETY: 0 to 255; `max` took NaN to 0.
        let samples = scaled.map(|v| unsafe { v.to_int_unchecked::<i32>() });
        for j in 0..lanes {
            // SAFETY: `i + j < whole`, and the assert above.
            unsafe { *out.get_unchecked_mut((i + j) * stride) = samples[j] as u8 };
        }
    }
    let done = (whole * stride).min(out.len());
    to_samples_scalar(&x[whole..], &mut out[done..], stride);
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Level;

    #[test]
    fn levels_agree() {
        let x: Vec<f32> = (0..259).map(|i| (i as f32 - 20.0) / 230.0).chain([f32::NAN, -0.0, 1e30]).collect();
        for n in 0..x.len() {
            let mut want = vec![7; 3 * n];
            to_samples_scalar(&x[..n], &mut want, 3);
            for level in Level::available() {
                let mut got = vec![7; 3 * n];
                to_samples(level, &x[..n], &mut got, 3);
                assert_eq!(got, want, "{level:?} {n}");
            }
        }
    }
}
