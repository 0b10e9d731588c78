//! From grids to picture and back: the training side of upsampling and synthesis.
//!
//! Coarser scales are whole planes; the picture's own size goes strip by strip, forward and back at once, so that
//! what a strip needs stays in the cache and memory does not grow with the picture. Each stage runs over bands of rows:
//! they do not depend on the number of threads, and what they add up is added in their order.

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

/// Rows of a strip.
const STRIP: usize = 8 * BAND;

/// Rows that a strip sees on each side of its own: what 3x3 layers reach, and an even number of them, as the upsampling
/// works in pairs.
fn halo(convs: usize) -> usize {
    convs.next_multiple_of(2)
}

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
    /// Rows of a strip.
    strip: usize,
    /// Places of the grids of each scale in a list of all.
    own: Vec<Range<usize>>,
    /// Maps at each scale from `finest` on, of a strip at the first; there the backward pass turns them into their gradients.
    maps: Vec<Planes>,
    /// Gradients of the maps at all scales but the first.
    dmaps: Vec<Planes>,
    /// Output of the 1x1 layers, then of each 3x3 layer, of a strip.
    layers: Vec<Planes>,
    /// Receives a gradient and then changes places with the layer it belongs to.
    spare: Planes,
    sums: Vec<pointwise::Sums>,
    /// Weight gradients of one band after the other.
    partials: Vec<f32>,
    errors: Vec<f64>,
    /// Weights of the 3x3 layer's backward pass.
    turned: Vec<f32>,
}

impl SynthModel {
    /// For a picture of `width` x `height` at full size; `finest > 0` trains at `1/2^finest` of it.
    pub fn new(spec: &PyramidSpec, width: usize, height: usize, finest: u32) -> Self {
        SynthModel::in_strips(spec, width, height, finest, STRIP)
    }

