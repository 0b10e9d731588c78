//! From integer codes to samples: the decoder's upsampling and synthesis.
//!
//! For the picture at `1/2^scale` the grids of scales `scale ..= depth` are used; finer ones count as zero. With one grid a
//! scale, and `z_j` its codes:
//!
//! 1. `maps(depth) = [z_depth]`; for `j = depth-1 .. scale`: `maps(j) = [pre_j(z_j), up_j(m) for m in maps(j+1)]`.
//!    `up_j`: along rows, then along columns, `out[2u] = a x[u-2] + c x[u-1] + d x[u] + b x[u+1]` and
//!    `out[2u+1] = b x[u-1] + d x[u] + c x[u+1] + a x[u+2]`; indices are clamped to the grid, outputs beyond the size of
//!    the finer grid are dropped. `pre_j`: along rows, then along columns, `a (x[-3] + x[3]) + b (x[-2] + x[2]) +
//!    c (x[-1] + x[1]) + d x[0]` with zeros outside; the code itself is added last.
//! 2. The maps of a pixel pass through the 1x1 layers. The last of these adds the stabiliser: its sum starts at the sum of
//!    both biases, then come the products of the stabiliser, then those of the layer.
//! 3. 3x3 layers, which repeat the edge of the picture outside; a residual layer has 1 added to its centre weights.
//! 4. A sample is `floor(peak v + 1/2)`, clamped to `0 ..= peak`; the peak is `2^depth - 1`.
//!
//! All arithmetic is f32 with sums from the left and no fused operations, so that every machine gets the same samples. The
//! picture is computed in blocks, each from the codes that it depends on: memory is bounded, and a region has the same
//! samples as that part of the whole picture.

use super::network::Network;
use super::spec::PyramidSpec;
use crate::error::{Error, Result};
use crate::image::{PixelFormat, Rect};
use crate::models::Grid;
use alloc::{format, vec, vec::Vec};
use kernels::exact::conv3x3::conv3x3;
use kernels::exact::pointwise::{pointwise, Pointwise};
use kernels::exact::samples::to_samples;
use kernels::exact::upsample::{phases, symmetric7, widen};
use kernels::Level;

/// Size of a block in pixels. The ten or so maps of a block, 32 KiB each, stay in the second-level cache.
const BLOCK_WIDTH: usize = 256;
const BLOCK_HEIGHT: usize = 32;

/// Values before and after each row: room for filter tails and for whole vectors of 16.
const PAD: usize = 16;

/// What a region of the picture at `1/2^scale` depends on.
struct Support {
    /// The region, then the pixels that each 3x3 layer reads, the last layer first. The last entry is what the 1x1 layers
    /// compute.
    layers: Vec<Rect>,
    /// The part of the maps of each scale, from `scale` to `depth`.
    maps: Vec<Rect>,
    /// The part of the grids of each scale, from `scale` to `depth`.
    codes: Vec<Rect>,
}

impl Support {
    fn new(spec: &PyramidSpec, region: Rect, size: (usize, usize), scale: u32) -> Support {
        let size_at = |s: u32| (size.0.div_ceil(1 << s), size.1.div_ceil(1 << s));
        let (w, h) = size_at(scale);
        let mut layers = vec![region];
        for _ in spec.trunk.iter().filter(|l| l.kernel == 3) {
            layers.push(layers[layers.len() - 1].grown(1, w, h));
        }
        let mut maps = vec![layers[layers.len() - 1]];
        for s in scale + 1..=spec.depth {
            let (w, h) = size_at(s);
            let r = maps[maps.len() - 1];
            let half = Rect::new(r.x0 / 2, r.y0 / 2, r.x1.div_ceil(2), r.y1.div_ceil(2));
            maps.push(half.grown(2, w, h));
        }
        let codes = (scale..=spec.depth).zip(&maps).map(|(s, r)| {
            let (w, h) = size_at(s);
            if s == spec.depth {
                *r
            } else {
                r.grown(3, w, h)
            }
        });
        Support { codes: codes.collect(), layers, maps }
    }
}

/// The codes that `region` (in pixels at `1/2^scale`) of a picture of `size` depends on, for each grid in coding order;
/// empty for hyper-grids and for grids finer than `scale`. `scale` is at most the depth of `spec`.
pub fn support(spec: &PyramidSpec, region: Rect, size: (usize, usize), scale: u32) -> Vec<Rect> {
    let codes = Support::new(spec, region, size, scale).codes;
    let grids = spec.coding_order();
    let needed = |g: &super::spec::PyramidGrid| !g.hyper && g.scale >= scale && !region.is_empty();
    grids.iter().map(|g| if needed(g) { codes[(g.scale - scale) as usize] } else { Rect::default() }).collect()
}

