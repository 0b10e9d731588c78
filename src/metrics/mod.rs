//! Quality and size of a decoded picture: PSNR, MS-SSIM, [SSIMULACRA2](ssimulacra2()), bits a pixel.
//!
//! PSNR is over all samples: `10 log10(peak^2 / mean((a - b)^2))`, with the peak `2^depth - 1` of the pictures; infinite
//! for equal pictures.
//!
//! MS-SSIM is the five-scale form of Wang, Simoncelli and Bovik ("Multiscale structural similarity for image quality
//! assessment", 2003), with an 11x11 Gaussian window of sigma 1.5 at positions where it lies inside the picture, on each of
//! R, G and B; the result is the mean of the three. From scale to scale a picture is halved by the mean of 2x2 samples; an
//! odd side first gets a row or column of zeros at its low edge.
//!
//! A grey picture counts as three equal channels, so that it can be compared with an RGB one. A picture with alpha is compared
//! as it looks on black and on white: PSNR and MS-SSIM are the mean of these two (PSNR that of their mean squared errors).
//! SSIMULACRA2 is the lower one of its scores on a dark and on a light background, a tenth and nine tenths of the peak.

pub mod ssimulacra2;

use crate::image::{Picture, PixelFormat};
use kernels::Level;
use rayon::prelude::*;

/// Exponents of the five scales, finest first; from the paper.
const WEIGHTS: [f64; 5] = [0.0448, 0.2856, 0.3001, 0.2363, 0.1333];
/// Side of the window; from the paper.
const TAPS: usize = 11;
/// Pictures with a shorter side have no MS-SSIM.
pub const MS_SSIM_LEAST_SIDE: usize = TAPS;
/// Rows and columns of window positions that are computed at a time. Their four blurred planes, 300 KiB in f64, stay in the
/// second-level cache; any value of this order works.
const BLOCK: (usize, usize) = (64, 128);

/// PSNR in dB over all samples; infinite for equal pictures.
///
/// # Panics
/// If the sizes differ.
pub fn psnr(a: &Picture, b: &Picture) -> f64 {
    mse_to_psnr(mse(a, b))
}

/// `10 log10(1 / mse)` of a mean squared error of samples in `[0, 1]`.
pub fn mse_to_psnr(mse: f64) -> f64 {
    -10.0 * mse.log10()
}

/// Mean squared difference of the samples divided by their peak.
///
/// # Panics
/// If the sizes or the depths differ.
pub fn mse(a: &Picture, b: &Picture) -> f64 {
    same_size(a, b);
    if a.format.alpha || b.format.alpha {
        let on = |background| mse(&composed(a, background), &composed(b, background));
        return (on(0) + on(a.format.peak())) / 2.0;
    }
    let channels = a.format.channels.max(b.format.channels);
    let sum: u64 = (0..a.height)
        .into_par_iter()
        .map(|y| {
            let (ra, rb) = (row(a, y), row(b, y));
            if a.format.channels == b.format.channels {
                squares(ra, rb)
            } else {
                let (one, many) = if a.format.channels < b.format.channels { (ra, rb) } else { (rb, ra) };
                many.chunks_exact(channels).zip(one).flat_map(|(m, o)| m.iter().map(|q| square(*o, *q))).sum()
            }
        })
        .sum();
    sum as f64 / (a.pixels() * channels) as f64 / f64::from(a.format.peak()).powi(2)
}

/// Sum of the squared differences of samples.
pub fn squares(a: &[u16], b: &[u16]) -> u64 {
    a.iter().zip(b).map(|(p, q)| square(*p, *q)).sum()
}

fn square(p: u16, q: u16) -> u64 {
    u64::from(p.abs_diff(q)).pow(2)
}

/// MS-SSIM, at most 1.
///
/// Five scales need sides of at least 161 pixels. A smaller picture has as many scales as its shorter side allows (81: four,
/// 41: three, 21: two, 11: one), with their exponents scaled to the sum of all five; below 11 pixels no window fits and the
/// result is `None`.
///
/// # Panics
/// If the sizes differ.
pub fn ms_ssim(a: &Picture, b: &Picture) -> Option<f64> {
    same_size(a, b);
    if a.format.alpha || b.format.alpha {
        let on = |background| ms_ssim(&composed(a, background), &composed(b, background));
        return Some((on(0)? + on(a.format.peak())?) / 2.0);
    }
    let scales = scales(a.width.min(a.height));
    if scales == 0 {
        return None;
    }
    let channels = a.format.channels.max(b.format.channels);
    let sum: f64 = (0..channels).map(|c| ms_ssim_channel(a, b, c, scales)).sum();
    Some(sum / channels as f64)
}