    /// In strips of an even number of rows.
    fn in_strips(spec: &PyramidSpec, width: usize, height: usize, finest: u32, strip: usize) -> Self {
        let network = Network::new(spec, finest as usize);
        let sizes: Vec<_> = (finest..=spec.depth).map(|s| (width.div_ceil(1 << s), height.div_ceil(1 << s))).collect();
        let (w, h) = sizes[0];
        let c = spec.channels;
        let rows = h.min(strip + 2 * halo(network.convs.len()));
        let planes = |s: usize| Planes::new(spec.maps_at(finest + s as u32), sizes[s].0, sizes[s].1);
        let first = std::iter::once(Planes::strip(spec.maps_at(finest), w, h, rows));
        let bands = rows.div_ceil(BAND);
        let sums = vec![pointwise::Sums::new(&network.pixels); bands];
        let most = sums[0].weights().max(9 * c * c + c).max(8);
        SynthModel {
            channels: c,
            strip,
            maps: first.chain((1..sizes.len()).map(planes)).collect(),
            dmaps: (1..sizes.len()).map(planes).collect(),
            layers: (0..=network.convs.len()).map(|_| Planes::strip(c, w, h, rows)).collect(),
            spare: Planes::strip(c, w, h, rows),
            sums,
            partials: vec![0.0; (bands * most).max(4 * h.div_ceil(BAND))],
            errors: vec![0.0; bands],
            turned: vec![0.0; 9 * c * c],
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
        self.coarse(level, weights, grids);
        let (w, h) = self.sizes[0];
        for own in self.strips() {
            self.strip_forward(level, grids, &own);
            let last = &self.layers[self.layers.len() - 1];
            for (c, plane) in out.chunks_exact_mut(w * h).enumerate() {
                let rows = plane[own.start * w..own.end * w].par_chunks_mut(w).with_min_len(BAND).enumerate();
                rows.for_each(|(n, row)| {
                    let from = &last.row(own.start + n, c)[PAD..];
                    row.iter_mut().zip(from).for_each(|(o, v)| *o = v.clamp(0.0, 1.0));
                });
            }
        }
    }

    /// Sum of squared errors of the picture rounded to 8 bits.
    pub fn rounded_error(&mut self, level: Level, weights: &[f32], grids: &[View], target: &[f32]) -> f64 {
        self.coarse(level, weights, grids);
        let ((w, h), c) = (self.sizes[0], self.channels);
        let square = |(v, t): (&f32, &f32)| (((v.clamp(0.0, 1.0) * 255.0).round() - t * 255.0) as f64 / 255.0).powi(2);
        let mut sum = 0.0;
        for own in self.strips() {
            self.strip_forward(level, grids, &own);
            let (last, stride) = (self.layers.len() - 1, self.spare.stride);
            self.errors.fill(0.0);
            self.layers[last].bands(BAND).zip(&mut self.errors).for_each(|((y0, band), error)| {
                for (n, row) in band.chunks_exact(stride).enumerate().filter(|(n, _)| own.contains(&(y0 + n / c))) {
                    let target = &target[(n % c * h + y0 + n / c) * w..][..w];
                    *error += row[PAD..].iter().zip(target).map(square).sum::<f64>();
                }
            });
            sum += self.errors.iter().sum::<f64>();
        }
        sum
    }

    /// Rows `own` of the picture, clamped to `[0, 1]`, one after the other; `coarse` says that weights of the upsampling
    /// have changed since the last call, or grids.
    pub fn rows(
        &mut self,
        level: Level,
        weights: &[f32],
        grids: &[View],
        own: &Range<usize>,
        coarse: bool,
        out: &mut Vec<f32>,
    ) {
        match coarse {
            true => self.coarse(level, weights, grids),
            false => self.network.load(weights),
        }
        self.strip_forward(level, grids, own);
        let (last, w) = (&self.layers[self.layers.len() - 1], self.sizes[0].0);
        for (y, c) in own.clone().flat_map(|y| (0..self.channels).map(move |c| (y, c))) {
            out.extend(last.row(y, c)[PAD..][..w].iter().map(|v| v.clamp(0.0, 1.0)));
        }
    }

    /// Adds the gradients of a loss, given `dout = d loss / d out`; the forward pass is made again. Where the output was
    /// clamped, the gradient is zero.
    pub fn backward(
        &mut self,
        level: Level,
        weights: &[f32],
        grids: &[View],
        dout: &[f32],
        dgrids: &mut [ViewMut],
        dweights: &mut [f32],
    ) {
        self.both(level, weights, grids, dgrids, dweights, |y, c, (w, h), row| {
            let dout = &dout[(c * h + y) * w..][..w];
            row.iter_mut().zip(dout).for_each(|(v, d)| *v = if (0.0..=1.0).contains(v) { *d } else { 0.0 });
            0.0
        });
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
        self.both(level, weights, grids, dgrids, dweights, |y, c, (w, h), row| {
            let target = &target[(c * h + y) * w..][..w];
            squared_error(level, row, target, 2.0 * scale)
        })
    }

    /// Forward and backward; `f(y, channel, size, row)` replaces a row of outputs by the gradient towards it and returns
    /// its share of the loss.
    fn both(
        &mut self,
        level: Level,
        weights: &[f32],
        grids: &[View],
        dgrids: &mut [ViewMut],
        dweights: &mut [f32],
        f: impl Fn(usize, usize, (usize, usize), &mut [f32]) -> f64 + Sync,
    ) -> f64 {
        self.coarse(level, weights, grids);
        self.dmaps.iter_mut().for_each(Planes::clear);
        let mut error = 0.0;
        for own in self.strips() {
            self.strip_forward(level, grids, &own);
            error += self.start(&own, &f);
            self.strip_back(level, &own, dweights);
            self.level_back(level, 0, grids, dgrids, dweights);
        }
        for s in 1..self.maps.len() {
            self.level_back(level, s, grids, dgrids, dweights);
        }
        error
    }

    /// The strips' own rows.
    fn strips(&self) -> impl Iterator<Item = Range<usize>> {
        let (h, strip) = (self.sizes[0].1, self.strip);
        (0..h).step_by(strip).map(move |y| y..h.min(y + strip))
    }

    /// The maps of all scales but the first.
    fn coarse(&mut self, level: Level, weights: &[f32], grids: &[View]) {
        self.network.load(weights);
        for s in (1..self.maps.len()).rev() {
            self.level(level, s, grids);
        }
    }

    /// The maps of one scale from those of the next coarser one.
    fn level(&mut self, level: Level, s: usize, grids: &[View]) {
        let grids = &grids[self.own[s].clone()];
        let (fine, coarse) = self.maps.split_at_mut(s + 1);
        let Some(below) = coarse.first() else { return fine[s].copy_from(grids) };
        let scale = s + self.network.finest;
        upsampling::forward(level, self.network.up[scale], self.network.pre[scale], grids, below, &mut fine[s]);
    }

    /// The forward pass of a strip up to the last layer, not clamped.
    fn strip_forward(&mut self, level: Level, grids: &[View], own: &Range<usize>) {
        let reach = halo(self.network.convs.len());
        let rows = own.start.saturating_sub(reach)..(own.end + reach).min(self.sizes[0].1);
        let planes = self.maps.iter_mut().take(1).chain(&mut self.layers).chain(std::iter::once(&mut self.spare));
        planes.for_each(|p| p.move_to(&rows));
        self.level(level, 0, grids);
        let maps = &self.maps[0];
        let net = &self.network.pixels;
        self.layers[0].bands(BAND).for_each(|(y0, band)| {
            with_scratch(net.scratch(), |scratch| {
                for (n, out) in band.chunks_exact_mut(self.channels * maps.stride).enumerate() {
                    let x = maps.row(y0 + n, 0);
                    let n = maps.w.next_multiple_of(16);
                    pointwise::pointwise(level, net, &x[PAD..], maps.stride, &mut out[PAD..], maps.stride, n, scratch);
                }
            });
            maps.repeat_edges(band);
        });
        for (n, conv) in self.network.convs.iter().enumerate() {
            let (before, after) = self.layers.split_at_mut(n + 1);
            let x = &before[n];
            after[0].bands(BAND).for_each(|(y0, band)| {
                for (n, out) in band.chunks_exact_mut(self.channels * x.stride).enumerate() {
                    let rows = x.around(y0 + n);
                    let n = x.w.next_multiple_of(16);
                    let out = &mut out[PAD..];
                    conv3x3::conv3x3(level, &conv.weights, &conv.bias, rows, x.stride, out, x.stride, n, conv.relu);
                }
                x.repeat_edges(band);
            });
        }
    }

    /// Turns the last layer into the gradient towards it, which is zero but in the strip's own rows.
    fn start(
        &mut self,
        own: &Range<usize>,
        f: &(impl Fn(usize, usize, (usize, usize), &mut [f32]) -> f64 + Sync),
    ) -> f64 {
        let last = self.layers.len() - 1;
        let relu = self.network.convs.last().is_some_and(|c| c.relu);
        let (w, h, stride, c) = (self.sizes[0].0, self.sizes[0].1, self.spare.stride, self.channels);
        self.errors.fill(0.0);
        self.layers[last].bands(BAND).zip(&mut self.errors).for_each(|((y0, band), error)| {
            for (n, row) in band.chunks_exact_mut(stride).enumerate() {
                if !own.contains(&(y0 + n / c)) {
                    row.fill(0.0);
                    continue;
                }
                let inner = &mut row[PAD..PAD + w];
                if relu {
                    // An output that is not positive carries no gradient: moved out of the clamp's range.
                    inner.iter_mut().filter(|v| **v <= 0.0).for_each(|v| *v = -f32::MIN_POSITIVE);
                }
                *error += f(y0 + n / c, n % c, (w, h), inner);
                zero_edges(row, w);
            }
        });
        self.errors.iter().sum()
    }

    /// From the gradient in the last layer of a strip to the one in its maps.
    fn strip_back(&mut self, level: Level, own: &Range<usize>, dweights: &mut [f32]) {
        let convs = self.network.convs.len();
        for n in (0..convs).rev() {
            self.conv_back(level, n, dweights);
        }
        let net = &self.network.pixels;
        let g = &self.layers[0];
        let count = self.sums[0].weights();
        let maps = &mut self.maps[0];
        let reached = own.start.saturating_sub(convs)..own.end + convs;
        let (w, stride, row_len) = (maps.w, maps.stride, maps.stride * maps.maps);
        let bands = maps.rows.len().div_ceil(BAND);
        maps.bands(BAND).zip(&mut self.sums).zip(self.partials.par_chunks_mut(count)).for_each(
            |(((y0, band), sums), partial)| {
                sums.clear();
                with_scratch(net.scratch(), |scratch| {
                    for (n, x) in band.chunks_exact_mut(row_len).enumerate() {
                        if !reached.contains(&(y0 + n)) {
                            x.fill(0.0);
                            continue;
                        }
                        let g = &g.row(y0 + n, 0)[PAD..];
                        let x = &mut x[PAD..];
                        let n = w.next_multiple_of(16);
                        pointwise::pointwise_back(level, net, x, stride, g, stride, n, sums, scratch);
                    }
                });
                band.chunks_exact_mut(stride).for_each(|row| zero_edges(row, w));
                sums.finish(partial);
            },
        );
        for b in 1..bands {
            let (total, rest) = self.partials.split_at_mut(b * count);
            total[..count].iter_mut().zip(rest).for_each(|(t, p)| *t += *p);
        }
        self.network.scatter_pixels(&self.partials[..count], dweights);
    }

    /// From the gradient in the maps of a scale to those in its grids and in the maps of the next coarser scale.
    fn level_back(&mut self, level: Level, s: usize, grids: &[View], dgrids: &mut [ViewMut], dweights: &mut [f32]) {
        let (finer, coarser) = self.dmaps.split_at_mut(s);
        let g = if s == 0 { &self.maps[0] } else { &finer[s - 1] };
        let own = self.own[s].clone();
        let (Some(below), Some(dbelow)) = (self.maps.get(s + 1), coarser.first_mut()) else {
            for (map, grid) in dgrids[own].iter_mut().enumerate() {
                for y in g.rows.clone() {
                    let to = grid.row(y, g.w);
                    to.iter_mut().zip(&g.row(y, map)[PAD..]).for_each(|(d, v)| *d += v);
                }
            }
            return;
        };
        let scale = s + self.network.finest;
        let partials = &mut self.partials;
        let mut add = |at: Range<usize>, d: [f32; 4]| dweights[at].iter_mut().zip(d).for_each(|(w, d)| *w += d);
        for (map, n) in own.enumerate() {
            let taps = self.network.pre[scale];
            let d = upsampling::pre_back(level, taps, &grids[n], g, map, &mut dgrids[n], partials);
            add(self.network.places.pre[scale].clone(), d);
        }
        let d = upsampling::up_back(level, self.network.up[scale], g, below, dbelow, partials);
        add(self.network.places.up[scale].clone(), d);
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
        let bands = self.spare.rows.len().div_ceil(BAND);
        self.spare.bands(BAND).zip(self.partials.par_chunks_mut(count)).for_each(|((y0, band), partial)| {
            partial.fill(0.0);
            let (dw, db) = partial.split_at_mut(9 * c * c);
            with_scratch(3 * c * stride, |scratch| {
                let (zeros, scratch) = scratch.split_at_mut(c * stride);
                let (wide, more) = scratch.split_at_mut(c * stride);
                zeros.fill(0.0);
                let none = [0f32; 4];
                let g_row = |y: isize| -> &[f32] {
                    match usize::try_from(y) {
                        Ok(y) if g.rows.contains(&y) => &g.row(y, 0)[PAD - 2..],
                        _ => zeros,
                    }
                };
                for (r, out) in band.chunks_exact_mut(c * stride).enumerate() {
                    let y = y0 + r;
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
        for partial in self.partials.chunks_exact(count).take(bands) {
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
            let strip = [STRIP, 2, 14, 64][round % 4];
            let mut model = SynthModel::in_strips(&spec, width, height, finest, strip);
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
