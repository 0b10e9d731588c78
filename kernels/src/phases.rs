//! Transposed convolution as one ordinary convolution for each phase of the output: rows `Y` and columns
//! `X` with the same remainders by the stride see the same taps.

use crate::gather::Gather;
use crate::panel::{self, Pixels, Start};
use crate::{Level, Window};
use alloc::vec::Vec;

/// Channels and geometry; sizes are in the windows. Weights are `[in][out][kernel][kernel]`.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Transposed {
    pub in_channels: usize,
    pub out_channels: usize,
    pub kernel: usize,
    pub stride: usize,
    pub padding: usize,
}

/// Working memory: the gathered input, one phase of the output, tap offsets.
#[derive(Default, Debug)]
pub(crate) struct Buffers {
    pub image: Vec<f32>,
    pub phase: Vec<f32>,
    pub taps: Vec<u32>,
}

pub(crate) type Accumulate = fn(Level, &[f32], usize, &[u32], &[f32], &Pixels, Start, &mut [f32], usize);

impl Transposed {
    /// Kernel positions `u` that reach outputs of phase `r`, ascending.
    fn taps_of(&self, r: usize) -> impl Iterator<Item = usize> + Clone {
        ((r + self.padding) % self.stride..self.kernel).step_by(self.stride)
    }

    /// How far the input of kernel position `u` lies from `Y / stride` for outputs `Y` of phase `r`.
    fn shift(&self, r: usize, u: usize) -> isize {
        (r as isize + self.padding as isize - u as isize).div_euclid(self.stride as isize)
    }

    /// Appends the weights phase by phase in the order of [`panel::accumulate`].
    pub fn pack(&self, w: &[f32], out: &mut Vec<f32>) {
        assert_eq!(w.len(), self.in_channels * self.out_channels * self.kernel * self.kernel);
        for ra in 0..self.stride {
            for rb in 0..self.stride {
                let (nu, nv) = (self.taps_of(ra).count(), self.taps_of(rb).count());
                panel::pack(self.out_channels, self.in_channels * nu * nv, out, |o, tap| {
                    let (c, u, v) = (tap / (nu * nv), tap / nv.max(1) % nu, tap % nv);
                    let u = (ra + self.padding) % self.stride + u * self.stride;
                    let v = (rb + self.padding) % self.stride + v * self.stride;
                    w[((c * self.out_channels + o) * self.kernel + u) * self.kernel + v]
                });
            }
        }
    }

    /// `y = bias + T(x)`, or `y += bias + T(x)` when `add`; an empty bias is 0. `accumulate` is
    /// [`panel::accumulate`] or its fused twin.
    pub fn run(
        &self,
        level: Level,
        accumulate: Accumulate,
        add: bool,
        packed: &[f32],
        bias: &[f32],
        xs: &Window,
        x: &[f32],
        ys: &Window,
        y: &mut [f32],
        buffers: &mut Buffers,
    ) {
        assert_eq!(x.len(), self.in_channels * xs.height * xs.width);
        assert_eq!(y.len(), self.out_channels * ys.height * ys.width);
        if y.is_empty() {
            return;
        }
        let Buffers { image, phase, taps } = buffers;
        let stride = self.stride;
        // Inputs from the first output's last tap to the last output's first tap.
        let reach = |from: usize, n: usize| {
            let farthest = (self.kernel - 1) as isize - self.padding as isize;
            let low = (from as isize - farthest).div_euclid(stride as isize);
            let high = ((from + n - 1 + self.padding) / stride) as isize;
            (low, (high - low + 1).max(1) as usize)
        };
        let ((top, rows), (left, cols)) = (reach(ys.y0, ys.height), reach(ys.x0, ys.width));
        let gather = Gather { channels: self.in_channels, top, left, rows, cols, stride: 1 };
        gather.fill(xs, x, image);
        // The phases of a row are computed side by side, then woven together.
        let plane = panel::plane_pitch(ys.height.div_ceil(stride) * ys.width.div_ceil(stride));
        let block = self.out_channels * plane;
        if phase.len() < stride * block {
            phase.resize(stride * block, 0.0);
        }
        let mut rest = packed;
        for ra in 0..stride {
            let (m0, mh) = members(ra, stride, ys.y0, ys.height);
            for (rb, phase) in phase.chunks_exact_mut(block).enumerate().take(stride) {
                let (n0, nw) = members(rb, stride, ys.x0, ys.width);
                let taps_per_channel = self.taps_of(ra).count() * self.taps_of(rb).count();
                let weights;
                (weights, rest) = rest.split_at(self.out_channels * self.in_channels * taps_per_channel);
                if mh * nw == 0 {
                    continue;
                }
                taps.clear();
                for c in 0..self.in_channels {
                    for u in self.taps_of(ra) {
                        for v in self.taps_of(rb) {
                            let i = (m0 as isize + self.shift(ra, u) - top) as usize;
                            let j = (n0 as isize + self.shift(rb, v) - left) as usize;
                            taps.push((c * gather.plane_pitch() + gather.offset(i, j)) as u32);
                        }
                    }
                }
                let pixels = Pixels { height: mh, width: nw, image_pitch: gather.row_pitch(), out_pitch: nw };
                accumulate(level, weights, self.out_channels, taps, image, &pixels, Start::Bias(bias), phase, plane);
            }
            for o in 0..self.out_channels {
                for m in 0..mh {
                    let row = (o * ys.height + (m0 + m) * stride + ra - ys.y0) * ys.width;
                    let to = &mut y[row..][..ys.width];
                    // Column `x` is the next one of phase `(ys.x0 + x) % stride`.
                    let part = |x: usize| {
                        let rb = (ys.x0 + x) % stride;
                        let nw = members(rb, stride, ys.x0, ys.width).1;
                        &phase[rb * block + o * plane + m * nw..][..nw]
                    };
                    if add {
                        weave(stride, part, to, |to, v| *to += v);
                    } else {
                        weave(stride, part, to, |to, v| *to = v);
                    }
                }
            }
        }
    }
}

/// Column `x` of `to` takes `part(x % stride)[x / stride]`.
#[inline(always)]
fn weave<'a>(stride: usize, part: impl Fn(usize) -> &'a [f32], to: &mut [f32], put: impl Fn(&mut f32, f32)) {
    if stride != 2 {
        for x in 0..stride {
            to.iter_mut().skip(x).step_by(stride).zip(part(x)).for_each(|(to, &v)| put(to, v));
        }
        return;
    }
    // The usual stride by pairs, which the compiler turns into shuffles.
    let (even, odd) = (part(0), part(1));
    let (pairs, last) = to.as_chunks_mut::<2>();
    for ((to, &a), &b) in pairs.iter_mut().zip(even).zip(odd) {
        put(&mut to[0], a);
        put(&mut to[1], b);
    }
    if let ([to], Some(&v)) = (last, even.last()) {
        put(to, v);
    }
}

/// The coordinates `r + stride*m` within `from..from + n`: the first `m`, and how many.
fn members(r: usize, stride: usize, from: usize, n: usize) -> (usize, usize) {
    let below = |end: usize| (end + stride - 1).saturating_sub(r) / stride;
    (below(from), below(from + n) - below(from))
}
