//! The crate's error type.

use alloc::string::{String, ToString};
use std::fmt;

/// A result with this crate's [`Error`].
pub type Result<T> = std::result::Result<T, Error>;

/// The kind of a failure. Programs can choose an exit code or a hint by it.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[non_exhaustive]
pub enum Class {
    /// Bytes could not be read or written, or were not supplied.
    Io,
    /// An option or an argument is not valid. [`Error::argument`] gives its name, if it has one.
    Argument,
    /// A quality, a size or a time limit cannot be reached; there is no result.
    Target,
    /// The bytes are not a file of this format, or the file is damaged.
    Format,
    /// The bytes end within the header. With a longer beginning of the file the call may succeed.
    Truncated,
    /// The file has a format version, a model family or features that this build does not support.
    Unsupported,
    /// More pixels than [`Limits::max_pixels`](crate::Limits::max_pixels).
    PixelLimit,
    /// More memory is needed than allowed, or an allocation failed.
    MemoryLimit,
    /// More work than [`Limits::max_work`](crate::Limits::max_work).
    WorkLimit,
    /// The caller cancelled the work.
    Cancelled,
}

/// A failure. Its text is one line: `place: argument: message`.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Error {
    class: Class,
    place: String,
    argument: Option<&'static str>,
    message: String,
}

impl Error {
    /// A failure of class `class`.
    pub fn new(class: Class, message: impl Into<String>) -> Self {
        Error { class, place: String::new(), argument: None, message: message.into() }
    }

    /// A damaged file.
    pub fn format(message: impl Into<String>) -> Self {
        Error::new(Class::Format, message)
    }

    /// An invalid option or argument `name`.
    pub fn of_argument(name: &'static str, message: impl Into<String>) -> Self {
        Error { argument: Some(name), ..Error::new(Class::Argument, message) }
    }

    /// The same failure with `place` (a file or a section) before its other places.
    pub fn at(mut self, place: impl fmt::Display) -> Self {
        self.place = match self.place.as_str() {
            "" => place.to_string(),
            inner => alloc::format!("{place}: {inner}"),
        };
        self
    }

    /// The kind of the failure.
    pub fn class(&self) -> Class {
        self.class
    }

    /// The file or section that the failure is about; empty if none was given.
    pub fn place(&self) -> &str {
        &self.place
    }

    /// The name of the invalid option or argument, for example `"tile"` for `Encoder::tile`.
    pub fn argument(&self) -> Option<&'static str> {
        self.argument
    }

    /// The message without place and argument.
    pub fn message(&self) -> &str {
        &self.message
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter) -> fmt::Result {
        if !self.place.is_empty() {
            write!(f, "{}: ", self.place)?;
        }
        if let Some(argument) = self.argument {
            write!(f, "{argument}: ")?;
        }
        f.write_str(&self.message)
    }
}

impl std::error::Error for Error {}
