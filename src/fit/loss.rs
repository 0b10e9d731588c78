//! Distortions, with gradients for a window of a picture: MSE, 1 - SSIM (Wang et al., "Image quality assessment: from error
//! visibility to structural similarity", 2004) and 1 - MS-SSIM (Wang et al., "Multiscale structural similarity for image
//! quality assessment", 2003).

use super::options::Tune;
use crate::image::Picture;
use crate::metrics;
use crate::metrics::ssimulacra2::{self, Original};
use crate::tensor::Shape;
use kernels::fast::ssim::{ms_ssim, ms_ssim_min_side, MS_SSIM_WEIGHTS};
use kernels::fast::Scratch;
use kernels::{Level, Window};

/// How many units of MSE, of samples in `[0, 1]`, one unit of 1 - MS-SSIM counts. With it the same lambda gives files of
/// about the same size under both distortions: with MS-SSIM they have 0.97 to 1.3 times the bytes (kodim04, 15 and 23,
/// effort 1, lambda 0.004).
const MS_SSIM_UNIT: f64 = 0.02;
/// The same for 1 - SSIM, which at equal quality is about three times as large as 1 - MS-SSIM.
const SSIM_UNIT: f64 = 0.007;
/// The share of MSE under SSIM and MS-SSIM. Both see only structure, and are taken of luma alone: without it mean and colour
/// would drift.
const SSIM_MSE: f64 = 0.3;

/// `--tune visual` minimises `0.3 MSE + 1e-4 S^0.8`, where `S` is the sum of errors of SSIMULACRA2: about 2.5 at a score of 70
/// and 15 at 15. With this power both parts fall alike when lambda falls. With this unit the bytes at a lambda are about those of
/// `psnr` for a smooth picture (kodim23), and fewer where texture hides errors (kodim08).
///
/// The part of MSE keeps what the measure does not see, such as fine errors of colour. Parts of 0.2, 0.5 and 1 were compared
/// (kodim08 and 23, effort 1): with 0.5 a score takes 1 and 13 % more bytes than with 0.2, but the PSNR at equal bytes is 0.8 to
/// 1 dB higher and Butteraugli's 3-norm 2 to 3 % lower. 0.3 lies between them.
pub const VISUAL_UNIT: f64 = 1e-4;
/// See [`VISUAL_UNIT`].
pub const VISUAL_POWER: f64 = 0.8;
/// See [`VISUAL_UNIT`].
pub const VISUAL_MSE: f64 = 0.3;

/// The distortion of `--tune visual`, from MSE and the sum of errors of SSIMULACRA2.
pub fn visual(mse: f64, errors: f64) -> f64 {
    VISUAL_MSE * mse + VISUAL_UNIT * errors.powf(VISUAL_POWER)
}

impl Tune {
    /// What decoded pictures are judged by: MSE of samples in `[0, 1]`, [`visual`], or for the structural measures MSE and
    /// `0.02 (1 - MS-SSIM)`. It is MSE if they do not have the other measure.
    pub fn distortion(self, mse: f64, ms_ssim: Option<f64>, ssimulacra2: Option<f64>) -> f64 {
        match self {
            Tune::MsSsim => ms_ssim.map_or(mse, |s| SSIM_MSE * mse + (1.0 - s) * MS_SSIM_UNIT),
            Tune::Visual => ssimulacra2.map_or(mse, |score| visual(mse, ssimulacra2::sum_of(score))),
            _ => mse,
        }
    }
}

/// Planes that are looked at under [`Tune::Visual`]: grey or RGB. Others, such as alpha blended into the picture, are judged by
/// MSE.
pub fn seen(channels: usize) -> usize {
    if channels < 3 {
        1
    } else {
        3
    }
}

/// Judges decoded versions of one picture.
pub struct Judge<'a> {
    picture: &'a Picture,
    /// Of the planes that are [`seen`].
    original: Option<Original>,
    work: ssimulacra2::Work,
}

impl<'a> Judge<'a> {
    /// Under [`Tune::Visual`] by [`visual`], where the picture is large enough, under others by MSE.
    pub fn new(tune: Tune, picture: &'a Picture) -> Self {
        let planes = || picture.channels(0..seen(picture.format.channels)).to_planes();
        let (channels, w, h) = (seen(picture.format.channels), picture.width, picture.height);
        let original =
            (tune == Tune::Visual).then(|| Original::new(Level::best(), &planes(), channels, w, h, true)).flatten();
        Judge { picture, original, work: ssimulacra2::Work::default() }
    }

