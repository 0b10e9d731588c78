//! The synthesis on one strip of the picture, by one thread: from grids to samples and, right after it, back to the
//! gradients. What a strip needs stays in the cache, and memory does not grow with the picture.

use super::planes::{repeat_edges, with_scratch, zero_edges, Planes, PAD};
use super::upsampling::{self, Filters};
use super::view::PlaneView;
use crate::image::PixelFormat;
use crate::models::pyramid::network::{Conv, Network};
use kernels::fast::{conv3x3, pointwise};
use kernels::Level;
use std::ops::Range;

/// The memory in which strips are computed, one after the other, and the values of the present one.
pub(super) struct Strip {
    /// The strip's rows. The planes below have a halo of rows on each side.
    rows: Range<usize>,
    /// The maps at the picture's scale. The backward pass replaces them by the gradients towards them.
    maps: Planes,
    /// The output of the 1x1 layers, then of each 3x3 layer. The backward pass replaces them likewise.
    layers: Vec<Planes>,
    /// Receives the gradient towards a layer, and is then exchanged with that layer.
    gradient: Planes,
    pointwise_sums: pointwise::Sums,
    /// The weights of a 3x3 layer for its backward pass: inputs and outputs exchanged, taps mirrored.
    transposed: Vec<f32>,
}

/// Rows of the halo on each side of a strip: one for each 3x3 layer, rounded up to an even number because the upsampling
/// computes rows in pairs.
fn halo(convs: usize) -> usize {
    convs.next_multiple_of(2)
}

impl Strip {
    /// Memory for strips of up to `rows` rows of a picture of width `w` and height `h` with `maps` maps.
    pub fn new(network: &Network, channels: usize, maps: usize, (w, h): (usize, usize), rows: usize) -> Strip {
        let rows = h.min(rows + 2 * halo(network.convs.len()));
        let planes = |count| Planes::strip(count, w, h, rows);
        Strip {
            rows: 0..0,
            maps: planes(maps),
            layers: (0..=network.convs.len()).map(|_| planes(channels)).collect(),
            gradient: planes(channels),
            pointwise_sums: pointwise::Sums::new(&network.pixels),
            transposed: vec![0.0; 9 * channels * channels],
        }
    }

    /// Number of gradients by weights that [`backward`](Self::backward) computes: those of the 1x1 and 3x3 layers.
    pub fn weights_count(network: &Network) -> usize {
        let convs: usize = network.convs.iter().map(conv_weights_count).sum();
        pointwise::Sums::new(&network.pixels).weights() + convs
    }

    /// Computes the output of the last layer, not clamped, in these rows of the picture. `coarser` has the filters of the
    /// last upsampling step and the maps of the next coarser scale, if there is one; `grids` are those of the picture's
    /// scale.
    pub fn forward(
        &mut self,
        level: Level,
        network: &Network,
        coarser: Option<(Filters, &Planes)>,
        grids: &[PlaneView],
        rows: &Range<usize>,
    ) {
        let (w, h, stride) = (self.maps.w, self.maps.h, self.maps.stride);
        self.rows = rows.start..rows.end.min(h);
        let halo = halo(network.convs.len());
        let computed = rows.start.saturating_sub(halo)..(rows.end + halo).min(h);
        let planes = self.layers.iter_mut().chain([&mut self.maps, &mut self.gradient]);
        planes.for_each(|p| p.set_rows(&computed));
        match coarser {
            Some((filters, coarser)) => {
                upsampling::forward(level, &filters, grids, coarser, (w, h), computed.start, self.maps.all_mut());
            }
            None => self.maps.copy_from(grids),
        }
        let net = &network.pixels;
        let (maps, first) = (&self.maps, &mut self.layers[0]);
        with_scratch(net.scratch(), |scratch| {
            for (y, out) in computed.clone().zip(first.rows_mut()) {
                let (x, n) = (&maps.row(y, 0)[PAD..], w.next_multiple_of(16));
                pointwise::pointwise(level, net, x, stride, &mut out[PAD..], stride, n, scratch);
                out.chunks_exact_mut(stride).for_each(|row| repeat_edges(row, w));
            }
        });
        for (n, conv) in network.convs.iter().enumerate() {
            let (before, after) = self.layers.split_at_mut(n + 1);
            let x = &before[n];
            for (y, out) in computed.clone().zip(after[0].rows_mut()) {
                let n = w.next_multiple_of(16);
                let around = x.around(y);
                let to = &mut out[PAD..];
                conv3x3::conv3x3(level, &conv.weights, &conv.bias, around, stride, to, stride, n, conv.relu);
                out.chunks_exact_mut(stride).for_each(|row| repeat_edges(row, w));
            }
        }
    }

