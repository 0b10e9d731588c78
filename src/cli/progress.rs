//! Progress of a fit on stderr: one line that is overwritten on a terminal, or JSON lines.

use super::args::Args;
use super::report::{self, Json};
use crate::encoder::Progress;
use std::io::{self, IsTerminal, Write};
use std::time::{Duration, Instant};

#[derive(Clone, Copy, PartialEq)]
enum Mode {
    Silent,
    Line,
    Json,
}

/// The progress of one fit.
pub struct ProgressLine {
    mode: Mode,
    started: Instant,
    deadline: Option<Instant>,
    next: Instant,
    shown: bool,
}

impl ProgressLine {
    pub fn new(args: &Args, started: Instant, limit: Option<Duration>) -> ProgressLine {
        let mode = match args.text("progress").unwrap_or("auto") {
            "json" => Mode::Json,
            "auto" if io::stderr().is_terminal() && !args.has("quiet") => Mode::Line,
            _ => Mode::Silent,
        };
        let deadline = limit.map(|limit| started + limit);
        let now = Instant::now();
        ProgressLine { mode, started: now, deadline, next: now, shown: false }
    }

    /// Prints `p`, at most every 250 ms on a terminal and every second as JSON.
    pub fn show(&mut self, p: &Progress) {
        let now = Instant::now();
        if self.mode == Mode::Silent || now < self.next {
            return;
        }
        self.next = now + Duration::from_millis(if self.mode == Mode::Json { 1000 } else { 250 });
        let left = self.time_left(p, now);
        if self.mode == Mode::Json {
            let json = Json::new()
                .integer("step", p.step)
                .integer("steps", p.steps)
                .number("psnr", p.psnr)
                .number("bytes", p.bytes)
                .number("seconds", (now - self.started).as_secs_f64())
                .number("seconds_left", left.map(|l| l.as_secs_f64()));
            report::print_stderr(&json.end());
            return;
        }
        let left = left.map_or(String::new(), |l| format!("  {} left", report::time(l)));
        let psnr = p.psnr.map_or(String::new(), |db| format!("  {db:.2} dB"));
        let bytes = p.bytes.map_or(String::new(), |b| format!("  {}", report::size(b)));
        let line = format!("step {}/{}{psnr}{bytes}{left}", p.step, p.steps);
        let _ = write!(io::stderr(), "\r{line:<70}\r");
        self.shown = true;
    }

    /// The remaining time, extrapolated from the steps done so far and limited by the time limit.
    fn time_left(&self, p: &Progress, now: Instant) -> Option<Duration> {
        let limit = self.deadline.map(|d| d.saturating_duration_since(now));
        let steps = (p.step > 0 && p.steps >= p.step).then(|| {
            let done = p.step as f64 / p.steps as f64;
            (now - self.started).mul_f64((1.0 - done) / done)
        });
        match (limit, steps) {
            (Some(a), Some(b)) => Some(a.min(b)),
            (a, b) => a.or(b),
        }
    }
}

impl Drop for ProgressLine {
    /// Clears the line for later output.
    fn drop(&mut self) {
        if self.shown {
            let _ = write!(io::stderr(), "\r{:<70}\r", "");
        }
    }
}
