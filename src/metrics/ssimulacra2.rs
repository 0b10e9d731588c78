//! SSIMULACRA2, version 2.1 (Sneyers, Cloudinary, 2023): how different two pictures look, and the gradient of that.
//!
//! Both pictures are halved five times in linear light. At each of the six scales they are compared in XYB, channel by channel,
//! by three maps: SSIM without the brightness term's denominator, ringing (more contrast than the original) and blur (less).
//! The mean of each map and its 4-norm are added with weights that were fitted to opinions of people; a polynomial and a power
//! turn the sum into a score: 100 for equal pictures, 90 visually lossless, 70 high, 50 medium, 30 low quality; it has no lower
//! bound. Samples are those of sRGB. A grey picture counts as RGB.
//!
//! The order of sums does not depend on the number of threads.

use kernels::fast::ssimulacra2::{self as rows, Distorted, Slopes, MAPS, REACH};
use kernels::Level;
use rayon::prelude::*;

/// Most scales.
const SCALES: usize = 6;
/// Pictures with a shorter side have no score. A scale is also the last one if its shorter side is below this.
pub const LEAST_SIDE: usize = 8;

/// The weights of the measure, those of a picture of six scales: for `x`, `y` and `b`, for each scale, for mean and 4-norm, of
/// SSIM, ringing and blur. With fewer scales the list is read in the same order without gaps, as the reference does.
#[rustfmt::skip]
const WEIGHTS: [f64; 3 * SCALES * 2 * MAPS] = [
    0.0, 0.0007376606707406586, 0.0, 0.0, 0.0007793481682867309, 0.0,
    0.0, 0.0004371155730107379, 0.0, 1.1041726426657346, 0.00066284834129271, 0.00015231632783718752,
    0.0, 0.0016406437456599754, 0.0, 1.8422455520539298, 11.441172603757666, 0.0,
    0.0007989109436015163, 0.000176816438078653, 0.0, 1.8787594979546387, 10.94906990605142, 0.0,
    0.0007289346991508072, 0.9677937080626833, 0.0, 0.00014003424285435884, 0.9981766977854967, 0.00031949755934435053,
    0.0004550992113792063, 0.0, 0.0, 0.0013648766163243398, 0.0, 0.0,
    0.0, 0.0, 0.0, 7.466890328078848, 0.0, 17.445833984131262,
    0.0006235601634041466, 0.0, 0.0, 6.683678146179332, 0.00037724407979611296, 1.027889937768264,
    225.20515300849274, 0.0, 0.0, 19.213238186143016, 0.0011401524586618361, 0.001237755635509985,
    176.39317598450694, 0.0, 0.0, 24.43300999870476, 0.28520802612117757, 0.0004485436923833408,
    0.0, 0.0, 0.0, 34.77906344483772, 44.835625328877896, 0.0,
    0.0, 0.0, 0.0, 0.0, 0.0, 0.0,
    0.0, 0.0008680556573291698, 0.0, 0.0, 0.0, 0.0,
    0.0, 0.0005313191874358747, 0.0, 0.00016533814161379112, 0.0, 0.0,
    0.0, 0.0, 0.0, 0.0004179171803251336, 0.0017290828234722833, 0.0,
    0.0020827005846636437, 0.0, 0.0, 8.826982764996862, 23.19243343998926, 0.0,
    95.1080498811086, 0.9863978034400682, 0.9834382792465353, 0.0012286405048278493, 171.2667255897307, 0.9807858872435379,
    0.0, 0.0, 0.0, 0.0005130064588990679, 0.0, 0.00010854057858411537,
];

/// Weights below this are left out of the gradient: planes that have no larger one take two thirds of the time, and together
/// move the score by less than 0.01.
const NEGLIGIBLE: f64 = 0.01;

