//! The exports, called natively on a golden file.

use super::*;
use std::string::String;
use std::sync::{Mutex, MutexGuard};

const FILE: &[u8] = include_bytes!("../../fixtures/golden/pyramid-tiles.tfit");

/// Lets one test at a time use the module, which has one state.
fn turn() -> MutexGuard<'static, ()> {
    static TURN: Mutex<()> = Mutex::new(());
    TURN.lock().unwrap_or_else(|e| e.into_inner())
}

/// Passes bytes to the module as a host does.
fn handed(bytes: &[u8]) -> *mut u8 {
    let at = tilefit_alloc(bytes.len());
    // SAFETY: `at` has as many bytes.
    unsafe { std::ptr::copy_nonoverlapping(bytes.as_ptr(), at, bytes.len()) };
    at
}

fn answer() -> Vec<u8> {
    // SAFETY: the module says where its answer is.
    unsafe { std::slice::from_raw_parts(tilefit_answer(), tilefit_answer_length()) }.to_vec()
}

fn text() -> String {
    String::from_utf8(answer()).unwrap()
}

fn open(bytes: &[u8], total: usize) -> u32 {
    // SAFETY: fresh from `tilefit_alloc`.
    unsafe { tilefit_open(handed(bytes), bytes.len(), total) }
}

fn numbers() -> Vec<u32> {
    answer().chunks_exact(4).map(|b| u32::from_le_bytes(b.try_into().unwrap())).collect()
}

#[test]
fn a_file_in_parts_is_the_file() {
    let _turn = turn();
    let header = tilefit::container::header::Header::read(FILE).unwrap().length;
    assert_eq!(open(&FILE[..header - 1], FILE.len()), TRUNCATED);
    assert_eq!(open(&FILE[..header], FILE.len()), 0);
    let handle = numbers()[0];
    assert_eq!(tilefit_info(handle), 0);
    let info = numbers();
    assert_eq!(info[4..8].iter().sum::<u32>() as usize, FILE.len());
    // 8 bits, no alpha, one picture.
    assert_eq!(&info[14..22], [8, 0, 1, 130, 70, info[19], info[20], info[21]]);
    assert_eq!(info[22..].len(), (info[20] * info[21]) as usize);
    assert_eq!(info[22..].iter().sum::<u32>(), info[6]);

    assert_eq!(tilefit_decode(handle, 0, 0, 5, 6, 7, 8, 1, 0), IO);
    assert!(text().contains("was not fetched"), "{}", text());
    let decoder = tilefit::decoder::Decoder::new(FILE, tilefit::Limits::NONE).unwrap();
    for (scale, x, y, w, h) in [(0, 5, 6, 7, 8), (0, 120, 60, 10, 10), (3, 0, 0, 17, 9), (0, 0, 0, 0, 0)] {
        assert_eq!(tilefit_missing(handle, 0, scale, x, y, w, h, 0), 0);
        for range in numbers().chunks_exact(2) {
            let (at, n) = (range[0] as usize, range[1] as usize);
            // SAFETY: fresh from `tilefit_alloc`.
            assert_eq!(unsafe { tilefit_supply(handle, at, handed(&FILE[at..at + n]), n) }, 0);
        }
        let want = decoder.decode_scaled(0, scale, region(x, y, w, h)).unwrap().to_bytes();
        assert_eq!(tilefit_decode(handle, 0, scale, x, y, w, h, 0, 0), 0, "{}", text());
        assert_eq!(answer(), want);
        assert_eq!(tilefit_decode(handle, 0, scale, x, y, w, h, 1, 0), 0);
        let rgba: Vec<u8> = want.chunks_exact(3).flat_map(|p| [p[0], p[1], p[2], 255]).collect();
        assert_eq!(answer(), rgba);
    }
    assert_eq!(tilefit_forget(handle), 0);
    assert_eq!(tilefit_missing(handle, 0, 0, 0, 0, 0, 0, 1000), 0);
    assert_eq!(numbers(), [header as u32, (FILE.len() - header) as u32]);
    tilefit_close(handle);
    assert_eq!(tilefit_info(handle), USAGE);
    assert_eq!(text(), "the file is closed");
}

