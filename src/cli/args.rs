//! The table of commands and flags. Parsing, checks, help texts and shell completions all come from it.

use super::failure::{Code, Failure, Result};
use std::ffi::{OsStr, OsString};
use std::path::PathBuf;
use std::time::Duration;

/// The kind of value that a flag takes.
#[derive(Clone, Copy, PartialEq, Debug)]
pub enum Value {
    /// No value: a switch.
    None,
    /// The path of a file or folder; the string is its placeholder in the help.
    Path(&'static str),
    /// Text that the command itself checks; the string is its placeholder in the help.
    Text(&'static str),
    /// One of these words.
    Choice(&'static [&'static str]),
    /// A decimal number in this inclusive range.
    Number(f64, f64),
    /// A whole number in this inclusive range.
    Integer(u64, u64),
    /// A count with an optional unit: `400K`, `2G`, `1.5Mi`.
    Size,
    /// A time with an optional unit: `90s`, `10m`, `1h`.
    Duration,
}

/// A flag of a command.
#[derive(Debug)]
pub struct Flag {
    pub long: &'static str,
    pub short: Option<char>,
    pub value: Value,
    /// One line, shown by `-h` and `--help`.
    pub help: &'static str,
    /// More text, shown only by `--help`.
    pub more: &'static str,
}

const fn flag(long: &'static str, short: Option<char>, value: Value, help: &'static str) -> Flag {
    Flag { long, short, value, help, more: "" }
}

impl Flag {
    const fn more(self, more: &'static str) -> Flag {
        Flag { more, ..self }
    }

