//! Rows of SSIMULACRA2 (version 2.1; Sneyers, Cloudinary, 2023): colour, blur, error maps, and their gradients.
//!
//! A colour has three channels, those of XYB scaled to about `[0, 1]`: `x` (red against green), `y` (luma) and `b` (blue against
//! luma). `a` is the original, `b` the distorted picture. Loops are plain, so that every level computes the same bits; the
//! instructions only make them faster.

/// Taps of the blur on each side of its centre.
pub const REACH: usize = 4;
/// The blur, centre first: the recursive Gaussian of sigma 1.5 that the measure uses (Charalampidis, "Recursive Implementation
/// of the Gaussian Filter Using Truncated Cosine Functions", 2016). Its response to an impulse is a sum of three cosines, which
/// are all zero from the fifth sample on: `sum_k beta_k cos(k pi n / 10)` for `k` = 1, 3, 5.
pub const TAPS: [f32; REACH + 1] = [0.264_621_1, 0.212_928_6, 0.109_335_37, 0.036_011_115, 0.009_414_367];

/// `C2` of the SSIM map.
const C2: f32 = 9e-4;

/// Linear light to the responses of the eye's cones; each row has the sum 1.
const CONES: [[f32; 3]; 3] = [[0.3, 0.622, 0.078], [0.23, 0.692, 0.078], [0.243_422_69, 0.204_767_45, 0.551_809_86]];
/// Added to the responses, and its cube root.
const BIAS: f32 = 0.003_793_073_3;
const BIAS_ROOT: f32 = 0.155_954_2;
/// The scale of `x`, and what is added to `x`, `y` and `b`.
const X_SCALE: f32 = 14.0;
const OFFSETS: [f32; 3] = [0.42, 0.01, 0.55];

/// Below this a sample of sRGB is proportional to light.
const SRGB_LINEAR: f32 = 0.04045;
/// `s^2.8` for `s` from 0.3 to 1, by interpolation at Chebyshev points: within 7e-7 of the value.
const POWER: [f32; 8] = [
    4.202_954_5e-4,
    -8.222_315e-3,
    9.708_512_6e-2,
    1.102_994_7,
    -0.305_481_52,
    0.162_180_89,
    -5.893_188_7e-2,
    9.954_69e-3,
];

/// `((v + 0.055) / 1.055)^1.4`.
#[inline(always)]
fn power(v: f32) -> (f32, f32) {
    let u = (v + 0.055) * (1.0 / 1.055);
    let s = u.max(0.0).sqrt();
    let p = POWER.iter().rev().fold(0.0, |sum, c| sum * s + c);
    (u, p)
}

kernel! {
    /// Linear light of sRGB samples that are clamped to `[0, 1]`.
    pub fn to_linear(samples: &[f32], out: &mut [f32]) = |_, samples, out| to_linear_rows(samples, out);
}

#[inline(always)]
fn to_linear_rows(samples: &[f32], out: &mut [f32]) {
    for (o, v) in out.iter_mut().zip(samples) {
        let v = v.clamp(0.0, 1.0);
        let (u, p) = power(v);
        *o = if v > SRGB_LINEAR { u * p } else { v * (1.0 / 12.92) };
    }
}

kernel! {
    /// Adds to `out` `scale` times the gradient by the samples, from that by linear light: zero where samples were clamped.
    pub fn add_linear_gradient(samples: &[f32], gradient: &[f32], scale: f32, out: &mut [f32])
        = |_, samples, gradient, scale, out| add_linear_gradient_rows(samples, gradient, scale, out);
}

#[inline(always)]
fn add_linear_gradient_rows(samples: &[f32], gradient: &[f32], scale: f32, out: &mut [f32]) {
    for ((o, v), g) in out.iter_mut().zip(samples).zip(gradient) {
        let (_, p) = power(v.clamp(0.0, 1.0));
        let slope = if *v > SRGB_LINEAR { p * (2.4 / 1.055) } else { 1.0 / 12.92 };
        *o += if (0.0..=1.0).contains(v) { scale * slope * g } else { 0.0 };
    }
}

