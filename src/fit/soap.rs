//! SOAP, Adam in the eigenbasis of Shampoo's preconditioner (Vyas et al., "SOAP: improving and stabilizing Shampoo using
//! Adam", 2024), for small dense layers.
//!
//! A weight matrix with gradient `G`, `[rows, cols]`, has two running Gram matrices, `L <- b2 L + (1 - b2) G G^T` and
//! `R <- b2 R + (1 - b2) G^T G`, with eigenvectors `QL` and `QR`. Adam runs on `QL^T G QR`; its step is rotated back.
//! Vectors (biases, filter taps) have plain Adam.

use kernels::fast::gemm::{gemm, Matrix};

/// One tensor of the flat list of parameters, row by row.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Shape {
    /// Where it starts in the list.
    pub start: usize,
    /// Rows.
    pub rows: usize,
    /// Values of a row.
    pub cols: usize,
}

/// Hyper-parameters of one step.
#[derive(Clone, Copy, Debug)]
pub struct SoapRate {
    /// Learning rate.
    pub lr: f32,
    /// Decay of the first moments.
    pub beta1: f32,
    /// Decay of the second moments and of the Gram matrices.
    pub beta2: f32,
    /// Added to the root of the second moments, in units of the gradient.
    pub eps: f32,
    /// Decoupled weight decay, multiplied by `lr`.
    pub decay: f32,
    /// Steps between two updates of the eigenbasis.
    pub refresh: u32,
}

/// The authors' values but for the learning rate, which the caller sets.
impl Default for SoapRate {
    fn default() -> Self {
        SoapRate { lr: 1e-2, beta1: 0.95, beta2: 0.95, eps: 1e-8, decay: 0.01, refresh: 10 }
    }
}

/// The preconditioner of one side of a matrix, its rows or its columns.
#[derive(Clone)]
struct Preconditioner {
    /// Size of that side.
    n: usize,
    /// The running Gram matrix, `[n][n]`.
    gram: Vec<f32>,
    /// Its eigenvectors, the columns of `[n][n]`.
    q: Vec<f32>,
    /// The index that each column had before the last refresh.
    order: Vec<usize>,
    /// Working memory of a refresh: columns, one after the other.
    columns: Vec<f64>,
}

/// Bound on one step in the eigenbasis, in units of `lr`. After a change of basis the second moments may be those of
/// another direction, and far too small. 1 and 4 change J by less than the luck of fits (-0.1 and -0.2 % on average over
/// kodim04, 15 and 23, effort 1).
const LARGEST_STEP: f32 = 2.0;

/// Sides longer than this keep the plain basis, because the time of a refresh grows with their cube. The networks of family
/// `pyramid` have sides up to 48.
const WIDEST: usize = 128;

/// Sweeps of the Jacobi method. It converges quadratically: matrices of these sizes are diagonal to f64's precision after
/// fewer, and a sweep over a diagonal matrix does nothing.
const JACOBI_SWEEPS: usize = 12;

impl Preconditioner {
    /// `None` for sides without an eigenbasis of their own.
    fn new(n: usize) -> Option<Preconditioner> {
        (2..=WIDEST).contains(&n).then(|| Preconditioner {
            n,
            gram: vec![0.0; n * n],
            q: identity(n),
            order: (0..n).collect(),
            columns: vec![0.0; n * n],
        })
    }
}

/// A tensor and the preconditioners of its rows and its columns.
#[derive(Clone)]
struct Tensor {
    shape: Shape,
    left: Option<Preconditioner>,
    right: Option<Preconditioner>,
}

/// Optimiser state for a flat list of weights.
#[derive(Clone)]
pub struct Soap {
    tensors: Vec<Tensor>,
    /// First moments, in the plain basis.
    m: Vec<f32>,
    /// Second moments, in the eigenbasis.
    v: Vec<f32>,
    /// Calls of [`step`](Self::step).
    steps: u32,
    scratch: [Vec<f32>; 3],
}