/// Bytes that each thread of [`synthesise`] allocates at most for a region of `width x height` at `1/2^scale`: the working
/// memory of one block.
pub fn memory(spec: &PyramidSpec, width: usize, height: usize, scale: u32) -> u64 {
    // A block far from the edges, at odd coordinates, depends on most.
    let far = 1 << 20;
    let block = Rect::new(far - 1, far - 1, far + width.min(BLOCK_WIDTH), far + height.min(BLOCK_HEIGHT));
    let support = Support::new(spec, block, (far << 4, far << 4), scale);
    let stride = |r: &Rect| r.width().next_multiple_of(16) + 2 * PAD;
    let values = |r: &Rect, count: usize| r.height() * count * stride(r);
    let maps = (scale..=spec.depth).zip(&support.maps).map(|(s, r)| values(r, spec.maps_at(s)));
    let layers = support.layers.iter().map(|r| values(r, spec.channels));
    let steps = support.maps.windows(2).map(|r| {
        let narrow = (r[0].width() / 2 + 1).next_multiple_of(16);
        (r[0].height() + 9) * stride(&r[0]) + r[1].height() * (2 * narrow + 16) + 2 * narrow
    });
    let hidden: usize = spec.trunk.iter().map(|l| l.outputs).sum();
    let scratch = steps.max().unwrap_or(0).max(hidden * Pointwise::MAX_STRIP);
    // The two buffers of maps and the two of layers change places: each becomes as large as the largest.
    4 * (2 * maps.max().unwrap_or(0) + 2 * layers.max().unwrap_or(0) + scratch) as u64
}

/// Refuses a shape that [`synthesise`] does not run. It runs 1x1 layers, the last of them linear and with the picture's
/// channels, then 3x3 layers of these channels; residual layers have as many inputs as outputs.
pub fn check(spec: &PyramidSpec) -> Result<()> {
    let ones = spec.trunk.iter().take_while(|l| l.kernel == 1).count();
    let mut inputs = spec.maps();
    for (n, l) in spec.trunk.iter().enumerate() {
        let last = n + 1 == ones;
        if (n >= ones && l.kernel != 3)
            || (n + 1 >= ones && l.outputs != spec.channels)
            || (last && l.relu)
            || (l.residual && l.outputs != inputs)
            || l.outputs == 0
        {
            return Err(Error::format(format!(
                "synthesis layer {n} ({0}x{0} of {1} channels) is not one that this version runs",
                l.kernel, l.outputs
            )));
        }
        inputs = l.outputs;
    }
    if ones == 0 || !(1..=PixelFormat::MAX_CHANNELS).contains(&spec.channels) {
        return Err(Error::format("the synthesis must start with 1x1 layers and end in 1 to 16 channels"));
    }
    Ok(())
}

/// Computes the samples of `region` at `1/2^scale`: see [`Model::synthesise`](crate::models::Model::synthesise). `codes`
/// are in coding order, `weights` flat in the order of `spec`, which has passed [`check`].
///
/// # Errors
/// Codes that do not cover what the region depends on, and a `scale` beyond the coarsest grid.
pub fn synthesise(
    spec: &PyramidSpec,
    weights: &[f32],
    level: Level,
    codes: &[Grid],
    size: (usize, usize),
    region: Rect,
    scale: u32,
    peak: u16,
    out: &mut [u16],
) -> Result<()> {
    if region.is_empty() {
        return Ok(());
    }
    if scale > spec.depth {
        return Err(Error::format(format!("scale 1/2^{scale} is coarser than the coarsest grid, 1/2^{}", spec.depth)));
    }
    let grids = spec.coding_order();
    for ((grid, need), g) in codes.iter().zip(support(spec, region, size, scale)).zip(&grids) {
        let whole = grid.codes.len() == grid.rect.area();
        if !whole || (!need.is_empty() && grid.rect.intersect(&need) != need) {
            return Err(Error::format(format!("codes at scale {} do not cover the region", g.scale)));
        }
    }
    let mut network = Network::new(spec, scale as usize);
    network.load(weights);
    let task = Task {
        spec,
        network,
        level,
        grids: (scale..=spec.depth)
            .map(|s| grids.iter().zip(codes).rev().filter(|(g, _)| g.scale == s && !g.hyper).map(|(_, c)| c).collect())
            .collect(),
        size,
        scale,
        peak,
    };
    if task.grids.iter().zip(scale..).any(|(g, s)| g.len() != spec.synthesised_at(s)) {
        return Err(Error::format("codes of a grid are missing"));
    }
    let row = region.width() * spec.channels;
    let out = &mut out[..row * region.height()];
    #[cfg(feature = "threads")]
    {
        use rayon::prelude::*;
        let strips = out.par_chunks_mut(row * BLOCK_HEIGHT).enumerate();
        strips.for_each_init(Workspace::default, |space, (n, strip)| task.strip(space, region, n, strip));
    }
    #[cfg(not(feature = "threads"))]
    {
        let mut space = Workspace::default();
        let strips = out.chunks_mut(row * BLOCK_HEIGHT).enumerate();
        strips.for_each(|(n, strip)| task.strip(&mut space, region, n, strip));
    }
    Ok(())
}

