//! The command from outside: exit codes, one-line messages, stdout, and the files it leaves.
#![cfg(feature = "cli")]

use std::fs;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};
use tilefit::pictures::{self, OutFormat};
use tilefit::{Picture, PixelFormat};

/// A separate folder for each test, removed when the test ends.
struct Folder(PathBuf);

impl Folder {
    fn new(name: &str) -> Folder {
        let path = std::env::temp_dir().join(format!("tilefit-cli-{name}-{}", std::process::id()));
        fs::create_dir_all(&path).unwrap();
        Folder(path)
    }

    fn path(&self, name: &str) -> PathBuf {
        self.0.join(name)
    }

    fn write(&self, name: &str, data: &[u8]) -> String {
        let path = self.path(name);
        fs::write(&path, data).unwrap();
        path.to_str().unwrap().to_string()
    }

    fn fixture(&self, name: &str) -> String {
        self.write(name, &fs::read(fixture(name)).unwrap())
    }

    fn list(&self) -> Vec<String> {
        let mut names: Vec<String> =
            fs::read_dir(&self.0).unwrap().map(|e| e.unwrap().file_name().to_str().unwrap().to_string()).collect();
        names.sort();
        names
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

fn fixture(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("fixtures").join(name)
}

fn command(words: &[&str]) -> Command {
    let mut c = Command::new(env!("CARGO_BIN_EXE_tilefit"));
    c.args(words).env("NO_COLOR", "1");
    c
}

fn run(words: &[&str]) -> Output {
    command(words).stdin(Stdio::null()).output().unwrap()
}

fn piped(words: &[&str], input: &[u8]) -> Output {
    let mut child = command(words).stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    let mut stdin = child.stdin.take().unwrap();
    let input = input.to_vec();
    let writer = std::thread::spawn(move || stdin.write_all(&input));
    let output = child.wait_with_output().unwrap();
    let _ = writer.join().unwrap();
    output
}

fn stdout(o: &Output) -> String {
    String::from_utf8(o.stdout.clone()).unwrap()
}

fn stderr(o: &Output) -> String {
    String::from_utf8(o.stderr.clone()).unwrap()
}

/// Asserts a failure: exit code `code`, nothing on stdout, and one line on stderr that contains each of `parts`.
#[track_caller]
fn assert_fails(o: &Output, code: i32, parts: &[&str]) {
    let text = stderr(o);
    assert_eq!(o.status.code(), Some(code), "{text}");
    assert_eq!(text.lines().count(), 1, "{text}");
    assert!(o.stdout.is_empty(), "{}", stdout(o));
    for part in parts {
        assert!(text.contains(part), "{part:?} is not in {text:?}");
    }
}

#[track_caller]
fn assert_success(o: &Output) {
    assert!(o.status.success(), "{}", stderr(o));
}

fn png(colour: png::ColorType, depth: png::BitDepth, setup: impl FnOnce(&mut png::Encoder<&mut Vec<u8>>)) -> Vec<u8> {
    let mut out = Vec::new();
    let mut encoder = png::Encoder::new(&mut out, 8, 8);
    encoder.set_color(colour);
    encoder.set_depth(depth);
    setup(&mut encoder);
    let bits = colour.samples() * depth as usize * 8;
    let mut writer = encoder.write_header().unwrap();
    writer.write_image_data(&vec![0x5a; bits.div_ceil(8) * 8]).unwrap();
    writer.finish().unwrap();
    out
}

/// The text of the value of `key` in a flat JSON object.
fn value<'a>(json: &'a str, key: &str) -> &'a str {
    let at = json.find(&format!("\"{key}\":")).unwrap_or_else(|| panic!("{key} is not in {json}"));
    let rest = &json[at + key.len() + 3..];
    let end = if let Some(text) = rest.strip_prefix('"') {
        text.find('"').unwrap() + 2
    } else {
        rest.find([',', '}']).unwrap()
    };
    &rest[..end]
}

#[test]
fn usage_errors() {
    assert_fails(&run(&[]), 2, &["tilefit help"]);
    assert_fails(&run(&["encod", "x.png"]), 2, &["encod", "encode"]);
    assert_fails(&run(&["decode"]), 2, &["tilefit decode"]);
    assert_fails(&run(&["eval", "only-one.png"]), 2, &["CANDIDATE"]);
    assert_fails(&run(&["decode", "x", "--regoin", "1,2,3,4"]), 2, &["--regoin", "--region"]);
    assert_fails(&run(&["decode", "x", "--region", "1,2,3"]), 2, &["X,Y,W,H"]);
    assert_fails(&run(&["decode", "x", "--region", "1,2,0,4"]), 2, &["X,Y,W,H"]);
    assert_fails(&run(&["decode", "x", "--image", "0"]), 2, &["--image"]);
    assert_fails(&run(&["decode", "x", "--scale", "1/3"]), 2, &["1/2, 1/4, 1/8"]);
    assert_fails(&run(&["compare", "x.png", "--jpeg", "95,no"]), 2, &["--jpeg"]);
    assert_fails(&run(&["compare", "x.png", "--json", "--markdown"]), 2, &["--json", "--markdown"]);
    assert_fails(&run(&["completions", "tcsh"]), 2, &["bash, zsh, fish"]);
}