/// The score of a weighted sum of errors.
pub fn score_of(sum: f64) -> f64 {
    let s = 0.956_238_261_683_484_4 * sum;
    let s = ((6.248_496_625_763_138e-5 * s - 0.020_884_521_182_843_837) * s + 2.326_765_642_916_932) * s;
    if s > 0.0 {
        100.0 - 10.0 * s.powf(0.627_633_646_783_138_7)
    } else {
        100.0
    }
}

/// The weighted sum of errors with this score: the inverse of [`score_of`], which falls strictly.
pub fn sum_of(score: f64) -> f64 {
    let (mut low, mut high) = (0.0, 1e4);
    for _ in 0..60 {
        let middle = (low + high) / 2.0;
        if score_of(middle) > score {
            low = middle;
        } else {
            high = middle;
        }
    }
    high
}

/// Rows that are blurred at a time. Their planes, of some 150 KiB, stay in the second-level cache; any value of this order works.
const STRIP: usize = 32;
/// Most parts of a plane that are computed at the same time; each has working memory for one strip.
const PARTS: usize = 8;

/// What the measure needs of one channel of the original at one scale.
struct Plane {
    value: Vec<f32>,
    mean: Vec<f32>,
    variance: Vec<f32>,
    flatness: Vec<f32>,
    /// Of mean and 4-norm of each map.
    weights: [[f64; 2]; MAPS],
}

struct Scale {
    width: usize,
    height: usize,
    /// `None` if the channel has no weight at this scale.
    planes: [Option<Plane>; 3],
}

/// The original that pictures are compared with.
pub struct Original {
    level: Level,
    channels: usize,
    scales: Vec<Scale>,
}

/// Working memory of a comparison.
#[derive(Default)]
pub struct Work {
    scales: Vec<ScaleWork>,
    strips: Vec<Strip>,
}

#[derive(Default)]
struct ScaleWork {
    /// Linear light; later the gradient by it.
    linear: [Vec<f32>; 3],
    xyb: [Vec<f32>; 3],
    /// For each channel the blurs of the picture, of its square and of its product with the original.
    blurs: [[Vec<f32>; 3]; 3],
    /// By the channels.
    gradient: [Vec<f32>; 3],
}

/// Working memory for one strip.
#[derive(Default)]
struct Strip {
    padded: [Vec<f32>; 3],
    between: Vec<f32>,
    direct: Vec<f32>,
    blurred: [Vec<f32>; 3],
    /// Of the maps, for each strip of the part.
    sums: Vec<[[f64; 2]; MAPS]>,
}

impl Original {
    /// Prepares an original of `channels` (1 or 3) planes `[height][width]` of sRGB samples in `[0, 1]`. The measure is exact with
    /// `all`; without it, for descents, it leaves out the planes that hardly count.
    ///
    /// `None` if a side is shorter than [`LEAST_SIDE`].
    ///
    /// # Panics
    /// If the number of channels or of samples is another one.
    pub fn new(
        level: Level,
        planes: &[f32],
        channels: usize,
        width: usize,
        height: usize,
        all: bool,
    ) -> Option<Original> {
        assert!(matches!(channels, 1 | 3) && planes.len() == channels * width * height, "grey or RGB planes");
        let halved = |&(w, h): &(usize, usize)| (w.min(h) >= LEAST_SIDE).then(|| (w.div_ceil(2), h.div_ceil(2)));
        // A scale is compared if the one before it was large enough.
        let sizes: Vec<_> = std::iter::successors(halved(&(2 * width, 2 * height)), halved).take(SCALES).collect();
        if width.min(height) < LEAST_SIDE {
            return None;
        }
        let count = sizes.len();
        let empty = |(width, height)| Scale { width, height, planes: [None, None, None] };
        let mut original = Original { level, channels, scales: sizes.into_iter().map(empty).collect() };
        let mut work = Work::default();
        original.convert(planes, &mut work);
        work.scales.iter_mut().for_each(|scale| scale.linear = Default::default());
        let Work { scales, strips } = &mut work;
        for (k, (scale, work)) in original.scales.iter_mut().zip(scales).enumerate() {
            for c in 0..3 {
                let weight = |n: usize, map: usize| WEIGHTS[((c * count + k) * 2 + n) * MAPS + map];
                let weights: [[f64; 2]; MAPS] = std::array::from_fn(|map| [weight(0, map), weight(1, map)]);
                if !all && weights.iter().flatten().all(|w| *w < NEGLIGIBLE) {
                    continue;
                }
                let value = std::mem::take(&mut work.xyb[c]);
                let (w, h) = (scale.width, scale.height);
                blurs(level, (w, h), &value, &value, &mut work.blurs[c], strips);
                let [mean, square, _] = std::mem::take(&mut work.blurs[c]);
                let variance = square.iter().zip(&mean).map(|(s, m)| s - m * m).collect();
                let flatness = value.iter().zip(&mean).map(|(v, m)| 1.0 / (1.0 + (v - m).abs())).collect();
                scale.planes[c] = Some(Plane { value, mean, variance, flatness, weights });
            }
        }
        Some(original)
    }