    fn placeholder(&self) -> String {
        match self.value {
            Value::None => String::new(),
            Value::Path(name) | Value::Text(name) => name.to_string(),
            Value::Choice(names) => names.join("|"),
            Value::Number(low, high) if high < 1e6 => format!("{low}..{high}"),
            Value::Integer(low, high) if high < 10_000 => format!("{low}..{high}"),
            Value::Number(..) | Value::Integer(..) => "N".into(),
            Value::Size => "SIZE".into(),
            Value::Duration => "TIME".into(),
        }
    }
}

/// A command of the program.
#[derive(Debug)]
pub struct Command {
    pub name: &'static str,
    pub usage: &'static str,
    pub summary: &'static str,
    /// More text, shown only by `--help`.
    pub details: &'static str,
    /// The minimum and maximum number of operands.
    pub operands: (usize, usize),
    pub flags: &'static [Flag],
}

/// Flags that every command has.
const COMMON: &[Flag] = &[
    flag("verbose", Some('v'), Value::None, "print more on stderr"),
    flag("quiet", None, Value::None, "print only errors on stderr"),
    flag("json", None, Value::None, "print one JSON object per file on stdout and nothing else"),
    flag(
        "progress",
        None,
        Value::Choice(&["auto", "never", "json"]),
        "print progress on stderr (auto: only on a terminal)",
    ),
    flag("help", Some('h'), Value::None, "print help; --help prints more than -h"),
];

const THREADS: Flag = flag("threads", Some('j'), Value::Integer(1, 1024), "number of threads (default: all cores)");
const PRESERVE_TIMES: Flag = flag("preserve-times", None, Value::None, "give the output the times of the input");
const FORCE: Flag = flag("force", Some('f'), Value::None, "overwrite an existing output");
const MAX_PIXELS: Flag =
    flag("max-pixels", None, Value::Size, "reject pictures with more pixels (default 268435456 = 2^28)");
const MAX_MEMORY: Flag =
    flag("max-memory", None, Value::Size, "reject files that need more memory to decode (default 2Gi)");
const MAX_WORK: Flag = flag(
    "max-work",
    None,
    Value::Size,
    "reject files that take more multiplications to decode (default 1024Gi = 2^40)",
);
const NO_LIMITS: Flag = flag("no-limits", None, Value::None, "do not limit pixels, memory and work");

pub const COMMANDS: &[Command] = &[
    Command {
        name: "encode",
        usage: "encode [OPTIONS] PICTURE ... [-o OUT.tfit|DIR|-]",
        summary: "fit a small model to each picture and write its weights and codes",
        details: "Reads PNG, JPEG, TIFF, WebP, GIF, BMP, QOI, PNM, PAM, PFM and FITS. \
Writes one .tfit file for each input, in the input's folder unless -o gives another place. \
The first line on stderr estimates the time and memory of the fit. A failed run leaves no partial output. \
Ctrl-C stops the fit and saves a checkpoint next to the output. --resume continues from that checkpoint; \
--resume --time-limit 0 writes the best file that the checkpoint gives.

At most one of -q, --lambda, --target-psnr, --target-ssimulacra2, --target-msssim, --target-bpp, --target-size, --lossless and \
--max-error may be given (default -q 75). Without --model a lossless file is written where it is smaller than a fitted one.",
        operands: (1, usize::MAX),
        flags: &[
            flag("output", Some('o'), Value::Path("OUT"), "output file or folder; - for stdout"),
            flag("model", None, Value::Choice(&crate::fit::NAMES), "model family (default pyramid)")
                .more("pyramid: gives the smallest files for pictures of up to tens of megapixels. gdn: a network trained on crops, for very large pictures and for groups."),
            flag("quality", Some('q'), Value::Number(0.0, 100.0), "quality, higher is better (default 75)")
                .more("Tuned for the eye, Q is about the SSIMULACRA2 of the result: 30 is low, 50 medium, 70 high and 90 visually lossless quality; 100 is lossless. Else it sets lambda = 10^(-1.3 - 0.028 Q)."),
            flag("lambda", None, Value::Number(1e-9, 1e6), "weight of the rate: minimise D + lambda * bpp, with the distortion D of --tune"),
            flag("target-psnr", None, Value::Number(1.0, 100.0), "reach at least this PSNR in dB"),
            flag("target-ssimulacra2", None, Value::Number(0.0, 100.0), "reach at least this SSIMULACRA2, a measure of what people see"),
            flag("target-msssim", None, Value::Number(0.01, 1.0), "reach at least this MS-SSIM"),
            flag("target-bpp", None, Value::Number(1e-6, 64.0), "use at most this many bits per pixel, counting the whole file"),
            flag("target-size", None, Value::Size, "use at most this many bytes, counting the whole file (400K, 1.5M, 64Ki)"),
            flag("lossless", None, Value::None, "keep every sample; nothing is fitted"),
            flag("max-error", None, Value::Integer(0, 65535), "let no sample differ by more than this; nothing is fitted"),
            flag("alpha-quality", None, Value::Number(0.0, 100.0), "quality of alpha, 100 is lossless (default by the picture)")
                .more("At Q samples of alpha differ by at most (100 - Q) / 4 percent of the peak. Without this option alpha is lossless where that costs next to nothing, and else fitted together with colour."),
            flag("tune", None, Value::Choice(&["psnr", "ssim", "msssim", "visual"]), "distortion to minimise (default by the picture)")
                .more("visual: as the eye sees it, for grey and RGB pictures. psnr: the mean squared error, for data; the default of bands, FITS, --target-psnr and --target-msssim. ssim, msssim: structure; only in the families gdn and hyperprior, which do not have visual."),
            flag("domain", None, Value::Choice(&["auto", "linear", "asinh"]), "domain of the fit and of its targets (default auto)")
                .more("asinh: faint samples count as much as bright ones; the curve is in the file, the decoder gives samples as they were. auto: asinh for FITS, floats and wide integers of high dynamic range, that is 90 % of the samples within a 32nd of their range, else linear."),
            flag("effort", Some('e'), Value::Integer(1, 9), "from 1 (fastest) to 9 (smallest file) (default 5)"),
            flag("time-limit", None, Value::Duration, "write the best file that can be reached in this time (90s, 10m, 1h)")
                .more("If the estimate is more than twice the limit, a lower effort is used."),
            THREADS.more("The number of threads does not change the file."),
            flag("max-memory", None, Value::Size, "reject fits that need more memory (default 4Gi)"),
            MAX_PIXELS,
            flag("seed", None, Value::Integer(0, u64::MAX), "seed of the random numbers (default 0)"),
            FORCE,
            flag("no-verify", None, Value::None, "do not decode the file to check it before it is written"),
            flag("resume", None, Value::None, "continue from the checkpoint of an interrupted run"),
            flag("dry-run", None, Value::None, "only print the estimate of time and memory"),
            flag("group", None, Value::None, "write all inputs into one file (-o) with shared weights"),
            flag("bands", None, Value::None, "join all inputs, aligned and of one size, to one picture of up to 16 channels (-o)")
                .more("They share all grids and one synthesis: RGB with near infrared, maps of a material. decode --band N gives one of them back."),
            flag("tile", None, Value::Integer(0, 1 << 20), "side of a tile in pixels, 0 for one tile (default depends on the family)"),
            flag("channels", None, Value::Integer(1, 1024), "latent channels of a gdn model (default depends on picture and target)"),
            flag("depth", None, Value::Choice(&["8", "16", "keep"]), "scale samples to 8 or 16 bits (default keep)"),
            flag("strip", None, Value::Choice(&["safe", "all"]), "leave out metadata. safe: all that does not change the colours; all: everything")
                .more("The orientation of EXIF is applied before it is left out."),
            flag("frame", None, Value::Integer(1, 1 << 31), "the frame of an animation, or the page of a TIFF, counted from 1"),
            PRESERVE_TIMES,
            flag("weights", None, Value::Choice(&["coded", "f16"]), "how weights are stored (default coded)"),
        ],
    },
    Command {
        name: "decode",
        usage: "decode [OPTIONS] FILE.tfit ... [-o OUT|DIR|-]",
        summary: "decode a .tfit file to PNG, TIFF, FITS or PAM",
        details: "The name of the output chooses its format: .png, .tif, .fits, .pam, .pgm or .ppm; stdout and folders get PNG. \
A file decodes to the same samples on every machine. A decoded region equals the same part of the \
whole decoded picture.",
        operands: (1, usize::MAX),
        flags: &[
            flag("output", Some('o'), Value::Path("OUT"), "output file or folder; - for stdout"),
            flag("region", None, Value::Text("X,Y,W,H"), "decode only this rectangle, in pixels of the full-size picture"),
            flag("scale", None, Value::Choice(&["1/1", "1/2", "1/4", "1/8"]), "decode a smaller picture, without full-size synthesis"),
            flag("image", None, Value::Text("N|all"), "which picture of a group, counted from 1"),
            PRESERVE_TIMES,
            flag("band", None, Value::Integer(1, 16), "one of the pictures that bands were joined from, counted from 1"),
            flag("partial", None, Value::None, "decode what is readable of a truncated or damaged file (exit code 6)"),
            THREADS,
            MAX_PIXELS,
            MAX_MEMORY,
            MAX_WORK,
            NO_LIMITS,
            FORCE,
        ],
    },
    Command {
        name: "info",
        usage: "info [OPTIONS] FILE.tfit ...",
        summary: "show what a .tfit file contains and what decoding it costs",
        details: "Prints the bytes of header, weights, codes and metadata, the model family, the tiles, the \
multiplications per pixel, the memory that decoding needs, and a CRC-32 digest of the decoded samples (the same \
on every machine).",
        operands: (1, usize::MAX),
        flags: &[THREADS, MAX_PIXELS, MAX_MEMORY, MAX_WORK, NO_LIMITS],
    },
    Command {
        name: "verify",
        usage: "verify [OPTIONS] FILE.tfit ... [--reference IMG]",
        summary: "check all checksums and decode the whole file",
        details: "",
        operands: (1, usize::MAX),
        flags: &[
            flag("reference", None, Value::Path("IMG"), "original picture: also print PSNR and MS-SSIM against it"),
            THREADS,
            MAX_PIXELS,
            MAX_MEMORY,
            MAX_WORK,
            NO_LIMITS,
        ],
    },
    Command {
        name: "eval",
        usage: "eval [OPTIONS] ORIGINAL.png CANDIDATE ...",
        summary: "measure bytes, PSNR, MS-SSIM and SSIMULACRA2 of .tfit files and other pictures",
        details: "Sizes are those of whole files. The factor is the candidate's bytes divided by the bytes of the original \
PNG file. PSNR is taken over all 8-bit samples; MS-SSIM uses five scales and an 11x11 Gaussian window per channel;
SSIMULACRA2 is version 2.1.",
        operands: (2, usize::MAX),
        flags: &[THREADS, MAX_PIXELS, MAX_MEMORY, MAX_WORK, NO_LIMITS],
    },
    Command {
        name: "compare",
        usage: "compare [OPTIONS] ORIGINAL.png [CANDIDATE ...]",
        summary: "compare candidates with JPEG, as text, Markdown, JSON or a web page",
        details: "The JPEG rows are encoded by this command with common settings: baseline, 4:2:0, standard Huffman tables.",
        operands: (1, usize::MAX),
        flags: &[
            flag("jpeg", None, Value::Text("Q,Q,...|none"), "qualities of the JPEG rows (default 95,70,50,20)"),
            flag("markdown", None, Value::None, "print the table in Markdown"),
            flag("html", None, Value::Path("OUT.html"), "also write one self-contained page with the table and crops"),
            FORCE,
            THREADS,
            MAX_PIXELS,
            MAX_MEMORY,
            MAX_WORK,
            NO_LIMITS,
        ],
    },
    Command {
        name: "completions",
        usage: "completions bash|zsh|fish",
        summary: "print a completion script for a shell",
        details: "",
        operands: (1, 1),
        flags: &[],
    },
    Command {
        name: "help",
        usage: "help [COMMAND]",
        summary: "print help",
        details: "",
        operands: (0, 1),
        flags: &[],
    },
];

impl Command {
    pub fn find(name: &str) -> Option<&'static Command> {
        COMMANDS.iter().find(|c| c.name == name)
    }

