//! One error type: what is wrong, where, what to do.

use alloc::string::{String, ToString};
use std::fmt;

/// A result with this crate's [`Error`].
pub type Result<T> = std::result::Result<T, Error>;

/// What kind of failure it is. What a program does about it (an exit code, a flag to name) is the program's business.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[non_exhaustive]
pub enum Class {
    /// Bytes could not be read or written.
    Io,
    /// An option or an argument makes no sense: [`Error::argument`] names it where it has a name.
    Argument,
    /// A target of quality or size, or a time limit, cannot be kept; there is no result.
    Target,
    /// The bytes are no file of this format, or damaged.
    Format,
    /// The bytes end within the header: a longer beginning may do.
    Truncated,
    /// The file is of a version or family that this build does not read.
    Unsupported,
    /// More pixels than [`Limits::max_pixels`](crate::Limits::max_pixels).
    PixelLimit,
    /// More memory than allowed, or than there is.
    MemoryLimit,
    /// The caller cancelled the work.
    Cancelled,
}

/// A failure, told in one line: `place: argument: message`.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Error {
    class: Class,
    place: String,
    argument: Option<&'static str>,
    message: String,
}

impl Error {
    /// A failure of `class`.
    pub fn new(class: Class, message: impl Into<String>) -> Self {
        Error { class, place: String::new(), argument: None, message: message.into() }
    }

    /// A damaged file.
    pub fn format(message: impl Into<String>) -> Self {
        Error::new(Class::Format, message)
    }

    /// The option or argument `name` makes no sense.
    pub fn of_argument(name: &'static str, message: impl Into<String>) -> Self {
        Error { argument: Some(name), ..Error::new(Class::Argument, message) }
    }

    /// Puts `place` (a file, a section) in front.
    pub fn at(mut self, place: impl fmt::Display) -> Self {
        self.place = match self.place.as_str() {
            "" => place.to_string(),
            inner => alloc::format!("{place}: {inner}"),
        };
        self
    }

    /// The same failure with more to say at its end.
    pub fn and(mut self, more: impl fmt::Display) -> Self {
        self.message = alloc::format!("{}{more}", self.message);
        self
    }

    /// What kind of failure it is.
    pub fn class(&self) -> Class {
        self.class
    }

    /// The file or section that it is about; may be empty.
    pub fn place(&self) -> &str {
        &self.place
    }

    /// The option that is wrong, as the builder names it: `"tile"`.
    pub fn argument(&self) -> Option<&'static str> {
        self.argument
    }

    /// What is wrong, without place and argument.
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
