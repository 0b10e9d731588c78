//! From grids to picture and back: the training side of upsampling and synthesis.
//!
//! Whole planes, one stage after the other, each stage over bands of rows: bands do not depend on the
//! number of threads, and what they add up is added in their order.

use super::grid::{View, ViewMut};
use super::planes::{with_scratch, zero_edges, Planes, PAD};
use super::upsampling;
use crate::models::pyramid::network::Network;
use crate::models::pyramid::spec::PyramidSpec;
use kernels::fast::squared_error::squared_error;
use kernels::fast::{conv3x3, pointwise};
use kernels::Level;
use rayon::prelude::*;
use std::ops::Range;

/// Rows of a band.
pub(super) const BAND: usize = 32;

/// The synthesis of one picture size; keeps what the backward pass needs of the last forward pass.
///
/// `grids` are the synthesised grids of scales `finest ..= depth`, in the order of the maps. Planes of the picture are
/// `[channels][height][width]` without padding, of the size of scale `finest`. `weights` are all weights of
/// the spec, flat (see [`PyramidSpec::tensors`]); those of absent grids (scales below `finest`) are not used.
/// Nothing is allocated by a call.
pub struct SynthModel {
    network: Network,
    channels: usize,
    sizes: Vec<(usize, usize)>,
    /// Places of the grids of each scale in a list of all.
    own: Vec<Range<usize>>,
    /// Maps at each scale from `finest` on; the backward pass turns them into their gradients.
    maps: Vec<Planes>,
    /// Output of the 1x1 layers, then of each 3x3 layer.
    layers: Vec<Planes>,
    /// Receives a gradient and then changes places with the layer it belongs to.
    spare: Planes,
    sums: Vec<pointwise::Sums>,
    /// Weight gradients of one band after the other.
    partials: Vec<f32>,
    errors: Vec<f64>,
    /// Weights of the 3x3 layer's backward pass.
    turned: Vec<f32>,
    forwarded: bool,
}

impl SynthModel {
    /// For a picture of `width` x `height` at full size; `finest > 0` trains at `1/2^finest` of it.
    pub fn new(spec: &PyramidSpec, width: usize, height: usize, finest: u32) -> Self {
        let network = Network::new(spec, finest as usize);
        let sizes: Vec<_> = (finest..=spec.depth).map(|s| (width.div_ceil(1 << s), height.div_ceil(1 << s))).collect();
        let maps =
            sizes.iter().enumerate().map(|(s, &(w, h))| Planes::new(spec.maps_at(finest + s as u32), w, h)).collect();
        let (w, h) = sizes[0];
        let c = spec.channels;
        let bands = h.div_ceil(BAND);
        let sums = vec![pointwise::Sums::new(&network.pixels); bands];
        let most = sums[0].weights().max(9 * c * c + c).max(8);
        SynthModel {
            channels: c,
            maps,
            layers: (0..=network.convs.len()).map(|_| Planes::new(c, w, h)).collect(),
            spare: Planes::new(c, w, h),
            sums,
            partials: vec![0.0; bands * most],
            errors: vec![0.0; bands],
            turned: vec![0.0; 9 * c * c],
            forwarded: false,
            network,
            sizes,
            own: (finest..=spec.depth).map(|s| spec.maps_of(s, finest)).collect(),
        }
    }

    /// Width and height of each grid, scale `finest` first; the first is the picture's.
    pub fn sizes(&self) -> &[(usize, usize)] {
        &self.sizes
    }

    /// The picture, clamped to `[0, 1]`.
    pub fn forward(&mut self, level: Level, weights: &[f32], grids: &[View], out: &mut [f32]) {
        self.run(level, weights, grids);
        let (w, h) = self.sizes[0];
        let last = &self.layers[self.layers.len() - 1];
        out.par_chunks_mut(w).with_min_len(BAND).enumerate().for_each(|(n, row)| {
            let from = &last.row(n % h, n / h)[PAD..];
            row.iter_mut().zip(from).for_each(|(o, v)| *o = v.clamp(0.0, 1.0));
        });
    }

