//! Orthonormal 2-D DCT-II of square blocks in f64, for statistics of pictures. It is simple, not fast.

use crate::image::Picture;
use std::f64::consts::PI;

/// The transform of blocks of `side * side` values.
pub struct Dct {
    side: usize,
    /// The 1-D basis, `[frequency][position]`.
    basis: Vec<f64>,
}

impl Dct {
    /// The transform of blocks of `side * side` values.
    pub fn new(side: usize) -> Self {
        let one = |i: usize| {
            let (k, x) = ((i / side) as f64, (i % side) as f64);
            let norm = if k == 0.0 { 1.0 } else { 2.0 };
            (norm / side as f64).sqrt() * (PI * k * (x + 0.5) / side as f64).cos()
        };
        Dct { side, basis: (0..side * side).map(one).collect() }
    }

    /// The coefficients, `[vertical frequency][horizontal frequency]`, of `block`, `[y][x]`.
    pub fn of(&self, block: &[f64]) -> Vec<f64> {
        self.rows(&self.rows(block))
    }

    /// The 1-D transforms of the rows, transposed; applied twice it is the 2-D transform.
    fn rows(&self, block: &[f64]) -> Vec<f64> {
        let bases = self.basis.chunks_exact(self.side);
        let dot = |b: &[f64], row: &[f64]| b.iter().zip(row).map(|(b, v)| b * v).sum();
        bases.flat_map(|b| block.chunks_exact(self.side).map(move |row| dot(b, row))).collect()
    }
}

/// Blocks of `side * side` pixels, `limit` or a few more, spread evenly over all pictures: each with its picture, left edge
/// and top edge. Blocks at the right and bottom edges may reach beyond the picture.
pub fn spread(pictures: &[Picture], side: usize, limit: usize) -> impl Iterator<Item = (&Picture, usize, usize)> {
    let across = move |p: &Picture| p.width.div_ceil(side);
    let blocks = move |p: &Picture| across(p) * p.height.div_ceil(side);
    let stride = pictures.iter().map(blocks).sum::<usize>().div_ceil(limit);
    pictures
        .iter()
        .flat_map(move |p| (0..blocks(p)).step_by(stride).map(move |n| (p, n % across(p) * side, n / across(p) * side)))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A cosine has one coefficient, at its frequencies.
    #[test]
    fn finds_a_wave() {
        let wave = |k: usize, x: usize, side: usize| (PI * k as f64 * (x as f64 + 0.5) / side as f64).cos();
        for side in [4, 8, 16] {
            let block: Vec<f64> = (0..side * side).map(|i| wave(3, i % side, side) * wave(1, i / side, side)).collect();
            let found = Dct::new(side).of(&block);
            for (i, v) in found.iter().enumerate() {
                let want = if i == side + 3 { side as f64 / 2.0 } else { 0.0 };
                assert!((v - want).abs() < 1e-12, "{side} {i}: {v}");
            }
        }
    }

    #[test]
    fn blocks_are_spread() {
        let of = |width, height| Picture::from_u8(width, height, 1, &vec![0; width * height]);
        let pictures = [of(20, 9), of(3, 3)];
        let all: Vec<_> = spread(&pictures, 8, 100).map(|(p, x, y)| (p.width, x, y)).collect();
        assert_eq!(all, [(20, 0, 0), (20, 8, 0), (20, 16, 0), (20, 0, 8), (20, 8, 8), (20, 16, 8), (3, 0, 0)]);
        assert_eq!(spread(&pictures, 8, 3).count(), 3);
    }
}