/// A rectangle of several planes of one scale: `[height][count][stride]`, the values of a row at `PAD ..` of its stride.
#[derive(Default)]
struct Planes {
    rect: Rect,
    count: usize,
    stride: usize,
    values: Vec<f32>,
}

impl Planes {
    /// Makes room for `rect` of `count` planes. The values are arbitrary.
    fn reset(&mut self, rect: Rect, count: usize) {
        self.stride = rect.width().next_multiple_of(16) + 2 * PAD;
        (self.rect, self.count) = (rect, count);
        let n = rect.height() * count * self.stride;
        if self.values.len() < n {
            self.values.resize(n, 0.0);
        }
    }

    /// Row `y` of a plane, from its padding on, and everything after it.
    fn row(&self, y: usize, plane: usize) -> &[f32] {
        &self.values[((y - self.rect.y0) * self.count + plane) * self.stride..]
    }

    /// As [`row`](Self::row).
    fn row_mut(&mut self, y: usize, plane: usize) -> &mut [f32] {
        &mut self.values[((y - self.rect.y0) * self.count + plane) * self.stride..]
    }

    /// Repeats the first and the last value of each row into its padding. It matters at the picture's edge only.
    fn repeat_edges(&mut self) {
        let w = self.rect.width();
        for row in self.values.chunks_exact_mut(self.stride).take(self.rect.height() * self.count) {
            let (first, last) = (row[PAD], row[PAD + w - 1]);
            row[PAD - 2..PAD].fill(first);
            row[PAD + w..PAD + w + 2].fill(last);
        }
    }
}

/// Memory of one thread, bounded by the size of a block.
#[derive(Default)]
struct Workspace {
    /// Maps of the scale that is computed.
    fine: Planes,
    /// Maps of the next coarser scale.
    coarse: Planes,
    /// Output of the last layer that was computed.
    picture: Planes,
    /// Output of the layer that is computed.
    next: Planes,
    scratch: Vec<f32>,
}

/// One call of [`synthesise`].
struct Task<'a> {
    spec: &'a PyramidSpec,
    network: Network,
    level: Level,
    /// The synthesised grids of each scale from `scale` to `depth`, in the order of their maps.
    grids: Vec<Vec<&'a Grid>>,
    /// Width and height of the full-size picture.
    size: (usize, usize),
    /// The output is at `1/2^scale`.
    scale: u32,
    /// The largest sample.
    peak: u16,
}

