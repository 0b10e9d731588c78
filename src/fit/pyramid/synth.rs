//! From grids to the picture and back: upsampling and synthesis in training.
//!
//! The maps of coarser scales are computed as whole planes. The picture's own scale, which has three quarters of all values
//! and most of the work, is computed strip by strip, forward and backward in one go. Even and odd strips take turns in the
//! backward pass, because strips also write to rows beside their own.

use super::planes::{Planes, PAD};
use super::scratch_pool::ScratchPool;
use super::strip::Strip;
use super::strip_rows::{PlaneRows, StripOutputs, Strips, MAX_PLANES};
use super::upsampling::{self, Filters};
use super::view::{PlaneView, PlaneViewMut};
use crate::models::pyramid::network::Network;
use crate::models::pyramid::spec::PyramidSpec;
use kernels::fast::squared_error::squared_error;
use kernels::Level;
use rayon::prelude::*;
use std::ops::Range;

/// Rows of a strip at the picture's scale. With fewer rows more of them stay in the cache, but the rows of the halo, which
/// neighbouring strips compute twice, are a larger part.
const STRIP_ROWS: usize = 32;

/// Least rows and pixels of a strip at a coarser scale: smaller ones take less time than another thread takes to start.
const MIN_COARSE_ROWS: usize = 32;
const MIN_COARSE_PIXELS: usize = 6144;

/// Gradients by the taps of a scale's filters: those of its grids, two at most, then those of the upsampling.
const TAPS: usize = 3 * 4;

/// Upsampling and synthesis of pictures of one size. It keeps the maps of the last forward pass for the backward pass.
///
/// Arguments of the methods:
/// - `grids`: the synthesised grids of scales `finest ..= depth`, in the order of their maps;
/// - `weights`: all weights of the model, flat, see [`PyramidSpec::tensors`]; those for absent grids (of scales below
///   `finest`) are not used;
/// - `out`, `target`, `dout`: planes of the picture at `1/2^finest`, `[channels][height][width]`, samples in `[0, 1]`.
///
/// Nothing is allocated by a call once each thread has run one.
pub struct SynthModel {
    network: Network,
    /// Channels of the picture.
    channels: usize,
    /// See [`sizes`](Self::sizes).
    sizes: Vec<(usize, usize)>,
    /// The strips of the picture.
    strips: Strips,
    /// For each scale the indices of its grids in the list of all, which are also those of their maps.
    grids: Vec<Range<usize>>,
    /// The maps of each scale after `finest`.
    maps: Vec<Planes>,
    /// The gradients towards them.
    dmaps: Vec<Planes>,
    workspaces: ScratchPool<Strip>,
    /// Gradients by weights of each strip: [`Strip::weights_count`] and [`TAPS`].
    sums: Vec<f32>,
    /// Sum of errors of each strip.
    errors: Vec<f64>,
}

impl SynthModel {
    /// For a picture of `width` x `height` at full size, which is trained at `1/2^finest` of it.
    pub fn new(spec: &PyramidSpec, width: usize, height: usize, finest: u32) -> Self {
        SynthModel::with_strips(spec, width, height, finest, STRIP_ROWS)
    }

    /// With strips of `rows` rows, a multiple of 16: then strips with one between them do not write to the same rows.
    fn with_strips(spec: &PyramidSpec, width: usize, height: usize, finest: u32, rows: usize) -> Self {
        let network = Network::new(spec, finest as usize);
        let sizes: Vec<_> = (finest..=spec.depth).map(|s| (width.div_ceil(1 << s), height.div_ceil(1 << s))).collect();
        assert!(network.convs.len() <= 2 && rows.is_multiple_of(16) && spec.channels <= MAX_PLANES);
        let strips = Strips::all(sizes[0].1, rows);
        let planes = |s: usize| Planes::new(spec.maps_at(finest + s as u32), sizes[s].0, sizes[s].1);
        let most_strips = (1..sizes.len()).map(|s| coarse_strips(sizes[s]).count).fold(strips.count, usize::max);
        SynthModel {
            channels: spec.channels,
            maps: (1..sizes.len()).map(planes).collect(),
            dmaps: (1..sizes.len()).map(planes).collect(),
            workspaces: ScratchPool::new(),
            sums: vec![0.0; most_strips * (Strip::weights_count(&network) + TAPS)],
            errors: vec![0.0; strips.count],
            grids: (finest..=spec.depth).map(|s| spec.maps_of(s, finest)).collect(),
            network,
            sizes,
            strips,
        }
    }