#[test]
fn every_command_has_help() {
    for name in ["encode", "decode", "info", "verify", "eval", "compare", "completions", "help"] {
        let (short, long) = (run(&[name, "-h"]), run(&[name, "--help"]));
        assert_success(&short);
        assert!(stdout(&run(&["help"])).contains(name));
        assert_eq!(stdout(&long), stdout(&run(&["help", name])));
        assert!(long.stdout.len() >= short.stdout.len());
    }
    assert!(stdout(&run(&["--version"])).starts_with("tilefit "));
}

#[test]
fn completions_are_valid_scripts() {
    for shell in ["bash", "zsh", "fish"] {
        let o = run(&["completions", shell]);
        assert_success(&o);
        assert!(stdout(&o).contains("target-msssim"));
    }
    // Where bash is installed, it must accept the syntax of its script.
    let f = Folder::new("completions");
    let script = f.write("tilefit.bash", &run(&["completions", "bash"]).stdout);
    if let Ok(o) = Command::new("bash").args(["-n", &script]).output() {
        assert!(o.status.success(), "{}", stderr(&o));
    }
}

#[test]
fn unsupported_pictures_give_an_error_with_the_reason() {
    use png::{BitDepth, ColorType};
    let f = Folder::new("unsupported");
    let good = fs::read(fixture("noise.png")).unwrap();
    let mut empty = good.clone();
    empty[16..20].fill(0);
    let cases: &[(&str, Vec<u8>, &[&str])] = &[
        ("nothing.png", Vec::new(), &["empty"]),
        ("text.png", b"this is no picture".to_vec(), &["not a picture"]),
        ("photo.png", b"\xff\xd8\xff\xe0 and so on".to_vec(), &["truncated JPEG"]),
        ("photo.avif", b"\0\0\0\x20ftypavif".to_vec(), &["AVIF"]),
        ("cut.png", good[..good.len() / 2].to_vec(), &["truncated"]),
        ("head.png", good[..20].to_vec(), &["truncated"]),
        ("zero.png", empty, &["IHDR"]),
        (
            "moving.png",
            png(ColorType::Rgb, BitDepth::Eight, |e| e.set_animated(1, 0).unwrap()),
            &["animation", "--frame"],
        ),
    ];
    for (name, data, parts) in cases {
        let path = f.write(name, data);
        let mut parts = parts.to_vec();
        parts.push(name);
        assert_fails(&run(&["compare", &path]), 1, &parts);
        assert_fails(&run(&["encode", "--quiet", &path]), 1, &parts);
    }
    let names: Vec<String> = f.list();
    assert!(names.iter().all(|n| (n.ends_with(".png") || n.ends_with(".avif")) && !n.starts_with('.')), "{names:?}");
    let big = f.write("big.png", &good);
    assert_fails(&run(&["compare", &big, "--max-pixels", "1K"]), 6, &["big.png", "--max-pixels", "1600"]);
    assert_fails(&run(&["encode", "--quiet", &big, "--max-memory", "1M"]), 6, &["1600 pixels", "MB", "--max-memory"]);
}

#[test]
fn palettes_and_few_bits_are_read() {
    use png::{BitDepth, ColorType};
    let f = Folder::new("read");
    let mut palette = vec![0u8; 3 * 256];
    palette[3 * 0x5a..][..3].copy_from_slice(&[9, 8, 7]);
    let cases = [
        ("one-bit.png", png(ColorType::Grayscale, BitDepth::One, |_| ())),
        ("palette.png", png(ColorType::Indexed, BitDepth::Eight, |e| e.set_palette(palette))),
    ];
    for (name, data) in cases {
        let path = f.write(name, &data);
        let o = run(&["eval", "--json", &path, &path]);
        assert_success(&o);
        assert_eq!(value(&stdout(&o), "psnr"), "null");
        assert_eq!(value(&stdout(&o), "factor"), "1");
    }
}

#[test]
fn missing_inputs_and_bad_outputs_are_errors() {
    let f = Folder::new("outputs");
    let picture = f.fixture("noise.png");
    assert_fails(&run(&["encode", "--quiet", f.path("none.png").to_str().unwrap()]), 1, &["none.png", "no such file"]);
    assert_fails(&run(&["decode", f.path("none.tfit").to_str().unwrap()]), 1, &["none.tfit", "no such file"]);
    assert_fails(&run(&["encode", &picture, "-o", "/nowhere/at/all/x.tfit"]), 1, &["/nowhere/at/all", "folder"]);
    assert_fails(&run(&["decode", &picture]), 6, &["not a Tilefit file"]);
    let existing = f.write("noise.tfit", b"precious");
    assert_fails(&run(&["encode", &picture]), 4, &["noise.tfit", "-f"]);
    assert_eq!(fs::read(&existing).unwrap(), b"precious");
    assert_fails(&run(&["encode", "-f", &picture, "-o", &picture]), 2, &["noise.png", "not .png"]);
    let misnamed = f.write("same.tfit", &fs::read(&picture).unwrap());
    assert_fails(&run(&["encode", "-f", &misnamed, "-o", &misnamed]), 4, &["input itself"]);
    assert_fails(
        &run(&["encode", &picture, &existing, "-o", f.path("one.tfit").to_str().unwrap()]),
        2,
        &["not a folder"],
    );
    assert_fails(&run(&["encode", "-q", "5", "--lambda", "1e-3", &picture]), 2, &["--quality", "--lambda"]);
    assert_fails(&run(&["encode", "--json", "-o", "-", &picture]), 2, &["stdout"]);
    assert_fails(&run(&["encode", "--group", &picture]), 2, &["--group", "-o"]);
    assert_fails(&run(&["encode", "--tile", "100", &picture]), 2, &["--tile", "power of two"]);
    assert_fails(&run(&["encode", "--channels", "8", &picture]), 2, &["--channels", "gdn"]);
    assert_fails(&run(&["encode", "--target-size", "0", &picture]), 2, &["--target-size", "1 byte"]);
    assert_fails(
        &run(&["encode", "--model", "wavelet", &picture]),
        2,
        &["--model wavelet", "pyramid, gdn, hyperprior"],
    );
    assert_eq!(f.list(), ["noise.png", "noise.tfit", "same.tfit"]);
}