    /// Samples of the picture.
    pub fn samples(&self) -> usize {
        self.channels * self.scales[0].width * self.scales[0].height
    }

    /// The weighted sum of errors of a picture of the same shape: [`score_of`] makes the score of it.
    pub fn error(&self, planes: &[f32], work: &mut Work) -> f64 {
        self.forward(planes, work, false).1
    }

    /// As [`Self::error`]. Calls `scale` with the sum, and adds that many times its gradient by the samples to `gradient`, which
    /// is 0 where a sample is outside of `[0, 1]`.
    pub fn error_gradient(
        &self,
        planes: &[f32],
        scale: impl FnOnce(f64) -> f32,
        work: &mut Work,
        gradient: &mut [f32],
    ) -> f64 {
        let (norms, sum) = self.forward(planes, work, true);
        let factor = scale(sum);
        let (level, Work { scales: works, strips }) = (self.level, work);
        for ((scale, work), norms) in self.scales.iter().zip(works.iter_mut()).zip(norms) {
            let n = scale.width * scale.height;
            for (c, plane) in scale.planes.iter().enumerate() {
                // Stays zero where there is no plane.
                work.gradient[c].resize(n, 0.0);
                let Some(plane) = plane else { continue };
                let weights = std::array::from_fn(|map| {
                    let [mean, fourth] = plane.weights[map];
                    // The gradient of the 4-norm `(sum v^4 / n)^(1/4)` is `v^3 / (n norm^3)`.
                    let norm = norms[c][map][1].max(1e-12);
                    [(mean / n as f64) as f32, (fourth / (n as f64 * norm.powi(3))) as f32]
                });
                let (value, blurs, out) = (&work.xyb[c], &work.blurs[c], &mut work.gradient[c]);
                backward(level, (scale.width, scale.height), plane, value, blurs, weights, out, strips);
            }
            let length = part_rows(scale.height) * scale.width;
            let [r, g, b] = &mut work.linear;
            let (xyb, slopes) = (&work.xyb, &work.gradient);
            let parts = r.par_chunks_mut(length).zip(g.par_chunks_mut(length)).zip(b.par_chunks_mut(length));
            parts.enumerate().for_each(|(i, ((r, g), b))| {
                let at = i * length..(i * length + r.len());
                let [xyb, slopes] = [xyb, slopes].map(|planes| planes.each_ref().map(|p| &p[at.clone()]));
                rows::xyb_gradient(level, xyb, slopes, [r, g, b]);
            });
        }
        for k in (1..self.scales.len()).rev() {
            let (finer, coarser) = works.split_at_mut(k);
            let (fine, coarse) = (&self.scales[k - 1], &self.scales[k]);
            let pairs = finer[k - 1].linear.par_iter_mut().zip(&coarser[0].linear);
            pairs.for_each(|(to, from)| {
                to.par_chunks_mut(fine.width).enumerate().for_each(|(y, to)| {
                    // The last pixel of an odd side counts twice in its mean.
                    let twice = |at: usize, end: usize| if at + 1 == end && end % 2 == 1 { 2.0 } else { 1.0 };
                    let from = &from[y / 2 * coarse.width..][..coarse.width];
                    let weight = 0.25 * twice(y, fine.height);
                    for (pair, g) in to.chunks_mut(2).zip(from) {
                        let weight = if pair.len() == 1 { 2.0 * weight } else { weight };
                        pair.iter_mut().for_each(|p| *p += weight * g);
                    }
                });
            });
        }
        let first = &self.scales[0];
        let (n, length) = (first.width * first.height, part_rows(first.height) * first.width);
        let linear = &works[0].linear;
        gradient.par_chunks_mut(n).zip(planes.par_chunks(n)).enumerate().for_each(|(c, (to, samples))| {
            to.par_chunks_mut(length).zip(samples.par_chunks(length)).enumerate().for_each(|(i, (to, samples))| {
                let add = |k: usize, to: &mut [f32]| {
                    let by_light = &linear[k][i * length..][..samples.len()];
                    rows::add_linear_gradient(level, samples, by_light, factor, to);
                };
                if self.channels == 3 {
                    add(c, to);
                } else {
                    (0..3).for_each(|k| add(k, to));
                }
            });
        });
        sum
    }