    /// Width and height of the grids of each scale from `finest` on; the first is that of the trained picture.
    pub fn sizes(&self) -> &[(usize, usize)] {
        &self.sizes
    }

    /// Computes the picture, clamped to `[0, 1]`, into `out`.
    pub fn forward(&mut self, level: Level, weights: &[f32], grids: &[PlaneView], out: &mut [f32]) {
        self.coarse_maps(level, weights, grids);
        let (w, h) = self.sizes[0];
        let mut outputs = StripOutputs::default();
        for (rows, plane) in outputs.planes.iter_mut().zip(out.chunks_exact_mut(w * h)) {
            *rows = PlaneRows::new(w, plane);
        }
        self.strips.for_each(outputs, &|rows, mut outputs| {
            self.with_strip(|strip| {
                self.strip_forward(level, strip, grids, &rows);
                for (y, c, row) in strip.output() {
                    outputs.planes[c].row(y).iter_mut().zip(row).for_each(|(o, v)| *o = v.clamp(0.0, 1.0));
                }
            });
        });
    }

    /// Sum of squared errors of the picture rounded to samples of `0 ..= peak`.
    pub fn rounded_error(
        &mut self,
        level: Level,
        weights: &[f32],
        grids: &[PlaneView],
        target: &[f32],
        peak: f32,
    ) -> f64 {
        self.coarse_maps(level, weights, grids);
        let (w, h) = self.sizes[0];
        let square =
            |(v, t): (&f32, &f32)| (f64::from((v.clamp(0.0, 1.0) * peak).round() - t * peak) / f64::from(peak)).powi(2);
        let mut errors = std::mem::take(&mut self.errors);
        self.strips.for_each(StripOutputs { errors: &mut errors, ..StripOutputs::default() }, &|rows, outputs| {
            self.with_strip(|strip| {
                self.strip_forward(level, strip, grids, &rows);
                let error = |(y, c, row): (usize, usize, &[f32])| -> f64 {
                    row.iter().zip(&target[(c * h + y) * w..]).map(square).sum()
                };
                outputs.errors[0] = strip.output().map(error).sum();
            });
        });
        self.errors = errors;
        self.errors.iter().sum()
    }

    /// Appends the samples of each of these ranges of rows of the picture, clamped to `[0, 1]`, to `out`. `changed` says that
    /// weights of the upsampling, or grids, have changed since the last call.
    pub fn rows(
        &mut self,
        level: Level,
        weights: &[f32],
        grids: &[PlaneView],
        ranges: &[Range<usize>],
        changed: bool,
        out: &mut Vec<f32>,
    ) {
        match changed {
            true => self.coarse_maps(level, weights, grids),
            false => self.network.load(weights),
        }
        let samples = |rows: &Range<usize>| {
            self.with_strip(|strip| {
                self.strip_forward(level, strip, grids, rows);
                strip.output().flat_map(|(_, _, row)| row.iter().map(|v| v.clamp(0.0, 1.0))).collect::<Vec<_>>()
            })
        };
        let samples: Vec<_> = ranges.par_iter().map(samples).collect();
        samples.iter().for_each(|samples| out.extend(samples));
    }

    /// Given `dout`, the gradient of a loss by the picture, adds its gradients by grids and weights. The forward pass is made
    /// again. Where the picture is clamped the gradient is zero.
    pub fn backward(
        &mut self,
        level: Level,
        weights: &[f32],
        grids: &[PlaneView],
        dout: &[f32],
        dgrids: &mut [PlaneViewMut],
        dweights: &mut [f32],
    ) {
        let (w, h) = self.sizes[0];
        self.passes(level, weights, grids, dgrids, dweights, |y, c, row| {
            let dout = &dout[(c * h + y) * w..][..w];
            row.iter_mut().zip(dout).for_each(|(v, d)| *v = if (0.0..=1.0).contains(v) { *d } else { 0.0 });
            0.0
        });
    }