#[test]
fn damaged_files_give_exit_code_6() {
    let f = Folder::new("damaged");
    for (name, data) in
        [("empty.tfit", &b""[..]), ("words.tfit", b"not a tilefit file at all"), ("head.tfit", b"\x8bTF\r\n\x01\x01")]
    {
        let path = f.write(name, data);
        for words in [&["info", &path][..], &["decode", &path], &["verify", &path]] {
            assert_fails(&run(words), 6, &[name]);
        }
    }
    assert!(f.list().iter().all(|n| n.ends_with(".tfit")));
}

#[test]
fn eval_measures_png_and_jpeg() {
    let (original, coarse) = (fixture("text.png"), fixture("text-coarse.png"));
    let (original, coarse) = (original.to_str().unwrap(), coarse.to_str().unwrap());
    let o = run(&["eval", "--json", original, coarse]);
    assert_success(&o);
    assert!(o.stderr.is_empty());
    let json = stdout(&o);
    assert_eq!(json.lines().count(), 1);
    let number = |key| value(&json, key).parse::<f64>().unwrap();
    assert!((number("psnr") - 12.7078).abs() < 1e-4);
    assert!((number("ms_ssim") - 0.867355).abs() < 1e-6);
    let bytes = fs::metadata(coarse).unwrap().len() as f64;
    assert_eq!(number("bytes"), bytes);
    assert!((number("bpp") - 8.0 * bytes / (176.0 * 168.0)).abs() < 1e-12);
    assert!((number("factor") - bytes / fs::metadata(original).unwrap().len() as f64).abs() < 1e-12);
    assert_eq!((value(&json, "weights_bytes"), value(&json, "codes_bytes")), ("null", "null"));
    // A bad candidate is reported, the others are still measured.
    let o = run(&["eval", "--json", original, "missing.png", coarse, fixture("odd.png").to_str().unwrap()]);
    assert_eq!(o.status.code(), Some(1));
    assert_eq!((stdout(&o).lines().count(), stderr(&o).lines().count()), (1, 2));
    assert!(stderr(&o).contains("61x33"));
}

/// Pictures of other depths are scaled to the original's, and what cannot be compared is an error.
#[test]
fn pictures_of_other_kinds_are_compared() {
    let f = Folder::new("kinds");
    let eight = Picture::from_u8(24, 16, 3, &(0..24 * 16 * 3).map(|i| (i * 7 % 251) as u8).collect::<Vec<u8>>());
    let bands = Picture { format: PixelFormat::new(4, 8), samples: vec![9; 24 * 16 * 4], ..eight.clone() };
    let alpha = Picture { format: bands.format.with_alpha(), ..bands.clone() };
    let pam = |name: &str, p: &Picture| {
        let mut file = Vec::new();
        pictures::write(OutFormat::Pam, p, &[], &mut file).unwrap();
        f.write(name, &file)
    };
    let (sixteen, four, rgba) =
        (pam("sixteen.pam", &eight.clone().with_depth(16)), pam("four.pam", &bands), pam("rgba.pam", &alpha));
    let eight = pam("eight.pam", &eight);
    for (original, candidate) in [(&eight, &sixteen), (&sixteen, &eight)] {
        let o = run(&["eval", original, candidate, "--json"]);
        assert_success(&o);
        assert_eq!((value(&stdout(&o), "psnr"), value(&stdout(&o), "ms_ssim")), ("null", "1"));
        assert_success(&run(&["compare", original, candidate]));
    }
    assert_success(&run(&["eval", &eight, &rgba]));
    assert_fails(&run(&["eval", &eight, &four]), 1, &["four.pam", "4 bands", "RGB"]);
    assert_eq!(stdout(&run(&["compare", &rgba, &rgba])).lines().count(), 2, "no JPEG of alpha");
    assert_fails(&run(&["compare", &rgba, "--jpeg", "70"]), 2, &["--jpeg", "RGB with alpha"]);
}

#[test]
fn compare_prints_one_row_per_candidate() {
    let f = Folder::new("compare");
    let picture = f.fixture("text.png");
    let coarse = f.fixture("text-coarse.png");
    let text = stdout(&run(&["compare", &picture, &coarse]));
    assert_eq!(text.lines().count(), 6);
    for name in ["name", "JPEG q95", "JPEG q70", "JPEG q50", "JPEG q20", "text-coarse.png"] {
        assert!(text.contains(name), "{text}");
    }
    let json = stdout(&run(&["compare", &picture, "--json", "--jpeg", "50,20"]));
    assert_eq!(json.lines().count(), 2);
    assert_eq!(value(&json, "name"), "\"JPEG q50\"");
    let markdown = stdout(&run(&["compare", &picture, "--markdown", "--jpeg", "50"]));
    assert!(markdown.lines().count() == 3 && markdown.lines().all(|l| l.starts_with('|') && l.ends_with('|')));
    let html = f.path("page.html");
    let words = ["compare", &picture, &coarse, "--html", html.to_str().unwrap()];
    assert_success(&run(&words));
    let page = fs::read_to_string(&html).unwrap();
    // Crops and heat maps.
    assert!(page.matches("data:image/png;base64,").count() >= 6);
    for what in ["SSIMULACRA2 over rate", "Butteraugli", "Where errors are seen", "Largest differences"] {
        assert!(page.contains(what), "{what}");
    }
    assert!(!page.contains("http://") && !page.contains("https://"), "the page must load nothing");
    assert_fails(&run(&words), 4, &["page.html", "-f"]);
}