    /// Where the errors are: for each pixel its part of [`Self::error`], whose mean over the picture is that sum. A coarse scale
    /// gives the same to all pixels that one of its pixels covers.
    pub fn error_map(&self, planes: &[f32], work: &mut Work) -> Vec<f32> {
        let (norms, _) = self.forward(planes, work, true);
        let (width, height) = (self.scales[0].width, self.scales[0].height);
        let mut map = vec![0.0; width * height];
        for (k, ((scale, work), norms)) in self.scales.iter().zip(&work.scales).zip(norms).enumerate() {
            let mut coarse = vec![0.0; scale.width * scale.height];
            for (c, plane) in scale.planes.iter().enumerate() {
                let Some(plane) = plane else { continue };
                coarse.par_iter_mut().enumerate().for_each(|(i, out)| {
                    let at = i..i + 1;
                    let pixel = distorted(&work.xyb[c], &work.blurs[c], at.clone());
                    let maps = rows::errors(self.level, plane.rows(at), pixel);
                    for (n, [value, fourth]) in maps.into_iter().enumerate() {
                        // A 4-norm is shared by the fourth powers.
                        let norm = norms[c][n][1];
                        let share = if norm > 0.0 { fourth / norm.powi(3) } else { 0.0 };
                        *out += plane.weights[n][0] * value + plane.weights[n][1] * share;
                    }
                });
            }
            // The last row or column of an odd side covers less at full size.
            let total: f64 = coarse.iter().sum::<f64>() / coarse.len() as f64;
            let at = |i: usize| coarse[((i / width) >> k) * scale.width + ((i % width) >> k)];
            let seen: f64 = (0..map.len()).map(at).sum::<f64>() / map.len() as f64;
            let factor = if seen > 0.0 { total / seen } else { 0.0 };
            map.iter_mut().enumerate().for_each(|(i, m)| *m += (at(i) * factor) as f32);
        }
        map
    }

