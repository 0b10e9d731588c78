//! The container of the `.tfit` file format: docs/FORMAT.md, sections 1 to 4.

pub mod header;
pub mod metadata;
pub mod reader;
pub mod source;
