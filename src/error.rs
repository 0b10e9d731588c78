//! One error type: what is wrong, where, what to do.

use alloc::{format, string::String};
use std::fmt;

pub type Result<T> = std::result::Result<T, Error>;

/// What kind of failure it is: decides the exit code.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Class {
    /// Reading, writing or the input picture failed (exit 1).
    Io,
    /// The request makes no sense (exit 2).
    Usage,
    /// Nothing needed doing (exit 3).
    Nothing,
    /// The output is already there (exit 4).
    Exists,
    /// A size or quality target cannot be reached (exit 5).
    Target,
    /// The file is damaged or breaks the format (exit 6).
    Format,
    /// The bytes end within the header (exit 6).
    Truncated,
    /// The file is of a version or family that this build does not read (exit 6).
    Unsupported,
    /// The file asks for more than the limits allow (exit 6).
    Limit,
    /// Ctrl-C (exit 130).
    Interrupted,
}

/// A failure, told in one line.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Error {
    pub class: Class,
    pub message: String,
}

impl Error {
    pub fn new(class: Class, message: impl Into<String>) -> Self {
        Error { class, message: message.into() }
    }

    pub fn format(message: impl Into<String>) -> Self {
        Error::new(Class::Format, message)
    }

    /// Puts `place` (a file, a section) in front of the message.
    pub fn at(mut self, place: impl fmt::Display) -> Self {
        self.message = format!("{place}: {}", self.message);
        self
    }

    pub fn exit_code(&self) -> u8 {
        match self.class {
            Class::Io => 1,
            Class::Usage => 2,
            Class::Nothing => 3,
            Class::Exists => 4,
            Class::Target => 5,
            Class::Format | Class::Truncated | Class::Unsupported | Class::Limit => 6,
            Class::Interrupted => 130,
        }
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter) -> fmt::Result {
        f.write_str(&self.message)
    }
}

impl std::error::Error for Error {}