    /// The strip's rows of the last layer: row number, channel, values.
    pub fn output(&self) -> impl Iterator<Item = (usize, usize, &[f32])> {
        let last = &self.layers[self.layers.len() - 1];
        let channels = move |y: usize| (0..last.count).map(move |c| (y, c, &last.row(y, c)[PAD..][..last.w]));
        self.rows.clone().flat_map(channels)
    }

    /// After [`backward`](Self::backward): the gradients towards the maps.
    pub fn map_gradients(&self) -> &Planes {
        &self.maps
    }

    /// The rows of the maps that the strip's output depends on.
    pub fn map_rows(&self) -> Range<usize> {
        self.dependencies(0)
    }

    /// The backward pass after [`forward`](Self::forward), down to [`map_gradients`](Self::map_gradients).
    ///
    /// `f(y, channel, row)` replaces a row of the output by the gradient towards it and returns the row's part of the loss;
    /// the sum of these is returned. `sums` are set to the gradients by the weights: those of the 1x1 layers in the order of
    /// [`pointwise::Sums`], then weights and bias of each 3x3 layer.
    pub fn backward(
        &mut self,
        level: Level,
        network: &Network,
        sums: &mut [f32],
        f: impl Fn(usize, usize, &mut [f32]) -> f64,
    ) -> f64 {
        let loss = self.output_gradient(network.convs.last().is_some_and(|c| c.relu), f);
        let mut sums = sums;
        for (n, conv) in network.convs.iter().enumerate().rev() {
            let (before, own) = sums.split_at_mut(sums.len() - conv_weights_count(conv));
            let relu_before = n > 0 && network.convs[n - 1].relu;
            self.conv_backward(level, n, conv, relu_before, own);
            sums = before;
        }
        self.pixels_backward(level, network, sums);
        loss
    }

    /// Turns the last layer into the gradient towards it, which is zero outside the strip's rows. `relu`: the layer has one.
    fn output_gradient(&mut self, relu: bool, f: impl Fn(usize, usize, &mut [f32]) -> f64) -> f64 {
        let (own, w, stride) = (self.rows.clone(), self.maps.w, self.maps.stride);
        let last = self.layers.last_mut().expect("at least the 1x1 layers' output");
        let mut loss = 0.0;
        for (y, rows) in last.rows.clone().zip(last.rows_mut()) {
            if !own.contains(&y) {
                rows.fill(0.0);
                continue;
            }
            for (c, row) in rows.chunks_exact_mut(stride).enumerate() {
                let values = &mut row[PAD..PAD + w];
                if relu {
                    // Where the ReLU cut an output off there is no gradient. Just below 0, where the picture is clamped,
                    // `f` gives none.
                    values.iter_mut().filter(|v| **v <= 0.0).for_each(|v| *v = -f32::MIN_POSITIVE);
                }
                loss += f(y, c, values);
                zero_edges(row, w);
            }
        }
        loss
    }

    /// The rows of layer `n` that the strip's output depends on: elsewhere the gradient towards it is zero.
    fn dependencies(&self, n: usize) -> Range<usize> {
        let convs = self.layers.len() - 1 - n;
        self.rows.start.saturating_sub(convs)..(self.rows.end + convs).min(self.maps.h)
    }

