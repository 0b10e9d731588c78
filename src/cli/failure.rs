//! A failure of the command: an exit code and one line of text. In errors of the library, names of options become names of
//! flags here.

use super::args::Command;
use crate::error::{Class, Error};
use std::fmt;

/// A result of the command.
pub type Result<T> = std::result::Result<T, Failure>;

/// Exit codes.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[repr(u8)]
pub enum Code {
    /// An input could not be read, or an output not written.
    Input = 1,
    /// The command line is not valid.
    Usage = 2,
    /// There was nothing to do.
    Nothing = 3,
    /// The output exists already.
    Exists = 4,
    /// A target cannot be reached.
    Target = 5,
    /// The file is damaged, unsupported, or over a limit.
    Damaged = 6,
    /// The user pressed Ctrl-C.
    Interrupted = 130,
}

/// The exit code and the message for stderr.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Failure {
    pub code: Code,
    pub message: String,
}

impl Failure {
    pub fn new(code: Code, message: impl Into<String>) -> Self {
        Failure { code, message: message.into() }
    }

    /// The same failure with `place` and a colon before its message.
    pub fn at(self, place: impl fmt::Display) -> Self {
        Failure { message: format!("{place}: {}", self.message), ..self }
    }

    pub fn exit_code(&self) -> u8 {
        self.code as u8
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter) -> fmt::Result {
        f.write_str(&self.message)
    }
}

impl From<Error> for Failure {
    fn from(e: Error) -> Failure {
        let code = match e.class() {
            Class::Argument => Code::Usage,
            Class::Target => Code::Target,
            Class::Format
            | Class::Truncated
            | Class::Unsupported
            | Class::PixelLimit
            | Class::MemoryLimit
            | Class::WorkLimit => Code::Damaged,
            Class::Cancelled => Code::Interrupted,
            Class::Io => Code::Input,
        };
        let mut message = match e.argument() {
            Some(name) if Command::has_flag(name) => format!("--{name}: {}", e.message()),
            _ => e.message().to_string(),
        };
        message += match e.class() {
            Class::PixelLimit => ": raise it with --max-pixels, or decode a --region",
            Class::MemoryLimit => ": raise it with --max-memory",
            Class::WorkLimit => ": raise it with --max-work, or decode a --region",
            Class::Target => "; nothing was written",
            _ => "",
        };
        let failure = Failure::new(code, message);
        match e.place() {
            "" => failure,
            place => failure.at(place),
        }
    }
}
