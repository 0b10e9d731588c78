//! Working memory that grows once and is then reused.

/// Working memory of the kernels of one thread. Contents mean nothing between calls.
#[derive(Default, Debug)]
pub struct Scratch {
    #[allow(dead_code)]
    pub(crate) buffers: [Vec<f32>; 4],
}