    /// Adds the gradients of a loss, given `dout = d loss / d out` of the last [`forward`](Self::forward) with
    /// the same `weights` and `grids`. Where the output was clamped, the gradient is zero.
    ///
    /// # Panics
    /// When no forward pass precedes: the backward pass consumes what it left.
    pub fn backward(
        &mut self,
        level: Level,
        weights: &[f32],
        grids: &[View],
        dout: &[f32],
        dgrids: &mut [ViewMut],
        dweights: &mut [f32],
    ) {
        self.start(|y, c, (w, h), row| {
            let dout = &dout[(c * h + y) * w..][..w];
            row.iter_mut().zip(dout).for_each(|(v, d)| *v = if (0.0..=1.0).contains(v) { *d } else { 0.0 });
            0.0
        });
        self.descend(level, weights, grids, dgrids, dweights);
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
        self.run(level, weights, grids);
        let error = self.start(|y, c, (w, h), row| {
            let target = &target[(c * h + y) * w..][..w];
            squared_error(level, row, target, 2.0 * scale)
        });
        self.descend(level, weights, grids, dgrids, dweights);
        error
    }

    /// The forward pass up to the last layer, not clamped.
    fn run(&mut self, level: Level, weights: &[f32], grids: &[View]) {
        let network = &mut self.network;
        network.load(weights);
        let coarsest = self.maps.len() - 1;
        self.maps[coarsest].copy_from(&grids[self.own[coarsest].clone()]);
        for s in (0..coarsest).rev() {
            let (fine, coarse) = self.maps.split_at_mut(s + 1);
            let scale = s + network.finest;
            upsampling::forward(
                level,
                network.up[scale],
                network.pre[scale],
                &grids[self.own[s].clone()],
                &coarse[0],
                &mut fine[s],
            );
        }
        let maps = &self.maps[0];
        let net = &network.pixels;
        self.layers[0].bands(BAND).for_each(|(b, band)| {
            with_scratch(net.scratch(), |scratch| {
                for (n, out) in band.chunks_exact_mut(self.channels * maps.stride).enumerate() {
                    let x = maps.row(b * BAND + n, 0);
                    let n = maps.w.next_multiple_of(16);
                    pointwise::pointwise(level, net, &x[PAD..], maps.stride, &mut out[PAD..], maps.stride, n, scratch);
                }
            });
            maps.repeat_edges(band);
        });
        for (n, conv) in network.convs.iter().enumerate() {
            let (before, after) = self.layers.split_at_mut(n + 1);
            let x = &before[n];
            after[0].bands(BAND).for_each(|(b, band)| {
                for (n, out) in band.chunks_exact_mut(self.channels * x.stride).enumerate() {
                    let rows = x.around(b * BAND + n);
                    let n = x.w.next_multiple_of(16);
                    let out = &mut out[PAD..];
                    conv3x3::conv3x3(level, &conv.weights, &conv.bias, rows, x.stride, out, x.stride, n, conv.relu);
                }
                x.repeat_edges(band);
            });
        }
        self.forwarded = true;
    }

    /// Turns the last layer into the gradient towards it: `f(y, channel, size, row)` replaces a row of outputs
    /// and returns its share of the loss.
    fn start(&mut self, f: impl Fn(usize, usize, (usize, usize), &mut [f32]) -> f64 + Sync) -> f64 {
        assert!(std::mem::take(&mut self.forwarded), "a backward pass follows a forward pass");
        let last = self.layers.len() - 1;
        let relu = self.network.convs.last().is_some_and(|c| c.relu);
        let (w, h, stride, c) = (self.sizes[0].0, self.sizes[0].1, self.spare.stride, self.channels);
        self.layers[last].bands(BAND).zip(&mut self.errors).for_each(|((b, band), error)| {
            *error = 0.0;
            for (n, row) in band.chunks_exact_mut(stride).enumerate() {
                let inner = &mut row[PAD..PAD + w];
                if relu {
                    // An output that is not positive carries no gradient: moved out of the clamp's range.
                    inner.iter_mut().filter(|v| **v <= 0.0).for_each(|v| *v = -f32::MIN_POSITIVE);
                }
                *error += f(b * BAND + n / c, n % c, (w, h), inner);
                zero_edges(row, w);
            }
        });
        self.errors.iter().sum()
    }