/// Encodes one picture and runs all other commands on the file.
#[test]
fn encode_decode_eval_info_and_verify_agree() {
    let f = Folder::new("back");
    let picture = f.fixture("odd.png");
    let (file, back) = (f.path("odd.tfit"), f.path("back.png"));
    let (file, back) = (file.to_str().unwrap(), back.to_str().unwrap());
    let o = run(&["encode", "--json", "-e", "1", "-j", "2", &picture]);
    assert_success(&o);
    let json = stdout(&o);
    assert_eq!(json.lines().count(), 1);
    for key in
        ["input", "output", "model", "effort", "seconds", "steps", "peak_memory_bytes", "weights_bytes", "codes_bytes"]
    {
        value(&json, key);
    }
    assert_eq!((value(&json, "width"), value(&json, "height")), ("61", "33"));
    assert_eq!(value(&json, "bytes"), fs::metadata(file).unwrap().len().to_string());

    // One thread and pipes give the same bytes.
    let o = piped(&["encode", "--quiet", "-e", "1", "-j", "1", "-", "-o", "-"], &fs::read(&picture).unwrap());
    assert_success(&o);
    assert!(o.stdout == fs::read(file).unwrap(), "the file depends on threads or on the pipe");

    assert_success(&run(&["decode", file, "-o", back]));
    assert_fails(&run(&["decode", file, "-o", back]), 4, &["back.png", "-f"]);
    let piped_back = piped(&["decode", "-"], &fs::read(file).unwrap());
    assert!(piped_back.stdout == fs::read(back).unwrap());
    for candidate in [file, back] {
        let o = run(&["eval", "--json", &picture, candidate]);
        assert_eq!(value(&stdout(&o), "psnr"), value(&json, "psnr"));
        assert_eq!(value(&stdout(&o), "ms_ssim"), value(&json, "ms_ssim"));
    }
    let info = stdout(&run(&["info", "--json", file]));
    for key in [
        "version",
        "model",
        "header_bytes",
        "metadata_bytes",
        "weights_count",
        "macs_per_pixel",
        "tiles",
        "decode_memory_bytes",
    ] {
        value(&info, key);
    }
    assert!(
        info.contains("\"pictures\":[{\"width\":61,\"height\":33,\"channels\":3,\"depth\":8,\"alpha\":false}]"),
        "{info}"
    );
    assert_success(&run(&["verify", file, "--reference", &picture]));

    // A region equals that part of the whole picture; a smaller scale has the right size.
    let (part, small) = (f.path("part.png"), f.path("small.png"));
    assert_success(&run(&["decode", file, "--region", "7,5,40,21", "-o", part.to_str().unwrap()]));
    let read = |p: &Path| tilefit::cli::files::read_picture(p, &Default::default()).unwrap().picture;
    let (whole, part) = (read(Path::new(back)), read(&part));
    assert_eq!((part.width, part.height), (40, 21));
    for y in 0..21 {
        assert_eq!(part.samples[y * 120..][..120], whole.samples[((y + 5) * 61 + 7) * 3..][..120]);
    }
    assert_fails(&run(&["decode", "-f", file, "--region", "7,5,90,21"]), 2, &["odd.tfit", "61x33"]);
    assert_success(&run(&["decode", file, "--scale", "1/4", "-o", small.to_str().unwrap()]));
    let small = read(&small);
    assert_eq!((small.width, small.height), (16, 9));
    assert_fails(&run(&["decode", "-f", file, "--image", "2"]), 2, &["picture 2", "has 1"]);

    // Damage is an error; --partial writes what can be decoded and still reports the damage.
    let mut bytes = fs::read(file).unwrap();
    let last = bytes.len() - 1;
    bytes[last] ^= 1;
    let bad = f.write("bad.tfit", &bytes);
    let out = f.path("bad.png");
    assert_fails(&run(&["decode", &bad]), 6, &["bad.tfit", "checksum"]);
    assert_fails(&run(&["verify", &bad]), 6, &["bad.tfit", "checksum"]);
    assert!(!out.exists());
    assert_fails(&run(&["decode", "--partial", &bad]), 6, &["bad.tfit", "blank"]);
    assert_eq!(read(&out).width, 61);
    assert!(f.list().iter().all(|n| !n.ends_with(".tmp")), "{:?}", f.list());
}

#[test]
fn an_unreachable_target_writes_nothing() {
    let f = Folder::new("target");
    let picture = f.fixture("noise.png");
    let words = ["encode", "--quiet", "-e", "1", "--time-limit", "1s", &picture];
    assert_fails(&run(&[&words[..], &["--target-size", "20"]].concat()), 5, &["noise.png", "20 bytes", "closest"]);
    assert_fails(
        &run(&[&words[..], &["--model", "pyramid", "--target-psnr", "99"]].concat()),
        5,
        &["noise.png", "99 dB", "closest"],
    );
    assert_eq!(f.list(), ["noise.png"]);
}