/// The SSIMULACRA2 score of `b`, whose original is `a`: at most 100.
///
/// `None` for bands that are neither grey nor RGB, and for pictures with a side below [`ssimulacra2::LEAST_SIDE`].
///
/// # Panics
/// If the sizes differ.
pub fn ssimulacra2(a: &Picture, b: &Picture) -> Option<f64> {
    same_size(a, b);
    if a.format.alpha || b.format.alpha {
        let peak = u32::from(a.format.peak());
        let on = |tenths: u32| {
            let background = ((peak * tenths + 5) / 10) as u16;
            ssimulacra2(&composed(a, background), &composed(b, background))
        };
        return Some(on(1)?.min(on(9)?));
    }
    let (original, planes) = compared(a, b)?;
    Some(ssimulacra2::score_of(original.error(&planes, &mut ssimulacra2::Work::default())))
}

/// For each pixel of `b` its part of the errors that SSIMULACRA2 sees, whose original is `a`; `None` where there is no score,
/// and for alpha.
///
/// # Panics
/// If the sizes differ.
pub fn error_map(a: &Picture, b: &Picture) -> Option<Vec<f32>> {
    same_size(a, b);
    let (original, planes) = compared(a, b)?;
    Some(original.error_map(&planes, &mut ssimulacra2::Work::default()))
}

/// The original `a` and the planes of `b`, for [`ssimulacra2`].
fn compared(a: &Picture, b: &Picture) -> Option<(ssimulacra2::Original, Vec<f32>)> {
    if [a, b].iter().any(|p| p.format.alpha || !matches!(p.format.channels, 1 | 3)) {
        return None;
    }
    let channels = a.format.channels.max(b.format.channels);
    let planes = |p: &Picture| match p.format.channels == channels {
        true => p.to_planes(),
        false => p.to_planes().repeat(channels),
    };
    let original = ssimulacra2::Original::new(Level::best(), &planes(a), channels, a.width, a.height, true)?;
    Some((original, planes(b)))
}

/// The picture without alpha, on a background whose samples are all `background`. A picture without alpha is itself.
pub fn composed(p: &Picture, background: u16) -> Picture {
    let (channels, colours, peak) = (p.format.channels, p.format.colours(), u64::from(p.format.peak()));
    let mut samples = Vec::with_capacity(p.pixels() * colours);
    for pixel in p.samples.chunks_exact(channels) {
        let alpha = if p.format.alpha { u64::from(pixel[colours]) } else { peak };
        let on = |s: &u16| (u64::from(*s) * alpha + u64::from(background) * (peak - alpha) + peak / 2) / peak;
        samples.extend(pixel[..colours].iter().map(|s| on(s) as u16));
    }
    Picture { width: p.width, height: p.height, format: PixelFormat::new(colours, p.format.depth), samples }
}

/// Bits a pixel.
pub fn bpp(bytes: u64, pixels: usize) -> f64 {
    8.0 * bytes as f64 / pixels as f64
}

fn same_size(a: &Picture, b: &Picture) {
    assert_eq!((a.width, a.height), (b.width, b.height), "pictures of different sizes");
    assert_eq!(a.format.depth, b.format.depth, "pictures of different depths");
}

fn row(p: &Picture, y: usize) -> &[u16] {
    let n = p.width * p.format.channels;
    &p.samples[y * n..][..n]
}

/// Number of scales at which a window fits into a picture whose shorter side is `side`.
fn scales(side: usize) -> usize {
    std::iter::successors(Some(side), |s| Some(s.div_ceil(2))).take(WEIGHTS.len()).take_while(|s| *s >= TAPS).count()
}

/// The window along one axis, of sum 1.
fn gaussian() -> [f64; TAPS] {
    let mut g = [0f64; TAPS];
    for (i, v) in g.iter_mut().enumerate() {
        *v = (-(i as f64 - 5.0).powi(2) / (2.0 * 1.5 * 1.5)).exp();
    }
    let sum: f64 = g.iter().sum();
    g.map(|v| v / sum)
}

/// One channel at one scale, in units of an 8-bit sample. Those of coarser scales are f32, which is exact for 8 bits: a
/// mean of samples over at most 16x16 pixels has 16 bits.
enum Plane<'a> {
    Samples { picture: &'a Picture, channel: usize },
    Means { width: usize, samples: Vec<f32> },
}