    /// Means and 4-norms of the maps for each scale and channel, and their weighted sum. Without `keep` the working memory that only
    /// gradients and maps need is freed: a third of all.
    fn forward(&self, planes: &[f32], work: &mut Work, keep: bool) -> ([[[[f64; 2]; MAPS]; 3]; SCALES], f64) {
        self.convert(planes, work);
        if !keep {
            work.scales.iter_mut().for_each(|scale| scale.linear = Default::default());
        }
        let Work { scales: works, strips } = work;
        let (mut norms, mut sum) = ([[[[0.0; 2]; MAPS]; 3]; SCALES], 0.0);
        for (k, (scale, work)) in self.scales.iter().zip(works).enumerate() {
            let (size, n) = ((scale.width, scale.height), (scale.width * scale.height) as f64);
            for (c, plane) in scale.planes.iter().enumerate() {
                let Some(plane) = plane else { continue };
                let (value, blurred) = (&work.xyb[c], &mut work.blurs[c]);
                blurs(self.level, size, value, &plane.value, blurred, strips);
                let sums = errors(self.level, size, plane, value, blurred, strips);
                if !keep {
                    *blurred = Default::default();
                }
                for (map, sums) in sums.iter().enumerate() {
                    let both = [sums[0] / n, (sums[1] / n).sqrt().sqrt()];
                    sum += plane.weights[map].iter().zip(both).map(|(w, v)| w * v).sum::<f64>();
                    norms[k][c][map] = both;
                }
            }
        }
        (norms, sum)
    }

    /// Computes linear light and XYB at all scales.
    fn convert(&self, planes: &[f32], work: &mut Work) {
        let level = self.level;
        work.scales.resize_with(self.scales.len(), ScaleWork::default);
        work.strips.resize_with(PARTS, Strip::default);
        for (k, scale) in self.scales.iter().enumerate() {
            let n = scale.width * scale.height;
            let length = part_rows(scale.height) * scale.width;
            let (before, now) = work.scales.split_at_mut(k);
            let ScaleWork { linear, xyb, .. } = &mut now[0];
            linear.par_iter_mut().enumerate().for_each(|(c, out)| {
                out.resize(n, 0.0);
                match before.last() {
                    None => {
                        let samples = &planes[c % self.channels * n..][..n];
                        let parts = out.par_chunks_mut(length).zip(samples.par_chunks(length));
                        parts.for_each(|(out, samples)| rows::to_linear(level, samples, out));
                    }
                    Some(finer) => {
                        let size = (self.scales[k - 1].width, self.scales[k - 1].height);
                        let rows = out.par_chunks_mut(scale.width).enumerate();
                        rows.for_each(|(y, out)| halve_row(&finer.linear[c], size, y, out));
                    }
                }
            });
            xyb.iter_mut().for_each(|p| p.resize(n, 0.0));
            let [x, y, b] = xyb;
            let parts = x.par_chunks_mut(length).zip(y.par_chunks_mut(length)).zip(b.par_chunks_mut(length));
            parts.enumerate().for_each(|(i, ((x, y), b))| {
                rows::to_xyb(level, linear.each_ref().map(|p| &p[i * length..][..x.len()]), [x, y, b]);
            });
        }
    }
}

/// Row `y` of the means of 2x2 pixels; beyond an odd side its last pixel counts twice.
fn halve_row(fine: &[f32], (width, height): (usize, usize), y: usize, out: &mut [f32]) {
    let row = |y: usize| &fine[y.min(height - 1) * width..][..width];
    let (a, b) = (row(2 * y), row(2 * y + 1));
    for ((o, a), b) in out.iter_mut().zip(a.chunks(2)).zip(b.chunks(2)) {
        let last = a.len() - 1;
        *o = 0.25 * (a[0] + a[last] + (b[0] + b[last]));
    }
}

/// Rows of a part: whole strips.
fn part_rows(height: usize) -> usize {
    height.div_ceil(PARTS).next_multiple_of(STRIP)
}

/// Runs `f` on the working memory of each part, the part's rows of `out` and the number of the first row.
fn each_part<const N: usize>(
    (width, height): (usize, usize),
    out: [&mut [f32]; N],
    strips: &mut [Strip],
    f: impl Fn(usize, &mut Strip, [&mut [f32]; N]) + Sync,
) {
    let rows = part_rows(height);
    let mut rest = out;
    rayon::scope(|scope| {
        for (i, strip) in strips.iter_mut().take(height.div_ceil(rows)).enumerate() {
            let n = rows.min(height - i * rows) * width;
            let parts = rest.each_mut().map(|r| {
                let (part, after) = std::mem::take(r).split_at_mut(n);
                *r = after;
                part
            });
            let f = &f;
            scope.spawn(move |_| f(i * rows, strip, parts));
        }
    });
}

