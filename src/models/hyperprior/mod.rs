//! Family `hyperprior`, the decoder's half: codes `y` at 1/8 with the synthesis [`transform`](super::transform), and
//! hyper-codes `z` at 1/32 that say where the codes are large (Balle, Minnen, Singh, Hwang, Johnston, "Variational image
//! compression with a scale hyperprior", 2018).
//!
//! Each `y` has a Laplace distribution whose location and scale are linear in the hyper-codes and in the codes that were
//! decoded before it (Minnen, Balle, Toderici, "Joint autoregressive and hierarchical priors for learned image
//! compression", 2018), all in integers. Each `z` has a table of its channel.

mod codes;
mod laws;
mod model;
mod tables;

use super::transform::weights::{push, Kind, TensorSpec};
use super::transform::{TransformSpec, SHIFT};
use super::GridSpec;
use alloc::vec::Vec;
pub use codes::{code, SymbolCoder};
pub use laws::{cells, linear_log2, Laws, EARLIER_CAP, LOG_OFFSET};
pub use model::HyperModel;
pub use tables::Tables;

/// Hyper-codes are at `1/2^HYPER_SHIFT` of the picture's resolution.
pub const HYPER_SHIFT: u32 = 5;
/// Codes that a hyper-code covers along an axis.
pub const CELL: usize = 1 << (HYPER_SHIFT - SHIFT);
/// Most channels of hyper-codes. The proofs of widths in [`Laws`] rest on it.
pub const MAX_HYPER: usize = 16;

/// Codes of the same channel that a location depends on, `(down, right)`: all within two rows and columns that are decoded
/// before.
pub const NEIGHBOURS: [(isize, isize); 12] =
    [(0, -1), (-1, 0), (-1, -1), (-1, 1), (0, -2), (-2, 0), (-1, -2), (-1, 2), (-2, -1), (-2, 1), (-2, -2), (-2, 2)];

/// Positions around one of a channel that is decoded already.
pub const AROUND: [(isize, isize); 8] = [(-1, -1), (-1, 0), (-1, 1), (0, -1), (0, 1), (1, -1), (1, 0), (1, 1)];

/// The shape of a model without its weights.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct HyperSpec {
    /// Of the synthesis.
    pub transform: TransformSpec,
    /// Channels of the hyper-codes, `K`.
    pub hyper: usize,
}

impl HyperSpec {
    /// Channels of the codes.
    pub fn n(&self) -> usize {
        self.transform.n()
    }

    /// The first channels, of which later ones see all [`AROUND`] a position: as many as the picture has, as the means of
    /// its components come first.
    pub fn leading(&self) -> usize {
        self.transform.channels
    }

    /// Layout of the codes: hyper-codes, then codes.
    pub fn grids(&self) -> [GridSpec; 2] {
        [GridSpec { shift: HYPER_SHIFT, channels: self.hyper }, GridSpec { shift: SHIFT, channels: self.n() }]
    }

    /// Where the columns of the matrix of locations start.
    pub fn mean_columns(&self) -> MeanColumns {
        let hyper = 1 + NEIGHBOURS.len();
        let leading = hyper + self.hyper;
        let earlier = leading + self.leading() * AROUND.len();
        MeanColumns { hyper, leading, earlier, end: earlier + self.n() }
    }

    /// Where the columns of the matrix of scales start.
    pub fn scale_columns(&self) -> ScaleColumns {
        let here = 3 + self.hyper;
        let direct = here + self.n();
        ScaleColumns { here, direct, end: direct + self.n() }
    }

    /// The tensors of the entropy model, `[channels of y][columns]`: locations, then scales.
    pub fn tensors(&self) -> Vec<TensorSpec> {
        let mut list = Vec::new();
        push(&mut list, Kind::Mean, self.n(), self.mean_columns().end, 1);
        push(&mut list, Kind::Scale, self.n(), self.scale_columns().end, 1);
        list
    }
}

/// Columns of the matrix of locations: a constant, [`NEIGHBOURS`], then
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct MeanColumns {
    /// hyper-codes,
    pub hyper: usize,
    /// [`AROUND`] in each leading channel,
    pub leading: usize,
    /// all channels at the same position, of which those that come earlier count.
    pub earlier: usize,
    /// Number of columns.
    pub end: usize,
}

/// Columns of the matrix of scales: a constant, logarithms of the errors of two neighbourhoods, hyper-codes, then
/// logarithms of the errors of all channels, of which those that come earlier count:
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct ScaleColumns {
    /// at the same position,
    pub here: usize,
    /// at the four next to it.
    pub direct: usize,
    /// Number of columns.
    pub end: usize,
}

/// Columns of [`ScaleColumns`] that stand before its own.
pub const NEAR: usize = 1;
/// See [`NEAR`].
pub const FAR: usize = 2;
/// See [`NEAR`].
pub const SCALE_HYPER: usize = 3;