impl Task<'_> {
    /// Computes strip `n` of the region, a row of blocks, into `out`.
    fn strip(&self, space: &mut Workspace, region: Rect, n: usize, out: &mut [u16]) {
        let c = self.spec.channels;
        let y0 = region.y0 + n * BLOCK_HEIGHT;
        let y1 = (y0 + BLOCK_HEIGHT).min(region.y1);
        for x0 in (region.x0..region.x1).step_by(BLOCK_WIDTH) {
            let block = Rect::new(x0, y0, (x0 + BLOCK_WIDTH).min(region.x1), y1);
            self.block(space, block);
            for y in y0..y1 {
                for channel in 0..c {
                    let x = &space.picture.row(y, channel)[PAD..][..block.width()];
                    let at = ((y - y0) * region.width() + x0 - region.x0) * c + channel;
                    to_samples(self.level, x, self.peak, &mut out[at..], c);
                }
            }
        }
    }

    /// Computes the pixels of a block, not clamped, into `space.picture`.
    fn block(&self, space: &mut Workspace, block: Rect) {
        let support = Support::new(self.spec, block, self.size, self.scale);
        let Workspace { fine, coarse, picture, next, scratch } = space;
        let last = self.grids.len() - 1;
        fine.reset(support.maps[last], self.grids[last].len());
        let rect = support.maps[last];
        for (plane, grid) in self.grids[last].iter().enumerate() {
            for y in rect.y0..rect.y1 {
                code_row(grid, y, rect.x0, &mut fine.row_mut(y, plane)[PAD..][..rect.width()]);
            }
        }
        fine.repeat_edges();
        for s in (0..last).rev() {
            std::mem::swap(fine, coarse);
            fine.reset(support.maps[s], coarse.count + self.grids[s].len());
            self.step(s, coarse, fine, scratch);
            fine.repeat_edges();
        }
        self.pixels(fine, picture, scratch);
        for (n, conv) in self.network.convs.iter().enumerate() {
            picture.repeat_edges();
            let to = support.layers[self.network.convs.len() - 1 - n];
            next.reset(to, self.spec.channels);
            let (stride, from) = (picture.stride, picture.rect);
            let out_stride = next.stride;
            for y in to.y0..to.y1 {
                let rows = [y.saturating_sub(1).max(from.y0), y, (y + 1).min(from.y1 - 1)];
                let left = PAD + to.x0 - from.x0 - 1;
                let rows = rows.map(|y| &picture.row(y, 0)[left..]);
                let out = &mut next.row_mut(y, 0)[PAD..];
                let n = to.width().next_multiple_of(16);
                conv3x3(self.level, &conv.weights, &conv.bias, rows, stride, out, out_stride, n, conv.relu);
            }
            std::mem::swap(picture, next);
        }
    }

    /// Runs the 1x1 layers.
    fn pixels(&self, maps: &Planes, picture: &mut Planes, scratch: &mut Vec<f32>) {
        let net = &self.network.pixels;
        picture.reset(maps.rect, self.spec.channels);
        let scratch = at_least(scratch, net.scratch());
        let n = maps.rect.width().next_multiple_of(16);
        let stride = picture.stride;
        for y in maps.rect.y0..maps.rect.y1 {
            let to = &mut picture.row_mut(y, 0)[PAD..];
            pointwise(self.level, net, &maps.row(y, 0)[PAD..], maps.stride, to, stride, n, scratch);
        }
    }

    /// One step of the upsampling: computes the maps of scale `self.scale + s` from those of the next coarser scale and from
    /// the grids of this scale.
    fn step(&self, s: usize, coarse: &Planes, fine: &mut Planes, scratch: &mut Vec<f32>) {
        let scale = s + self.scale as usize;
        let (up, pre) = (self.network.up[scale], self.network.pre[scale]);
        let (rect, stride) = (fine.rect, fine.stride);
        let (w, h) = (rect.width(), rect.height());
        let n = w.next_multiple_of(16);
        let (width, height) = (self.size.0.div_ceil(1 << scale), self.size.1.div_ceil(1 << scale));
        // The columns of the coarser maps that are upsampled along their rows.
        let (u0, u1) = (rect.x0 / 2, rect.x1.div_ceil(2));
        let narrow = (u1 - u0).next_multiple_of(16);
        let wide_stride = 2 * narrow + 16;
        let wide_rows = coarse.rect.height();
        let scratch = at_least(scratch, (h + 9) * stride + wide_rows * wide_stride + 2 * narrow);
        let (wide, scratch) = scratch.split_at_mut(wide_rows * wide_stride);
        let (even_columns, scratch) = scratch.split_at_mut(narrow);
        let (odd_columns, scratch) = scratch.split_at_mut(narrow);
        let (codes, scratch) = scratch.split_at_mut(stride);
        // The kernel computes rows in pairs; a row outside the rectangle goes here.
        let (unused, filtered) = scratch.split_at_mut(stride);
        let filtered = &mut filtered[..(h + 6) * stride];

        // This scale's grids, filtered along rows (rows rect.y0 - 3 .. rect.y1 + 3), then along columns.
        for (plane, grid) in self.grids[s].iter().enumerate() {
            for (k, row) in filtered.chunks_exact_mut(stride).enumerate() {
                match (rect.y0 + k).checked_sub(3).filter(|y| *y < height) {
                    Some(y) => {
                        padded_code_row(grid, y, rect, width, codes);
                        let shifted = [0, 1, 2, 3, 4, 5, 6].map(|k| &codes[PAD - 3 + k..]);
                        symmetric7(self.level, pre, shifted, None, row, n);
                    }
                    None => row.fill(0.0),
                }
            }
            for y in rect.y0..rect.y1 {
                padded_code_row(grid, y, rect, width, codes);
                let rows = [0, 1, 2, 3, 4, 5, 6].map(|k| &filtered[(y - rect.y0 + k) * stride..]);
                symmetric7(self.level, pre, rows, Some(&codes[PAD..]), &mut fine.row_mut(y, plane)[PAD..], n);
            }
        }

        // The coarser maps, upsampled along rows, then along columns.
        let (count, own) = (fine.count, self.grids[s].len());
        for m in 0..coarse.count {
            for (y, row) in (coarse.rect.y0..coarse.rect.y1).zip(wide.chunks_exact_mut(wide_stride)) {
                let x = &coarse.row(y, m)[PAD + u0 - 2 - coarse.rect.x0..];
                widen(self.level, up, x, even_columns, odd_columns, row, narrow);
            }
            let (top, bottom) = (coarse.rect.y0 as isize, coarse.rect.y1 as isize - 1);
            let skip = rect.x0 - 2 * u0;
            let row = |u: isize| &wide[(u.clamp(top, bottom) - top) as usize * wide_stride + skip..];
            for u in rect.y0 / 2..rect.y1.div_ceil(2) {
                let v = u as isize;
                let rows = [row(v - 2), row(v - 1), row(v), row(v + 1), row(v + 2)];
                let y = 2 * u;
                if y < rect.y0 {
                    phases(self.level, up, rows, unused, &mut fine.row_mut(y + 1, m + own)[PAD..], n);
                } else if y + 1 == rect.y1 {
                    phases(self.level, up, rows, &mut fine.row_mut(y, m + own)[PAD..], unused, n);
                } else {
                    let (first, second) = fine.row_mut(y, m + own).split_at_mut(count * stride);
                    phases(self.level, up, rows, &mut first[PAD..], &mut second[PAD..], n);
                }
            }
        }
    }
}

