//! Which bands of a wavelet packet serve pictures best, and how many of them pay for their weights.
//!
//! An 8x8 DCT of decorrelated colour stands for the packet's bands: the same frequencies, at the same rate. A coefficient
//! whose share of the squared error is `e` is worth keeping, at the distortion `t` where one more bit is worth `lambda`,
//! if `e > t`; it then saves `e - t` and costs `log2(e / t) / 2` bits (reverse water-filling).

use crate::fit::dct::{self, Dct};
use crate::fit::loss::from_rgb;
use crate::fit::water_filling::narrow;
use crate::image::Picture;
use crate::models::transform::TransformSpec;
use std::f64::consts::LN_2;

/// Bands along an axis.
pub const SIDE: usize = 8;
const AREA: usize = SIDE * SIDE;

/// Blocks looked at, at most.
const BLOCKS: usize = 8192;

/// What a unit of squared error in Y, Co, Cg is in that of R, G, B.
const SHARES: [f64; 3] = [3.0, 2.0, 3.0];

/// Most channels that are chosen: the time of a step grows with their square.
pub const MOST_CHOSEN: usize = 24;

/// What codes take of the bits of independent coefficients, as measured.
const CODE_BITS: f64 = 0.75;

/// Bits that a weight counts when channels are chosen: as many as in a large picture, for in a small one weights that
/// cost less also take more steps than there are.
const DEAREST: f64 = 3.5;

/// A band: colour component, vertical and horizontal frequency.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Band {
    pub component: usize,
    pub fy: usize,
    pub fx: usize,
}

/// The energies of pictures in each band.
#[derive(Clone, Debug)]
pub struct Bands {
    /// `[blocks][channels * AREA]`
    energies: Vec<f32>,
    count: usize,
    pixels: f64,
    shape: Shaped,
}

/// The transform of a model of so many channels, for a picture of so many.
pub type Shaped = fn(usize, usize) -> TransformSpec;

/// What a choice of bands at some `lambda` should come to.
#[derive(Clone, Debug)]
pub struct Plan {
    /// All bands, from the most to the least useful; the first `n` are kept.
    pub order: Vec<Band>,
    pub n: usize,
    pub mse: f64,
    pub bpp: f64,
}

impl Bands {
    pub fn new(pictures: &[Picture], shape: Shaped) -> Self {
        let channels = pictures[0].format.channels;
        let dct = Dct::new(SIDE);
        let mut energies = Vec::new();
        let mut planes = vec![0f64; channels * AREA];
        for (p, left, top) in dct::spread(pictures, SIDE, BLOCKS) {
            for i in 0..AREA {
                let (x, y) = ((left + i % SIDE).min(p.width - 1), (top + i / SIDE).min(p.height - 1));
                let s = &p.samples[(y * p.width + x) * channels..][..channels];
                let v = |c: usize| f32::from(s[c]) / f32::from(p.format.peak());
                let yuv = (channels == 3).then(|| from_rgb(v(0), v(1), v(2)));
                let plane = |c: usize| yuv.map_or_else(|| v(c), |yuv| yuv[c]);
                (0..channels).for_each(|c| planes[c * AREA + i] = f64::from(plane(c)));
            }
            for (c, plane) in planes.chunks_exact(AREA).enumerate() {
                let share = if channels == 3 { SHARES[c] / 3.0 } else { 1.0 };
                energies.extend(dct.of(plane).iter().map(|v| (share * v * v) as f32));
            }
        }
        let pixels = pictures.iter().map(|p| p.pixels() as f64).sum();
        Bands { energies, count: channels * AREA, pixels, shape }
    }

    fn weights(&self, n: usize) -> f64 {
        (self.shape)(n, self.count / AREA).weights_count() as f64
    }

    /// The bits of `n` channels' weights: the fewer a picture has pixels for each, the more of them become 0. Within a
    /// third of what files of 65 thousand to 16 million pixels have.
    pub fn weight_bits(&self, n: usize) -> f64 {
        let count = self.weights(n);
        0.6 * (1.0 + self.pixels / count).log2() * count
    }

    /// The lambda at which `quality`, which falls with it, is `wanted`.
    pub fn solve(&self, given: Option<usize>, wanted: f64, quality: impl Fn(&Plan) -> f64) -> f64 {
        let (low, high) = narrow((1e-6, 0.3), 16, wanted, |lambda| quality(&self.plan(lambda, given)));
        (low * high).sqrt()
    }

