//! Output of the program: JSON objects, tables, and sizes and times for people.

use std::fmt::Write as _;
use std::io::{self, IsTerminal, Write};
use std::sync::OnceLock;
use std::time::Duration;

/// Builds one JSON object.
#[derive(Default)]
pub struct Json(String);

impl Json {
    pub fn new() -> Self {
        Json::default()
    }

    /// Adds a key whose `value` is JSON text already.
    pub fn raw(mut self, key: &str, value: &str) -> Self {
        self.0.push(if self.0.is_empty() { '{' } else { ',' });
        let _ = write!(self.0, "{}:{value}", quoted(key));
        self
    }

    pub fn text(self, key: &str, value: &str) -> Self {
        let value = quoted(value);
        self.raw(key, &value)
    }

    pub fn integer(self, key: &str, value: impl Into<Option<u64>>) -> Self {
        let value = value.into().map_or("null".to_string(), |v| v.to_string());
        self.raw(key, &value)
    }

    /// Adds a number. JSON has no infinity, so the infinite PSNR of equal pictures becomes `null`.
    pub fn number(self, key: &str, value: impl Into<Option<f64>>) -> Self {
        let value = value.into().filter(|v| v.is_finite()).map_or("null".to_string(), |v| v.to_string());
        self.raw(key, &value)
    }

    pub fn end(mut self) -> String {
        if self.0.is_empty() {
            self.0.push('{');
        }
        self.0 + "}"
    }
}

/// A JSON string.
pub fn quoted(text: &str) -> String {
    let mut out = String::from("\"");
    for c in text.chars() {
        match c {
            '"' => out += "\\\"",
            '\\' => out += "\\\\",
            c if c < ' ' => {
                let _ = write!(out, "\\u{:04x}", c as u32);
            }
            c => out.push(c),
        }
    }
    out + "\""
}

pub fn array(items: impl Iterator<Item = String>) -> String {
    format!("[{}]", items.collect::<Vec<_>>().join(","))
}

/// The first error of writing to stdout.
static STDOUT_ERROR: OnceLock<io::Error> = OnceLock::new();

/// Prints a line on stdout. That the reader has closed the pipe is not an error. Other errors are kept for
/// [`stdout_failure`], which makes the program fail at its end.
pub fn print(text: &str) {
    let mut out = io::stdout().lock();
    match out.write_all(text.as_bytes()).and_then(|()| out.write_all(b"\n")).and_then(|()| out.flush()) {
        Err(e) if e.kind() != io::ErrorKind::BrokenPipe => {
            let _ = STDOUT_ERROR.set(e);
        }
        _ => {}
    }
}

/// The first failure to print a line on stdout, if there was one.
pub fn stdout_failure() -> Option<super::failure::Failure> {
    STDOUT_ERROR.get().map(|e| super::files::cannot_write(e).at("stdout"))
}

/// Prints one line on stderr; control characters in the text become spaces.
pub fn print_stderr(text: &str) {
    let line: String = text.chars().map(|c| if c.is_control() { ' ' } else { c }).collect();
    let _ = writeln!(io::stderr(), "{line}");
}

/// Prints an error as one line on stderr, in red on a terminal unless `NO_COLOR` is set.
pub fn fail(error: &super::failure::Failure) {
    let colour = io::stderr().is_terminal() && std::env::var_os("NO_COLOR").is_none_or(|v| v.is_empty());
    let line: String = error.message.chars().map(|c| if c.is_control() { ' ' } else { c }).collect();
    let (on, off) = if colour { ("\x1b[31m", "\x1b[0m") } else { ("", "") };
    let _ = writeln!(io::stderr(), "{on}tilefit:{off} {line}");
}

/// Formats a number of bytes: `812 B`, `31.6 KB`, `1.25 MB`.
pub fn size(bytes: f64) -> String {
    match bytes {
        b if b < 1e3 => format!("{b:.0} B"),
        b if b < 1e6 => format!("{:.1} KB", b / 1e3),
        b if b < 1e9 => format!("{:.2} MB", b / 1e6),
        b => format!("{:.2} GB", b / 1e9),
    }
}