impl Soap {
    /// State for tensors of these shapes.
    pub fn new(shapes: impl IntoIterator<Item = Shape>) -> Self {
        let tensors: Vec<Tensor> = shapes
            .into_iter()
            .map(|shape| {
                let matrix = shape.rows > 1 && shape.cols > 1;
                let side = |n| if matrix { Preconditioner::new(n) } else { None };
                Tensor { shape, left: side(shape.rows), right: side(shape.cols) }
            })
            .collect();
        let n = tensors.iter().map(|t| t.shape.start + t.shape.rows * t.shape.cols).max().unwrap_or(0);
        let widest = tensors.iter().map(|t| t.shape.rows * t.shape.cols).max().unwrap_or(0).max(WIDEST * WIDEST);
        Soap {
            tensors,
            m: vec![0.0; n],
            v: vec![0.0; n],
            steps: 0,
            scratch: std::array::from_fn(|_| vec![0.0; widest]),
        }
    }

    /// Makes one step of `weights` with gradient `grad`, flat lists. The first call only computes the eigenbases.
    pub fn step(&mut self, weights: &mut [f32], grad: &[f32], rate: &SoapRate) {
        let first = self.steps == 0;
        self.steps += 1;
        let t = self.steps as i32 - 1;
        let correction = (1.0 - rate.beta2.powi(t)).sqrt() / (1.0 - rate.beta1.powi(t)).max(1e-12);
        let refresh = self.steps.is_multiple_of(rate.refresh);
        for tensor in &mut self.tensors {
            let Shape { start, rows, cols } = tensor.shape;
            let g = &grad[start..start + rows * cols];
            if !first {
                let (m, v) = (&mut self.m[start..][..g.len()], &mut self.v[start..][..g.len()]);
                let w = &mut weights[start..][..g.len()];
                let [a, b, c] = &mut self.scratch;
                for (m, g) in m.iter_mut().zip(g) {
                    *m = rate.beta1 * *m + (1.0 - rate.beta1) * g;
                }
                rotate(tensor, g, a, c, true);
                rotate(tensor, m, b, c, true);
                for ((v, g), m) in v.iter_mut().zip(a.iter()).zip(b.iter_mut()) {
                    *v = rate.beta2 * *v + (1.0 - rate.beta2) * g * g;
                    // Bounded because after a change of basis `v` may still be too small.
                    *m = (correction * *m / (v.sqrt() + rate.eps)).clamp(-LARGEST_STEP, LARGEST_STEP);
                }
                a[..g.len()].copy_from_slice(&b[..g.len()]);
                rotate(tensor, &a[..g.len()], b, c, false);
                for (w, s) in w.iter_mut().zip(b.iter()) {
                    *w -= rate.lr * (s + rate.decay * *w);
                }
            }
            let keep = if first { 0.0 } else { rate.beta2 };
            if let Some(left) = &mut tensor.left {
                accumulate(&mut left.gram, g, rows, cols, false, keep);
            }
            if let Some(right) = &mut tensor.right {
                accumulate(&mut right.gram, g, rows, cols, true, keep);
            }
            if first {
                for side in [&mut tensor.left, &mut tensor.right].into_iter().flatten() {
                    eigenvectors(side);
                }
            } else if refresh {
                let v = &mut self.v[start..][..rows * cols];
                if let Some(left) = &mut tensor.left {
                    refresh_basis(left, &mut self.scratch[0]);
                    permute(v, &mut self.scratch[0], |i, j| left.order[i] * cols + j, rows, cols);
                }
                if let Some(right) = &mut tensor.right {
                    refresh_basis(right, &mut self.scratch[0]);
                    permute(v, &mut self.scratch[0], |i, j| i * cols + right.order[j], rows, cols);
                }
            }
        }
    }
}

/// The identity matrix.
fn identity(n: usize) -> Vec<f32> {
    (0..n * n).map(|i| if i / n == i % n { 1.0 } else { 0.0 }).collect()
}

/// `gram <- keep * gram + (1 - keep) * G G^T`, or `G^T G` for the right side.
fn accumulate(gram: &mut [f32], g: &[f32], rows: usize, cols: usize, right: bool, keep: f32) {
    let g = Matrix::new(g, rows, cols);
    let g = if right { g.transposed() } else { g };
    gemm(1.0 - keep, g, g.transposed(), keep, gram);
}