/// The cube root of a positive number, within 1e-7 of it: a first guess by the exponent, then two of Halley's steps, each of
/// which triples the number of correct digits.
#[inline(always)]
fn cube_root(x: f32) -> f32 {
    let mut y = f32::from_bits(x.to_bits() / 3 + 0x2a51_19f2);
    for _ in 0..2 {
        let cube = y * y * y;
        y *= (cube + 2.0 * x) / (2.0 * cube + x);
    }
    y
}

/// The compressed response of one kind of cones.
#[inline(always)]
fn cone(c: [f32; 3], rgb: [f32; 3]) -> f32 {
    cube_root(c[0] * rgb[0] + c[1] * rgb[1] + c[2] * rgb[2] + BIAS) - BIAS_ROOT
}

kernel! {
    /// The three channels of linear red, green and blue.
    pub fn to_xyb(rgb: [&[f32]; 3], out: [&mut [f32]; 3]) = |_, rgb, out| to_xyb_rows(rgb, out);
}

#[inline(always)]
fn to_xyb_rows(rgb: [&[f32]; 3], out: [&mut [f32]; 3]) {
    let [x, y, b] = out;
    let n = x.len();
    let (rgb, y, b) = (rgb.map(|p| &p[..n]), &mut y[..n], &mut b[..n]);
    for i in 0..n {
        // Closures given to `map` would be compiled without the instructions of the level.
        let pixel = [rgb[0][i], rgb[1][i], rgb[2][i]];
        let (l, m, s) = (cone(CONES[0], pixel), cone(CONES[1], pixel), cone(CONES[2], pixel));
        let luma = 0.5 * (l + m);
        x[i] = 0.5 * X_SCALE * (l - m) + OFFSETS[0];
        y[i] = luma + OFFSETS[1];
        b[i] = s - luma + OFFSETS[2];
    }
}

kernel! {
    /// The gradient by linear red, green and blue from that by the three channels, whose values are `xyb`.
    pub fn xyb_gradient(xyb: [&[f32]; 3], gradient: [&[f32]; 3], out: [&mut [f32]; 3])
        = |_, xyb, gradient, out| xyb_gradient_rows(xyb, gradient, out);
}

#[inline(always)]
fn xyb_gradient_rows(xyb: [&[f32]; 3], gradient: [&[f32]; 3], out: [&mut [f32]; 3]) {
    let [r, g, b] = out;
    let n = r.len();
    let (xyb, gradient, g, b) = (xyb.map(|p| &p[..n]), gradient.map(|p| &p[..n]), &mut g[..n], &mut b[..n]);
    for i in 0..n {
        let x = (xyb[0][i] - OFFSETS[0]) * (1.0 / X_SCALE);
        let y = xyb[1][i] - OFFSETS[1];
        let s = xyb[2][i] - OFFSETS[2] + y;
        let roots = [y + x + BIAS_ROOT, y - x + BIAS_ROOT, s + BIAS_ROOT];
        let (dx, dy, db) = (gradient[0][i], gradient[1][i], gradient[2][i]);
        let (by_x, by_y) = (0.5 * X_SCALE * dx, 0.5 * (dy - db));
        let slopes = [by_y + by_x, by_y - by_x, db];
        let l = slopes[0] / (3.0 * roots[0] * roots[0]);
        let m = slopes[1] / (3.0 * roots[1] * roots[1]);
        let s = slopes[2] / (3.0 * roots[2] * roots[2]);
        r[i] = CONES[0][0] * l + CONES[1][0] * m + CONES[2][0] * s;
        g[i] = CONES[0][1] * l + CONES[1][1] * m + CONES[2][1] * s;
        b[i] = CONES[0][2] * l + CONES[1][2] * m + CONES[2][2] * s;
    }
}

kernel! {
    /// Blurs `rows` rows of `width`. `image` has [`REACH`] more rows and columns on each side, zeros outside of the picture, and
    /// `between` is working memory of `rows + 2 REACH` rows of `width`. The blur is its own adjoint.
    pub fn blur(width: usize, rows: usize, image: &[f32], between: &mut [f32], out: &mut [f32])
        = |_, width, rows, image, between, out| blur_rows(width, rows, image, between, out);
}

