//! A strip of the picture at its own size, by one thread: from grids to samples and back at once, so that what it needs
//! stays in the cache, and memory does not grow with the picture.

use super::planes::{repeat_edges, with_scratch, zero_edges, Planes, PAD};
use super::upsampling::{self, Filters};
use super::view::View;
use crate::models::pyramid::network::{Conv, Network};
use kernels::fast::{conv3x3, pointwise};
use kernels::Level;
use std::ops::Range;

/// What one strip after the other is computed in.
pub(super) struct Strip {
    /// The picture's rows that this is about.
    own: Range<usize>,
    /// Maps at the picture's size; the backward pass turns them into their gradients.
    maps: Planes,
    /// Output of the 1x1 layers, then of each 3x3 layer.
    layers: Vec<Planes>,
    /// Receives a gradient and then changes places with the layer it belongs to.
    spare: Planes,
    sums: pointwise::Sums,
    /// Weights of a 3x3 layer's backward pass.
    turned: Vec<f32>,
}

/// Rows that a strip sees on each side of its own: what 3x3 layers reach, and an even number of them, as the upsampling
/// works in pairs.
fn halo(convs: usize) -> usize {
    convs.next_multiple_of(2)
}

impl Strip {
    /// Strips of up to `rows` rows of a picture of `size`, width and height, with `maps` maps.
    pub fn new(network: &Network, channels: usize, maps: usize, (w, h): (usize, usize), rows: usize) -> Strip {
        let rows = h.min(rows + 2 * halo(network.convs.len()));
        let planes = |maps| Planes::strip(maps, w, h, rows);
        Strip {
            own: 0..0,
            maps: planes(maps),
            layers: (0..=network.convs.len()).map(|_| planes(channels)).collect(),
            spare: planes(channels),
            sums: pointwise::Sums::new(&network.pixels),
            turned: vec![0.0; 9 * channels * channels],
        }
    }

    /// Of the weights of 1x1 and 3x3 layers: how many sums [`back`](Self::back) gives.
    pub fn weights(network: &Network) -> usize {
        let convs: usize = network.convs.iter().map(conv_weights).sum();
        pointwise::Sums::new(&network.pixels).weights() + convs
    }

    /// The forward pass to the last layer, not clamped. `below` are the filters of the last step and the maps of the next coarser
    /// scale, if there is one.
    pub fn forward(
        &mut self,
        level: Level,
        network: &Network,
        below: Option<(Filters, &Planes)>,
        grids: &[View],
        own: &Range<usize>,
    ) {
        let (w, h, stride) = (self.maps.w, self.maps.h, self.maps.stride);
        self.own = own.start..own.end.min(h);
        let reach = halo(network.convs.len());
        let rows = own.start.saturating_sub(reach)..(own.end + reach).min(h);
        let planes = self.layers.iter_mut().chain([&mut self.maps, &mut self.spare]);
        planes.for_each(|p| p.move_to(&rows));
        match below {
            Some((filters, below)) => {
                upsampling::forward(level, &filters, grids, below, (w, h), rows.start, self.maps.all());
            }
            None => self.maps.copy_from(grids),
        }
        let net = &network.pixels;
        let (maps, first) = (&self.maps, &mut self.layers[0]);
        with_scratch(net.scratch(), |scratch| {
            for (y, out) in rows.clone().zip(first.rows_mut()) {
                let (x, n) = (&maps.row(y, 0)[PAD..], w.next_multiple_of(16));
                pointwise::pointwise(level, net, x, stride, &mut out[PAD..], stride, n, scratch);
                out.chunks_exact_mut(stride).for_each(|row| repeat_edges(row, w));
            }
        });
        for (n, conv) in network.convs.iter().enumerate() {
            let (before, after) = self.layers.split_at_mut(n + 1);
            let x = &before[n];
            for (y, out) in rows.clone().zip(after[0].rows_mut()) {
                let n = w.next_multiple_of(16);
                let around = x.around(y);
                let to = &mut out[PAD..];
                conv3x3::conv3x3(level, &conv.weights, &conv.bias, around, stride, to, stride, n, conv.relu);
                out.chunks_exact_mut(stride).for_each(|row| repeat_edges(row, w));
            }
        }
    }

    /// The last layer's own rows: number, channel, samples.
    pub fn output(&self) -> impl Iterator<Item = (usize, usize, &[f32])> {
        let last = self.last();
        let of = move |y: usize| (0..last.maps).map(move |c| (y, c, &last.row(y, c)[PAD..][..last.w]));
        self.own.clone().flat_map(of)
    }

    fn last(&self) -> &Planes {
        &self.layers[self.layers.len() - 1]
    }

    /// The gradient towards the maps, after [`back`](Self::back).
    pub fn gradient(&self) -> &Planes {
        &self.maps
    }

    /// The rows of maps that the strip's own rows depend on.
    pub fn seen(&self) -> Range<usize> {
        self.reached(0)
    }