    /// Whether any command has the flag `--name`.
    pub fn has_flag(name: &str) -> bool {
        COMMANDS.iter().any(|c| c.all_flags().any(|f| f.long == name))
    }

    pub fn all_flags(&self) -> impl Iterator<Item = &'static Flag> {
        self.flags.iter().chain(COMMON)
    }
}

/// The arguments of a command, checked against the table.
#[derive(Debug)]
pub struct Args {
    pub command: &'static Command,
    pub operands: Vec<PathBuf>,
    flags: Vec<(&'static Flag, OsString)>,
}

/// A usage error: exit code 2.
pub fn usage(message: impl Into<String>) -> Failure {
    Failure::new(Code::Usage, message)
}

impl Args {
    /// Parses the words that follow the command's name.
    pub fn parse(command: &'static Command, words: impl IntoIterator<Item = OsString>) -> Result<Args> {
        let mut args = Args { command, operands: Vec::new(), flags: Vec::new() };
        let mut words = words.into_iter();
        let mut only_operands = false;
        while let Some(word) = words.next() {
            let Some(text) = word.to_str().filter(|t| !only_operands && t.starts_with('-') && *t != "-") else {
                args.operands.push(word.into());
                continue;
            };
            if text == "--" {
                only_operands = true;
            } else if let Some(long) = text.strip_prefix("--") {
                let (name, value) = match long.split_once('=') {
                    Some((name, value)) => (name, Some(OsString::from(value))),
                    None => (long, None),
                };
                let flag = command.all_flags().find(|f| f.long == name).ok_or_else(|| unknown(command, name))?;
                args.push(flag, value, &mut words)?;
            } else {
                // Short flags may be joined, and a value may follow directly: `-fv`, `-j4`.
                let mut rest = &text[1..];
                while let Some(c) = rest.chars().next() {
                    rest = &rest[c.len_utf8()..];
                    let flag = command.all_flags().find(|f| f.short == Some(c)).ok_or_else(|| {
                        usage(format!("unknown flag -{c}: tilefit help {} lists the flags", command.name))
                    })?;
                    if flag.value == Value::None {
                        args.push(flag, None, &mut words)?;
                    } else {
                        let joined = rest.strip_prefix('=').unwrap_or(rest);
                        args.push(flag, (!joined.is_empty()).then(|| joined.into()), &mut words)?;
                        break;
                    }
                }
            }
        }
        let (min, max) = command.operands;
        if !args.has("help") && !(min..=max).contains(&args.operands.len()) {
            let problem = if args.operands.len() < min { "missing operands" } else { "too many operands" };
            return Err(usage(format!("{problem}: usage: tilefit {}", command.usage)));
        }
        Ok(args)
    }