/// Writes the codes of row `y` from `rect.x0` on to `out[PAD ..]`, with three more on each side; zeros outside the grid,
/// which has `width` columns.
fn padded_code_row(grid: &Grid, y: usize, rect: Rect, width: usize, out: &mut [f32]) {
    out.fill(0.0);
    let x0 = rect.x0.saturating_sub(3);
    let x1 = (rect.x1 + 3).min(width);
    code_row(grid, y, x0, &mut out[PAD + x0 - rect.x0..][..x1 - x0]);
}

/// Writes the codes of row `y` from column `x0` on.
fn code_row(grid: &Grid, y: usize, x0: usize, to: &mut [f32]) {
    let at = (y - grid.rect.y0) * grid.rect.width() + x0 - grid.rect.x0;
    to.iter_mut().zip(&grid.codes[at..]).for_each(|(t, c)| *t = *c as f32);
}

/// `n` values of `scratch`, which grows if need be; the values are arbitrary.
fn at_least(scratch: &mut Vec<f32>, n: usize) -> &mut [f32] {
    if scratch.len() < n {
        scratch.resize(n, 0.0);
    }
    &mut scratch[..n]
}

#[cfg(all(test, feature = "fit"))]
mod tests {
    use super::*;
    use crate::fit::pyramid::reference::tests::{case, random_weights};
    use crate::fit::pyramid::synth::SynthModel;
    use crate::fit::pyramid::view::PlaneView;
    use crate::models::Codes;
    use proptest::prelude::*;
    use tilefit_testing::Noise;

    /// Codes over `rects` only.
    fn cut(whole: &Codes, rects: &[Rect]) -> Codes {
        let part = |(r, w): (&Rect, &Grid)| {
            let mut grid = Grid::new(*r, 1);
            grid.paste(w);
            grid
        };
        rects.iter().zip(whole).map(part).collect()
    }

    fn whole_codes(spec: &PyramidSpec, size: (usize, usize), noise: &mut Noise) -> Codes {
        let mut codes = Codes::new();
        for g in spec.coding_order() {
            let mut grid = Grid::new(Rect::whole(size.0, size.1).shrunk(g.scale), 1);
            grid.codes.iter_mut().for_each(|c| *c = (4.0 * noise.signed()) as i16);
            codes.push(grid);
        }
        codes
    }