impl Strip {
    fn resize(&mut self, width: usize) {
        let rows = STRIP + 2 * REACH;
        self.padded.iter_mut().for_each(|p| p.resize(rows * (width + 2 * REACH), 0.0));
        self.between.resize(rows * width, 0.0);
        self.direct.resize(rows * width, 0.0);
        self.blurred.iter_mut().for_each(|b| b.resize(STRIP * width, 0.0));
    }

    /// Calls `fill` for each row of the strip of `count` rows from `first` on, and of [`REACH`] rows around it, with the row's
    /// index, the place of the row in the three padded planes and in `direct`. Rows and columns outside of the picture become
    /// zeros.
    fn fill(
        &mut self,
        (width, height): (usize, usize),
        first: usize,
        count: usize,
        mut fill: impl FnMut(usize, [&mut [f32]; 3], &mut [f32]),
    ) {
        self.resize(width);
        let pitch = width + 2 * REACH;
        for k in 0..count + 2 * REACH {
            let mut rows = self.padded.each_mut().map(|p| &mut p[k * pitch..][..pitch]);
            match (first + k).checked_sub(REACH).filter(|y| *y < height) {
                None => rows.iter_mut().for_each(|r| r.fill(0.0)),
                Some(y) => {
                    rows.iter_mut().for_each(|r| r[..REACH].fill(0.0));
                    rows.iter_mut().for_each(|r| r[REACH + width..].fill(0.0));
                    fill(y, rows.map(|r| &mut r[REACH..][..width]), &mut self.direct[k * width..][..width]);
                }
            }
        }
    }
}

/// The blurs of `b`, of its square and of its product with `a`.
fn blurs(level: Level, size: (usize, usize), b: &[f32], a: &[f32], out: &mut [Vec<f32>; 3], strips: &mut [Strip]) {
    let (width, height) = size;
    out.iter_mut().for_each(|o| o.resize(width * height, 0.0));
    each_part(size, out.each_mut().map(|o| &mut o[..]), strips, |start, strip, mut out| {
        let rows = out[0].len() / width;
        for first in (0..rows).step_by(STRIP) {
            let count = STRIP.min(rows - first);
            strip.fill(size, start + first, count, |y, [value, square, product], _| {
                let (a, b) = (&a[y * width..][..width], &b[y * width..][..width]);
                for x in 0..width {
                    (value[x], square[x], product[x]) = (b[x], b[x] * b[x], a[x] * b[x]);
                }
            });
            for (padded, out) in strip.padded.iter().zip(&mut out) {
                rows::blur(level, width, count, padded, &mut strip.between, &mut out[first * width..][..count * width]);
            }
        }
    });
}

/// Sums of the maps and of their fourth powers.
fn errors(
    level: Level,
    size: (usize, usize),
    plane: &Plane,
    value: &[f32],
    blurs: &[Vec<f32>; 3],
    strips: &mut [Strip],
) -> [[f64; 2]; MAPS] {
    let (width, height) = size;
    each_part(size, [], strips, |start, strip, []| {
        strip.sums.clear();
        for y in start..(start + part_rows(height)).min(height) {
            if (y - start) % STRIP == 0 {
                strip.sums.push(Default::default());
            }
            let at = y * width..(y + 1) * width;
            let row = rows::errors(level, plane.rows(at.clone()), distorted(value, blurs, at));
            let sums = strip.sums.last_mut().expect("pushed");
            sums.iter_mut().flatten().zip(row.iter().flatten()).for_each(|(s, v)| *s += v);
        }
    });
    let mut total = [[0.0; 2]; MAPS];
    for sums in strips.iter().take(height.div_ceil(part_rows(height))).flat_map(|s| &s.sums) {
        total.iter_mut().flatten().zip(sums.iter().flatten()).for_each(|(t, v)| *t += v);
    }
    total
}