    fn push(
        &mut self,
        flag: &'static Flag,
        value: Option<OsString>,
        words: &mut impl Iterator<Item = OsString>,
    ) -> Result<()> {
        let value = match (flag.value, value) {
            (Value::None, Some(_)) => return Err(usage(format!("--{} takes no value", flag.long))),
            (Value::None, None) => OsString::new(),
            (_, Some(value)) => value,
            (_, None) => {
                words.next().ok_or_else(|| usage(format!("--{} needs a value: {}", flag.long, flag.placeholder())))?
            }
        };
        check(flag, &value)?;
        self.flags.push((flag, value));
        Ok(())
    }

    pub fn has(&self, long: &str) -> bool {
        self.flags.iter().any(|(f, _)| f.long == long)
    }

    /// The value of a flag; if it is given several times, the last one.
    pub fn raw(&self, long: &str) -> Option<&OsStr> {
        self.flags.iter().rev().find(|(f, _)| f.long == long).map(|(_, v)| v.as_os_str())
    }

    pub fn text(&self, long: &str) -> Option<&str> {
        self.raw(long).and_then(OsStr::to_str)
    }

    pub fn path(&self, long: &str) -> Option<PathBuf> {
        self.raw(long).map(PathBuf::from)
    }

    pub fn number(&self, long: &str) -> Option<f64> {
        self.text(long)?.parse().ok()
    }