/// Formats `1234567` as `1,234,567`.
pub fn grouped(n: u64) -> String {
    let digits = n.to_string();
    let mut out = String::new();
    for (i, c) in digits.chars().enumerate() {
        if i > 0 && (digits.len() - i).is_multiple_of(3) {
            out.push(',');
        }
        out.push(c);
    }
    out
}

/// Formats a time: `42 s`, `3 min 10 s`, `2 h 5 min`.
pub fn time(t: Duration) -> String {
    let s = t.as_secs_f64().round() as u64;
    match s {
        0 if t.as_secs_f64() > 0.05 => format!("{:.1} s", t.as_secs_f64()),
        0..=99 => format!("{s} s"),
        100..=7199 => format!("{} min {} s", s / 60, s % 60),
        _ => format!("{} h {} min", s / 3600, s % 3600 / 60),
    }
}

pub fn psnr(v: f64) -> String {
    if v.is_infinite() {
        "equal".into()
    } else {
        format!("{v:.2}")
    }
}

/// Formats rows as a table: the first column is aligned left, the others right.
pub fn table(rows: &[Vec<String>], markdown: bool) -> String {
    let columns = rows[0].len();
    let width = |c: usize| rows.iter().map(|r| r[c].chars().count()).max().unwrap_or(0);
    let widths: Vec<usize> = (0..columns).map(width).collect();
    let mut out = String::new();
    for (i, row) in rows.iter().enumerate() {
        let cells =
            row.iter().zip(&widths).enumerate().map(
                |(c, (text, &w))| {
                    if c == 0 {
                        format!("{text:<w$}")
                    } else {
                        format!("{text:>w$}")
                    }
                },
            );
        let cells: Vec<String> = cells.collect();
        if markdown {
            let _ = writeln!(out, "| {} |", cells.join(" | "));
            if i == 0 {
                let rule = widths
                    .iter()
                    .enumerate()
                    .map(|(c, &w)| format!("{}{}", "-".repeat(w.max(2) + 1), if c == 0 { "-" } else { ":" }));
                let _ = writeln!(out, "|{}|", rule.collect::<Vec<_>>().join("|"));
            }
        } else {
            let _ = writeln!(out, "{}", cells.join("  ").trim_end());
        }
    }
    out.trim_end().to_string()
}

/// Peak resident memory of this process in bytes; `None` where `/proc` does not report it.
pub fn peak_memory() -> Option<u64> {
    let status = std::fs::read_to_string("/proc/self/status").ok()?;
    let line = status.lines().find_map(|l| l.strip_prefix("VmHWM:"))?;
    Some(line.trim().strip_suffix("kB")?.trim().parse::<u64>().ok()? * 1024)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn json_escapes_and_has_no_infinities() {
        let j = Json::new().text("a\"b", "x\\\n").number("p", f64::INFINITY).integer("n", 3).number("q", 0.5).end();
        assert_eq!(j, "{\"a\\\"b\":\"x\\\\\\u000a\",\"p\":null,\"n\":3,\"q\":0.5}");
        assert_eq!(Json::new().end(), "{}");
    }

    #[test]
    fn sizes_and_times_are_readable() {
        assert_eq!([999.0, 31_612.0, 1_250_000.0].map(size), ["999 B", "31.6 KB", "1.25 MB"]);
        assert_eq!([0, 999, 1000, 1_234_567].map(grouped), ["0", "999", "1,000", "1,234,567"]);
        assert_eq!([42, 190, 7500].map(|s| time(Duration::from_secs(s))), ["42 s", "3 min 10 s", "2 h 5 min"]);
    }

    #[test]
    fn tables_align() {
        let rows = [["name", "n"], ["x", "10"]].map(|r| r.map(String::from).to_vec());
        assert_eq!(table(&rows, false), "name   n\nx     10");
        assert_eq!(table(&rows, true), "| name |  n |\n|------|---:|\n| x    | 10 |");
    }
}