#[test]
fn a_dry_run_writes_nothing() {
    let f = Folder::new("dry");
    let picture = f.fixture("text.png");
    let o = run(&["encode", "--dry-run", &picture]);
    assert_success(&o);
    assert!(o.stderr.is_empty() && stdout(&o).contains("176x168") && stdout(&o).contains("about"));
    let o = run(&["encode", "--dry-run", "--json", "--time-limit", "3s", &picture]);
    assert!(value(&stdout(&o), "estimated_seconds").parse::<f64>().unwrap() <= 3.0);
    assert_eq!(f.list(), ["text.png"]);
}

#[test]
fn one_bad_input_does_not_stop_the_rest() {
    let f = Folder::new("batch");
    let (a, b) = (f.fixture("gradient.png"), f.write("bad.png", b"no picture"));
    let o = run(&["encode", "--quiet", "-e", "1", "--time-limit", "1s", &b, &a]);
    assert_eq!((o.status.code(), stderr(&o).lines().count()), (Some(1), 1), "{}", stderr(&o));
    assert_eq!(f.list(), ["bad.png", "gradient.png", "gradient.tfit"]);
}

/// ICC, EXIF and CICP survive a round trip; `--strip safe` leaves out EXIF, `--strip all` everything.
#[test]
fn metadata_round_trip_and_strip() {
    let f = Folder::new("metadata");
    let mut data = Vec::new();
    let mut info = png::Info::with_size(9, 7);
    let mut profile = vec![3; 200];
    profile[..4].copy_from_slice(&200u32.to_be_bytes());
    profile[36..40].copy_from_slice(b"acsp");
    info.icc_profile = Some(profile.clone().into());
    info.exif_metadata = Some(b"II*\0some".to_vec().into());
    let mut writer = png::Encoder::with_info(&mut data, info).unwrap().write_header().unwrap();
    writer.write_chunk(png::chunk::cICP, &[1, 13, 0, 1]).unwrap();
    writer.write_image_data(&[90; 63]).unwrap();
    writer.finish().unwrap();
    let picture = f.write("tagged.png", &data);
    let back = f.path("back.png");
    let kinds = |strip: &[&str]| {
        assert_success(&run(&[&["encode", "-f", "--quiet", "-e", "1", &picture][..], strip].concat()));
        assert_success(&run(&["decode", "-f", f.path("tagged.tfit").to_str().unwrap(), "-o", back.to_str().unwrap()]));
        let source = tilefit::cli::files::read_picture(&back, &Default::default()).unwrap();
        let json = stdout(&run(&["info", "--json", f.path("tagged.tfit").to_str().unwrap()]));
        (source.metadata, value(&json, "metadata_bytes").parse::<usize>().unwrap())
    };
    let (all, bytes) = kinds(&[]);
    let item = |kind| &all.iter().find(|m| m.kind == kind).unwrap().data;
    assert_eq!(tilefit::pictures::metadata::profile(item(1)).unwrap(), profile);
    assert_eq!((&item(2)[..], &item(3)[..], all.len()), (&b"II*\0some"[..], &[1, 13, 0, 1][..], 3));
    assert_eq!(bytes, item(1).len() + 8 + 4 + 3 * 3);
    let mut safe: Vec<u8> = kinds(&["--strip", "safe"]).0.iter().map(|m| m.kind).collect();
    safe.sort_unstable();
    assert_eq!(safe, [1, 3]);
    assert_eq!(kinds(&["--strip", "all"]), (vec![], 0));
}

/// A FITS file of 16 bits; the header has `cards`, and the rows are stored from the bottom.
fn fits(width: usize, height: usize, cards: &[&str], sample: impl Fn(usize, usize) -> u16) -> Vec<u8> {
    let structure = ["SIMPLE  = T", "BITPIX  = 16", "NAXIS   = 2", "BZERO   = 32768"].map(String::from);
    let sides = [format!("NAXIS1  = {width}"), format!("NAXIS2  = {height}")];
    let all = structure.into_iter().chain(sides).chain(cards.iter().map(|c| c.to_string())).chain(["END".into()]);
    let mut out: Vec<u8> = all.flat_map(|c| format!("{c:<80}").into_bytes()).collect();
    out.resize(out.len().next_multiple_of(2880), b' ');
    for (x, y) in (0..height).rev().flat_map(|y| (0..width).map(move |x| (x, y))) {
        out.extend(((i32::from(sample(x, y)) - 32768) as i16).to_be_bytes());
    }
    out.resize(out.len().next_multiple_of(2880), 0);
    out
}

