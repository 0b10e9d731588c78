//! Family `gdn`, the decoder's half: one grid of codes at 1/8 with `N` channels, and a synthesis of three 5x5 transposed
//! convolutions of stride 2 with an inverse GDN after the first and the second (Balle, Laparra, Simoncelli, "End-to-end
//! optimization of nonlinear transform codes for perceptual quality", 2016).

mod codes;
mod model;
pub mod weights;

use alloc::vec::Vec;
pub use model::{to_rgb, GdnModel};
use weights::{Kind, TensorSpec};

/// Codes are at `1/2^SHIFT` of the picture's resolution: three layers of stride 2.
pub const SHIFT: u32 = 3;
/// Side of the convolution kernels.
pub const KERNEL: usize = 5;
/// Most channels of the codes: they have one byte in the file.
pub const MAX_CHANNELS: usize = 255;

/// The shape of a model without its weights.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct GdnSpec {
    /// Channels of the codes and of the feature maps, `N`.
    pub n: usize,
    /// Channels of the picture, 1 or 3.
    pub channels: usize,
}

impl GdnSpec {
    /// `n` channels of codes for a picture of `channels` channels.
    pub fn new(n: usize, channels: usize) -> Self {
        GdnSpec { n, channels }
    }

    /// The tensors in file order: weights and bias of each convolution, each of the first two followed by beta and gamma
    /// of its normalisation. Their ranges follow each other without gaps from 0.
    pub fn tensors(&self) -> Vec<TensorSpec> {
        let n = self.n;
        let mut list: Vec<TensorSpec> = Vec::new();
        let mut add = |kind, rows: usize, columns: usize, kernel: usize| {
            let start = list.last().map_or(0, |t| t.range.end);
            list.push(TensorSpec {
                kind,
                rows,
                columns,
                kernel,
                range: start..start + rows * columns * kernel * kernel,
            });
        };
        for (kind, outputs) in [(Kind::Hidden, n), (Kind::Hidden, n), (Kind::Last, self.channels)] {
            add(kind, n, outputs, KERNEL);
            add(Kind::Vector, 1, outputs, 1);
            if kind == Kind::Hidden {
                add(Kind::Beta, 1, n, 1);
                add(Kind::Gamma, n, n, 1);
            }
        }
        list
    }

    /// Number of weights of all tensors.
    pub fn weights_count(&self) -> usize {
        self.tensors().last().map_or(0, |t| t.range.end)
    }
}