    /// The plan with the least loss at `lambda`: `given` channels, or a multiple of 4 of at most [`MOST_CHOSEN`]. Bands
    /// that are left out cost their gain, and weights their bits.
    pub fn plan(&self, lambda: f64, given: Option<usize>) -> Plan {
        let level = (lambda / (2.0 * LN_2)) as f32;
        // What each band loses when it is left out and when it is kept, and its bits.
        let mut sums = vec![[0f64; 3]; self.count];
        for block in self.energies.chunks_exact(self.count) {
            for (sum, &e) in sums.iter_mut().zip(block) {
                sum[0] += f64::from(e);
                sum[1] += f64::from(e.min(level));
                sum[2] += if e > level { 0.5 * f64::from((e / level).log2()) } else { 0.0 };
            }
        }
        let each = (self.energies.len() / self.count * AREA) as f64;
        sums.iter_mut().flatten().for_each(|s| *s /= each);
        let gain = |i: usize| sums[i][0] - sums[i][1] - lambda * sums[i][2];
        let mut order: Vec<usize> = (0..self.count).collect();
        // The means carry the maps that all others hang on. Of bands of no use, low frequencies come first.
        let means = |i: usize| i.is_multiple_of(AREA);
        let frequency = |i: usize| (i % SIDE).pow(2) + (i % AREA / SIDE).pow(2);
        order.sort_by(|&a, &b| {
            let useful = means(b).cmp(&means(a)).then(gain(b).total_cmp(&gain(a)));
            useful.then(frequency(a).cmp(&frequency(b))).then(a.cmp(&b))
        });
        let weights = |n: usize| DEAREST * self.weights(n);
        let loss = |n: usize| {
            let gains: f64 = order.iter().take(n).map(|&i| gain(i)).sum();
            lambda * weights(n) / self.pixels - gains
        };
        let free = || (4..=MOST_CHOSEN).step_by(4).min_by(|&a, &b| loss(a).total_cmp(&loss(b))).unwrap_or(4);
        let n = given.unwrap_or_else(free);
        let (kept, left) = order.split_at(n.min(self.count));
        let sum = |which: &[usize], k: usize| which.iter().map(|&i| sums[i][k]).sum::<f64>();
        let mse = sum(kept, 1) + sum(left, 0);
        let bpp = CODE_BITS * sum(kept, 2) + self.weight_bits(n) / self.pixels;
        let band = |i: &usize| Band { component: i / AREA, fy: i % AREA / SIDE, fx: i % SIDE };
        Plan { order: order.iter().map(band).collect(), n, mse, bpp }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::models::gdn::spec;
    use std::f64::consts::PI;

    #[test]
    fn waves_find_their_band() {
        let sample = |i: usize| {
            let (x, y) = (i % 64, i / 64);
            let angle = |k: f64, x: usize| (PI * k * ((x % 8) as f64 + 0.5) / 8.0).cos();
            (128.0 + 60.0 * angle(5.0, x) * angle(2.0, y)) as u8
        };
        let p = Picture::from_u8(64, 64, 1, &(0..64 * 64).map(sample).collect::<Vec<u8>>());
        let plan = Bands::new(std::slice::from_ref(&p), spec).plan(1e-3, Some(2));
        assert_eq!(plan.order[1], Band { component: 0, fy: 2, fx: 5 });
        assert!(plan.order.len() == AREA && plan.mse < 1e-3, "{}", plan.mse);
    }

    #[test]
    fn more_channels_for_more_detail() {
        let flat = Picture::from_u8(512, 512, 3, &vec![90; 3 << 18]);
        let busy = Picture {
            samples: (0..3 << 18).map(|i| ((i % 9973) * (i % 9973) / 7 % 251) as u8).map(u16::from).collect(),
            ..flat.clone()
        };
        let plan = |p: &Picture, lambda| Bands::new(std::slice::from_ref(p), spec).plan(lambda, None);
        assert_eq!((plan(&flat, 1e-3).n, plan(&busy, 1e-4).n), (4, MOST_CHOSEN));
        let (coarse, fine) = (plan(&busy, 5e-1), plan(&busy, 1e-3));
        assert!(coarse.n < MOST_CHOSEN && coarse.mse > fine.mse && coarse.bpp < fine.bpp);
        let bands = Bands::new(&[busy], spec);
        let lambda = bands.solve(None, fine.bpp, |p| p.bpp);
        assert!((bands.plan(lambda, None).bpp / fine.bpp - 1.0).abs() < 0.1);
    }
}