/// World coordinates and the resolution are those of the pixels of the output.
#[test]
fn metadata_follows_regions_and_scales() {
    let f = Folder::new("window");
    let cards =
        ["CRPIX1  = 10.5", "CRPIX2  = 20.5 / row", "CDELT1  = -0.25", "CDELT2  = 0.25", "DATASEC = '[1:40,1:30]'"];
    let sky = f.write("sky.fits", &fits(40, 30, &cards, |x, y| (40 * y + x) as u16));
    assert_success(&run(&["encode", "--quiet", "--lossless", &sky]));
    let (file, out) = (f.path("sky.tfit"), f.path("out.fits"));
    let decode = |flags: &[&str]| {
        let words = ["decode", "-f", file.to_str().unwrap(), "-o", out.to_str().unwrap()];
        let o = run(&[&words[..], flags].concat());
        assert_success(&o);
        let header = String::from_utf8_lossy(&fs::read(&out).unwrap()[..2880]).into_owned();
        let value = |name: &str| -> f64 {
            let at = header.find(&format!("{name:<8}=")).unwrap_or_else(|| panic!("{name}"));
            header[at + 10..at + 31].split('/').next().unwrap().trim().parse().unwrap()
        };
        (["CRPIX1", "CRPIX2", "CDELT1", "CDELT2"].map(value), header.contains("DATASEC"), stderr(&o))
    };
    assert_eq!(decode(&[]), ([10.5, 20.5, -0.25, 0.25], true, String::new()));
    let (values, sections, message) = decode(&["--region", "4,6,20,10"]);
    // 14 rows are below the region.
    assert_eq!((values, sections), ([6.5, 6.5, -0.25, 0.25], false));
    assert!(message.contains("FITS card DATASEC"), "{message}");
    // Half the pixels: the lower edge of 30 rows is that of 15.
    assert_eq!(decode(&["--scale", "1/2"]).0, [5.5, 10.5, -0.5, 0.5]);
    // 8 rows of 4 pixels reach 2 below the picture.
    assert_eq!(decode(&["--scale", "1/4"]).0, [3.0, 6.0, -1.0, 1.0]);

    let tagged = png(png::ColorType::Grayscale, png::BitDepth::Eight, |e| {
        e.set_pixel_dims(Some(png::PixelDimensions { xppu: 4000, yppu: 2000, unit: png::Unit::Meter }));
    });
    let tagged = f.write("tagged.png", &tagged);
    assert_success(&run(&["encode", "--quiet", "--lossless", &tagged]));
    let back = f.path("back.png");
    let file = f.path("tagged.tfit");
    assert_success(&run(&["decode", "--scale", "1/4", file.to_str().unwrap(), "-o", back.to_str().unwrap()]));
    let items = tilefit::cli::files::read_picture(&back, &Default::default()).unwrap().metadata;
    let body = [&1000u32.to_be_bytes()[..], &500u32.to_be_bytes(), &[1]].concat();
    assert_eq!(tilefit::pictures::metadata::find(&items, tilefit::metadata::PHYS), Some(&body[..]));
}

/// Stars in a FITS file are fitted on a curve unless they are to be linear; the output and `info` say so.
#[test]
#[allow(clippy::disallowed_methods)]
fn stars_are_fitted_on_a_curve() {
    let f = Folder::new("stars");
    let star = |x: usize, y: usize| 60_000.0 * (-0.3 * ((x as f64 - 17.0).powi(2) + (y as f64 - 15.0).powi(2))).exp();
    let sample = |x: usize, y: usize| 1000 + ((x * 31 + y * 57) % 23) as u16 + star(x, y) as u16;
    let sky = f.write("sky.fits", &fits(40, 30, &[], sample));
    let file = f.path("sky.tfit");
    let encode = |flags: &[&str]| {
        let words = ["encode", "-f", "--json", "-e", "1", "--model", "pyramid", &sky];
        let o = run(&[&words[..], flags].concat());
        assert_success(&o);
        let info = stdout(&run(&["info", file.to_str().unwrap()]));
        (stdout(&o), stderr(&o), info)
    };
    let (json, message, info) = encode(&[]);
    assert_eq!(value(&json, "domain"), "\"asinh\"");
    assert!(
        value(&json, "domain_psnr").parse::<f64>().unwrap() > 20.0 && message.contains("asinh"),
        "{json} {message}"
    );
    assert!(info.contains("tone curve of 33 knots"), "{info}");
    let (json, _, info) = encode(&["--domain", "linear"]);
    assert_eq!((value(&json, "domain"), value(&json, "domain_psnr")), ("\"linear\"", "null"));
    assert!(!info.contains("tone curve"), "{info}");
    assert_fails(&run(&["encode", "-f", "--lossless", "--domain", "asinh", &sky]), 2, &["domain", "asinh"]);
}

/// A name that cannot be written is a usage error, before any work.
#[test]
fn outputs_have_names_of_what_they_are() {
    let f = Folder::new("names");
    let picture = f.fixture("one.png");
    assert_fails(&run(&["encode", &picture, "-o", f.path("x.jpg").to_str().unwrap()]), 2, &["x.jpg", ".tfit"]);
    assert_fails(
        &run(&["decode", &picture, "-o", f.path("x.jpg").to_str().unwrap()]),
        2,
        &["x.jpg", "PNG, PAM, TIFF or FITS"],
    );
    assert_fails(&run(&["decode", &picture]), 6, &["one.png", "not a Tilefit file"]);
    assert_eq!(f.list(), ["one.png"]);
}

/// The decoded picture is the same in each format that the name of the output can choose.
#[test]
fn the_name_of_the_output_chooses_its_format() {
    let f = Folder::new("formats");
    let picture = f.fixture("odd.png");
    assert_success(&run(&["encode", "--quiet", "-e", "1", "--time-limit", "1s", &picture]));
    let read = |name: &str| tilefit::cli::files::read_picture(&f.path(name), &Default::default()).unwrap().picture;
    for name in ["a.png", "a.tif", "a.pam", "a.ppm", "a.fits"] {
        let out = f.path(name);
        assert_success(&run(&["decode", "-f", f.path("odd.tfit").to_str().unwrap(), "-o", out.to_str().unwrap()]));
        assert_eq!(read(name), read("a.png"), "{name}");
    }
}

