//! Working memory that grows once and is then reused.

use crate::fast::ssim::Work;
use crate::phases::Buffers;

/// Working memory of the kernels of one thread. Contents mean nothing between calls.
#[derive(Default, Debug)]
pub struct Scratch {
    pub(crate) buffers: Buffers,
    pub(crate) columns: Vec<f32>,
    pub(crate) sums: Vec<f32>,
    pub(crate) planes: Vec<f32>,
    pub(crate) weights: Vec<f32>,
    pub(crate) similarity: Work,
}

/// The first `n` of `buffer`, which grows when it is shorter.
pub(crate) fn grown(buffer: &mut Vec<f32>, n: usize) -> &mut [f32] {
    if buffer.len() < n {
        buffer.resize(n, 0.0);
    }
    &mut buffer[..n]
}