impl Plane<'_> {
    /// Copies `out.len()` samples of row `y` from column `x` on.
    fn read(&self, x: usize, y: usize, out: &mut [f64]) {
        match self {
            Plane::Samples { picture, channel } => {
                let from = row(picture, y)[x * picture.format.channels + channel..].iter();
                let from = from.step_by(picture.format.channels);
                // In units of an 8-bit sample.
                let unit = 255.0 / f64::from(picture.format.peak());
                out.iter_mut().zip(from).for_each(|(o, v)| *o = f64::from(*v) * unit);
            }
            Plane::Means { width, samples } => {
                out.iter_mut().zip(&samples[y * width + x..]).for_each(|(o, v)| *o = *v as f64);
            }
        }
    }

    /// The same channel at the next coarser scale; `width` and `height` are those of this one.
    fn half(&self, width: usize, height: usize) -> Plane<'static> {
        let (w2, h2) = (width.div_ceil(2), height.div_ceil(2));
        let mut samples = vec![0f32; w2 * h2];
        samples.par_chunks_mut(w2).enumerate().for_each_init(
            || vec![0f64; 2 * w2],
            |row, (y, out)| {
                let (px, py) = (width % 2, height % 2);
                let mut sums = vec![0f64; w2];
                for source in [2 * y, 2 * y + 1] {
                    // Row 0 of an odd height is padding.
                    if source < py {
                        continue;
                    }
                    self.read(0, source - py, &mut row[px..px + width]);
                    sums.iter_mut().zip(row.chunks_exact(2)).for_each(|(s, p)| *s += p[0] + p[1]);
                }
                out.iter_mut().zip(sums).for_each(|(o, s)| *o = (s / 4.0) as f32);
            },
        );
        Plane::Means { width: w2, samples }
    }
}

fn ms_ssim_channel(a: &Picture, b: &Picture, c: usize, scales: usize) -> f64 {
    let channel = |p: &Picture| c.min(p.format.channels - 1);
    let mut x = Plane::Samples { picture: a, channel: channel(a) };
    let mut y = Plane::Samples { picture: b, channel: channel(b) };
    let (mut width, mut height) = (a.width, a.height);
    let part = WEIGHTS[..scales].iter().sum::<f64>() / WEIGHTS.iter().sum::<f64>();
    let mut product = 1.0;
    for scale in 0..scales {
        let (ssim, contrast) = ssim_terms(&x, &y, width, height);
        let last = scale + 1 == scales;
        product *= (if last { ssim } else { contrast }).max(0.0).powf(WEIGHTS[scale] / part);
        if !last {
            (x, y) = (x.half(width, height), y.half(width, height));
            (width, height) = (width.div_ceil(2), height.div_ceil(2));
        }
    }
    product
}

/// Means of SSIM and of its contrast-structure factor over all window positions. Blocks are summed in order, so that the
/// result does not depend on the number of threads.
fn ssim_terms(x: &Plane, y: &Plane, width: usize, height: usize) -> (f64, f64) {
    let (w, h) = (width - TAPS + 1, height - TAPS + 1);
    let (rows, columns) = (h.div_ceil(BLOCK.0), w.div_ceil(BLOCK.1));
    let g = gaussian();
    let sums: Vec<(f64, f64)> = (0..rows * columns)
        .into_par_iter()
        .map_init(Scratch::default, |scratch, i| {
            let (y0, x0) = (i / columns * BLOCK.0, i % columns * BLOCK.1);
            scratch.block(x, y, &g, (x0, y0), BLOCK.1.min(w - x0), BLOCK.0.min(h - y0))
        })
        .collect();
    let (s, cs) = sums.iter().fold((0.0, 0.0), |t, v| (t.0 + v.0, t.1 + v.1));
    let n = (w * h) as f64;
    (s / n, cs / n)
}

/// Working memory of a block, for each of x, y, x^2 + y^2 and x y (SSIM has the variances only as a sum).
#[derive(Default)]
struct Scratch {
    /// One row of each.
    rows: [Vec<f64>; 4],
    /// Each, blurred along its rows.
    blurred: [Vec<f64>; 4],
}

impl Scratch {
    /// The sums of SSIM and of its contrast-structure factor over `h` x `w` window positions from `at`, column and row, on.
    fn block(&mut self, x: &Plane, y: &Plane, g: &[f64; TAPS], at: (usize, usize), w: usize, h: usize) -> (f64, f64) {
        let rows = h + TAPS - 1;
        self.rows.iter_mut().for_each(|row| row.resize(w + TAPS - 1, 0.0));
        self.blurred.iter_mut().for_each(|b| b.resize(rows * w, 0.0));
        for r in 0..rows {
            let [row_x, row_y, squares, product] = &mut self.rows;
            x.read(at.0, at.1 + r, row_x);
            y.read(at.0, at.1 + r, row_y);
            for i in 0..row_x.len() {
                squares[i] = row_x[i] * row_x[i] + row_y[i] * row_y[i];
                product[i] = row_x[i] * row_y[i];
            }
            for (row, out) in self.rows.iter().zip(&mut self.blurred) {
                let out = &mut out[r * w..][..w];
                for (i, o) in out.iter_mut().enumerate() {
                    *o = symmetric(g, |t| row[i + t]);
                }
            }
        }
        let (c1, c2) = ((0.01f64 * 255.0).powi(2), (0.03f64 * 255.0).powi(2));
        let (mut sum_s, mut sum_cs) = (0.0, 0.0);
        for r in 0..h {
            let columns = self.blurred.each_ref().map(|b| &b[r * w..][..TAPS * w]);
            for i in 0..w {
                let [mx, my, squares, product] = columns.map(|b| symmetric(g, |t| b[t * w + i]));
                let cs = (2.0 * (product - mx * my) + c2) / (squares - mx * mx - my * my + c2);
                sum_s += (2.0 * mx * my + c1) / (mx * mx + my * my + c1) * cs;
                sum_cs += cs;
            }
        }
        (sum_s, sum_cs)
    }
}