/// Rotates `x` into the eigenbases, `out = QL^T x QR`, or, if not `forward`, back, `out = QL x QR^T`.
fn rotate(t: &Tensor, x: &[f32], out: &mut [f32], scratch: &mut [f32], forward: bool) {
    let (rows, cols) = (t.shape.rows, t.shape.cols);
    let (scratch, out) = (&mut scratch[..rows * cols], &mut out[..rows * cols]);
    match &t.left {
        None => scratch.copy_from_slice(x),
        Some(Preconditioner { n, q, .. }) => {
            let q = Matrix::new(q, *n, *n);
            let q = if forward { q.transposed() } else { q };
            gemm(1.0, q, Matrix::new(x, rows, cols), 0.0, scratch);
        }
    }
    match &t.right {
        None => out.copy_from_slice(scratch),
        Some(Preconditioner { n, q, .. }) => {
            let q = Matrix::new(q, *n, *n);
            let q = if forward { q } else { q.transposed() };
            gemm(1.0, Matrix::new(scratch, rows, cols), q, 0.0, out);
        }
    }
}

/// Moves the values of a matrix: entry `(i, j)` takes the one at index `from(i, j)`.
fn permute(v: &mut [f32], scratch: &mut [f32], from: impl Fn(usize, usize) -> usize, rows: usize, cols: usize) {
    scratch[..v.len()].copy_from_slice(v);
    for i in 0..rows {
        for j in 0..cols {
            v[i * cols + j] = scratch[from(i, j)];
        }
    }
}

/// Sets `side.q` to all eigenvectors of the Gram matrix, in descending order of eigenvalue, by cyclic Jacobi rotations.
fn eigenvectors(side: &mut Preconditioner) {
    let n = side.n;
    let mut a: Vec<f64> = side.gram.iter().map(|&x| x as f64).collect();
    let mut q: Vec<f64> = identity(n).iter().map(|&x| x as f64).collect();
    for _ in 0..JACOBI_SWEEPS {
        for p in 0..n {
            for r in p + 1..n {
                let off = a[p * n + r];
                if off.abs() <= 1e-12 * (a[p * n + p] * a[r * n + r]).abs().sqrt() {
                    continue;
                }
                let theta = (a[r * n + r] - a[p * n + p]) / (2.0 * off);
                let t = theta.signum() / (theta.abs() + (theta * theta + 1.0).sqrt());
                let t = if theta == 0.0 { 1.0 } else { t };
                let c = 1.0 / (t * t + 1.0).sqrt();
                let s = t * c;
                for k in 0..n {
                    let (x, y) = (a[k * n + p], a[k * n + r]);
                    a[k * n + p] = c * x - s * y;
                    a[k * n + r] = s * x + c * y;
                }
                for k in 0..n {
                    let (x, y) = (a[p * n + k], a[r * n + k]);
                    a[p * n + k] = c * x - s * y;
                    a[r * n + k] = s * x + c * y;
                    let (x, y) = (q[k * n + p], q[k * n + r]);
                    q[k * n + p] = c * x - s * y;
                    q[k * n + r] = s * x + c * y;
                }
            }
        }
    }
    let mut order: Vec<usize> = (0..n).collect();
    order.sort_by(|&i, &j| a[j * n + j].total_cmp(&a[i * n + i]));
    for i in 0..n {
        for (j, &from) in order.iter().enumerate() {
            side.q[i * n + j] = q[i * n + from] as f32;
        }
    }
}

/// One step of orthogonal iteration, `Q <- qr(A Q)` for the Gram matrix `A`, with the columns sorted by `diag(Q^T A Q)`,
/// descending. Sets `order` to the old index of each new column.
fn refresh_basis(side: &mut Preconditioner, scratch: &mut [f32]) {
    let Preconditioner { n, gram, q, order, columns } = side;
    let n = *n;
    let aq = &mut scratch[..n * n];
    gemm(1.0, Matrix::new(gram, n, n), Matrix::new(q, n, n), 0.0, aq);
    for (j, strength) in columns[..n].iter_mut().enumerate() {
        *strength = (0..n).map(|i| q[i * n + j] * aq[i * n + j]).sum::<f32>().into();
    }
    order.iter_mut().enumerate().for_each(|(i, o)| *o = i);
    order.sort_unstable_by(|&i, &j| columns[j].total_cmp(&columns[i]).then(i.cmp(&j)));
    // Gram-Schmidt. A column that depends on those before it is replaced by its old value, or by the first unit vector
    // that does not depend on them.
    for (k, &j) in order.iter().enumerate() {
        let (basis, rest) = columns.split_at_mut(k * n);
        let independent = (0..n + 2).any(|attempt| {
            let value = |i: usize| match attempt {
                0 => f64::from(aq[i * n + j]),
                1 => f64::from(q[i * n + j]),
                _ => f64::from(u8::from(i == attempt - 2)),
            };
            rest[..n].iter_mut().enumerate().for_each(|(i, c)| *c = value(i));
            orthonormalise(&mut rest[..n], basis)
        });
        assert!(independent, "of n unit vectors one is independent of fewer than n columns");
    }
    for (j, column) in columns.chunks_exact(n).enumerate() {
        for (i, c) in column.iter().enumerate() {
            q[i * n + j] = *c as f32;
        }
    }
}