    /// Returns the sum of squared errors, and adds the gradients of `scale` times this sum by grids and weights.
    pub fn forward_backward(
        &mut self,
        level: Level,
        weights: &[f32],
        grids: &[PlaneView],
        target: &[f32],
        dgrids: &mut [PlaneViewMut],
        dweights: &mut [f32],
        scale: f32,
    ) -> f64 {
        let (w, h) = self.sizes[0];
        self.passes(level, weights, grids, dgrids, dweights, |y, c, row| {
            squared_error(level, row, &target[(c * h + y) * w..][..w], 2.0 * scale)
        })
    }

    /// The forward and the backward pass. `f(y, channel, row)` replaces a row of the picture, not clamped, by the gradient
    /// towards it, and returns the row's part of the loss; the sum of these is returned.
    fn passes(
        &mut self,
        level: Level,
        weights: &[f32],
        grids: &[PlaneView],
        dgrids: &mut [PlaneViewMut],
        dweights: &mut [f32],
        f: impl Fn(usize, usize, &mut [f32]) -> f64 + Sync,
    ) -> f64 {
        self.coarse_maps(level, weights, grids);
        self.dmaps.iter_mut().for_each(Planes::clear);
        let mut dmaps = std::mem::take(&mut self.dmaps);
        let (mut sums, mut errors) = (std::mem::take(&mut self.sums), std::mem::take(&mut self.errors));
        let layers = Strip::weights_count(&self.network);
        let count = layers + TAPS;
        let (h, mut loss) = (self.sizes[0].1, 0.0);
        // The picture's scale: first the even strips, then the odd ones, as they write to rows beside their own.
        for strips in [0, 1].map(|odd| self.strips.every_second(odd)) {
            let mut outputs = gradient_outputs(&mut dgrids[self.grids[0].clone()], dmaps.first_mut());
            (outputs.sums, outputs.errors) = (&mut sums[..strips.count * count], &mut errors[..strips.count]);
            strips.for_each(outputs, &|rows, mut outputs| {
                self.with_strip(|strip| {
                    self.strip_forward(level, strip, grids, &rows);
                    let (layers, taps) = outputs.sums.split_at_mut(layers);
                    outputs.errors[0] = strip.backward(level, &self.network, layers, &f);
                    // The filters of the grids reach 3 rows, those of the coarser maps 2.
                    let maps = strip.map_rows();
                    let grid_rows = maps.start.saturating_sub(3)..(maps.end + 3).min(h);
                    let coarser_rows = (maps.start / 2).saturating_sub(2)..maps.end.div_ceil(2) + 2;
                    let (g, rows) = (strip.map_gradients(), (grid_rows, coarser_rows));
                    self.filters_backward(level, 0, grids, g, rows, &mut outputs.planes, &mut outputs.coarser, taps);
                });
            });
            for sums in sums.chunks_exact(count).take(strips.count) {
                self.network.scatter_layers(&sums[..layers], dweights);
                self.scatter_taps(0, &sums[layers..], dweights);
            }
            loss += errors[..strips.count].iter().sum::<f64>();
        }
        // The coarser scales, one after the other. Their gradients are whole, so that strips write to their own rows only.
        for s in 1..self.sizes.len() {
            let (finer, coarser) = dmaps.split_at_mut(s);
            let g = &finer[s - 1];
            let strips = coarse_strips(self.sizes[s]);
            let h = self.sizes[s].1;
            let mut outputs = gradient_outputs(&mut dgrids[self.grids[s].clone()], coarser.first_mut());
            outputs.sums = &mut sums[..strips.count * TAPS];
            strips.for_each(outputs, &|rows, mut outputs| {
                let rows = (rows.start..rows.end.min(h), rows.start / 2..rows.end / 2);
                let StripOutputs { planes, coarser, sums, .. } = &mut outputs;
                self.filters_backward(level, s, grids, g, rows, planes, coarser, sums);
            });
            sums.chunks_exact(TAPS).take(strips.count).for_each(|sums| self.scatter_taps(s, sums, dweights));
        }
        (self.dmaps, self.sums, self.errors) = (dmaps, sums, errors);
        loss
    }