/// Outputs get the permissions of their input, with `--preserve-times` its times, and no link to nothing is replaced
/// without `-f`.
#[cfg(unix)]
#[test]
fn attributes_of_files() {
    use std::os::unix::fs::PermissionsExt;
    let f = Folder::new("attributes");
    let picture = f.fixture("one.png");
    fs::set_permissions(&picture, fs::Permissions::from_mode(0o640)).unwrap();
    let old = std::time::SystemTime::UNIX_EPOCH + std::time::Duration::from_secs(1_000_000_000);
    fs::File::options().write(true).open(&picture).unwrap().set_modified(old).unwrap();
    let mode = |name: &str| fs::metadata(f.path(name)).unwrap().permissions().mode() & 0o777;
    let time = |name: &str| fs::metadata(f.path(name)).unwrap().modified().unwrap();
    assert_success(&run(&["encode", "--quiet", "-e", "1", &picture]));
    assert_eq!(mode("one.tfit"), 0o640);
    assert_ne!(time("one.tfit"), old);
    assert_success(&run(&["encode", "--quiet", "-e", "1", "-f", "--preserve-times", &picture]));
    assert_eq!(time("one.tfit"), old);
    let (link, nowhere) = (f.path("link.tfit"), f.path("nowhere"));
    std::os::unix::fs::symlink(&nowhere, &link).unwrap();
    let encode = ["encode", "--quiet", "-e", "1", &picture, "-o", link.to_str().unwrap()];
    assert_fails(&run(&encode), 4, &["link.tfit", "-f"]);
    assert!(!nowhere.exists());
    assert_success(&run(&[&encode[..], &["-f"]].concat()));
}

/// `--strip` turns the picture as its EXIF says before it leaves that out.
#[test]
fn strip_applies_the_orientation() {
    let f = Folder::new("orientation");
    let turned = f.write("turned.tif", &fs::read(fixture("kinds/turned.tif")).unwrap());
    let file = f.path("turned.tfit");
    for (strip, width) in [(None, "21"), (Some("safe"), "13"), (Some("all"), "13")] {
        let mut words = vec!["encode", "--quiet", "-f", "-e", "1", "--time-limit", "1s", turned.as_str()];
        words.extend(strip.iter().flat_map(|s| ["--strip", s]));
        assert_success(&run(&words));
        let json = stdout(&run(&["info", "--json", file.to_str().unwrap()]));
        assert_eq!(value(&json, "width"), width, "{json}");
        assert_eq!(json.contains("\"EXIF\""), strip.is_none(), "{json}");
    }
}

/// With `--resume`, an output that is finished already gives exit code 3 and stays as it is.
#[test]
fn resume_skips_finished_files() {
    let f = Folder::new("finished");
    let picture = f.fixture("one.png");
    assert_success(&run(&["encode", "--quiet", "-e", "1", &picture]));
    let before = fs::read(f.path("one.tfit")).unwrap();
    assert_fails(&run(&["encode", "--quiet", "-e", "1", "--resume", &picture]), 3, &["one.tfit", "nothing to resume"]);
    assert_eq!(fs::read(f.path("one.tfit")).unwrap(), before);
}

/// A time limit lowers the effort to one whose networks can converge in it, and stderr reports the change.
#[test]
fn a_short_time_limit_lowers_the_effort() {
    let f = Folder::new("starved");
    let picture = f.fixture("text.png");
    let o = run(&["encode", "-e", "9", "--time-limit", "1s", "--json", "--progress", "never", &picture]);
    assert_success(&o);
    assert!(value(&stdout(&o), "effort").parse::<u32>().unwrap() < 9, "{}", stdout(&o));
    assert!(stderr(&o).lines().any(|l| l.contains("the time limit is too short for 9")), "{}", stderr(&o));
    let o = run(&["encode", "-f", "-e", "1", "--time-limit", "0", "--progress", "never", &picture]);
    assert_success(&o);
    assert!(stderr(&o).lines().any(|l| l.contains("the time limit allowed only ")), "{}", stderr(&o));
}

/// Ctrl-C leaves a checkpoint and no output; `--resume --time-limit 0` makes a file from it.
#[cfg(unix)]
#[test]
fn ctrl_c_and_resume() {
    use std::io::{BufRead, BufReader};
    let f = Folder::new("interrupt");
    let picture = f.fixture("text.png");
    // The checkpoint keeps the effort that this time limit leaves, whatever the limit of the resumed run. The limit is the
    // longest that still lowers the effort: even on a busy machine it must not end before the interruption.
    let words = ["encode", "-e", "9", "--time-limit", "20s", "--progress", "json", &picture];
    let mut child = command(&words).stdout(Stdio::null()).stderr(Stdio::piped()).spawn().unwrap();
    let mut lines = BufReader::new(child.stderr.take().unwrap()).lines();
    // After the summary and one progress line the fit is running.
    let first: Vec<String> = lines.by_ref().take(2).map(|l| l.unwrap()).collect();
    assert!(first[0].contains("about") && value(&first[1], "step").parse::<u64>().unwrap() > 0, "{first:?}");
    let id = child.id().to_string();
    assert!(Command::new("kill").args(["-INT", &id]).status().unwrap().success());
    let rest: Vec<String> = lines.map(|l| l.unwrap()).filter(|l| !l.starts_with('{')).collect();
    assert_eq!(child.wait().unwrap().code(), Some(130), "{rest:?}");
    assert!(rest.len() == 1 && rest[0].contains("interrupted") && rest[0].contains("--resume"), "{rest:?}");
    assert_eq!(f.list(), ["text.png", "text.tfit.checkpoint"]);

    let resume = ["encode", "--quiet", "-e", "9", "--resume", "--time-limit", "0"];
    let other = f.fixture("grey.png");
    fs::copy(f.path("text.tfit.checkpoint"), f.path("grey.tfit.checkpoint")).unwrap();
    assert_fails(&run(&[&resume[..], &[&other]].concat()), 2, &["another picture"]);
    assert_fails(&run(&[&resume[..], &["-q", "10", &picture]].concat()), 2, &["other options"]);
    assert_success(&run(&[&resume[..], &[&picture]].concat()));
    assert_success(&run(&["verify", f.path("text.tfit").to_str().unwrap(), "--reference", &picture]));
    assert_eq!(f.list(), ["grey.png", "grey.tfit.checkpoint", "text.png", "text.tfit"]);
    assert_fails(&run(&[&resume[..], &["-f", &picture]].concat()), 3, &["nothing to resume"]);
    fs::remove_file(f.path("text.tfit")).unwrap();
    assert_fails(&run(&[&resume[..], &[&picture]].concat()), 1, &["--resume", "no such file"]);
}

