//! Progress of a fit on stderr: one line that renews itself on a terminal, or JSON lines.

use super::args::Args;
use super::report::{self, Json};
use crate::fit::Progress as Moment;
use std::io::{self, IsTerminal, Write};
use std::time::{Duration, Instant};

#[derive(Clone, Copy, PartialEq)]
enum Mode {
    Silent,
    Line,
    Json,
}

pub struct Progress {
    mode: Mode,
    started: Instant,
    deadline: Option<Instant>,
    next: Instant,
    shown: bool,
}

impl Progress {
    pub fn new(args: &Args, deadline: Option<Instant>) -> Progress {
        let mode = match args.text("progress").unwrap_or("auto") {
            "json" => Mode::Json,
            "auto" if io::stderr().is_terminal() && !args.has("quiet") => Mode::Line,
            _ => Mode::Silent,
        };
        let now = Instant::now();
        Progress { mode, started: now, deadline, next: now, shown: false }
    }

    pub fn show(&mut self, m: Moment) {
        let now = Instant::now();
        if self.mode == Mode::Silent || (now < self.next && m.step < m.steps) {
            return;
        }
        self.next = now + Duration::from_millis(if self.mode == Mode::Json { 1000 } else { 250 });
        let left = self.left(m, now);
        if self.mode == Mode::Json {
            let json = Json::new()
                .integer("step", m.step)
                .integer("steps", m.steps)
                .number("psnr", m.psnr)
                .number("bytes", m.bytes)
                .number("seconds", (now - self.started).as_secs_f64())
                .number("seconds_left", left.map(|l| l.as_secs_f64()));
            report::say(&json.end());
            return;
        }
        let left = left.map_or(String::new(), |l| format!("  {} left", report::time(l)));
        let steps = if m.steps > 0 { format!("/{}", m.steps) } else { String::new() };
        let line = format!("step {}{steps}  {:.2} dB  {}{left}", m.step, m.psnr, report::size(m.bytes));
        let _ = write!(io::stderr(), "\r{line:<70}\r");
        self.shown = true;
    }

    /// From the share of the steps that is done, and never beyond the time limit.
    fn left(&self, m: Moment, now: Instant) -> Option<Duration> {
        let limit = self.deadline.map(|d| d.saturating_duration_since(now));
        let steps = (m.step > 0 && m.steps >= m.step).then(|| {
            let done = m.step as f64 / m.steps as f64;
            (now - self.started).mul_f64((1.0 - done) / done)
        });
        match (limit, steps) {
            (Some(a), Some(b)) => Some(a.min(b)),
            (a, b) => a.or(b),
        }
    }
}

impl Drop for Progress {
    /// Leaves the line empty for what comes next.
    fn drop(&mut self) {
        if self.shown {
            let _ = write!(io::stderr(), "\r{:<70}\r", "");
        }
    }
}
