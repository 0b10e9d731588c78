//! f32 planes to integer samples.

use crate::vector::Simd;

/// `out[i*stride] = clamp(round(peak*x[i]), 0, peak)`, halves up; NaN gives 0.
pub fn to_samples_scalar(x: &[f32], peak: u16, out: &mut [u16], stride: usize) {
    let peak = f32::from(peak);
    for (i, &v) in x.iter().enumerate() {
        let v = v * peak + 0.5;
        let v = if v > 0.0 { v } else { 0.0 };
        let v = if v < peak { v } else { peak };
        out[i * stride] = v as u16;
    }
}

kernel! {
    /// [`to_samples_scalar`] at any level.
    pub fn to_samples(x: &[f32], peak: u16, out: &mut [u16], stride: usize) = to_samples_lanes;
}

#[inline(always)]
fn to_samples_lanes<S: Simd>(s: S, x: &[f32], peak: u16, out: &mut [u16], stride: usize) {
    let lanes = S::F32_LANES;
    let whole = x.len() / lanes * lanes;
    assert!(whole == 0 || (whole - 1) * stride < out.len());
    let mut scaled = [0f32; 16];
    let most = s.splat(f32::from(peak));
    for i in (0..whole).step_by(lanes) {
        let v = s.load(&x[i..]) * most + s.splat(0.5);
        let v = s.min(s.max(v, s.splat(0.0)), most);
        s.store(v, &mut scaled);
        // SAFETY: 0 to 65535; `max` took NaN to 0.
        let samples = scaled.map(|v| unsafe { v.to_int_unchecked::<i32>() });
        for j in 0..lanes {
            // SAFETY: `i + j < whole`, and the assert above.
            unsafe { *out.get_unchecked_mut((i + j) * stride) = samples[j] as u16 };
        }
    }
    let done = (whole * stride).min(out.len());
    to_samples_scalar(&x[whole..], peak, &mut out[done..], stride);
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Level;

    #[test]
    fn levels_agree() {
        let x: Vec<f32> = (0..259).map(|i| (i as f32 - 20.0) / 230.0).chain([f32::NAN, -0.0, 1e30]).collect();
        for (n, peak) in (0..x.len()).flat_map(|n| [(n, 255), (n, 1023), (n, 65535)]) {
            let mut want = vec![7; 3 * n];
            to_samples_scalar(&x[..n], peak, &mut want, 3);
            for level in Level::available() {
                let mut got = vec![7; 3 * n];
                to_samples(level, &x[..n], peak, &mut got, 3);
                assert_eq!(got, want, "{level:?} {n} {peak}");
            }
        }
    }
}
