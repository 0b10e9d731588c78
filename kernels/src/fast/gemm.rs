//! Dense matrix products, by the `matrixmultiply` crate: for matrices of any size that no convolution's shape fits.

use std::ops::Range;

/// A matrix, row-major, or the transpose of one.
#[derive(Clone, Copy, Debug)]
pub struct Matrix<'a> {
    values: &'a [f32],
    rows: usize,
    columns: usize,
    /// Distance of two rows, and of two columns.
    strides: [usize; 2],
}

impl<'a> Matrix<'a> {
    /// The first `rows * columns` of `values`.
    ///
    /// # Panics
    /// If there are fewer.
    pub fn new(values: &'a [f32], rows: usize, columns: usize) -> Self {
        let size = rows.checked_mul(columns).expect("a matrix that fits memory");
        Matrix { values: &values[..size], rows, columns, strides: [columns, 1] }
    }

    /// Some of the columns of a matrix that is not transposed.
    ///
    /// # Panics
    /// If there are none of these.
    pub fn of_columns(self, columns: Range<usize>) -> Self {
        assert!(columns.end <= self.columns && self.strides[1] == 1, "columns of a row-major matrix");
        Matrix { values: &self.values[columns.start..], columns: columns.len(), ..self }
    }

    pub fn transposed(self) -> Self {
        let [row, column] = self.strides;
        Matrix { rows: self.columns, columns: self.rows, strides: [column, row], ..self }
    }
}

/// `c = alpha a b + beta c`, `c` row-major. What `c` was does not matter if `beta` is 0.
///
/// # Panics
/// If the sizes of the three do not fit each other.
pub fn gemm(alpha: f32, a: Matrix, b: Matrix, beta: f32, c: &mut [f32]) {
    let (m, k, n) = (a.rows, a.columns, b.columns);
    assert_eq!(k, b.rows, "rows of the right factor");
    assert_eq!(c.len(), m * n, "size of the product");
    let [ra, ca] = a.strides.map(|s| s as isize);
    let [rb, cb] = b.strides.map(|s| s as isize);
    // SAFETY: a matrix holds all entries that its rows, columns and strides name, by its constructors; c is m x n,
    // row-major, by the assert, and borrowed mutably, so that it does not overlap the others.
    unsafe {
        let (pa, pb) = (a.values.as_ptr(), b.values.as_ptr());
        matrixmultiply::sgemm(m, k, n, alpha, pa, ra, ca, pb, rb, cb, beta, c.as_mut_ptr(), n as isize, 1);
    }
}

/// The same one entry after another.
pub fn gemm_scalar(alpha: f32, a: Matrix, b: Matrix, beta: f32, c: &mut [f32]) {
    let at = |m: &Matrix, i: usize, j: usize| m.values[i * m.strides[0] + j * m.strides[1]];
    for (i, row) in c.chunks_exact_mut(b.columns.max(1)).enumerate() {
        for (j, c) in row.iter_mut().enumerate() {
            let dot: f32 = (0..a.columns).map(|k| at(&a, i, k) * at(&b, k, j)).sum();
            *c = alpha * dot + if beta == 0.0 { 0.0 } else { beta * *c };
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use tilefit_testing::Noise;

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(80))]
        #[test]
        fn equals_its_twin(m in 0usize..70, k in 0usize..70, n in 0usize..70, turned: [bool; 2], beta in 0u8..3, seed: u32) {
            let mut noise = Noise::new(seed.into());
            let mut noise = |len: usize| -> Vec<f32> { (0..len).map(|_| 0.5 * noise.signed() as f32).collect() };
            let (a, b, mut c) = (noise(m * k), noise(k * n), noise(m * n));
            let view = |v, rows, columns, turned| match turned {
                true => Matrix::new(v, columns, rows).transposed(),
                false => Matrix::new(v, rows, columns),
            };
            let (a, b, beta) = (view(&a, m, k, turned[0]), view(&b, k, n, turned[1]), f32::from(beta) * 0.5);
            let mut plain = c.clone();
            gemm(0.7, a, b, beta, &mut c);
            gemm_scalar(0.7, a, b, beta, &mut plain);
            for (c, plain) in c.iter().zip(&plain) {
                prop_assert!((c - plain).abs() < 2e-5, "{} {}", c, plain);
            }
        }
    }

    #[test]
    fn columns_are_those_of_the_matrix() {
        let values: Vec<f32> = (0..12).map(|v| v as f32).collect();
        let all = Matrix::new(&values, 3, 4);
        let mut gram = [0.0; 8];
        gemm(1.0, all.of_columns(1..3).transposed(), all, 0.0, &mut gram);
        let dot = |a: usize, b: usize| (0..3).map(|r| values[r * 4 + a] * values[r * 4 + b]).sum::<f32>();
        assert!((0..8).all(|i| gram[i] == dot(1 + i / 4, i % 4)), "{gram:?}");
    }

    #[test]
    #[should_panic(expected = "columns of a row-major matrix")]
    fn columns_must_be_there() {
        Matrix::new(&[1.0; 6], 2, 3).of_columns(1..4);
    }

    #[test]
    fn a_product_of_nothing_is_zero() {
        let mut c = [f32::NAN; 4];
        gemm(1.0, Matrix::new(&[], 2, 0), Matrix::new(&[], 0, 2), 0.0, &mut c);
        assert_eq!(c, [0.0; 4]);
    }

    #[test]
    #[should_panic(expected = "rows of the right factor")]
    fn sizes_must_fit() {
        gemm(1.0, Matrix::new(&[1.0; 6], 2, 3), Matrix::new(&[1.0; 6], 2, 3), 0.0, &mut [0.0; 6]);
    }
}
