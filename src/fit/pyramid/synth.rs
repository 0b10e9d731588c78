//! From grids to picture and back: the training side of upsampling and synthesis.
//!
//! Coarser scales are whole planes; the picture's own size goes strip by strip, forward and back at once. Strips do not depend
//! on the number of threads, and what they add up is added in their order.

use super::planes::{Planes, PAD};
use super::scratch_pool::ScratchPool;
use super::strip::Strip;
use super::strip_rows::{Rows, Share, Strips, PLANES};
use super::upsampling::{self, Filters};
use super::view::{View, ViewMut};
use crate::models::pyramid::network::Network;
use crate::models::pyramid::spec::PyramidSpec;
use kernels::fast::squared_error::squared_error;
use kernels::Level;
use rayon::prelude::*;
use std::ops::Range;

/// Rows of a strip of the picture: the fewer, the more of them stay in the cache, but those beside a strip are computed twice.
const STRIP: usize = 32;

/// Rows and pixels of a strip of a coarser scale, at least: less is done before another thread wakes up.
const ROWS: usize = 32;
const PIXELS: usize = 6144;

/// Sums of the taps of a scale's filters: those of its grids, two at most, then of the upsampling.
const TAPS: usize = 3 * 4;

/// The synthesis of one picture size; keeps what the backward pass needs of the last forward pass.
///
/// `grids` are the synthesised grids of scales `finest ..= depth`, in the order of the maps. Planes of the picture are
/// `[channels][height][width]` without padding, of the size of scale `finest`. `weights` are all weights of
/// the spec, flat (see [`PyramidSpec::tensors`]); those of absent grids (scales below `finest`) are not used.
/// Nothing is allocated by a call once each thread has run.
pub struct SynthModel {
    network: Network,
    channels: usize,
    sizes: Vec<(usize, usize)>,
    strips: Strips,
    /// Places of the grids of each scale in a list of all.
    own: Vec<Range<usize>>,
    /// Maps at each scale after `finest`.
    maps: Vec<Planes>,
    /// Their gradients.
    dmaps: Vec<Planes>,
    room: ScratchPool<Strip>,
    /// Weight gradients of one strip after the other: [`Strip::weights`] and [`TAPS`].
    sums: Vec<f32>,
    errors: Vec<f64>,
}

impl SynthModel {
    /// For a picture of `width` x `height` at full size; `finest > 0` trains at `1/2^finest` of it.
    pub fn new(spec: &PyramidSpec, width: usize, height: usize, finest: u32) -> Self {
        SynthModel::in_strips(spec, width, height, finest, STRIP)
    }

