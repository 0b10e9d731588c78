//! The `tilefit` command.

pub mod args;
mod butteraugli;
mod candidate;
mod checkpoint;
mod compare;
mod decode;
mod encode;
mod eval;
pub mod failure;
pub mod files;
mod info;
pub mod output;
mod page;
mod progress;
pub mod report;
mod verify;

use crate::limits::Limits;
use crate::pictures::ReadOptions;
use args::{usage, Args, Command};
use failure::{Code, Failure, Result};
use std::ffi::OsString;
use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::atomic::{AtomicBool, Ordering};

/// Set by the first Ctrl-C.
static STOP: AtomicBool = AtomicBool::new(false);

/// Runs the program with the process's arguments.
pub fn run() -> ExitCode {
    let words: Vec<OsString> = std::env::args_os().skip(1).collect();
    match dispatch(words).and_then(|code| report::stdout_failure().map_or(Ok(code), Err)) {
        Ok(code) => ExitCode::from(code),
        Err(e) => {
            report::fail(&e);
            ExitCode::from(e.exit_code())
        }
    }
}

fn dispatch(words: Vec<OsString>) -> Result<u8> {
    let mut words = words.into_iter();
    let Some(first) = words.next() else {
        report::print_stderr("tilefit: a command is missing; tilefit help lists them");
        return Ok(2);
    };
    let first = first.to_string_lossy().into_owned();
    match first.as_str() {
        "-h" | "--help" => {
            report::print(args::overview().trim_end());
            return Ok(0);
        }
        "-V" | "--version" => {
            report::print(&format!("tilefit {}", env!("CARGO_PKG_VERSION")));
            return Ok(0);
        }
        _ => {}
    }
    let command = find(&first)?;
    let words: Vec<OsString> = words.collect();
    let long = words.iter().any(|w| w == "--help");
    let args = Args::parse(command, words)?;
    if args.has("help") {
        report::print(args::help(command, long).trim_end());
        return Ok(0);
    }
    // This thread becomes part of the pool. Otherwise it would sleep and wake for each parallel loop, which took a tenth of
    // a fit's time.
    let threads = args.integer("threads").unwrap_or(0) as usize;
    // Fails only if a global pool exists already, which is then used.
    let _ = rayon::ThreadPoolBuilder::new().num_threads(threads).use_current_thread().build_global();
    match command.name {
        "encode" => encode::run(&args),
        "decode" => decode::run(&args),
        "info" => info::run(&args),
        "verify" => verify::run(&args),
        "eval" => eval::run(&args),
        "compare" => compare::run(&args),
        "completions" => {
            report::print(args::completions(&args.operands[0].to_string_lossy())?.trim_end());
            Ok(0)
        }
        _ => {
            let text = match args.operands.first() {
                None => args::overview(),
                Some(name) => args::help(find(&name.to_string_lossy())?, true),
            };
            report::print(text.trim_end());
            Ok(0)
        }
    }
}

fn find(name: &str) -> Result<&'static Command> {
    Command::find(name).ok_or_else(|| {
        usage(match args::nearest(name, args::COMMANDS.iter().map(|c| c.name)) {
            Some(other) => format!("unknown command {name}: did you mean {other}?"),
            None => format!("unknown command {name}: tilefit help lists them"),
        })
    })
}

/// Runs `work` for each input. If one of several inputs fails, its error is printed, the other inputs are still processed
/// and the exit code is 1; the failure of a single input is returned with its own exit code. Inputs with nothing to do are
/// not failures, unless there is nothing to do for all of them.
fn each<'a>(inputs: &'a [PathBuf], mut work: impl FnMut(usize, &'a PathBuf) -> Result<()>) -> Result<u8> {
    let (mut code, mut nothing_to_do) = (0, 0);
    for (i, input) in inputs.iter().enumerate() {
        if let Err(e) = work(i, input) {
            if e.code == Code::Interrupted || inputs.len() == 1 {
                return Err(e);
            }
            report::fail(&e);
            match e.code {
                Code::Nothing => nothing_to_do += 1,
                _ => code = 1,
            }
        }
    }
    Ok(if nothing_to_do == inputs.len() { 3 } else { code })
}

/// The limits that `--max-pixels`, `--max-memory`, `--max-work` and `--no-limits` set.
fn limits(args: &Args) -> Limits {
    if args.has("no-limits") {
        return Limits::NONE;
    }
    let default = Limits::default();
    Limits {
        max_pixels: args.size("max-pixels").unwrap_or(default.max_pixels),
        max_memory: args.size("max-memory").unwrap_or(default.max_memory),
        max_work: args.size("max-work").unwrap_or(default.max_work),
    }
}

fn read_options(args: &Args) -> ReadOptions {
    ReadOptions { max_pixels: limits(args).max_pixels, frame: args.integer("frame").map(|k| k as u32) }
}

/// The first Ctrl-C asks the fit to save a checkpoint and stop; the second ends the program at once.
fn watch_interrupts() {
    // Fails only if a handler is set already.
    let _ = ctrlc::set_handler(|| {
        if STOP.swap(true, Ordering::SeqCst) {
            std::process::exit(130);
        }
    });
}

fn interrupted() -> Result<()> {
    if STOP.load(Ordering::SeqCst) {
        return Err(Failure::new(Code::Interrupted, "interrupted"));
    }
    Ok(())
}
