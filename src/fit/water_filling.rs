//! An estimate of rate and distortion at any lambda before the fit: reverse water-filling over the spectrum of the pictures.
//!
//! The coefficients `c` of an orthonormal 16x16 DCT of the picture, in decorrelated colours, count as independent Gaussian
//! sources of variance `c^2` (Cover, Thomas, "Elements of information theory", chapter 10). At water level `t` each has the
//! error `min(c^2, t)` and takes `max(0, log2(c^2 / t)) / 2` bits. A fit at `lambda` reaches about what `t = 2.35 lambda`
//! predicts: on photographs from 0.05 to 1.5 bits a pixel within 0.6 dB and 30 % of the bits. The estimate gives the first
//! lambda for a target, which the fit then corrects.

use super::dct::{self, Dct};
use crate::image::Picture;

/// Side of a block of the DCT.
const SIDE: usize = 16;

/// Water level for each unit of lambda, fitted to the rates and errors of fits of photographs (see above).
const LEVEL: f64 = 2.35;

/// About how many blocks are transformed, spread over all pictures. It bounds the time for large pictures.
const BLOCKS: usize = 4096;

/// The spectrum of pictures: energies of the coefficients of their blocks.
pub struct Spectrum {
    /// Squared coefficients in ascending order.
    energies: Vec<f64>,
    /// Sums of the first energies.
    sums: Vec<f64>,
    /// Samples of a pixel.
    channels: f64,
}

impl Spectrum {
    /// The spectrum of pictures with the same number of channels.
    pub fn new(pictures: &[Picture]) -> Spectrum {
        let dct = Dct::new(SIDE);
        let planes = dct::spread(pictures, SIDE, BLOCKS).flat_map(|(p, left, top)| block(p, left, top));
        let channels = pictures.first().map_or(1, |p| p.format.channels);
        // The final capacity at once: tens of megabytes that would grow by doubling are half of a small fit's memory.
        let mut energies = Vec::with_capacity(dct::spread(pictures, SIDE, BLOCKS).count() * channels * SIDE * SIDE);
        energies.extend(planes.flat_map(|plane| dct.of(&plane)).map(|c| c * c));
        energies.sort_unstable_by(f64::total_cmp);
        let mut sums = Vec::with_capacity(energies.len());
        sums.extend(energies.iter().scan(0.0, |sum, e| {
            *sum += e;
            Some(*sum)
        }));
        Spectrum { sums, energies, channels: channels as f64 }
    }

    /// Mean squared error at `lambda`, samples in `[0, 1]`.
    fn mse(&self, lambda: f64) -> f64 {
        let (level, below) = self.level(lambda);
        let above = (self.energies.len() - below) as f64 * level;
        (above + below.checked_sub(1).map_or(0.0, |i| self.sums[i])) / self.energies.len() as f64
    }

    /// PSNR in dB at `lambda`.
    pub fn psnr(&self, lambda: f64) -> f64 {
        -10.0 * self.mse(lambda).max(1e-12).log10()
    }

    /// Bits a pixel at `lambda`.
    pub fn bpp(&self, lambda: f64) -> f64 {
        let (level, below) = self.level(lambda);
        let bits: f64 = self.energies[below..].iter().map(|e| 0.5 * (e / level).log2()).sum();
        self.channels * bits / self.energies.len() as f64
    }

    /// `bpp + MSE / lambda`, in bits a pixel.
    pub fn cost(&self, lambda: f64) -> f64 {
        self.bpp(lambda) + self.mse(lambda) / lambda
    }

    /// The water level at `lambda`, and the number of coefficients below it.
    fn level(&self, lambda: f64) -> (f64, usize) {
        let level = LEVEL * lambda;
        (level, self.energies.partition_point(|e| *e < level))
    }

    /// The lambda, between 1e-7 and 1, at which `quality`, which falls with lambda, is `wanted`.
    pub fn solve(&self, wanted: f64, quality: impl Fn(&Self, f64) -> f64) -> f64 {
        narrow((1e-7, 1.0), 50, wanted, |lambda| quality(self, lambda)).0
    }
}

/// Narrows `range` of lambda around the one at which a quality that falls with lambda is `wanted`: `halvings` of the
/// range of its logarithm.
pub fn narrow(range: (f64, f64), halvings: u32, wanted: f64, quality: impl Fn(f64) -> f64) -> (f64, f64) {
    let (mut low, mut high) = range;
    for _ in 0..halvings {
        let middle = (low * high).sqrt();
        if quality(middle) > wanted {
            low = middle;
        } else {
            high = middle;
        }
    }
    (low, high)
}

/// The planes of one block in an orthonormal colour space (for RGB: sum, red minus blue, green against both). Beyond the
/// picture its edge is repeated.
fn block(p: &Picture, left: usize, top: usize) -> Vec<Vec<f64>> {
    let sample = |i: usize, c: usize| {
        let (x, y) = ((left + i % SIDE).min(p.width - 1), (top + i / SIDE).min(p.height - 1));
        f64::from(p.samples[(y * p.width + x) * p.format.channels + c]) / f64::from(p.format.peak())
    };
    let plane = |weights: [f64; 3]| -> Vec<f64> {
        let norm = weights.iter().map(|w| w * w).sum::<f64>().sqrt();
        (0..SIDE * SIDE).map(|i| (0..3).map(|c| weights[c] * sample(i, c)).sum::<f64>() / norm).collect()
    };
    if p.format.channels == 3 {
        vec![plane([1.0, 1.0, 1.0]), plane([1.0, 0.0, -1.0]), plane([1.0, -2.0, 1.0])]
    } else {
        (0..p.format.channels).map(|c| (0..SIDE * SIDE).map(|i| sample(i, c)).collect()).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use tilefit_testing::Noise;

    fn noise(width: usize, height: usize, channels: usize) -> Picture {
        let mut noise = Noise::new(1);
        let samples: Vec<u8> = (0..width * height * channels).map(|_| noise.bits() as u8).collect();
        Picture::from_u8(width, height, channels, &samples)
    }

    /// The transform is orthonormal: at a level above all coefficients the error is the energy of the picture.
    #[test]
    fn energy_is_kept() {
        let p = noise(32, 48, 3);
        let energy: f64 = p.samples.iter().map(|s| (*s as f64 / 255.0).powi(2)).sum();
        let spectrum = Spectrum::new(&[p]);
        assert!((spectrum.mse(1e9) * spectrum.energies.len() as f64 / energy - 1.0).abs() < 1e-9);
        assert_eq!(spectrum.bpp(1e9), 0.0);
    }

    #[test]
    fn solves_for_quality_and_size() {
        for channels in [1, 3] {
            let spectrum = Spectrum::new(&[noise(50, 33, channels)]);
            let lambda = spectrum.solve(30.0, Spectrum::psnr);
            assert!((spectrum.psnr(lambda) - 30.0).abs() < 1e-6);
            let lambda = spectrum.solve(0.5, Spectrum::bpp);
            assert!((spectrum.bpp(lambda) - 0.5).abs() < 1e-3);
        }
    }
}