    /// In strips of a multiple of 16 rows: two strips with one between them must not reach each other.
    fn in_strips(spec: &PyramidSpec, width: usize, height: usize, finest: u32, strip: usize) -> Self {
        let network = Network::new(spec, finest as usize);
        let sizes: Vec<_> = (finest..=spec.depth).map(|s| (width.div_ceil(1 << s), height.div_ceil(1 << s))).collect();
        assert!(network.convs.len() <= 2 && strip.is_multiple_of(16) && spec.channels <= PLANES);
        let strips = Strips::all(sizes[0].1, strip);
        let planes = |s: usize| Planes::new(spec.maps_at(finest + s as u32), sizes[s].0, sizes[s].1);
        let most = (1..sizes.len()).map(|s| coarse_strips(sizes[s]).count).fold(strips.count, usize::max);
        SynthModel {
            channels: spec.channels,
            maps: (1..sizes.len()).map(planes).collect(),
            dmaps: (1..sizes.len()).map(planes).collect(),
            room: ScratchPool::new(),
            sums: vec![0.0; most * (Strip::weights(&network) + TAPS)],
            errors: vec![0.0; strips.count],
            own: (finest..=spec.depth).map(|s| spec.maps_of(s, finest)).collect(),
            network,
            sizes,
            strips,
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
        let mut share = Share::default();
        for (rows, plane) in share.planes.iter_mut().zip(out.chunks_exact_mut(w * h)) {
            *rows = Rows::new(w, plane);
        }
        self.strips.each(share, &|own, mut share| {
            self.with_strip(|strip| {
                self.strip_forward(level, strip, grids, &own);
                for (y, c, row) in strip.output() {
                    share.planes[c].row(y).iter_mut().zip(row).for_each(|(o, v)| *o = v.clamp(0.0, 1.0));
                }
            });
        });
    }

    /// Sum of squared errors of the picture rounded to 8 bits.
    pub fn rounded_error(&mut self, level: Level, weights: &[f32], grids: &[View], target: &[f32]) -> f64 {
        self.coarse(level, weights, grids);
        let (w, h) = self.sizes[0];
        let square = |(v, t): (&f32, &f32)| (((v.clamp(0.0, 1.0) * 255.0).round() - t * 255.0) as f64 / 255.0).powi(2);
        let mut errors = std::mem::take(&mut self.errors);
        self.strips.each(Share { errors: &mut errors, ..Share::default() }, &|own, share| {
            self.with_strip(|strip| {
                self.strip_forward(level, strip, grids, &own);
                let error = |(y, c, row): (usize, usize, &[f32])| -> f64 {
                    row.iter().zip(&target[(c * h + y) * w..]).map(square).sum()
                };
                share.errors[0] = strip.output().map(error).sum();
            });
        });
        self.errors = errors;
        self.errors.iter().sum()
    }

    /// Each of `strips` of the picture's rows, clamped to `[0, 1]`, one after the other; `coarse` says that weights of the
    /// upsampling have changed since the last call, or grids.
    pub fn rows(
        &mut self,
        level: Level,
        weights: &[f32],
        grids: &[View],
        strips: &[Range<usize>],
        coarse: bool,
        out: &mut Vec<f32>,
    ) {
        match coarse {
            true => self.coarse(level, weights, grids),
            false => self.network.load(weights),
        }
        let of = |own: &Range<usize>| {
            self.with_strip(|strip| {
                self.strip_forward(level, strip, grids, own);
                strip.output().flat_map(|(_, _, row)| row.iter().map(|v| v.clamp(0.0, 1.0))).collect::<Vec<_>>()
            })
        };
        let rows: Vec<_> = strips.par_iter().map(of).collect();
        rows.iter().for_each(|rows| out.extend(rows));
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
        let (w, h) = self.sizes[0];
        self.both(level, weights, grids, dgrids, dweights, |y, c, row| {
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
        let (w, h) = self.sizes[0];
        self.both(level, weights, grids, dgrids, dweights, |y, c, row| {
            squared_error(level, row, &target[(c * h + y) * w..][..w], 2.0 * scale)
        })
    }

    /// Forward and backward; `f(y, channel, row)` replaces a row of outputs by the gradient towards it and returns its share
    /// of the loss.
    fn both(
        &mut self,
        level: Level,
        weights: &[f32],
        grids: &[View],
        dgrids: &mut [ViewMut],
        dweights: &mut [f32],
        f: impl Fn(usize, usize, &mut [f32]) -> f64 + Sync,
    ) -> f64 {
        self.coarse(level, weights, grids);
        self.dmaps.iter_mut().for_each(Planes::clear);
        let mut dmaps = std::mem::take(&mut self.dmaps);
        let (mut sums, mut errors) = (std::mem::take(&mut self.sums), std::mem::take(&mut self.errors));
        let layers = Strip::weights(&self.network);
        let count = layers + TAPS;
        let (h, mut error) = (self.sizes[0].1, 0.0);
        // Strips add to the rows of grids beside their own: first the even ones, then the odd ones.
        for strips in [0, 1].map(|odd| self.strips.every_second(odd)) {
            let mut share = shared(&mut dgrids[self.own[0].clone()], dmaps.first_mut());
            (share.sums, share.errors) = (&mut sums[..strips.count * count], &mut errors[..strips.count]);
            strips.each(share, &|own, mut share| {
                self.with_strip(|strip| {
                    self.strip_forward(level, strip, grids, &own);
                    let (layers, taps) = share.sums.split_at_mut(layers);
                    share.errors[0] = strip.back(level, &self.network, layers, &f);
                    let seen = strip.seen();
                    let reached = seen.start.saturating_sub(3)..(seen.end + 3).min(h);
                    let below = (seen.start / 2).saturating_sub(2)..seen.end.div_ceil(2) + 2;
                    let g = strip.gradient();
                    self.filters_back(level, 0, grids, g, (reached, below), &mut share.planes, &mut share.below, taps);
                });
            });
            for sums in sums.chunks_exact(count).take(strips.count) {
                self.network.scatter_layers(&sums[..layers], dweights);
                self.scatter_taps(0, &sums[layers..], dweights);
            }
            error += errors[..strips.count].iter().sum::<f64>();
        }
        for s in 1..self.sizes.len() {
            let (finer, coarser) = dmaps.split_at_mut(s);
            let g = &finer[s - 1];
            let strips = coarse_strips(self.sizes[s]);
            let h = self.sizes[s].1;
            let mut share = shared(&mut dgrids[self.own[s].clone()], coarser.first_mut());
            share.sums = &mut sums[..strips.count * TAPS];
            strips.each(share, &|own, mut share| {
                let rows = (own.start..own.end.min(h), own.start / 2..own.end / 2);
                self.filters_back(level, s, grids, g, rows, &mut share.planes, &mut share.below, share.sums);
            });
            sums.chunks_exact(TAPS).take(strips.count).for_each(|sums| self.scatter_taps(s, sums, dweights));
        }
        (self.dmaps, self.sums, self.errors) = (dmaps, sums, errors);
        error
    }

    /// Runs `f` with room for a strip, this thread's own for the time.
    fn with_strip<R>(&self, f: impl FnOnce(&mut Strip) -> R) -> R {
        let maps = self.own.iter().map(Range::len).sum();
        let make = || Strip::new(&self.network, self.channels, maps, self.sizes[0], self.strips.rows);
        self.room.lend(make, f)
    }

    /// The maps of all scales but the first.
    fn coarse(&mut self, level: Level, weights: &[f32], grids: &[View]) {
        self.network.load(weights);
        for s in (1..self.sizes.len()).rev() {
            let grids = &grids[self.own[s].clone()];
            let (fine, coarser) = self.maps.split_at_mut(s);
            let maps = &mut fine[s - 1];
            match coarser.first() {
                Some(below) => {
                    let (size, filters) = (self.sizes[s], filters(&self.network, s));
                    maps.bands(coarse_strips(size).rows).for_each(|(y0, band)| {
                        upsampling::forward(level, &filters, grids, below, size, y0, band);
                    });
                }
                None => maps.copy_from(grids),
            }
        }
    }

    fn strip_forward(&self, level: Level, strip: &mut Strip, grids: &[View], own: &Range<usize>) {
        let below = self.maps.first().map(|below| (filters(&self.network, 0), below));
        strip.forward(level, &self.network, below, &grids[self.own[0].clone()], own);
    }

    /// From the gradient `g` in the maps of scale `s` (of some rows, the others are zero) to those in its grids, `planes`, and
    /// in the maps of the next coarser scale, `below`, in as many rows of both; `taps` become the sums of the filters.
    fn filters_back(
        &self,
        level: Level,
        s: usize,
        grids: &[View],
        g: &Planes,
        (rows, below_rows): (Range<usize>, Range<usize>),
        planes: &mut [Rows],
        dbelow: &mut Rows,
        taps: &mut [f32],
    ) {
        let own = self.own[s].clone();
        let Some(below) = self.maps.get(s) else {
            for (map, y) in (0..own.len()).flat_map(|map| rows.clone().map(move |y| (map, y))) {
                if g.rows.contains(&y) {
                    let to = &mut planes[map].row(y)[..g.w];
                    to.iter_mut().zip(&g.row(y, map)[PAD..]).for_each(|(d, v)| *d += v);
                }
            }
            return;
        };
        let filters = filters(&self.network, s);
        for (map, n) in own.enumerate() {
            let d = upsampling::pre_back(level, filters.pre, &grids[n], g, map, rows.clone(), &mut planes[map]);
            taps[4 * map..][..4].copy_from_slice(&d);
        }
        let reached = below_rows.start..below_rows.end.min(below.h);
        let d = upsampling::up_back(level, filters.up, g, below, reached, dbelow);
        taps[TAPS - 4..].copy_from_slice(&d);
    }

    /// Adds what [`filters_back`](Self::filters_back) gave for scale `s`.
    fn scatter_taps(&self, s: usize, taps: &[f32], dweights: &mut [f32]) {
        if s + 1 == self.sizes.len() {
            return;
        }
        let scale = s + self.network.finest;
        let mut add = |at: &Range<usize>, d: &[f32]| dweights[at.clone()].iter_mut().zip(d).for_each(|(w, d)| *w += d);
        (0..self.own[s].len()).for_each(|map| add(&self.network.ranges.pre[scale], &taps[4 * map..][..4]));
        add(&self.network.ranges.up[scale], &taps[TAPS - 4..]);
    }
}

/// The filters of the step to scale `s`, counted from the finest.
fn filters(network: &Network, s: usize) -> Filters {
    let scale = s + network.finest;
    Filters { up: network.up[scale], pre: network.pre[scale] }
}

/// Strips of a coarse scale of so many columns and rows.
fn coarse_strips((w, h): (usize, usize)) -> Strips {
    Strips::all(h, ROWS.max(PIXELS.div_ceil(w).next_multiple_of(4)))
}

/// The gradients towards the grids of a scale and towards the maps of the next coarser one.
fn shared<'a>(dgrids: &'a mut [ViewMut], dbelow: Option<&'a mut Planes>) -> Share<'a> {
    let mut share = Share::default();
    for (rows, grid) in share.planes.iter_mut().zip(dgrids) {
        *rows = Rows::new(grid.stride, grid.data);
    }
    if let Some(below) = dbelow {
        share.below = Rows::new(below.maps * below.stride, below.all());
    }
    share
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fit::pyramid::reference::{self, tests::*, Map};

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
            let strip = [STRIP, 16, 48, 32][round % 4];
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
            let tape = reference::forward(&spec, finest as usize, &weights, &maps);
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
            let dgrids = reference::backward(&spec, finest as usize, &weights, &maps, &tape, &dmaps, &mut dw);
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