/// Removes from `column` its parts along the orthonormal vectors of `basis` and scales the rest to length 1. Returns false
/// if the rest is no more than rounding error.
fn orthonormalise(column: &mut [f64], basis: &[f64]) -> bool {
    let norm = |x: &[f64]| x.iter().map(|x| x * x).sum::<f64>().sqrt();
    let length = norm(column);
    for _ in 0..2 {
        for b in basis.chunks_exact(column.len()) {
            let dot: f64 = b.iter().zip(column.iter()).map(|(a, b)| a * b).sum();
            column.iter_mut().zip(b).for_each(|(c, b)| *c -= dot * b);
        }
    }
    let left = norm(column);
    column.iter_mut().for_each(|c| *c /= left);
    left > 1e-5 * length && left > 0.0
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A badly scaled least-squares problem: `|A W B - C|^2`.
    fn loss_and_grad(w: &[f32], g: &mut [f32]) -> f32 {
        let (r, c) = (6, 5);
        let a = |i: usize, j: usize| {
            ((i * i * 7 + j * j * 3 + i * j) as f32 * 0.37).sin() * if j == 0 { 30.0 } else { 1.0 }
        };
        let mut loss = 0.0;
        g.fill(0.0);
        for i in 0..r {
            for j in 0..c {
                let p: f32 = (0..r).map(|k| a(i, k) * w[k * c + j]).sum();
                let e = p - (i as f32 - j as f32);
                loss += e * e;
                for k in 0..r {
                    g[k * c + j] += 2.0 * e * a(i, k);
                }
            }
        }
        loss
    }

    #[test]
    fn bases_stay_orthogonal_and_loss_falls() {
        let mut soap = Soap::new([Shape { start: 0, rows: 6, cols: 5 }]);
        let mut w = vec![0.0; 30];
        let mut g = vec![0.0; 30];
        let start = loss_and_grad(&w, &mut g);
        for i in 0..800 {
            loss_and_grad(&w, &mut g);
            let lr = 0.1 * (1.0 - i as f32 / 800.0);
            soap.step(&mut w, &g, &SoapRate { lr, decay: 0.0, ..Default::default() });
        }
        let end = loss_and_grad(&w, &mut g);
        assert!(end < 0.1 * start, "{start} -> {end}");
        for side in [soap.tensors[0].left.as_ref(), soap.tensors[0].right.as_ref()].into_iter().flatten() {
            for i in 0..side.n {
                for j in 0..side.n {
                    let dot: f32 = (0..side.n).map(|k| side.q[k * side.n + i] * side.q[k * side.n + j]).sum();
                    let want = if i == j { 1.0 } else { 0.0 };
                    assert!((dot - want).abs() < 1e-3, "{i} {j} {dot}");
                }
            }
        }
    }

    #[test]
    fn eigenvectors_diagonalise() {
        let n = 7;
        let mut side = Preconditioner::new(n).unwrap();
        for i in 0..n {
            for j in 0..n {
                side.gram[i * n + j] = (0..4).map(|k| ((i * k + k) as f32).sin() * ((j * k + k) as f32).sin()).sum();
            }
        }
        eigenvectors(&mut side);
        for a in 0..n {
            for b in 0..n {
                let form: f32 = (0..n * n).map(|k| side.q[k / n * n + a] * side.gram[k] * side.q[k % n * n + b]).sum();
                assert!(a == b || form.abs() < 1e-4, "{a} {b} {form}");
            }
        }
    }
}
