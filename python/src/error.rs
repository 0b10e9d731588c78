//! Errors of the library as exceptions.

use pyo3::prelude::*;
use tilefit::{Class, Error};

/// The attribute `kind` of the exception.
fn kind(class: Class) -> &'static str {
    match class {
        Class::Io => "io",
        Class::Argument => "argument",
        Class::Target => "target",
        Class::Format => "format",
        Class::Truncated => "truncated",
        Class::Unsupported => "unsupported",
        Class::PixelLimit => "pixel_limit",
        Class::MemoryLimit => "memory_limit",
        Class::WorkLimit => "work_limit",
        Class::Cancelled => "cancelled",
        _ => "other",
    }
}

/// `tilefit.TilefitError`. It is a class of Python, so that it can be pickled.
pub fn exception(py: Python<'_>, e: &Error) -> PyErr {
    let class = py.import("tilefit._errors").and_then(|m| m.getattr("TilefitError"));
    match class.and_then(|class| class.call1((e.to_string(), kind(e.class()), e.argument()))) {
        Ok(value) => PyErr::from_value(value),
        Err(e) => e,
    }
}
