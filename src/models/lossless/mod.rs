//! Model family `lossless`: the codes are the samples, or the samples divided by a step, and come back exactly.
//!
//! | file | what it has |
//! | --- | --- |
//! | `model` | the family as the container uses it |
//! | `values` | which values occur: lists for sparse histograms, palettes |
//! | `planes` | a tile, plane by plane; the contexts of a sample |
//! | `least_squares` | linear predictors that are fitted while coding |
//! | `residual` | the difference from the prediction as binary decisions |
//! | `exact` | samples that equal a neighbour or what was seen in the same surroundings |
//! | `decisions` | binary decisions with probabilities mixed from many contexts |

pub mod decisions;
pub mod exact;
pub mod least_squares;
pub mod model;
pub mod planes;
pub mod residual;
#[cfg(all(test, feature = "fit"))]
mod tests;
pub mod values;