/// The sum of `g[t] v(t)` over the window, with the values of equal taps added first.
#[inline(always)]
fn symmetric(g: &[f64; TAPS], v: impl Fn(usize) -> f64) -> f64 {
    (0..TAPS / 2).fold(g[TAPS / 2] * v(TAPS / 2), |sum, t| sum + g[t] * (v(t) + v(TAPS - 1 - t)))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn picture(width: usize, height: usize, channels: usize, f: impl Fn(usize) -> u16) -> Picture {
        let samples = (0..width * height * channels).map(f).collect();
        Picture { width, height, format: PixelFormat::new(channels, 8), samples }
    }

    #[test]
    fn equal_pictures() {
        let p = picture(30, 20, 3, |i| (i * 37 % 251) as u16);
        assert_eq!(psnr(&p, &p), f64::INFINITY);
        assert!((ms_ssim(&p, &p).unwrap() - 1.0).abs() < 1e-12);
    }

    #[test]
    fn psnr_of_a_constant_difference() {
        let (a, b) = (picture(5, 7, 3, |_| 100), picture(5, 7, 3, |_| 110));
        assert!((psnr(&a, &b) - 10.0 * (255.0f64 * 255.0 / 100.0).log10()).abs() < 1e-12);
    }

    #[test]
    fn grey_counts_as_three_equal_channels() {
        let g = picture(33, 21, 1, |i| (i * i % 253) as u16);
        let other = picture(33, 21, 3, |i| (i * 7 % 255) as u16);
        let rgb = picture(33, 21, 3, |i| g.samples[i / 3]);
        assert_eq!(psnr(&g, &other), psnr(&rgb, &other));
        assert_eq!(psnr(&other, &g), psnr(&rgb, &other));
        assert_eq!(ms_ssim(&g, &other), ms_ssim(&rgb, &other));
    }

    #[test]
    fn alpha_is_compared_on_black_and_on_white() {
        let format = PixelFormat::new(2, 8).with_alpha();
        let picture = |pixels: [u16; 4]| Picture { width: 2, height: 1, format, samples: pixels.to_vec() };
        let original = picture([100, 255, 9, 0]);
        // Colours that alpha hides do not count.
        assert_eq!(psnr(&original, &picture([100, 255, 200, 0])), f64::INFINITY);
        // Half of an error is seen through half of alpha; without alpha the pixel is the background.
        let (half, more) = (picture([100, 51, 9, 0]), picture([200, 51, 9, 0]));
        assert!((mse(&half, &more) - (20.0f64 / 255.0).powi(2) / 2.0).abs() < 1e-9);
        let gone = (100f64.powi(2) + 155f64.powi(2)) / 4.0 / 255f64.powi(2);
        assert!((mse(&original, &picture([100, 0, 9, 0])) - gone).abs() < 1e-9);
    }

    /// The score is the lower one of those on a dark and on a light background.
    #[test]
    fn the_worse_background_counts() {
        let opaque = |v: u16| picture(32, 32, 1, |i| if i % 5 == 0 { v } else { 25 });
        let with_alpha = |v: u16| {
            let samples = opaque(v).samples.iter().flat_map(|s| [*s, 128]).collect();
            Picture { format: PixelFormat::new(2, 8).with_alpha(), samples, ..opaque(v) }
        };
        let (a, b) = (with_alpha(20), with_alpha(60));
        let on = |background| ssimulacra2(&composed(&a, background), &composed(&b, background)).unwrap();
        assert_ne!(on(26), on(230));
        assert_eq!(ssimulacra2(&a, &b), Some(on(26).min(on(230))));
    }

    #[test]
    fn scales_follow_the_shorter_side() {
        let sides = [10, 11, 20, 21, 40, 41, 80, 81, 160, 161, 5000];
        assert_eq!(sides.map(scales), [0, 1, 1, 2, 2, 3, 3, 4, 4, 5, 5]);
        let p = picture(300, 10, 1, |_| 0);
        assert_eq!(ms_ssim(&p, &p), None);
    }
}