    /// The backward pass from the gradient in the last layer.
    fn descend(&mut self, level: Level, weights: &[f32], grids: &[View], dgrids: &mut [ViewMut], dweights: &mut [f32]) {
        debug_assert_eq!(self.network.up.first().map(|t| &t[..]), weights.get(self.network.places.up[0].clone()));
        for n in (0..self.network.convs.len()).rev() {
            self.conv_back(level, n, dweights);
        }
        let net = &self.network.pixels;
        let g = &self.layers[0];
        let count = self.sums[0].weights();
        let maps = &mut self.maps[0];
        let (w, stride, row_len) = (maps.w, maps.stride, maps.stride * maps.maps);
        maps.bands(BAND).zip(&mut self.sums).zip(self.partials.par_chunks_mut(count)).for_each(
            |(((b, band), sums), partial)| {
                sums.clear();
                with_scratch(net.scratch(), |scratch| {
                    for (n, x) in band.chunks_exact_mut(row_len).enumerate() {
                        let g = &g.row(b * BAND + n, 0)[PAD..];
                        let x = &mut x[PAD..];
                        pointwise::pointwise_back(
                            level,
                            net,
                            x,
                            stride,
                            g,
                            stride,
                            w.next_multiple_of(16),
                            sums,
                            scratch,
                        );
                    }
                });
                band.chunks_exact_mut(stride).for_each(|row| zero_edges(row, w));
                sums.finish(partial);
            },
        );
        let bands = self.sums.len();
        for b in 1..bands {
            let (total, rest) = self.partials.split_at_mut(b * count);
            total[..count].iter_mut().zip(rest).for_each(|(t, p)| *t += *p);
        }
        self.network.scatter_pixels(&self.partials[..count], dweights);
        let coarsest = self.maps.len() - 1;
        for s in 0..coarsest {
            let scale = s + self.network.finest;
            let (fine, coarse) = self.maps.split_at_mut(s + 1);
            for (map, n) in self.own[s].clone().enumerate() {
                let dtaps = upsampling::pre_back(
                    level,
                    self.network.pre[scale],
                    &grids[n],
                    &fine[s],
                    map,
                    &mut dgrids[n],
                    &mut self.partials,
                );
                dweights[self.network.places.pre[scale].clone()].iter_mut().zip(dtaps).for_each(|(d, v)| *d += v);
            }
            let dtaps =
                upsampling::up_back(level, self.network.up[scale], &fine[s], &mut coarse[0], &mut self.partials);
            dweights[self.network.places.up[scale].clone()].iter_mut().zip(dtaps).for_each(|(d, v)| *d += v);
        }
        let d = &self.maps[coarsest];
        for (map, grid) in dgrids[self.own[coarsest].clone()].iter_mut().enumerate() {
            for y in 0..d.h {
                let to = grid.row(y, d.w);
                to.iter_mut().zip(&d.row(y, map)[PAD..]).for_each(|(d, v)| *d += v);
            }
        }
    }