    /// From the gradient in `layers[n + 1]`, before its ReLU, to the one in `layers[n]`, before its ReLU if `relu_before`
    /// says that it has one. Sets `sums` to the gradients by the weights and the bias of `conv`.
    fn conv_backward(&mut self, level: Level, n: usize, conv: &Conv, relu_before: bool, sums: &mut [f32]) {
        let (c, w, h, stride) = (self.gradient.count, self.gradient.w, self.gradient.h, self.gradient.stride);
        for (o, i, k) in (0..9 * c * c).map(|t| (t / (9 * c), t / 9 % c, t % 9)) {
            self.transposed[(i * c + o) * 9 + 8 - k] = conv.weights[(o * c + i) * 9 + k];
        }
        let (rows, output_rows) = (self.dependencies(n), self.dependencies(n + 1));
        let (transposed, x, g) = (&self.transposed, &self.layers[n], &self.layers[n + 1]);
        sums.fill(0.0);
        let (dw, db) = sums.split_at_mut(9 * c * c);
        with_scratch(3 * c * stride, |scratch| {
            let (zeros, scratch) = scratch.split_at_mut(c * stride);
            let (dx, outside) = scratch.split_at_mut(c * stride);
            zeros.fill(0.0);
            let no_bias = [0f32; PixelFormat::MAX_CHANNELS];
            let g_row = |y: isize| -> &[f32] {
                match usize::try_from(y) {
                    Ok(y) if g.rows.contains(&y) => &g.row(y, 0)[PAD - 2..],
                    _ => zeros,
                }
            };
            for (y, out) in self.gradient.rows.clone().zip(self.gradient.rows_mut()) {
                if !rows.contains(&y) {
                    out.fill(0.0);
                    continue;
                }
                // Columns -1 ..= w and, at the picture's edge, rows -1 and h: positions outside stand for the edge that
                // they repeat, so their gradients are added to it.
                let n = (w + 2).next_multiple_of(16);
                let convolve = |y: isize, to: &mut [f32]| {
                    let rows = [g_row(y - 1), g_row(y), g_row(y + 1)];
                    conv3x3::conv3x3(level, transposed, &no_bias[..c], rows, stride, to, stride, n, false);
                };
                convolve(y as isize, dx);
                let rows_outside = [(y == 0).then_some(-1), (y + 1 == h).then_some(h as isize)];
                for v in rows_outside.into_iter().flatten() {
                    convolve(v, outside);
                    dx.iter_mut().zip(outside.iter()).for_each(|(a, b)| *a += b);
                }
                for (i, row) in out.chunks_exact_mut(stride).enumerate() {
                    let d = &mut dx[i * stride..][..w + 2];
                    d[1] += d[0];
                    d[w] += d[w + 1];
                    row[PAD..][..w].copy_from_slice(&d[1..=w]);
                    if relu_before {
                        let x = &x.row(y, i)[PAD..];
                        row[PAD..][..w].iter_mut().zip(x).for_each(|(d, x)| *d = if *x > 0.0 { *d } else { 0.0 });
                    }
                    zero_edges(row, w);
                }
                if output_rows.contains(&y) {
                    let g = &g.row(y, 0)[PAD..];
                    conv3x3::conv3x3_weights(level, g, stride, x.around(y), stride, dw, db, w.next_multiple_of(16));
                }
            }
        });
        std::mem::swap(&mut self.layers[n], &mut self.gradient);
    }

    /// From the gradient in the first layer to those in the maps. Sets `sums` to the gradients by the weights of the 1x1
    /// layers.
    fn pixels_backward(&mut self, level: Level, network: &Network, sums: &mut [f32]) {
        let net = &network.pixels;
        let (w, stride, rows, g) = (self.maps.w, self.maps.stride, self.map_rows(), &self.layers[0]);
        self.pointwise_sums.clear();
        with_scratch(net.scratch(), |scratch| {
            for (y, x) in self.maps.rows.clone().zip(self.maps.rows_mut()) {
                if !rows.contains(&y) {
                    x.fill(0.0);
                    continue;
                }
                let (g, n, sums) = (&g.row(y, 0)[PAD..], w.next_multiple_of(16), &mut self.pointwise_sums);
                pointwise::pointwise_back(level, net, &mut x[PAD..], stride, g, stride, n, sums, scratch);
                x.chunks_exact_mut(stride).for_each(|row| zero_edges(row, w));
            }
        });
        self.pointwise_sums.finish(sums);
    }
}

/// Number of weights and biases of a 3x3 layer.
fn conv_weights_count(conv: &Conv) -> usize {
    conv.weights.len() + conv.bias.len()
}