#[inline(always)]
fn blur_rows(width: usize, rows: usize, image: &[f32], between: &mut [f32], out: &mut [f32]) {
    let pitch = width + 2 * REACH;
    for y in 0..rows + 2 * REACH {
        let row = &image[y * pitch..][..pitch];
        let to = &mut between[y * width..][..width];
        let shifted: [&[f32]; 2 * REACH + 1] = std::array::from_fn(|t| &row[t..][..width]);
        weighted(&shifted, to);
    }
    for y in 0..rows {
        let shifted: [&[f32]; 2 * REACH + 1] = std::array::from_fn(|t| &between[(y + t) * width..][..width]);
        weighted(&shifted, &mut out[y * width..][..width]);
    }
}

#[inline(always)]
fn weighted(v: &[&[f32]; 2 * REACH + 1], out: &mut [f32]) {
    let n = out.len();
    let [a, b, c, d, e, f, g, h, k] = v.map(|s| &s[..n]);
    for i in 0..n {
        out[i] = TAPS[0] * e[i]
            + TAPS[1] * (d[i] + f[i])
            + TAPS[2] * (c[i] + g[i])
            + TAPS[3] * (b[i] + h[i])
            + TAPS[4] * (a[i] + k[i]);
    }
}

/// Rows of one channel of the original, all of one length.
#[derive(Clone, Copy)]
pub struct Original<'a> {
    /// The channel.
    pub value: &'a [f32],
    /// Its blur.
    pub mean: &'a [f32],
    /// The blur of its square minus the square of its blur.
    pub variance: &'a [f32],
    /// `1 / (1 + |value - mean|)`.
    pub flatness: &'a [f32],
}

/// Rows of one channel of the distorted picture.
#[derive(Clone, Copy)]
pub struct Distorted<'a> {
    /// The channel.
    pub value: &'a [f32],
    /// Its blur.
    pub mean: &'a [f32],
    /// The blur of its square.
    pub square: &'a [f32],
    /// The blur of its product with the original.
    pub product: &'a [f32],
}

/// Three error maps: SSIM, ringing (more contrast than the original), blur (less contrast).
pub const MAPS: usize = 3;

/// Sums of one row are kept in this many parts, in a fixed order.
const PARTS: usize = 16;

kernel! {
    /// Sums of each map and of its fourth power over a row.
    pub fn errors(a: Original<'_>, b: Distorted<'_>) -> [[f64; 2]; MAPS] = |_, a, b| errors_row(a, b);
}

#[inline(always)]
fn errors_row(a: Original<'_>, b: Distorted<'_>) -> [[f64; 2]; MAPS] {
    let n = b.value.len();
    let mut sums = [[[0f32; PARTS]; 2]; MAPS];
    let planes = [a.mean, a.variance, a.flatness, b.value, b.mean, b.square, b.product].map(|p| &p[..n]);
    let whole = n / PARTS * PARTS;
    for at in (0..whole).step_by(PARTS) {
        let chunk = |p: &'_ [f32]| -> [f32; PARTS] { p[at..at + PARTS].try_into().expect("its length") };
        let [p, q, r, s, t, u, v] = planes;
        let (p, q, r, s, t, u, v) = (chunk(p), chunk(q), chunk(r), chunk(s), chunk(t), chunk(u), chunk(v));
        for i in 0..PARTS {
            add_errors([p[i], q[i], r[i], s[i], t[i], u[i], v[i]], &mut sums, i);
        }
    }
    for i in whole..n {
        add_errors(planes.map(|p| p[i]), &mut sums, i - whole);
    }
    let mut total = [[0f64; 2]; MAPS];
    for (total, sums) in total.iter_mut().zip(sums) {
        for (t, parts) in total.iter_mut().zip(sums) {
            *t = parts.iter().map(|p| f64::from(*p)).sum();
        }
    }
    total
}

