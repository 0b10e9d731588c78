//! Family `pyramid`: latent grids at 1/1 to 1/64 fitted directly, an integer context network, a
//! learned upsampling and a small synthesis (after Cool-chic, Ladune et al. 2023 to 2026, and C3, Kim et al. 2024).

pub mod context;
mod description;
pub mod model;
pub(crate) mod network;
pub mod quantised;
pub mod spec;
pub mod synthesis;