    /// Runs `f` with memory for a strip that no other thread uses meanwhile.
    fn with_strip<R>(&self, f: impl FnOnce(&mut Strip) -> R) -> R {
        let maps = self.grids.iter().map(Range::len).sum();
        let make = || Strip::new(&self.network, self.channels, maps, self.sizes[0], self.strips.rows);
        self.workspaces.lend(make, f)
    }

    /// Loads the weights and computes the maps of all scales after `finest`.
    fn coarse_maps(&mut self, level: Level, weights: &[f32], grids: &[PlaneView]) {
        self.network.load(weights);
        for s in (1..self.sizes.len()).rev() {
            let grids = &grids[self.grids[s].clone()];
            let (fine, coarser) = self.maps.split_at_mut(s);
            let maps = &mut fine[s - 1];
            match coarser.first() {
                Some(coarser) => {
                    let (size, filters) = (self.sizes[s], filters(&self.network, s));
                    maps.strips_mut(coarse_strips(size).rows).for_each(|(y0, strip)| {
                        upsampling::forward(level, &filters, grids, coarser, size, y0, strip);
                    });
                }
                None => maps.copy_from(grids),
            }
        }
    }

    /// The forward pass of these rows of the picture.
    fn strip_forward(&self, level: Level, strip: &mut Strip, grids: &[PlaneView], rows: &Range<usize>) {
        let coarser = self.maps.first().map(|coarser| (filters(&self.network, 0), coarser));
        strip.forward(level, &self.network, coarser, &grids[self.grids[0].clone()], rows);
    }

    /// The backward pass of the filters of scale number `s` from `finest` on. `g` has gradients towards the maps of this scale
    /// (rows that it does not have are zero). Adds the gradients towards `rows` of the grids to `dgrids` and those towards
    /// `coarser_rows` of the maps of the next coarser scale to `dcoarser`. Sets `taps` to the gradients by the taps.
    fn filters_backward(
        &self,
        level: Level,
        s: usize,
        grids: &[PlaneView],
        g: &Planes,
        (rows, coarser_rows): (Range<usize>, Range<usize>),
        dgrids: &mut [PlaneRows],
        dcoarser: &mut PlaneRows,
        taps: &mut [f32],
    ) {
        let own = self.grids[s].clone();
        let Some(coarser) = self.maps.get(s) else {
            // The coarsest scale has no filters: its maps are its grids.
            for (map, y) in (0..own.len()).flat_map(|map| rows.clone().map(move |y| (map, y))) {
                if g.rows.contains(&y) {
                    let to = &mut dgrids[map].row(y)[..g.w];
                    to.iter_mut().zip(&g.row(y, map)[PAD..]).for_each(|(d, v)| *d += v);
                }
            }
            return;
        };
        let filters = filters(&self.network, s);
        for (map, n) in own.enumerate() {
            let d = upsampling::pre_backward(level, filters.pre, &grids[n], g, map, rows.clone(), &mut dgrids[map]);
            taps[4 * map..][..4].copy_from_slice(&d);
        }
        let coarser_rows = coarser_rows.start..coarser_rows.end.min(coarser.h);
        let d = upsampling::up_backward(level, filters.up, g, coarser, coarser_rows, dcoarser);
        taps[TAPS - 4..].copy_from_slice(&d);
    }

    /// Adds the gradients by the taps of scale number `s` to those of all weights.
    fn scatter_taps(&self, s: usize, taps: &[f32], dweights: &mut [f32]) {
        if s + 1 == self.sizes.len() {
            return;
        }
        let scale = s + self.network.finest;
        let mut add = |at: &Range<usize>, d: &[f32]| dweights[at.clone()].iter_mut().zip(d).for_each(|(w, d)| *w += d);
        (0..self.grids[s].len()).for_each(|map| add(&self.network.ranges.pre[scale], &taps[4 * map..][..4]));
        add(&self.network.ranges.up[scale], &taps[TAPS - 4..]);
    }
}

/// The filters of the step to scale number `s` from `finest` on.
fn filters(network: &Network, s: usize) -> Filters {
    let scale = s + network.finest;
    Filters { up: network.up[scale], pre: network.pre[scale] }
}