    /// The distortion of a decoded picture, in units of MSE of samples in `[0, 1]`.
    pub fn distortion(&mut self, decoded: &Picture) -> f64 {
        let (a, b) = (self.picture, decoded);
        let Some(original) = &self.original else { return metrics::mse(a, b) };
        let (seen, channels) = (seen(a.format.channels), a.format.channels);
        let (a_seen, b_seen) = (a.channels(0..seen), b.channels(0..seen));
        let share = |n: usize, mse: f64| mse * n as f64 / channels as f64;
        let errors = original.error(&b_seen.to_planes(), &mut self.work);
        let rest = match channels > seen {
            true => metrics::mse(&a.channels(seen..channels), &b.channels(seen..channels)),
            false => 0.0,
        };
        visual(share(seen, metrics::mse(&a_seen, &b_seen)), errors) + share(channels - seen, rest)
    }
}

/// Working memory of one thread.
#[derive(Debug, Default)]
pub struct Work {
    samples: Vec<f32>,
    gradient: Vec<f32>,
    luma: Vec<f32>,
}

/// Sums over the samples of one window or of several.
#[derive(Clone, Copy, Debug, Default)]
pub struct Distortion {
    /// Squared errors, samples in `[0, 1]`.
    pub squares: f64,
    /// Number of samples.
    pub samples: f64,
    /// The distortion that is minimised, in units of MSE, times `samples`.
    pub cost: f64,
}

impl Distortion {
    /// Adds the sums of another window.
    pub fn add(&mut self, o: &Distortion) {
        self.squares += o.squares;
        self.samples += o.samples;
        self.cost += o.cost;
    }

    /// Mean squared error, samples in `[0, 1]`.
    pub fn mse(&self) -> f64 {
        self.squares / self.samples.max(1.0)
    }
}

/// YCoCg of RGB, the inverse of [`to_rgb`](crate::models::transform::to_rgb).
pub fn from_rgb(r: f32, g: f32, b: f32) -> [f32; 3] {
    [0.25 * (r + b) + 0.5 * g, 0.5 * (r - b), 0.5 * g - 0.25 * (r + b)]
}

