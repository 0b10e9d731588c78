//! Family `pyramid`, the decoder's half: grids of codes at 1/1 to 1/64 of the picture's resolution, an autoregressive
//! context network in integers, a learned upsampling and a small synthesis network (after Cool-chic, Ladune et al. 2023
//! to 2026, and C3, Kim et al. 2024).
//!
//! | file | what it has |
//! | --- | --- |
//! | `spec` | the shape of a model: grids, layers, tensors |
//! | `description` | the shape as bytes of the header |
//! | `quantised` | the weights as integers, and as bytes |
//! | `context` | the context network and its coding order |
//! | `network` | the weights of upsampling and synthesis as the kernels take them |
//! | `synthesis` | from codes to samples |
//! | `model` | all of it behind the trait [`Model`](crate::models::Model) |

pub mod context;
mod description;
pub mod model;
pub(crate) mod network;
pub mod quantised;
pub mod spec;
pub mod synthesis;