impl Plane {
    fn rows(&self, at: std::ops::Range<usize>) -> rows::Original<'_> {
        rows::Original {
            value: &self.value[at.clone()],
            mean: &self.mean[at.clone()],
            variance: &self.variance[at.clone()],
            flatness: &self.flatness[at],
        }
    }
}

fn distorted<'a>(value: &'a [f32], blurs: &'a [Vec<f32>; 3], at: std::ops::Range<usize>) -> Distorted<'a> {
    let [mean, square, product] = blurs.each_ref().map(|b| &b[at.clone()]);
    Distorted { value: &value[at], mean, square, product }
}

/// The gradient of the weighted maps by a channel.
fn backward(
    level: Level,
    size: (usize, usize),
    plane: &Plane,
    value: &[f32],
    blurs: &[Vec<f32>; 3],
    weights: [[f32; 2]; MAPS],
    out: &mut [f32],
    strips: &mut [Strip],
) {
    let width = size.0;
    each_part(size, [out], strips, |start, strip, [out]| {
        let rows = out.len() / width;
        for first in (0..rows).step_by(STRIP) {
            let count = STRIP.min(rows - first);
            strip.fill(size, start + first, count, |y, [mean, square, product], value_slope| {
                let at = y * width..(y + 1) * width;
                let slopes = Slopes { mean, square, product, value: value_slope };
                rows::slopes(level, plane.rows(at.clone()), distorted(value, blurs, at), weights, slopes);
            });
            let Strip { padded, between, direct, blurred, .. } = strip;
            for (padded, blurred) in padded.iter().zip(&mut *blurred) {
                rows::blur(level, width, count, padded, between, &mut blurred[..count * width]);
            }
            let at = (start + first) * width;
            let out = &mut out[first * width..][..count * width];
            let (a, b) = (&plane.value[at..][..out.len()], &value[at..][..out.len()]);
            let direct = &direct[REACH * width..][..out.len()];
            let [mean, square, product] = blurred.each_ref().map(|p| &p[..out.len()]);
            for (i, o) in out.iter_mut().enumerate() {
                *o = direct[i] + mean[i] + 2.0 * b[i] * square[i] + a[i] * product[i];
            }
        }
    });
}

#[cfg(test)]
mod tests {
    use super::*;
    use tilefit_testing::Noise;

    /// The gradient agrees with finite differences along itself and along random directions, for grey and RGB, odd sides,
    /// several strips and fewer scales. Samples keep away from 0 and 1, where clamping bends the error.
    #[test]
    fn gradients_are_those_of_the_error() {
        for (channels, width, height) in [(3, 61, 83), (1, 70, 40), (3, 23, 9)] {
            let mut noise = Noise::new(3);
            let mut wave = |i: usize| {
                let (x, y) = ((i % width) as f64, (i / width) as f64);
                0.5 + 0.2 * (x / 5.0).sin() * (y / 7.0).cos() + 0.1 * noise.signed()
            };
            let a: Vec<f32> = (0..channels * width * height).map(|i| wave(i) as f32).collect();
            let mut noise = Noise::new(5);
            let b: Vec<f32> = a.iter().map(|v| v + 0.1 * noise.signed() as f32).collect();
            let original = Original::new(Level::best(), &a, channels, width, height, true).unwrap();
            let mut work = Work::default();
            let mut gradient = vec![0.0; b.len()];
            let sum = original.error_gradient(&b, |_| 3.0, &mut work, &mut gradient);
            assert_eq!(sum, original.error(&b, &mut work));
            assert!((sum_of(score_of(sum)) - sum).abs() < 1e-9 * sum.max(1.0));
            let norm = gradient.iter().map(|g| f64::from(*g).powi(2)).sum::<f64>().sqrt();
            for k in 0..3 {
                let scaled = |g: &f32| (f64::from(*g) / norm) as f32;
                let direction: Vec<f32> = match k {
                    0 => gradient.iter().map(scaled).collect(),
                    _ => gradient.iter().map(|g| 0.5 * scaled(g) + 0.02 * noise.signed() as f32).collect(),
                };
                // With a smaller one the rounding of samples dominates.
                const H: f32 = 0.02;
                let mut at = |h: f32| {
                    let moved: Vec<f32> = b.iter().zip(&direction).map(|(v, d)| v + h * d).collect();
                    original.error(&moved, &mut work)
                };
                let numeric = 3.0 * (at(H) - at(-H)) / (2.0 * f64::from(H));
                let exact: f64 = gradient.iter().zip(&direction).map(|(g, d)| f64::from(*g) * f64::from(*d)).sum();
                assert!((numeric - exact).abs() < 0.01 * norm, "{numeric}, {exact} by the gradient of norm {norm}");
            }
        }
    }