#[test]
fn broken_files_say_what_is_wrong() {
    let _turn = turn();
    assert_eq!(open(b"no picture", 10), DAMAGED);
    assert_eq!(text(), "not a Tilefit file: the first bytes are not its signature");
    assert_eq!(open(&FILE[..40], 40), DAMAGED);
    assert!(text().ends_with("the file is cut short"), "{}", text());
    let mut broken = FILE.to_vec();
    *broken.last_mut().unwrap() ^= 1;
    assert_eq!(open(&broken, broken.len()), 0);
    let handle = numbers()[0];
    assert_eq!(tilefit_decode(handle, 0, 0, 0, 0, 0, 0, 0, 0), DAMAGED);
    assert!(text().contains("the file is damaged"), "{}", text());
    assert_eq!(tilefit_decode(handle, 0, 0, 0, 0, 0, 0, 0, 1), 0);
    let (samples, lines) = (130 * 70 * 3, answer());
    assert!(String::from_utf8_lossy(&lines[samples..]).starts_with("tile "));
    assert_eq!(tilefit_decode(handle, 7, 0, 0, 0, 0, 0, 0, 0), USAGE);
    assert_eq!(tilefit_decode(handle, 0, 0, 130, 0, 1, 1, 0, 0), USAGE);
}

#[test]
fn grey_becomes_rgba() {
    let picture = tilefit::Picture::from_u8(3, 1, 1, &[1, 2, 3]);
    assert_eq!(session::to_rgba(&picture).unwrap(), [1, 1, 1, 255, 2, 2, 2, 255, 3, 3, 3, 255]);
}

/// All of a golden file, opened and decoded as samples and as RGBA.
fn decoded(file: &[u8]) -> (tilefit::Picture, Vec<u8>, Vec<u8>) {
    let _turn = turn();
    assert_eq!(open(file, file.len()), 0);
    let handle = numbers()[0];
    assert_eq!(tilefit_missing(handle, 0, 0, 0, 0, 0, 0, 0), 0);
    for range in numbers().chunks_exact(2) {
        let (at, n) = (range[0] as usize, range[1] as usize);
        // SAFETY: fresh from `tilefit_alloc`.
        assert_eq!(unsafe { tilefit_supply(handle, at, handed(&file[at..at + n]), n) }, 0);
    }
    let both = [0, 1].map(|rgba| {
        assert_eq!(tilefit_decode(handle, 0, 0, 0, 0, 0, 0, rgba, 0), 0, "{}", text());
        answer()
    });
    assert_eq!(tilefit_info(handle), 0);
    let picture = tilefit::decoder::Decoder::new(file, tilefit::Limits::NONE).unwrap().decode(0).unwrap();
    let format = picture.format;
    assert_eq!(
        (numbers()[2], numbers()[14], numbers()[15]),
        (format.channels as u32, format.depth, format.alpha.into())
    );
    tilefit_close(handle);
    let [samples, rgba] = both;
    (picture, samples, rgba)
}

#[test]
fn samples_of_16_bits_have_two_bytes() {
    let (picture, samples, rgba) = decoded(include_bytes!("../../fixtures/golden/pyramid-rgb-16.tfit"));
    assert_eq!(picture.format, tilefit::PixelFormat::new(3, 16));
    assert_eq!(samples.len(), 2 * picture.samples.len());
    assert!(samples.chunks_exact(2).map(|b| u16::from_le_bytes([b[0], b[1]])).eq(picture.samples.iter().copied()));
    // Scaled so that the peak becomes 255.
    let byte = |s: u16| ((u32::from(s) * 255 + 32767) / 65535) as u8;
    let want = picture.samples.chunks_exact(3).flat_map(|p| [byte(p[0]), byte(p[1]), byte(p[2]), 255]);
    assert!(want.eq(rgba));
}

#[test]
fn alpha_is_that_of_rgba() {
    for file in [
        &include_bytes!("../../fixtures/golden/planes-blended.tfit")[..],
        include_bytes!("../../fixtures/golden/planes-alpha-apart.tfit"),
    ] {
        let (picture, samples, rgba) = decoded(file);
        assert!(picture.format.alpha && picture.samples.chunks_exact(4).any(|p| p[3] > 0 && p[3] < 255));
        assert_eq!(samples, picture.to_bytes());
        assert_eq!(rgba, samples);
    }
    let (picture, _, rgba) = decoded(include_bytes!("../../fixtures/golden/planes-grey-alpha.tfit"));
    let want = picture.to_bytes();
    assert!(want.chunks_exact(2).flat_map(|p| [p[0], p[0], p[0], p[1]]).eq(rgba));
}