/// Adds the maps of one pixel, and their fourth powers, to part `i` of the sums.
#[inline(always)]
fn add_errors(pixel: [f32; 7], sums: &mut [[[f32; PARTS]; 2]; MAPS], i: usize) {
    let [mean_a, variance, flatness, value, mean, square, product] = pixel;
    let (light, cross, both) = ssim_parts(mean_a, variance, mean, square, product);
    let d = (1.0 - light * cross / both).max(0.0);
    let e = (1.0 + (value - mean).abs()) * flatness - 1.0;
    let maps = [d, e.max(0.0), (-e).max(0.0)];
    for k in 0..MAPS {
        let v = maps[k];
        sums[k][0][i] += v;
        sums[k][1][i] += v * v * (v * v);
    }
}

/// The factors of SSIM: that of the means, and numerator and denominator of that of contrast and structure.
#[inline(always)]
fn ssim_parts(mean_a: f32, variance_a: f32, mean: f32, square: f32, product: f32) -> (f32, f32, f32) {
    let step = mean_a - mean;
    let light = 1.0 - step * step;
    let cross = 2.0 * (product - mean_a * mean) + C2;
    let both = variance_a + (square - mean * mean) + C2;
    (light, cross, both)
}

/// Where [`slopes`] writes the gradient of a row.
pub struct Slopes<'a> {
    /// By the blur.
    pub mean: &'a mut [f32],
    /// By the blur of the square.
    pub square: &'a mut [f32],
    /// By the blur of the product.
    pub product: &'a mut [f32],
    /// By the value itself.
    pub value: &'a mut [f32],
}