    /// The map's mean is the error, and errors are where the picture was changed.
    #[test]
    fn the_map_is_of_the_error() {
        for (channels, width, height) in [(3, 61, 83), (1, 64, 40)] {
            let mut noise = Noise::new(6);
            let a: Vec<f32> = (0..channels * width * height).map(|_| 0.5 + 0.1 * noise.signed() as f32).collect();
            let left = |i: usize| i % width < width / 4;
            let b: Vec<f32> = a.iter().enumerate().map(|(i, v)| if left(i) { 0.9 - v } else { *v }).collect();
            let original = Original::new(Level::best(), &a, channels, width, height, true).unwrap();
            let mut work = Work::default();
            let sum = original.error(&b, &mut work);
            let map = original.error_map(&b, &mut work);
            let total = |part: &dyn Fn(usize) -> bool| -> f64 {
                (0..map.len()).filter(|i| part(*i)).map(|i| f64::from(map[i])).sum::<f64>() / map.len() as f64
            };
            assert!((total(&|_| true) / sum - 1.0).abs() < 1e-4, "{} of {sum}", total(&|_| true));
            assert!(total(&|i| i % width < width / 2) > 0.9 * sum);
        }
    }

    /// Neither the number of threads nor the level changes a bit of the error.
    #[test]
    fn the_error_is_the_same_everywhere() {
        let (width, height) = (150, 130);
        let mut noise = Noise::new(9);
        let mut planes = || (0..3 * width * height).map(|_| noise.unit() as f32).collect::<Vec<f32>>();
        let (a, b) = (planes(), planes());
        let error = |level, threads| {
            let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build().unwrap();
            pool.install(|| {
                let original = Original::new(level, &a, 3, width, height, true).unwrap();
                original.error(&b, &mut Work::default())
            })
        };
        let expected = error(Level::SCALAR, 1);
        for level in Level::available() {
            assert_eq!([error(level, 1), error(level, 3)], [expected; 2], "{level:?}");
        }
    }

    /// Without the planes of small weight the error is nearly the same.
    #[test]
    fn negligible_planes_are_negligible() {
        let (width, height) = (96, 80);
        let mut noise = Noise::new(11);
        let a: Vec<f32> =
            (0..3 * width * height).map(|i| (0.5 + 0.3 * ((i % width) as f32 / 9.0).sin()).fract()).collect();
        let b: Vec<f32> = a.iter().map(|v| v + 0.03 * noise.signed() as f32).collect();
        let scores = [true, false].map(|all| {
            let original = Original::new(Level::best(), &a, 3, width, height, all).unwrap();
            score_of(original.error(&b, &mut Work::default()))
        });
        assert!(scores[0] != scores[1] && (scores[0] - scores[1]).abs() < 0.01, "{scores:?}");
    }
}