#[cfg(target_os = "linux")]
#[test]
fn a_full_disk_is_an_error() {
    let picture = fixture("odd.png");
    let o = run(&["compare", "--json", "--jpeg", "50", picture.to_str().unwrap(), "--html", "/dev/full"]);
    assert_eq!((o.status.code(), stderr(&o).lines().count()), (Some(1), 1));
    assert!(stderr(&o).contains("no space left"), "{}", stderr(&o));
    assert_fails(&run(&["compare", picture.to_str().unwrap(), "--html", "/proc/x.html"]), 1, &["/proc/x.html"]);
    // A failed write to stdout must be an error too.
    for words in [&["help"][..], &["eval", picture.to_str().unwrap(), picture.to_str().unwrap()]] {
        let full = fs::OpenOptions::new().write(true).open("/dev/full").unwrap();
        let o = command(words).stdout(full).stderr(Stdio::piped()).output().unwrap();
        assert_fails(&o, 1, &["stdout", "no space left"]);
    }
}

/// A reader that closes the pipe early causes neither an error nor a panic.
#[test]
fn a_closed_stdout_is_not_an_error() {
    let mut child = command(&["help", "encode"]).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    drop(child.stdout.take());
    let o = child.wait_with_output().unwrap();
    assert_eq!((o.status.code(), stderr(&o)), (Some(0), String::new()));
}

#[test]
fn errors_of_stdin_inputs() {
    let picture = fs::read(fixture("noise.png")).unwrap();
    assert_fails(&piped(&["encode", "--quiet", "-", "-o", "-", "--max-pixels", "10"], &picture), 6, &["--max-pixels"]);
    assert_fails(&piped(&["encode", "--quiet", "-", "-o", "-"], &picture[..99]), 1, &["truncated"]);
    assert_fails(&piped(&["decode", "-"], b"nothing"), 6, &["-:"]);
}

/// Each kind of samples without loss through the command, by picture files that can hold it.
#[test]
fn lossless_files_give_every_picture_back() {
    use tilefit::pictures::{read, write, OutFormat, ReadOptions};
    use tilefit::{Picture, PixelFormat};
    let dir = Folder::new("lossless");
    let grey = [PixelFormat::GREY, PixelFormat::new(1, 16)];
    let colour = [
        PixelFormat::RGB,
        PixelFormat::new(3, 16),
        PixelFormat::new(4, 16).with_alpha(),
        PixelFormat::new(2, 8).with_alpha(),
    ];
    let bands = [PixelFormat::new(4, 8), PixelFormat::new(6, 16), PixelFormat::new(3, 10)];
    let all = |sets: &[&[PixelFormat]]| sets.concat();
    let ways = [
        ("png", OutFormat::Png, all(&[&grey, &colour])),
        ("tif", OutFormat::Tiff, all(&[&grey, &colour, &bands[..2]])),
        ("pam", OutFormat::Pam, all(&[&grey, &colour, &bands])),
        ("fits", OutFormat::Fits, all(&[&grey, &bands[..2]])),
    ];
    for (extension, out, formats) in ways {
        for format in formats {
            let (width, height) = (23, 14);
            let samples =
                (0..width * height * format.channels).map(|i| (i * i * 31 % (usize::from(format.peak()) + 1)) as u16);
            let picture = Picture { width, height, format, samples: samples.collect() };
            let mut bytes = Vec::new();
            write(out, &picture, &[], &mut bytes).unwrap();
            let what = format!("{extension} {format:?}");
            // What the picture file holds: FITS and TIFF know no 10 bits, for example.
            let held = read(&bytes, &ReadOptions::default()).unwrap().picture;
            assert_eq!(held, picture, "{what}");
            let input = dir.write(&format!("in.{extension}"), &bytes);
            let (file, output) = (dir.path("a.tfit"), dir.path(&format!("out.{extension}")));
            let (file, output) = (file.to_str().unwrap(), output.to_str().unwrap());
            let done = run(&["encode", "--lossless", "-f", &input, "-o", file]);
            assert!(done.status.success(), "{what}: {}", String::from_utf8_lossy(&done.stderr));
            let done = run(&["decode", "-f", file, "-o", output]);
            assert!(done.status.success(), "{what}: {}", String::from_utf8_lossy(&done.stderr));
            let back = read(&fs::read(output).unwrap(), &ReadOptions::default()).unwrap().picture;
            assert_eq!(back, picture, "{what}");
        }
    }
}
