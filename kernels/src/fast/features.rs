//! Features of coarser grids for the context network: a linear layer on nearest-neighbour upsampled grids.
//!
//! Upsampling and a linear layer commute, so the layer runs from the coarsest grid on: at each resolution
//! the maps are those of the resolution below, upsampled by two and cropped, plus the weighted grids of this
//! resolution. No grid is ever upsampled by itself. The loops are plain; the level decides their lanes.

use crate::vector::Simd;

/// Rows at one resolution of the layer: `maps = upsampled coarse maps (or the biases) + W grids`.
#[derive(Clone, Copy, Debug)]
pub struct FeatureRow<'a> {
    /// Latents in a row.
    pub width: usize,
    /// Distance of two maps in a row of maps (`[maps][stride]`).
    pub stride: usize,
    /// The same in the coarser row.
    pub coarse_stride: usize,
    /// `[maps][inputs]`
    pub weights: &'a [f32],
    pub inputs: usize,
    /// Column of the weights of each grid at this resolution, and the grid's row.
    pub grids: [Option<(usize, &'a [f32])>; 2],
}

kernel! {
    /// One row of maps. `coarse`: the coarser row of maps that lies under it, if any, else the biases.
    pub fn features_forward(row: &FeatureRow, coarse: Result<&[f32], &[f32]>, maps: &mut [f32]) = forward;
}

#[inline(always)]
fn forward<S: Simd>(_: S, row: &FeatureRow, coarse: Result<&[f32], &[f32]>, maps: &mut [f32]) {
    for (k, map) in maps.chunks_exact_mut(row.stride).enumerate() {
        let map = &mut map[..row.width];
        match coarse {
            Err(bias) => map.fill(bias[k]),
            Ok(coarse) => {
                let coarse = &coarse[k * row.coarse_stride..][..row.coarse_stride];
                let (pairs, rest) = map.split_at_mut(row.width / 2 * 2);
                for (two, c) in pairs.chunks_exact_mut(2).zip(coarse) {
                    two[0] = *c;
                    two[1] = *c;
                }
                rest.iter_mut().for_each(|v| *v = coarse[row.width / 2]);
            }
        }
        for (column, grid) in row.grids.iter().flatten() {
            let w = row.weights[k * row.inputs + column];
            map.iter_mut().zip(*grid).for_each(|(m, g)| *m += w * g);
        }
    }
}

kernel! {
    /// Nearest-neighbour upsampling of rows: each value twice.
    pub fn widen(narrow: &[f32], wide: &mut [f32]) = widen_lanes;
}

#[inline(always)]
fn widen_lanes<S: Simd>(_: S, narrow: &[f32], wide: &mut [f32]) {
    for (two, v) in wide.chunks_exact_mut(2).zip(narrow) {
        two[0] = *v;
        two[1] = *v;
    }
}

kernel! {
    /// The gradient of [`widen`], in place: the first half of `d` becomes the sums of its pairs.
    pub fn narrow(d: &mut [f32]) = narrow_lanes;
}

#[inline(always)]
fn narrow_lanes<S: Simd>(_: S, d: &mut [f32]) {
    const BLOCK: usize = 16;
    let mut sums = [0f32; BLOCK];
    let pairs = d.len() / 2;
    for at in (0..pairs).step_by(BLOCK) {
        let n = BLOCK.min(pairs - at);
        for (sum, two) in sums.iter_mut().zip(d[2 * at..][..2 * n].chunks_exact(2)) {
            *sum = two[0] + two[1];
        }
        d[at..at + n].copy_from_slice(&sums[..n]);
    }
}

/// Where the gradients of a row are added.
#[derive(Debug)]
pub struct FeatureRowGradients<'a> {
    /// Rows of the grids of [`FeatureRow::grids`].
    pub dgrids: [Option<&'a mut [f32]>; 2],
    /// The coarser row of maps, `[maps][coarse_stride]`.
    pub dcoarse: Option<&'a mut [f32]>,
    /// `[maps][inputs]`
    pub dweights: Option<&'a mut [f32]>,
    /// The biases' (where there is no coarser row).
    pub dbias: Option<&'a mut [f32]>,
}

kernel! {
    /// Gradients of [`features_forward`], given those of its maps.
    pub fn features_backward(row: &FeatureRow, dmaps: &[f32], g: &mut FeatureRowGradients) = backward;
}

#[inline(always)]
fn backward<S: Simd>(_: S, row: &FeatureRow, dmaps: &[f32], g: &mut FeatureRowGradients) {
    for (k, d) in dmaps.chunks_exact(row.stride).enumerate() {
        let d = &d[..row.width];
        for (grid, dgrid) in row.grids.iter().zip(&mut g.dgrids) {
            let (Some((column, grid)), Some(dgrid)) = (grid, dgrid) else { continue };
            let at = k * row.inputs + column;
            let w = row.weights[at];
            dgrid.iter_mut().zip(d).for_each(|(g, d)| *g += w * d);
            if let Some(dweights) = &mut g.dweights {
                dweights[at] += dot(d, grid);
            }
        }
        if let Some(dbias) = &mut g.dbias {
            dbias[k] += d.iter().sum::<f32>();
        }
        if let Some(dcoarse) = &mut g.dcoarse {
            let dcoarse = &mut dcoarse[k * row.coarse_stride..][..row.width.div_ceil(2)];
            let (pairs, rest) = d.split_at(row.width / 2 * 2);
            for (c, two) in dcoarse.iter_mut().zip(pairs.chunks_exact(2)) {
                *c += two[0] + two[1];
            }
            rest.iter().for_each(|d| dcoarse[row.width / 2] += d);
        }
    }
}

#[inline(always)]
fn dot(a: &[f32], b: &[f32]) -> f32 {
    let mut sums = [0f32; 16];
    let (a, b) = (a.chunks_exact(16), b[..a.len()].chunks_exact(16));
    let rest: f32 = a.remainder().iter().zip(b.remainder()).map(|(a, b)| a * b).sum();
    for (a, b) in a.zip(b) {
        for i in 0..16 {
            sums[i] += a[i] * b[i];
        }
    }
    rest + sums.iter().sum::<f32>()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Level;

    #[test]
    fn each_value_twice_and_back_as_a_sum() {
        for level in Level::available() {
            for n in 0..67 {
                let x: Vec<f32> = (0..n).map(|i| (i * 37 % 19) as f32 - 9.0).collect();
                let mut d: Vec<f32> = (0..2 * n).map(|i| (i * 53 % 23) as f32 - 11.0).collect();
                let mut wide = vec![f32::NAN; 2 * n];
                widen(level, &x, &mut wide);
                assert!((0..2 * n).all(|i| wide[i] == x[i / 2]), "{level:?} {n}");
                let want: Vec<f32> = (0..n).map(|i| d[2 * i] + d[2 * i + 1]).collect();
                narrow(level, &mut d);
                assert_eq!(d[..n], want, "{level:?} {n}");
            }
        }
    }
}
