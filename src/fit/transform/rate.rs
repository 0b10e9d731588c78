//! What codes cost: the part of a fit that depends on how the family codes them.

use super::patch::Patch;
use crate::fit::rng::Rng;
use crate::models::transform::{Stored, TransformSpec};
use crate::models::{Codes, Encode, Grid};
use crate::tensor::Shape;

/// Noisy codes of a patch in the first stage, `[channels][all.height][all.width]`.
#[derive(Clone, Copy, Debug)]
pub struct Noisy<'a> {
    /// Codes as the analysis gives them.
    pub clean: &'a [f32],
    /// With uniform noise for rounding.
    pub noisy: &'a [f32],
    /// Where they are.
    pub patch: &'a Patch,
    /// What a bit counts in the loss.
    pub gain: f32,
}

/// Codes of one picture in the second stage, `[channels][height][width]`.
#[derive(Clone, Copy, Debug)]
pub struct Moving<'a> {
    /// Before rounding.
    pub values: &'a [f32],
    /// Rounded.
    pub codes: &'a [i16],
    /// Of the whole picture.
    pub shape: Shape,
}

/// A family's rate, with what it learns.
pub trait Rate: Send + Sync + Sized {
    /// What belongs to the codes of one picture in the second stage.
    type Field: Send + Sync;
    /// Working memory of a thread.
    type Work: Send + Default + std::fmt::Debug;

    /// How much faster than the transforms' weights its parameters learn.
    const SPEED: f32;
    /// The bits of the file for one bit that [`Self::noisy`] counts: the file's coder may know more.
    const CODED: f64;
    /// Patches begin at multiples of so many codes.
    const ALIGN: usize;
    /// Whether channels are sorted by falling activity before the second stage.
    const SORTS: bool;

    /// What is learned with the transforms, at its start.
    fn parameters(&self, rng: &mut Rng) -> Vec<f32>;

    /// Takes the parameters of this step; in the second stage as a file would hold them.
    fn prepare(&mut self, parameters: &[f32], second: bool);

    /// Gradients of what [`Self::prepare`] made become, in place, those of the parameters.
    fn unprepare(&self, parameters: &[f32], d: &mut [f32]);

    /// Bits of noisy codes; `d += ` (of the codes) and `d_parameters += ` gradients, times the gain.
    fn noisy(&self, work: &mut Self::Work, x: &Noisy, d: &mut [f32], d_parameters: &mut [f32], rng: &mut Rng) -> f64;

    /// Begins the second stage for a picture.
    fn field(&self, x: &Moving) -> Self::Field;

    /// Looks at all codes anew, now and then.
    fn refresh(&self, field: &mut Self::Field, x: &Moving);

    /// The gradient of the bits of the codes in `core`: `d =` of the codes, `[channels][core.height][core.width]`, and of
    /// what else the field moves there; `d_parameters += ` of the parameters. Returns the bits, if they are known.
    fn moving(
        &self,
        work: &mut Self::Work,
        field: &Self::Field,
        x: &Moving,
        patch: &Patch,
        d: &mut Vec<f32>,
        d_parameters: &mut [f32],
    ) -> f64;

    /// Moves what the field has besides the codes in the core of `patch`, number `index`, along the rest of what
    /// [`Self::moving`] gave; `bits` are those that it returned.
    fn advance(
        &self,
        field: &mut Self::Field,
        index: usize,
        patch: &Patch,
        d: &[f32],
        bits: f64,
        rate: f32,
        visit: i32,
    );

    /// Adds the gradient of the bits of its own weights; `gain` is what one counts.
    fn add_weights_rate(&self, parameters: &[f32], d: &mut [f32], gain: f32);

    /// Bits of its own weights in the file.
    fn weights_bits(&self, parameters: &[f32]) -> f64;

    /// The model of a file.
    fn model(&self, spec: TransformSpec, stored: Stored, parameters: &[f32]) -> Box<dyn Encode>;

    /// All codes of a picture from those of the transform.
    fn codes(&self, field: &Self::Field, grid: Grid) -> Codes;

    /// Appends what a field needs to go on.
    fn save(&self, field: &Self::Field, out: &mut Vec<u8>);

    /// Takes what was saved; false when there is less.
    fn restore(&self, field: &mut Self::Field, state: &mut &[u8]) -> bool;
}