kernel! {
    /// The gradient of `sum over maps of weights[map][0] v + weights[map][1] v^4 / 4` over a row.
    pub fn slopes(a: Original<'_>, b: Distorted<'_>, weights: [[f32; 2]; MAPS], out: Slopes<'_>)
        = |_, a, b, weights, out| slopes_row(a, b, weights, out);
}

#[inline(always)]
fn slopes_row(a: Original<'_>, b: Distorted<'_>, weights: [[f32; 2]; MAPS], out: Slopes<'_>) {
    let n = out.mean.len();
    let (mean_a, variance, flatness) = (&a.mean[..n], &a.variance[..n], &a.flatness[..n]);
    let (value, mean, square, product) = (&b.value[..n], &b.mean[..n], &b.square[..n], &b.product[..n]);
    let (to_mean, to_square) = (&mut out.mean[..n], &mut out.square[..n]);
    let (to_product, to_value) = (&mut out.product[..n], &mut out.value[..n]);
    for i in 0..n {
        let (light, cross, both) = ssim_parts(mean_a[i], variance[i], mean[i], square[i], product[i]);
        let over = 1.0 / both;
        let ratio = cross * over;
        let d = 1.0 - light * ratio;
        let by_d = if d > 0.0 { weights[0][0] + weights[0][1] * d * d * d } else { 0.0 };
        let by_cross = -light * over;
        let by_both = light * ratio * over;
        let by_mean = -2.0 * (ratio * (mean_a[i] - mean[i]) + by_cross * mean_a[i] + by_both * mean[i]);
        let edge = value[i] - mean[i];
        let e = (1.0 + edge.abs()) * flatness[i] - 1.0;
        let rings = weights[1][0] + weights[1][1] * e * e * e;
        let blurs = weights[2][1] * e * e * e - weights[2][0];
        let by_edge = (if e > 0.0 { rings } else { blurs }) * flatness[i];
        let by_edge = if edge > 0.0 { by_edge } else { -by_edge };
        to_mean[i] = by_d * by_mean - by_edge;
        to_square[i] = by_d * by_both;
        to_product[i] = 2.0 * by_d * by_cross;
        to_value[i] = by_edge;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fast::testing::near;
    use crate::Level;

    fn samples(n: usize, factor: usize) -> Vec<f32> {
        (0..n).map(|i| (i * factor % n) as f32 / (n - 1) as f32).collect()
    }

    /// The definition in f64.
    fn xyb_scalar(rgb: [f64; 3]) -> [f64; 3] {
        let light = rgb.map(|v| if v > 0.04045 { ((v + 0.055) / 1.055).powf(2.4) } else { v / 12.92 });
        let root = |c: [f32; 3]| {
            let response = c.iter().zip(light).map(|(c, v)| f64::from(*c) * v).sum::<f64>() + f64::from(BIAS);
            response.cbrt() - f64::from(BIAS).cbrt()
        };
        let [l, m, s] = CONES.map(root);
        [7.0 * (l - m) + 0.42, (l + m) / 2.0 + 0.01, s - (l + m) / 2.0 + 0.55]
    }

    #[test]
    fn colours_are_those_of_the_definition() {
        let n = 1021;
        let rgb = [samples(n, 1), samples(n, 7), samples(n, 31)];
        for level in Level::available() {
            let mut light = rgb.clone();
            light.iter_mut().zip(&rgb).for_each(|(l, v)| to_linear(level, v, l));
            let mut xyb = rgb.clone();
            let [x, y, b] = &mut xyb;
            to_xyb(level, light.each_ref().map(|p| &p[..]), [x, y, b]);
            for i in 0..n {
                let want = xyb_scalar([0, 1, 2].map(|c: usize| f64::from(rgb[c][i])));
                let got = [0, 1, 2].map(|c: usize| f64::from(xyb[c][i]));
                assert!(want.iter().zip(got).all(|(w, g)| (w - g).abs() < 1e-5), "{i}: {want:?}, {got:?}");
            }
        }
    }

    #[test]
    fn colour_gradients_are_those_of_the_definition() {
        let (rgb, slope, h) = ([0.7, 0.2, 0.5], [0.3, -1.0, 0.8], 1e-5);
        let value = |v: [f64; 3]| xyb_scalar(v).iter().zip(slope).map(|(x, s)| x * s).sum::<f64>();
        for level in Level::available() {
            let samples = rgb.map(|v| [v as f32]);
            let (mut light, mut xyb, mut by_light) = ([[0f32]; 3], [[0f32]; 3], [[0f32]; 3]);
            (0..3).for_each(|c| to_linear(level, &samples[c], &mut light[c]));
            to_xyb(level, light.each_ref().map(|p| &p[..]), xyb.each_mut().map(|p| &mut p[..]));
            let slopes = slope.map(|s| [s as f32]);
            let [xyb, slopes] = [&xyb, &slopes].map(|planes| planes.each_ref().map(|p| &p[..]));
            xyb_gradient(level, xyb, slopes, by_light.each_mut().map(|p| &mut p[..]));
            for c in 0..3 {
                let at = |h: f64| value(std::array::from_fn(|k| rgb[k] + if k == c { h } else { 0.0 }));
                let mut got = [0.0];
                add_linear_gradient(level, &samples[c], &by_light[c], 1.0, &mut got);
                near(&[((at(h) - at(-h)) / (2.0 * h)) as f32], &got, 1e-3);
            }
        }
    }

    /// The blur is the product of [`TAPS`] of sum 1, with zeros outside, at every level.
    #[test]
    fn blurs_are_sums_of_taps() {
        assert!((TAPS[0] + 2.0 * TAPS[1..].iter().sum::<f32>() - 1.0).abs() < 1e-6);
        let (width, rows) = (37, 5);
        let (pitch, lines) = (width + 2 * REACH, rows + 2 * REACH);
        let image = samples(pitch * lines, 17);
        let tap = |t: usize| TAPS[t.abs_diff(REACH)];
        let at = |i: usize| {
            let (y, x) = (i / width, i % width);
            let taps = (0..9).flat_map(|u| (0..9).map(move |v| (u, v)));
            taps.map(|(u, v)| tap(u) * tap(v) * image[(y + u) * pitch + x + v]).sum::<f32>()
        };
        let want: Vec<f32> = (0..rows * width).map(at).collect();
        for level in Level::available() {
            let (mut between, mut got) = (vec![0.0; lines * width], vec![0.0; rows * width]);
            blur(level, width, rows, &image, &mut between, &mut got);
            near(&want, &got, 1e-5);
        }
    }
}
