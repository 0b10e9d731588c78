//! The synthesis transform of the families `gdn` and `hyperprior`: three 5x5 transposed convolutions of stride 2 with an
//! inverse GDN after the first and the second (Balle, Laparra, Simoncelli, "End-to-end optimization of nonlinear transform
//! codes for perceptual quality", 2016). Its weights, and the pixels that it makes of codes.

mod synthesis;
pub mod weights;

use alloc::vec::Vec;
pub use synthesis::{to_rgb, Stored, Synthesis};
use weights::{Kind, TensorSpec};

/// Codes are at `1/2^SHIFT` of the picture's resolution: three layers of stride 2.
pub const SHIFT: u32 = 3;
/// Convolutions.
pub const LAYERS: usize = 3;
/// Side of the convolution kernels.
pub const KERNEL: usize = 5;
/// Most channels of codes or feature maps: they have one byte in the file.
pub const MAX_CHANNELS: usize = 255;

/// The shape of the transform without its weights.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct TransformSpec {
    /// Inputs of each convolution: channels of the codes, of the feature maps at 1/4, of those at 1/2.
    pub maps: [usize; LAYERS],
    /// Channels of the picture, 1 or 3.
    pub channels: usize,
}

impl TransformSpec {
    /// Channels of the codes.
    pub fn n(&self) -> usize {
        self.maps[0]
    }

    /// Outputs of convolution `i`.
    pub fn outputs(&self, i: usize) -> usize {
        *self.maps.get(i + 1).unwrap_or(&self.channels)
    }

    /// The tensors in file order: weights and bias of each convolution, each of the first two followed by beta and gamma
    /// of its normalisation. Their ranges follow each other without gaps from 0.
    pub fn tensors(&self) -> Vec<TensorSpec> {
        let mut list = Vec::new();
        for i in 0..LAYERS {
            let (inputs, outputs) = (self.maps[i], self.outputs(i));
            let hidden = i + 1 < LAYERS;
            weights::push(&mut list, if hidden { Kind::Hidden } else { Kind::Last }, inputs, outputs, KERNEL);
            weights::push(&mut list, Kind::Vector, 1, outputs, 1);
            if hidden {
                weights::push(&mut list, Kind::Beta, 1, outputs, 1);
                weights::push(&mut list, Kind::Gamma, outputs, outputs, 1);
            }
        }
        list
    }

    /// Number of weights of all tensors.
    pub fn weights_count(&self) -> usize {
        weights::count(&self.tensors())
    }

    /// Bytes that a model of this shape holds at most, and takes while it is read: for each weight the integer, the number,
    /// and its entry in a list of products, which may have twice the room.
    pub fn memory(&self) -> u64 {
        32 * self.weights_count() as u64
    }

    /// Multiplications for each pixel of the picture.
    pub fn macs_per_pixel(&self) -> f64 {
        let mut macs = 0.0;
        for i in 0..LAYERS {
            // Of the inputs of layer `i` there is one for `4^(LAYERS - i)` pixels, and each meets every tap.
            let (inputs, outputs) = (self.maps[i] as f64, self.outputs(i) as f64);
            let pixels = (1u32 << (2 * (LAYERS - i))) as f64;
            macs += inputs * outputs * (KERNEL * KERNEL) as f64 / pixels;
            if i + 1 < LAYERS {
                macs += outputs * outputs * 4.0 / pixels;
            }
        }
        macs
    }
}