    /// From the gradient in `layers[n + 1]` (before its relu) to the one in `layers[n]`.
    fn conv_back(&mut self, level: Level, n: usize, dweights: &mut [f32]) {
        let c = self.channels;
        let conv = &self.network.convs[n];
        for (o, i, k) in (0..9 * c * c).map(|t| (t / (9 * c), t / 9 % c, t % 9)) {
            self.turned[(i * c + o) * 9 + 8 - k] = conv.weights[(o * c + i) * 9 + k];
        }
        let (turned, x, g) = (&self.turned, &self.layers[n], &self.layers[n + 1]);
        let gate = n > 0 && self.network.convs[n - 1].relu;
        let (w, h, stride) = (x.w, x.h, x.stride);
        let count = 9 * c * c + c;
        self.spare.bands(BAND).zip(self.partials.par_chunks_mut(count)).for_each(|((b, band), partial)| {
            partial.fill(0.0);
            let (dw, db) = partial.split_at_mut(9 * c * c);
            with_scratch(3 * c * stride, |scratch| {
                let (zeros, scratch) = scratch.split_at_mut(c * stride);
                let (wide, more) = scratch.split_at_mut(c * stride);
                zeros.fill(0.0);
                let none = [0f32; 4];
                let g_row = |y: isize| -> &[f32] {
                    if (0..h as isize).contains(&y) {
                        &g.row(y as usize, 0)[PAD - 2..]
                    } else {
                        zeros
                    }
                };
                for (r, out) in band.chunks_exact_mut(c * stride).enumerate() {
                    let y = b * BAND + r;
                    // Columns -1 ..= w: what replicated borders pass on is folded back.
                    let n = (w + 2).next_multiple_of(16);
                    let convolve = |y: isize, to: &mut [f32]| {
                        let rows = [g_row(y - 1), g_row(y), g_row(y + 1)];
                        conv3x3::conv3x3(level, turned, &none[..c], rows, stride, to, stride, n, false);
                    };
                    convolve(y as isize, wide);
                    let outside = [(y == 0).then_some(-1), (y + 1 == h).then_some(h as isize)];
                    for v in outside.into_iter().flatten() {
                        convolve(v, more);
                        wide.iter_mut().zip(more.iter()).for_each(|(a, b)| *a += b);
                    }
                    for (i, row) in out.chunks_exact_mut(stride).enumerate() {
                        let d = &mut wide[i * stride..][..w + 2];
                        d[1] += d[0];
                        d[w] += d[w + 1];
                        row[PAD..][..w].copy_from_slice(&d[1..=w]);
                        if gate {
                            let x = &x.row(y, i)[PAD..];
                            row[PAD..][..w].iter_mut().zip(x).for_each(|(d, x)| *d = if *x > 0.0 { *d } else { 0.0 });
                        }
                        zero_edges(row, w);
                    }
                    let g = &g.row(y, 0)[PAD..];
                    conv3x3::conv3x3_weights(level, g, stride, x.around(y), stride, dw, db, w.next_multiple_of(16));
                }
            });
        });
        let (wr, br) = &self.network.places.layers[self.network.pixels.layers.len() + n];
        for partial in self.partials.chunks_exact(count).take(self.sums.len()) {
            dweights[wr.clone()].iter_mut().zip(partial).for_each(|(d, v)| *d += v);
            dweights[br.clone()].iter_mut().zip(&partial[9 * c * c..]).for_each(|(d, v)| *d += v);
        }
        std::mem::swap(&mut self.layers[n], &mut self.spare);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fit::pyramid::plain::{self, tests::*, Map};

    /// Grids with rows at a stride of their width + 3, filled by `f`.
    fn filled(sizes: &[(usize, usize)], mut f: impl FnMut() -> f64) -> Vec<Vec<f32>> {
        sizes.iter().map(|(w, h)| (0..(w + 3) * h).map(|_| f() as f32).collect()).collect()
    }

    fn views<'a>(sizes: &[(usize, usize)], grids: &'a [Vec<f32>]) -> Vec<View<'a>> {
        grids.iter().zip(sizes).map(|(data, s)| View { data, stride: s.0 + 3 }).collect()
    }

    fn views_mut<'a>(sizes: &[(usize, usize)], grids: &'a mut [Vec<f32>]) -> Vec<ViewMut<'a>> {
        grids.iter_mut().zip(sizes).map(|(data, s)| ViewMut { data, stride: s.0 + 3 }).collect()
    }

    fn close(what: &str, got: f32, want: f64, size: f64) {
        assert!((got as f64 - want).abs() <= 2e-4 * (size + want.abs()), "{what}: {got} instead of {want}");
    }

    #[test]
    fn equals_the_plain_loops() {
        let mut noise = Noise(3);
        let levels = Level::available();
        for round in 0..60 {
            let (spec, mut width, mut height, finest) = case(&mut noise);
            if round % 6 == 5 {
                (width, height) = (70 + width, 60 + height); // several bands
            }
            let level = levels[round % levels.len()];
            let weights = random_weights(&spec, &mut noise);
            let mut model = SynthModel::new(&spec, width, height, finest);
            let of_scale = |(size, s): (&(usize, usize), u32)| vec![*size; spec.synthesised_at(s)];
            let sizes: Vec<_> = model.sizes().iter().zip(finest..).flat_map(of_scale).collect();
            let data = filled(&sizes, || noise.next());
            let grids = views(&sizes, &data);
            let weights32: Vec<f32> = weights.iter().map(|w| *w as f32).collect();
            let weights: Vec<f64> = weights32.iter().map(|w| *w as f64).collect();
            let maps: Vec<Map> = grids
                .iter()
                .zip(&sizes)
                .map(|(g, &(w, h))| Map {
                    w,
                    h,
                    v: (0..h).flat_map(|y| g.row(y, w).iter().map(|v| *v as f64)).collect(),
                })
                .collect();
            let tape = plain::forward(&spec, finest as usize, &weights, &maps);
            let (w, h) = sizes[0];
            let n = w * h * spec.channels;
            let mut out = vec![0.0; n];
            model.forward(level, &weights32, &grids, &mut out);
            let want: Vec<f64> = tape.output().into_iter().flat_map(|m| m.v).collect();
            for (o, w) in out.iter().zip(&want) {
                close("output", *o, *w, 0.1);
            }
            let dout: Vec<f32> = (0..n).map(|_| noise.next() as f32).collect();
            let dmaps: Vec<Map> =
                dout.chunks(w * h).map(|c| Map { w, h, v: c.iter().map(|v| *v as f64).collect() }).collect();
            let mut dw = vec![0f64; weights.len()];
            let dgrids = plain::backward(&spec, finest as usize, &weights, &maps, &tape, &dmaps, &mut dw);
            // A gradient is added to what is there.
            let mut got = filled(&sizes, || 1.0);
            let mut dw32 = vec![1f32; weights.len()];
            model.backward(level, &weights32, &grids, &dout, &mut views_mut(&sizes, &mut got), &mut dw32);
            let scale = dw.iter().fold(1f64, |a, b| a.max(b.abs()));
            for (n, (d, w)) in dw32.iter().zip(&dw).enumerate() {
                close(&format!("round {round} weight {n}"), *d, *w + 1.0, scale);
            }
            for (s, (got, want)) in got.iter().zip(&dgrids).enumerate() {
                for (n, d) in got.iter().enumerate() {
                    let (x, y) = (n % (want.w + 3), n / (want.w + 3));
                    let want = if x < want.w { want.v[y * want.w + x] } else { 0.0 };
                    close(&format!("round {round} grid {s} ({x}, {y})"), *d, want + 1.0, 1.0);
                }
            }
            // The squared error is the same backward pass with its own gradient.
            let target: Vec<f32> = (0..n).map(|_| 0.5 + 0.5 * noise.next() as f32).collect();
            let dout: Vec<f32> = out.iter().zip(&target).map(|(o, t)| 0.5 * 2.0 * (o - t)).collect();
            model.forward(level, &weights32, &grids, &mut out);
            let (mut a, mut b) = (filled(&sizes, || 0.0), filled(&sizes, || 0.0));
            let (mut wa, mut wb) = (vec![0f32; weights.len()], vec![0f32; weights.len()]);
            model.backward(level, &weights32, &grids, &dout, &mut views_mut(&sizes, &mut a), &mut wa);
            let d = &mut views_mut(&sizes, &mut b);
            let sum = model.forward_backward(level, &weights32, &grids, &target, d, &mut wb, 0.5);
            let want: f64 = out.iter().zip(&target).map(|(o, t)| ((o - t) as f64).powi(2)).sum();
            assert!((sum - want).abs() < 1e-4 * (1.0 + want));
            for (a, b) in a.iter().flatten().chain(&wa).zip(b.iter().flatten().chain(&wb)) {
                close("squared error", *a, *b as f64, 1.0);
            }
        }
    }

    #[test]
    fn threads_do_not_change_a_bit() {
        let spec = PyramidSpec::preset(3, 1, 4, 2, 6);
        let mut noise = Noise(5);
        let weights: Vec<f32> = random_weights(&spec, &mut noise).iter().map(|w| *w as f32).collect();
        let run = |threads: usize| {
            let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build().unwrap();
            let mut model = SynthModel::new(&spec, 100, 150, 0);
            let sizes = model.sizes().to_vec();
            let mut noise = Noise(6);
            let data = filled(&sizes, || noise.next());
            let target: Vec<f32> = (0..3 * 100 * 150).map(|_| noise.next() as f32).collect();
            let mut d = filled(&sizes, || 0.0);
            let mut dw = vec![0f32; weights.len()];
            let grids = views(&sizes, &data);
            let level = Level::best();
            let sum = pool.install(|| {
                let d = &mut views_mut(&sizes, &mut d);
                model.forward_backward(level, &weights, &grids, &target, d, &mut dw, 1.0)
            });
            (sum.to_bits(), d.concat().iter().chain(&dw).map(|v| v.to_bits()).collect::<Vec<_>>())
        };
        let one = run(1);
        assert!(one == run(2) && one == run(5));
    }
}
