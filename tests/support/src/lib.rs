//! Repeatable noise for tests and benchmarks. A crate of its own, for unit tests of one crate cannot use those of another.
#![forbid(unsafe_code)]

/// A linear congruential generator (Knuth's MMIX) of which the upper 31 bits are used. Equal seeds give equal numbers, on
/// every machine and for ever: golden files are made of them.
#[derive(Clone, Debug)]
pub struct Noise(u64);

impl Noise {
    /// The sequence of `seed`.
    pub const fn new(seed: u64) -> Self {
        Noise(seed)
    }

    /// 31 random bits.
    pub fn bits(&mut self) -> u32 {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (self.0 >> 33) as u32
    }

    /// In `0 .. n`, for `n` far below `2^31`.
    pub fn below(&mut self, n: usize) -> usize {
        self.bits() as usize % n
    }

    /// In `[0, 1)`, a multiple of `2^-24`: exact as f32.
    pub fn unit(&mut self) -> f64 {
        f64::from(self.bits() >> 7) / f64::from(1 << 24)
    }

    /// In `[-1, 1)`, a multiple of `2^-23`: exact as f32.
    pub fn signed(&mut self) -> f64 {
        2.0 * self.unit() - 1.0
    }
}

/// `n` values in `[-1, 1)` that depend on `seed` only.
pub fn noise(n: usize, seed: usize) -> Vec<f32> {
    let mut noise = Noise::new(seed as u64);
    (0..n).map(|_| noise.signed() as f32).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_stay_what_they_are() {
        let mut noise = Noise::new(1);
        assert_eq!([noise.bits(), noise.bits(), noise.bits()], [908_834_774, 1_093_944_153, 1_392_341_196]);
    }

    #[test]
    fn they_are_uniform() {
        let mut noise = Noise::new(7);
        let n = 40_000;
        let (mut sum, mut squares, mut places) = (0.0, 0.0, [0; 10]);
        for _ in 0..n {
            let v = noise.signed();
            assert!((-1.0..1.0).contains(&v) && f64::from(v as f32) == v);
            (sum, squares) = (sum + v, squares + v * v);
            places[noise.below(10)] += 1;
        }
        // Five standard deviations.
        let n = f64::from(n);
        assert!((sum / n).abs() < 5.0 * (1.0 / 3.0 / n).sqrt());
        assert!((squares / n - 1.0 / 3.0).abs() < 5.0 * (4.0 / 45.0 / n).sqrt());
        assert!(places.iter().all(|p| (f64::from(*p) - n / 10.0).abs() < 5.0 * (n * 0.09).sqrt()), "{places:?}");
    }
}