    /// From the output to the gradient in the maps, [`gradient`](Self::gradient). `f(y, channel, row)` replaces a row of outputs
    /// by the gradient towards it and returns its share of the loss, of which the sum is returned. `sums` become those of
    /// the weights: of 1x1 layers as [`pointwise::Sums`] has them, then weights and biases of each 3x3 layer.
    pub fn back(
        &mut self,
        level: Level,
        network: &Network,
        sums: &mut [f32],
        f: impl Fn(usize, usize, &mut [f32]) -> f64,
    ) -> f64 {
        let error = self.start(network.convs.last().is_some_and(|c| c.relu), f);
        let mut rest = sums;
        for (n, conv) in network.convs.iter().enumerate().rev() {
            let (before, mine) = rest.split_at_mut(rest.len() - conv_weights(conv));
            let gate = n > 0 && network.convs[n - 1].relu;
            self.conv_back(level, n, conv, gate, mine);
            rest = before;
        }
        self.pixels_back(level, network, rest);
        error
    }

    /// Turns the last layer into the gradient towards it, which is zero but in the strip's own rows.
    fn start(&mut self, relu: bool, f: impl Fn(usize, usize, &mut [f32]) -> f64) -> f64 {
        let (own, w, stride) = (self.own.clone(), self.maps.w, self.maps.stride);
        let last = self.layers.last_mut().expect("at least the 1x1 layers' output");
        let mut error = 0.0;
        for (y, rows) in last.rows.clone().zip(last.rows_mut()) {
            if !own.contains(&y) {
                rows.fill(0.0);
                continue;
            }
            for (c, row) in rows.chunks_exact_mut(stride).enumerate() {
                let inner = &mut row[PAD..PAD + w];
                if relu {
                    // An output that is not positive carries no gradient: moved out of the clamp's range.
                    inner.iter_mut().filter(|v| **v <= 0.0).for_each(|v| *v = -f32::MIN_POSITIVE);
                }
                error += f(y, c, inner);
                zero_edges(row, w);
            }
        }
        error
    }

    /// The rows in which the gradient towards layer `n` may differ from zero.
    fn reached(&self, n: usize) -> Range<usize> {
        let convs = self.layers.len() - 1 - n;
        self.own.start.saturating_sub(convs)..(self.own.end + convs).min(self.maps.h)
    }

    /// From the gradient in `layers[n + 1]` (before its relu) to the one in `layers[n]`, where `gate` asks for the slope of a
    /// relu as well.
    fn conv_back(&mut self, level: Level, n: usize, conv: &Conv, gate: bool, sums: &mut [f32]) {
        let (c, w, h, stride) = (self.spare.maps, self.spare.w, self.spare.h, self.spare.stride);
        for (o, i, k) in (0..9 * c * c).map(|t| (t / (9 * c), t / 9 % c, t % 9)) {
            self.turned[(i * c + o) * 9 + 8 - k] = conv.weights[(o * c + i) * 9 + k];
        }
        let (reached, given) = (self.reached(n), self.reached(n + 1));
        let (turned, x, g) = (&self.turned, &self.layers[n], &self.layers[n + 1]);
        sums.fill(0.0);
        let (dw, db) = sums.split_at_mut(9 * c * c);
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
            for (y, out) in self.spare.rows.clone().zip(self.spare.rows_mut()) {
                if !reached.contains(&y) {
                    out.fill(0.0);
                    continue;
                }
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
                if given.contains(&y) {
                    let g = &g.row(y, 0)[PAD..];
                    conv3x3::conv3x3_weights(level, g, stride, x.around(y), stride, dw, db, w.next_multiple_of(16));
                }
            }
        });
        std::mem::swap(&mut self.layers[n], &mut self.spare);
    }

    /// From the gradient in the first layer to the one in the maps.
    fn pixels_back(&mut self, level: Level, network: &Network, sums: &mut [f32]) {
        let net = &network.pixels;
        let (w, stride, seen, g) = (self.maps.w, self.maps.stride, self.seen(), &self.layers[0]);
        self.sums.clear();
        with_scratch(net.scratch(), |scratch| {
            for (y, x) in self.maps.rows.clone().zip(self.maps.rows_mut()) {
                if !seen.contains(&y) {
                    x.fill(0.0);
                    continue;
                }
                let (g, n) = (&g.row(y, 0)[PAD..], w.next_multiple_of(16));
                pointwise::pointwise_back(level, net, &mut x[PAD..], stride, g, stride, n, &mut self.sums, scratch);
                x.chunks_exact_mut(stride).for_each(|row| zero_edges(row, w));
            }
        });
        self.sums.finish(sums);
    }
}

/// Weights and biases of a 3x3 layer.
fn conv_weights(conv: &Conv) -> usize {
    conv.weights.len() + conv.bias.len()
}