/// The strips of a coarser scale of `w` columns and `h` rows.
fn coarse_strips((w, h): (usize, usize)) -> Strips {
    Strips::all(h, MIN_COARSE_ROWS.max(MIN_COARSE_PIXELS.div_ceil(w).next_multiple_of(4)))
}

/// The gradients towards the grids of a scale and towards the maps of the next coarser scale, as outputs of strips.
fn gradient_outputs<'a>(dgrids: &'a mut [PlaneViewMut], dcoarser: Option<&'a mut Planes>) -> StripOutputs<'a> {
    let mut outputs = StripOutputs::default();
    for (rows, grid) in outputs.planes.iter_mut().zip(dgrids) {
        *rows = PlaneRows::new(grid.stride, grid.data);
    }
    if let Some(planes) = dcoarser {
        outputs.coarser = PlaneRows::new(planes.count * planes.stride, planes.all_mut());
    }
    outputs
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fit::pyramid::reference::{self, tests::*, Plane};
    use tilefit_testing::Noise;

    /// Grids with rows at a stride of their width + 3, filled by `f`.
    fn filled(sizes: &[(usize, usize)], mut f: impl FnMut() -> f64) -> Vec<Vec<f32>> {
        sizes.iter().map(|(w, h)| (0..(w + 3) * h).map(|_| f() as f32).collect()).collect()
    }

    fn views<'a>(sizes: &[(usize, usize)], grids: &'a [Vec<f32>]) -> Vec<PlaneView<'a>> {
        grids.iter().zip(sizes).map(|(data, s)| PlaneView { data, stride: s.0 + 3 }).collect()
    }

    fn views_mut<'a>(sizes: &[(usize, usize)], grids: &'a mut [Vec<f32>]) -> Vec<PlaneViewMut<'a>> {
        grids.iter_mut().zip(sizes).map(|(data, s)| PlaneViewMut { data, stride: s.0 + 3 }).collect()
    }

    fn close(what: &str, got: f32, want: f64, size: f64) {
        assert!((got as f64 - want).abs() <= 2e-4 * (size + want.abs()), "{what}: {got} instead of {want}");
    }

    #[test]
    fn equals_the_plain_loops() {
        let mut noise = Noise::new(3);
        let levels = Level::available();
        for round in 0..60 {
            let (spec, mut width, mut height, finest) = case(&mut noise);
            if round % 6 == 5 {
                (width, height) = (70 + width, 60 + height); // several strips
            }
            let level = levels[round % levels.len()];
            let weights = random_weights(&spec, &mut noise);
            let rows = [STRIP_ROWS, 16, 48, 32][round % 4];
            let mut model = SynthModel::with_strips(&spec, width, height, finest, rows);
            let of_scale = |(size, s): (&(usize, usize), u32)| vec![*size; spec.synthesised_at(s)];
            let sizes: Vec<_> = model.sizes().iter().zip(finest..).flat_map(of_scale).collect();
            let data = filled(&sizes, || noise.signed());
            let grids = views(&sizes, &data);
            let weights32: Vec<f32> = weights.iter().map(|w| *w as f32).collect();
            let weights: Vec<f64> = weights32.iter().map(|w| *w as f64).collect();
            let maps: Vec<Plane> = grids
                .iter()
                .zip(&sizes)
                .map(|(g, &(w, h))| Plane {
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
            let dout: Vec<f32> = (0..n).map(|_| noise.signed() as f32).collect();
            let dmaps: Vec<Plane> =
                dout.chunks(w * h).map(|c| Plane { w, h, v: c.iter().map(|v| *v as f64).collect() }).collect();
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
            let target: Vec<f32> = (0..n).map(|_| 0.5 + 0.5 * noise.signed() as f32).collect();
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
        let mut noise = Noise::new(5);
        let weights: Vec<f32> = random_weights(&spec, &mut noise).iter().map(|w| *w as f32).collect();
        let run = |threads: usize| {
            let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build().unwrap();
            let mut model = SynthModel::new(&spec, 100, 150, 0);
            let sizes = model.sizes().to_vec();
            let mut noise = Noise::new(6);
            let data = filled(&sizes, || noise.signed());
            let target: Vec<f32> = (0..3 * 100 * 150).map(|_| noise.signed() as f32).collect();
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