    fn weights_for(spec: &PyramidSpec, noise: &mut Noise) -> Vec<f32> {
        random_weights(spec, noise).iter().map(|w| 0.4 * *w as f32).collect()
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(40))]
        #[test]
        fn a_region_is_that_region_of_the_whole(seed: u64, more_width in 0usize..300, more_height in 0usize..60) {
            let mut noise = Noise::new(seed);
            let (mut spec, width, height, scale) = case(&mut noise);
            spec.hyper_from = 1;
            check(&spec).unwrap();
            let size = (width + more_width, height + more_height);
            let weights = weights_for(&spec, &mut noise);
            let codes = whole_codes(&spec, size, &mut noise);
            let (w, h) = (size.0.div_ceil(1 << scale), size.1.div_ceil(1 << scale));
            let c = spec.channels;
            let mut want = vec![0; w * h * c];
            synthesise(&spec, &weights, Level::SCALAR, &codes, size, Rect::whole(w, h), scale, 255, &mut want).unwrap();
            for level in Level::available() {
                let (x0, y0) = (noise.below(w), noise.below(h));
                let region = Rect::new(x0, y0, x0 + 1 + noise.below(w - x0), y0 + 1 + noise.below(h - y0));
                // Nothing but the support is there.
                let part = cut(&codes, &support(&spec, region, size, scale));
                let mut got = vec![0; region.area() * c];
                synthesise(&spec, &weights, level, &part, size, region, scale, 255, &mut got).unwrap();
                for y in 0..region.height() {
                    let want = &want[((y0 + y) * w + x0) * c..][..region.width() * c];
                    prop_assert_eq!(&got[y * region.width() * c..][..want.len()], want, "{:?} row {}", level, y);
                }
            }
        }

        #[test]
        fn the_decoder_runs_what_was_trained(seed: u64, more in 0usize..200) {
            let mut noise = Noise::new(seed);
            let (spec, width, height, scale) = case(&mut noise);
            let size = (width + more, height);
            let weights = weights_for(&spec, &mut noise);
            let codes = whole_codes(&spec, size, &mut noise);
            let mut model = SynthModel::new(&spec, size.0, size.1, scale);
            let (w, h) = model.sizes()[0];
            let order = spec.coding_order();
            let seen = order.iter().zip(&codes).rev().filter(|(g, _)| g.scale >= scale && !g.hyper);
            let data: Vec<(u32, Vec<f32>)> =
                seen.map(|(g, c)| (g.scale, c.codes.iter().map(|c| *c as f32).collect())).collect();
            let grids: Vec<PlaneView> = data
                .iter()
                .map(|(s, data)| PlaneView { data, stride: model.sizes()[(s - scale) as usize].0 })
                .collect();
            let mut planes = vec![0f32; w * h * spec.channels];
            model.forward(Level::best(), &weights, &grids, &mut planes);
            let mut out = vec![0; planes.len()];
            synthesise(&spec, &weights, Level::best(), &codes, size, Rect::whole(w, h), scale, 255, &mut out).unwrap();
            for (n, p) in planes.iter().enumerate() {
                let sample = out[n % (w * h) * spec.channels + n / (w * h)];
                prop_assert!((sample as f32 - 255.0 * p).abs() < 0.51, "{}: {} for {}", n, sample, 255.0 * p);
            }
        }
    }

    #[test]
    fn what_does_not_fit_is_refused() {
        let spec = PyramidSpec::preset(3, 1, 4, 2, 8);
        let weights = vec![0.0; spec.weights_count()];
        let size = (40, 30);
        let codes = whole_codes(&spec, size, &mut Noise::new(1));
        let mut out = vec![0; 3 * 40 * 30];
        let mut run = |codes: &Codes, scale| {
            synthesise(&spec, &weights, Level::best(), codes, size, Rect::whole(1, 1), scale, 255, &mut out)
        };
        assert!(run(&codes, 0).is_ok());
        assert!(run(&codes, 9).unwrap_err().message().contains("coarser than"));
        let mut less = codes.clone();
        less[9] = Grid::new(Rect::new(1, 0, 40, 30), 1);
        assert!(run(&less, 0).unwrap_err().message().contains("do not cover"));
        assert!(run(&codes[..9].to_vec(), 0).unwrap_err().message().contains("missing"));
        let mut odd = spec.clone();
        odd.trunk[1].outputs = 2;
        assert!(check(&odd).is_err());
        odd.trunk.clear();
        assert!(check(&odd).is_err());
    }
}