/// The distortion between `window` of `planes` (YCoCg or grey, of shape `shape`) and `target`, the RGB or grey samples of
/// that window as planes in `[0, 1]`. Adds `gain` times the gradient of [`Distortion::cost`] by `planes` to `d`.
///
/// A window that is too small for SSIM or MS-SSIM is judged by MSE.
pub fn distortion(
    level: Level,
    tune: Tune,
    shape: Shape,
    planes: &[f32],
    window: &Window,
    target: &[f32],
    gain: f32,
    d: &mut [f32],
    work: &mut Work,
    scratch: &mut Scratch,
) -> Distortion {
    let (h, w) = (window.height, window.width);
    let n = h * w;
    let row = |c: usize, y: usize| {
        let at = (c * shape.height + window.y0 + y) * shape.width + window.x0;
        at..at + w
    };
    work.samples.clear();
    for c in 0..shape.channels {
        (0..h).for_each(|y| work.samples.extend_from_slice(&planes[row(c, y)]));
    }
    if shape.channels == 3 {
        crate::models::transform::to_rgb(&mut work.samples);
    }
    work.gradient.clear();
    work.gradient.resize(shape.channels * n, 0.0);
    let samples = (shape.channels * n) as f64;
    let most = if tune == Tune::Ssim { 1 } else { 5 };
    let scales = (1..=most).rev().find(|&s| h.min(w) >= ms_ssim_min_side(s));
    let mut squares = 0f64;
    for ((y, t), d) in work.samples.iter().zip(target).zip(&mut work.gradient) {
        let e = y - t;
        squares += f64::from(e * e);
        *d = 2.0 * gain * e;
    }
    let mut cost = squares;
    if let (Tune::Ssim | Tune::MsSsim, Some(scales)) = (tune, scales) {
        let sum: f64 = MS_SSIM_WEIGHTS[..scales].iter().sum();
        let weights = MS_SSIM_WEIGHTS.map(|w| w / sum);
        work.gradient.iter_mut().for_each(|g| *g *= SSIM_MSE as f32);
        let unit = if tune == Tune::Ssim { SSIM_UNIT } else { MS_SSIM_UNIT } * samples;
        let scale = -(unit * f64::from(gain)) as f32;
        // Luma of the original, then of the planes, then the gradient by it.
        work.luma.clear();
        let of = |s: &[f32], i: usize| match shape.channels {
            3 => from_rgb(s[i], s[n + i], s[2 * n + i])[0],
            _ => s[i],
        };
        work.luma.extend((0..n).map(|i| of(target, i)));
        work.luma.extend((0..n).map(|i| of(&work.samples, i)));
        work.luma.resize(3 * n, 0.0);
        let (pictures, by_luma) = work.luma.split_at_mut(2 * n);
        let (a, b) = pictures.split_at(n);
        let value = ms_ssim(level, h, w, &weights[..scales], a, b, scale, by_luma, scratch);
        cost = SSIM_MSE * squares + unit * (1.0 - value);
        for y in 0..h {
            d[row(0, y)].iter_mut().zip(&by_luma[y * w..]).for_each(|(d, g)| *d += g);
        }
    }
    if shape.channels == 3 {
        let (r, rest) = work.gradient.split_at(n);
        let (g, b) = rest.split_at(n);
        for y in 0..h {
            let from = y * w;
            for x in 0..w {
                let (r, g, b) = (r[from + x], g[from + x], b[from + x]);
                d[row(0, y).start + x] += r + g + b;
                d[row(1, y).start + x] += r - b;
                d[row(2, y).start + x] += g - r - b;
            }
        }
    } else {
        for (c, gradient) in work.gradient.chunks_exact(n).enumerate() {
            for y in 0..h {
                d[row(c, y)].iter_mut().zip(&gradient[y * w..]).for_each(|(d, g)| *d += g);
            }
        }
    }
    Distortion { squares, samples, cost }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fit::rng::Rng;
    use proptest::prelude::*;

    /// Half of the difference of the finite differences. With a smaller one the rounding errors of MS-SSIM dominate.
    const H: f32 = 1e-2;

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(200))]
        /// Every distortion, through the colour transform, over windows of any size and position.
        #[test]
        fn gradients_are_those_of_the_cost(
            which in 0usize..3, grey: bool, height in 1usize..40, width in 1usize..40,
            (top, left, bottom, right) in (0usize..4, 0usize..4, 0usize..4, 0usize..4), seed: u64,
        ) {
            let tune = [Tune::Psnr, Tune::Ssim, Tune::MsSsim][which];
            let channels = if grey { 1 } else { 3 };
            let mut rng = Rng::stream(seed, 1, 0);
            let shape = Shape::new(channels, top + height + bottom, left + width + right);
            let window = Window { y0: top, x0: left, height, width };
            let target: Vec<f32> = (0..channels * height * width).map(|_| rng.unit()).collect();
            // The target plus little noise, so that the similarity of no scale is near 0, where its power is steep.
            let mut x: Vec<f32> = (0..shape.len()).map(|_| 0.05 * (rng.unit() - 0.5)).collect();
            for i in 0..height * width {
                let t = |c: usize| target[c * height * width + i];
                let planes = if grey { [t(0); 3] } else { from_rgb(t(0), t(1), t(2)) };
                for c in 0..channels {
                    x[(c * shape.height + top + i / width) * shape.width + left + i % width] += planes[c];
                }
            }
            let (mut work, mut scratch) = (Work::default(), Scratch::default());
            let mut run = |x: &[f32], d: &mut [f32]| {
                distortion(Level::best(), tune, shape, x, &window, &target, 2.0, d, &mut work, &mut scratch).cost
            };
            let mut d = vec![0.0; x.len()];
            run(&x, &mut d);
            for k in 0..3 {
                let mut dir: Vec<f32> = x.iter().map(|_| rng.unit() - 0.5).collect();
                if k == 0 {
                    // Along the gradient itself a wrong factor makes the largest difference.
                    let largest = d.iter().fold(1e-9f32, |m, v| m.max(v.abs()));
                    dir.iter_mut().zip(&d).for_each(|(to, v)| *to = v / largest);
                }
                let mut at = |s: f32| {
                    let x: Vec<f32> = x.iter().zip(&dir).map(|(x, d)| x + s * d).collect();
                    run(&x, &mut vec![0.0; x.len()])
                };
                let numeric = (at(H) - at(-H)) / f64::from(H);
                let exact: f64 = d.iter().zip(&dir).map(|(a, b)| f64::from(a * b)).sum();
                let norm = d.iter().map(|v| f64::from(v * v)).sum::<f64>().sqrt();
                let allowed = 0.02 * exact.abs() + 4e-3 * norm + 1e-4;
                prop_assert!((numeric - exact).abs() < allowed, "{tune:?} {shape:?}: {numeric} {exact}");
            }
        }
    }

    #[test]
    fn colour_comes_back() {
        let mut planes = from_rgb(0.3, 0.9, 0.4);
        crate::models::transform::to_rgb(&mut planes);
        assert!(planes.iter().zip([0.3, 0.9, 0.4]).all(|(a, b)| (a - b).abs() < 1e-6));
    }
}