    pub fn integer(&self, long: &str) -> Option<u64> {
        self.text(long)?.parse().ok()
    }

    pub fn size(&self, long: &str) -> Option<u64> {
        parse_size(self.text(long)?)
    }

    pub fn duration(&self, long: &str) -> Option<Duration> {
        parse_duration(self.text(long)?)
    }

    /// Which of the flags `names` is given, if any. Two of them are a usage error.
    pub fn one_of(&self, names: &[&'static str]) -> Result<Option<&'static str>> {
        let mut given = names.iter().filter(|n| self.has(n));
        match (given.next(), given.next()) {
            (Some(a), Some(b)) => Err(usage(format!("--{a} and --{b} cannot be combined: give only one of them"))),
            (a, _) => Ok(a.copied()),
        }
    }
}

/// Checks a value against the table, so that a bad value is an error before any work starts.
fn check(flag: &Flag, value: &OsStr) -> Result<()> {
    let reject = |what: String| Err(usage(format!("--{} {}: {what}", flag.long, value.to_string_lossy())));
    let text = value.to_str().unwrap_or("");
    match flag.value {
        Value::None => Ok(()),
        Value::Path(_) if !value.is_empty() => Ok(()),
        Value::Text(_) if !text.is_empty() => Ok(()),
        Value::Path(name) | Value::Text(name) => reject(format!("{name} is expected")),
        Value::Choice(names) if names.contains(&text) => Ok(()),
        Value::Choice(names) => reject(format!("one of {} is expected", names.join(", "))),
        Value::Number(low, high) => match text.parse::<f64>() {
            Ok(v) if v >= low && v <= high => Ok(()),
            _ => reject(format!("a number from {low} to {high} is expected")),
        },
        Value::Integer(low, high) => match text.parse::<u64>() {
            Ok(v) if v >= low && v <= high => Ok(()),
            _ => reject(format!("a whole number from {low} to {high} is expected")),
        },
        Value::Size if parse_size(text).is_some() => Ok(()),
        Value::Size => reject("a size is expected, such as 400K, 1.5M or 2Gi".into()),
        Value::Duration if parse_duration(text).is_some() => Ok(()),
        Value::Duration => reject("a time is expected, such as 90s, 10m or 1h".into()),
    }
}

/// Parses a size. Units are powers of 1000 (`400K`) or of 1024 (`64Ki`), also with M, G and T; a trailing B is allowed.
pub fn parse_size(text: &str) -> Option<u64> {
    let number = text.trim_end_matches(|c: char| c.is_ascii_alphabetic());
    let unit = text[number.len()..].to_ascii_lowercase();
    let unit = unit.strip_suffix('b').unwrap_or(&unit);
    let (prefix, base) = match unit.strip_suffix('i') {
        Some(prefix) => (prefix, 1024f64),
        None => (unit, 1000f64),
    };
    let power = match prefix {
        "" if base == 1000.0 => 0,
        "k" => 1,
        "m" => 2,
        "g" => 3,
        "t" => 4,
        _ => return None,
    };
    let v = scaled(number, base.powi(power))?;
    (v < u64::MAX as f64).then_some(v as u64)
}

/// Parses a time: `250ms`, `90` or `90s`, `10m`, `1.5h`, `1d`.
pub fn parse_duration(text: &str) -> Option<Duration> {
    let number = text.trim_end_matches(|c: char| c.is_ascii_alphabetic());
    let unit = match &text[number.len()..] {
        "ms" => 0.001,
        "" | "s" => 1.0,
        "m" | "min" => 60.0,
        "h" => 3600.0,
        "d" => 86400.0,
        _ => return None,
    };
    Duration::try_from_secs_f64(scaled(number, unit)?).ok()
}

fn scaled(number: &str, unit: f64) -> Option<f64> {
    let plain = number.bytes().all(|c| c.is_ascii_digit() || c == b'.');
    let v = number.parse::<f64>().ok().filter(|_| plain)? * unit;
    v.is_finite().then_some(v)
}

fn unknown(command: &Command, name: &str) -> Failure {
    let suggestion = nearest(name, command.all_flags().map(|f| f.long));
    usage(match suggestion {
        Some(other) => format!("unknown flag --{name}: did you mean --{other}?"),
        None => format!("unknown flag --{name}: tilefit help {} lists the flags", command.name),
    })
}

/// The name closest to a misspelt `word`, unless more than a third of the letters differ.
pub fn nearest<'a>(word: &str, names: impl Iterator<Item = &'a str>) -> Option<&'a str> {
    names
        .map(|n| (distance(word, n), n))
        .min()
        .filter(|(d, n)| *d <= n.len().max(word.len()).div_ceil(3))
        .map(|(_, n)| n)
}

/// Levenshtein distance: the number of insertions, deletions and replacements that turn `a` into `b`.
fn distance(a: &str, b: &str) -> usize {
    let b: Vec<char> = b.chars().collect();
    let mut row: Vec<usize> = (0..=b.len()).collect();
    for (i, x) in a.chars().enumerate() {
        let mut diagonal = row[0];
        row[0] = i + 1;
        for (j, y) in b.iter().enumerate() {
            let edit = (diagonal + (x != *y) as usize).min(row[j] + 1).min(row[j + 1] + 1);
            diagonal = row[j + 1];
            row[j + 1] = edit;
        }
    }
    row[b.len()]
}

/// What `tilefit -h` prints.
pub fn overview() -> String {
    let mut out = String::from(
        "Tilefit: a neural image codec that fits a small model to one picture\n\nUsage: tilefit COMMAND ...\n\n",
    );
    for c in COMMANDS {
        out += &format!("  {:<12} {}\n", c.name, c.summary);
    }
    out += "\nFor details: tilefit help COMMAND. Exit codes: 0 success, 1 an input or output failed, 2 usage error,\n\
3 nothing to do, 4 output exists, 5 target not reached, 6 damaged file or over a limit, 130 interrupted.\n";
    out
}

/// The help of a command: that of `-h`, or with `long` that of `--help`.
pub fn help(command: &Command, long: bool) -> String {
    let mut out = format!("tilefit {}: {}\n\nUsage: tilefit {}\n", command.name, command.summary, command.usage);
    if long && !command.details.is_empty() {
        out += "\n";
        for paragraph in command.details.split('\n') {
            wrap(&mut out, "", paragraph);
        }
    }
    out += "\nOptions:\n";
    for flag in command.all_flags() {
        let short = flag.short.map_or("    ".to_string(), |c| format!("-{c}, "));
        let left = format!("  {short}--{} {}", flag.long, flag.placeholder());
        if left.len() > 34 {
            out += &format!("{left}\n{:36}{}\n", "", flag.help);
        } else {
            out += &format!("{left:<36}{}\n", flag.help);
        }
        if long && !flag.more.is_empty() {
            wrap(&mut out, &" ".repeat(38), flag.more);
        }
    }
    out
}

fn wrap(out: &mut String, indent: &str, text: &str) {
    let mut line = indent.to_string();
    for word in text.split(' ') {
        if line.len() + word.len() > 100 && line.len() > indent.len() {
            *out += line.trim_end();
            *out += "\n";
            line = indent.to_string();
        }
        line += word;
        line += " ";
    }
    *out += line.trim_end();
    *out += "\n";
}

/// The completion script of a shell.
pub fn completions(shell: &str) -> Result<String> {
    let choices = |f: &Flag| match f.value {
        Value::Choice(names) => names.join(" "),
        _ => String::new(),
    };
    let names = COMMANDS.iter().map(|c| c.name).collect::<Vec<_>>().join(" ");
    let mut out = String::new();
    match shell {
        "bash" => {
            out += "_tilefit() {\n  local word=${COMP_WORDS[COMP_CWORD]} last=${COMP_WORDS[COMP_CWORD-1]} words=\n";
            out += &format!(
                "  if [ \"$COMP_CWORD\" -eq 1 ]; then words=\"{names}\"; else\n  case ${{COMP_WORDS[1]}}:$last in\n"
            );
            for c in COMMANDS {
                for f in c.all_flags().filter(|f| !choices(f).is_empty()) {
                    out += &format!("    {}:--{}) words=\"{}\" ;;\n", c.name, f.long, choices(f));
                }
            }
            out += "    completions:*) words=\"bash zsh fish\" ;;\n";
            out += &format!("    help:*) words=\"{names}\" ;;\n");
            for c in COMMANDS {
                let flags = c.all_flags().map(|f| format!("--{}", f.long)).collect::<Vec<_>>().join(" ");
                out += &format!("    {}:*) [[ $word == -* ]] && words=\"{flags}\" ;;\n", c.name);
            }
            out += "  esac; fi\n  COMPREPLY=($(compgen -W \"$words\" -- \"$word\"))\n}\ncomplete -o default -F _tilefit tilefit\n";
        }
        "zsh" => {
            out += "#compdef tilefit\n_tilefit() {\n  if (( CURRENT == 2 )); then\n    local -a commands=(\n";
            for c in COMMANDS {
                out += &format!("      '{}:{}'\n", c.name, c.summary);
            }
            out += "    )\n    _describe command commands\n    return\n  fi\n  case $words[2] in\n";
            for c in COMMANDS {
                out += &format!("    {}) shift words; (( CURRENT-- )); _arguments", c.name);
                for f in c.all_flags() {
                    let help = f.help.replace('[', "(").replace(']', ")").replace('\'', "");
                    let value = match f.value {
                        Value::None => String::new(),
                        Value::Choice(names) => format!(":value:({})", names.join(" ")),
                        Value::Path(_) => ":file:_files".into(),
                        _ => ":value:".into(),
                    };
                    out += &format!(" \\\n      '--{}[{help}]{value}'", f.long);
                }
                out += match c.name {
                    "completions" => " \\\n      '1:shell:(bash zsh fish)' ;;\n",
                    _ => " \\\n      '*:file:_files' ;;\n",
                };
            }
            out += "  esac\n}\n_tilefit \"$@\"\n";
        }
        "fish" => {
            for c in COMMANDS {
                out += &format!("complete -c tilefit -n __fish_use_subcommand -f -a {} -d '{}'\n", c.name, c.summary);
                for f in c.all_flags() {
                    let short = f.short.map_or(String::new(), |s| format!(" -s {s}"));
                    let value = match f.value {
                        Value::None => String::new(),
                        Value::Path(_) => " -r".into(),
                        Value::Choice(_) => format!(" -x -a '{}'", choices(f)),
                        _ => " -x".into(),
                    };
                    let help = f.help.replace('\'', "");
                    out += &format!(
                        "complete -c tilefit -n '__fish_seen_subcommand_from {}' -l {}{short}{value} -d '{help}'\n",
                        c.name, f.long
                    );
                }
            }
            out += "complete -c tilefit -n '__fish_seen_subcommand_from completions' -f -a 'bash zsh fish'\n";
        }
        _ => return Err(usage(format!("no completions for {shell}: expected one of bash, zsh, fish"))),
    }
    Ok(out)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(command: &str, words: &[&str]) -> Result<Args> {
        Args::parse(Command::find(command).unwrap(), words.iter().map(OsString::from))
    }

    #[test]
    fn all_forms_of_flags_parse() {
        let a = parse("encode", &["-fvj4", "a.png", "--target-size=400K", "-e", "7", "--", "-b.png"]).unwrap();
        assert!(a.has("force") && a.has("verbose") && !a.has("quiet"));
        assert_eq!(
            (a.integer("threads"), a.integer("effort"), a.size("target-size")),
            (Some(4), Some(7), Some(400_000))
        );
        assert_eq!(a.operands, [PathBuf::from("a.png"), PathBuf::from("-b.png")]);
        assert_eq!(parse("decode", &["-"]).unwrap().operands, [PathBuf::from("-")]);
    }

    #[test]
    fn bad_values_give_one_line_usage_errors() {
        let bad: &[&[&str]] = &[
            &["x", "--qualty", "3"],
            &["x", "-q", "101"],
            &["x", "-q", "nan"],
            &["x", "-e", "0"],
            &["x", "-e", "5.5"],
            &["x", "--model", "none"],
            &["x", "--target-size", "12Q"],
            &["x", "--target-size", "-3"],
            &["x", "--time-limit", "soon"],
            &["x", "--force=yes"],
            &["x", "-o"],
            &["x", "-o", ""],
            &["x", "-z"],
            &[],
        ];
        for words in bad {
            let e = parse("encode", words).unwrap_err();
            assert_eq!(e.code, Code::Usage, "{words:?}");
            assert!(!e.message.contains('\n'), "{e}");
        }
        assert!(parse("encode", &["x", "--qualty", "3"]).unwrap_err().message.contains("--quality"));
        assert!(parse("encode", &["x", "--frobnicate"]).unwrap_err().message.contains("tilefit help encode"));
    }

    #[test]
    fn sizes_and_times_parse() {
        let sizes = ["7", "400K", "2G", "64Ki", "1.5MiB", "1t", "3b"].map(parse_size);
        assert_eq!(sizes, [7, 400_000, 2_000_000_000, 65536, 1_572_864, 1_000_000_000_000, 3].map(Some));
        for bad in ["", "K", "1i", "1e3", "-1", "1..2", "99999999999T", "1 K"] {
            assert_eq!(parse_size(bad), None, "{bad}");
        }
        let times = ["0", "90s", "10m", "1.5h", "250ms"].map(|t| parse_duration(t).map(|d| d.as_secs_f64()));
        assert_eq!(times, [0.0, 90.0, 600.0, 5400.0, 0.25].map(Some));
        for bad in ["", "s", "1x", "-1s", "1e400h", "999999999999999999999d"] {
            assert_eq!(parse_duration(bad), None, "{bad}");
        }
    }

    #[test]
    fn quality_flags_cannot_be_combined() {
        let a = parse("encode", &["x", "-q", "5", "--lambda", "0.1"]).unwrap();
        assert!(a.one_of(&["quality", "lambda"]).is_err());
        assert_eq!(a.one_of(&["quality", "target-bpp"]).unwrap(), Some("quality"));
    }

    /// No two flags of a command have the same name, and every flag appears in its help and in all completions.
    #[test]
    fn flag_names_are_unique_and_documented() {
        for c in COMMANDS {
            let flags: Vec<_> = c.all_flags().collect();
            for (i, f) in flags.iter().enumerate() {
                let same_name = |g: &&Flag| g.long == f.long || (f.short.is_some() && g.short == f.short);
                assert!(!flags[i + 1..].iter().copied().any(|g| same_name(&g)), "{} --{}", c.name, f.long);
                assert!(help(c, false).contains(&format!("--{}", f.long)));
                for shell in ["bash", "zsh", "fish"] {
                    assert!(completions(shell).unwrap().contains(f.long));
                }
            }
        }
    }
}
