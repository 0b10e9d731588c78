//! From grids to picture and back: the training side of upsampling and synthesis.

use super::grid::{View, ViewMut};
use super::plain::{self, Map};
use crate::models::pyramid::spec::PyramidSpec;
use kernels::Level;

/// The synthesis of one picture size; keeps what the backward pass needs of the last forward pass.
///
/// `grids` are the non-hyper grids of scales `finest ..= depth`, in this order. Planes of the picture are
/// `[channels][height][width]` without padding, of the size of scale `finest`. `weights` are all weights of
/// the spec, flat (see [`PyramidSpec::tensors`]); those of absent grids (scales below `finest`) are not used.
pub struct SynthModel {
    spec: PyramidSpec,
    finest: u32,
    sizes: Vec<(usize, usize)>,
    tape: Option<plain::Tape>,
    out: Vec<f32>,
    dout: Vec<f32>,
}

impl SynthModel {
    /// For a picture of `width` x `height` at full size; `finest > 0` trains at `1/2^finest` of it.
    pub fn new(spec: &PyramidSpec, width: usize, height: usize, finest: u32) -> Self {
        let sizes: Vec<_> = (finest..=spec.depth).map(|s| (width.div_ceil(1 << s), height.div_ceil(1 << s))).collect();
        let n = sizes[0].0 * sizes[0].1 * spec.channels;
        SynthModel { spec: spec.clone(), finest, sizes, tape: None, out: vec![0.0; n], dout: vec![0.0; n] }
    }

    /// Width and height of each grid, scale `finest` first; the first is the picture's.
    pub fn sizes(&self) -> &[(usize, usize)] {
        &self.sizes
    }

    fn maps(&self, grids: &[View]) -> Vec<Map> {
        let rows = |(g, &(w, h)): (&View, &(usize, usize))| Map {
            w,
            h,
            v: (0..h).flat_map(|y| g.row(y, w).iter().map(|v| *v as f64)).collect(),
        };
        grids.iter().zip(&self.sizes).map(rows).collect()
    }

    /// The picture, clamped to `[0, 1]`.
    pub fn forward(&mut self, _level: Level, weights: &[f32], grids: &[View], out: &mut [f32]) {
        let weights: Vec<f64> = weights.iter().map(|w| *w as f64).collect();
        let tape = plain::forward(&self.spec, self.finest as usize, &weights, &self.maps(grids));
        let values = tape.output().into_iter().flat_map(|m| m.v);
        out.iter_mut().zip(values).for_each(|(o, v)| *o = v as f32);
        self.tape = Some(tape);
    }

    /// Adds the gradients of a loss, given `dout = d loss / d out` of the last [`forward`](Self::forward) with
    /// the same `weights` and `grids`. Where the output was clamped, the gradient is zero.
    pub fn backward(
        &mut self,
        _level: Level,
        weights: &[f32],
        grids: &[View],
        dout: &[f32],
        dgrids: &mut [ViewMut],
        dweights: &mut [f32],
    ) {
        let weights: Vec<f64> = weights.iter().map(|w| *w as f64).collect();
        let tape = self.tape.as_ref().expect("backward follows forward");
        let (w, h) = self.sizes[0];
        let dout: Vec<Map> =
            dout.chunks(w * h).map(|c| Map { w, h, v: c.iter().map(|v| *v as f64).collect() }).collect();
        let mut dw = vec![0f64; weights.len()];
        let maps = self.maps(grids);
        let dmaps = plain::backward(&self.spec, self.finest as usize, &weights, &maps, tape, &dout, &mut dw);
        for (d, m) in dgrids.iter_mut().zip(&dmaps) {
            for y in 0..m.h {
                d.row(y, m.w).iter_mut().zip(&m.v[y * m.w..]).for_each(|(d, v)| *d += *v as f32);
            }
        }
        dweights.iter_mut().zip(&dw).for_each(|(d, v)| *d += *v as f32);
    }

    /// Forward and backward of `scale *` the sum of squared errors, which is returned (without `scale`).
    pub fn forward_backward(
        &mut self,
        level: Level,
        weights: &[f32],
        grids: &[View],
        target: &[f32],
        dgrids: &mut [ViewMut],
        dweights: &mut [f32],
        scale: f32,
    ) -> f64 {
        let mut out = std::mem::take(&mut self.out);
        let mut dout = std::mem::take(&mut self.dout);
        self.forward(level, weights, grids, &mut out);
        let mut sum = 0.0;
        for (d, (o, t)) in dout.iter_mut().zip(out.iter().zip(target)) {
            sum += ((o - t) as f64).powi(2);
            *d = 2.0 * scale * (o - t);
        }
        self.backward(level, weights, grids, &dout, dgrids, dweights);
        (self.out, self.dout) = (out, dout);
        sum
    }
}
