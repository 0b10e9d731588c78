//! Family `gdn`, the decoder's half: one grid of codes at 1/8 with `N` channels, and a synthesis of three
//! 5x5 transposed convolutions of stride 2 with inverse GDN between (Balle, Laparra, Simoncelli 2016).

mod codes;
mod model;
pub mod weights;

use alloc::vec::Vec;
pub use model::{to_rgb, GdnModel};
use weights::{Kind, TensorSpec};

/// Codes are at `1/2^SHIFT`.
pub const SHIFT: u32 = 3;
pub const KERNEL: usize = 5;
/// Most channels that a file may have.
pub const MAX_CHANNELS: usize = 255;

/// Channels of the codes and feature maps (`N`), and of the picture (1 or 3).
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct GdnSpec {
    pub n: usize,
    pub channels: usize,
}

impl GdnSpec {
    pub fn new(n: usize, channels: usize) -> Self {
        GdnSpec { n, channels }
    }

    /// Tensors in file order: weights and biases of a convolution, then beta and gamma behind it.
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

    pub fn weights_count(&self) -> usize {
        self.tensors().last().map_or(0, |t| t.range.end)
    }
}
