//! The readers of the crate `image` open `.tfit` files after the format was registered.
#![cfg(feature = "image")]

use image::metadata::Orientation;
use image::{DynamicImage, ImageDecoder, ImageDecoderRect, ImageError, ImageReader, Limits};
use std::io::Cursor;
use std::path::PathBuf;
use tilefit::decoder::Decoder;
use tilefit::image_crate::{register, TilefitDecoder};
use tilefit::Rect;

fn golden(name: &str) -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("fixtures/golden").join(name)
}

fn bytes(name: &str) -> Vec<u8> {
    std::fs::read(golden(name)).unwrap()
}

fn ours(name: &str) -> Vec<u8> {
    let bytes = bytes(name);
    let picture = Decoder::new(&bytes, tilefit::Limits::default()).unwrap().decode(0).unwrap();
    picture.to_bytes()
}

/// A reader that recognises the format by its signature.
fn reader(bytes: Vec<u8>) -> ImageReader<Cursor<Vec<u8>>> {
    register();
    ImageReader::new(Cursor::new(bytes)).with_guessed_format().unwrap()
}

#[test]
fn found_by_extension_and_by_signature() {
    register();
    assert!(!register(), "the second registration must return false");
    let colour = ImageReader::open(golden("pyramid-colour.tfit")).unwrap().decode().unwrap();
    assert_eq!((colour.width(), colour.height()), (64, 48));
    assert!(matches!(&colour, DynamicImage::ImageRgb8(p) if p.as_raw() == &ours("pyramid-colour.tfit")));
    let grey = image::load_from_memory(&bytes("gdn-grey-group.tfit")).unwrap();
    assert!(matches!(&grey, DynamicImage::ImageLuma8(p) if p.as_raw() == &ours("gdn-grey-group.tfit")));
}

#[test]
fn limits_are_respected() {
    let decode = |width, alloc| {
        let mut limits = Limits::no_limits();
        (limits.max_image_width, limits.max_alloc) = (width, alloc);
        let mut reader = reader(bytes("pyramid-tiles.tfit"));
        reader.limits(limits);
        reader.decode()
    };
    assert_eq!(decode(Some(130), None).unwrap().width(), 130);
    assert!(matches!(decode(Some(129), None), Err(ImageError::Limits(_))));
    let file = bytes("pyramid-tiles.tfit");
    let decode_memory = Decoder::new(&file, tilefit::Limits::default()).unwrap().info().decode_memory_bytes;
    assert!(decode(None, Some(decode_memory + 3 * 130 * 70)).is_ok());
    // Enough for the picture, but not for the memory of decoding.
    assert!(matches!(decode(None, Some(3 * 130 * 70 + 1000)), Err(ImageError::Limits(_))));
}

#[test]
fn regions_other_pictures_and_metadata() {
    let mut decoder = TilefitDecoder::new(&bytes("pyramid-tiles.tfit")[..]).unwrap();
    let file = bytes("pyramid-tiles.tfit");
    let part = Decoder::new(&file, tilefit::Limits::default()).unwrap().decode_region(0, Rect::new(60, 50, 67, 70));
    // The stride is larger than a row.
    let mut rows = vec![0; 20 * 30];
    decoder.read_rect(60, 50, 7, 20, &mut rows, 30).unwrap();
    let tight: Vec<u8> = rows.chunks(30).flat_map(|r| &r[..21]).copied().collect();
    assert_eq!(tight, part.unwrap().to_bytes());
    assert!(decoder.read_rect(127, 0, 4, 1, &mut rows, 30).is_err());

    let group = TilefitDecoder::new(&bytes("gdn-grey-group.tfit")[..]).unwrap();
    assert_eq!((group.pictures(), group.dimensions()), (2, (37, 29)));
    assert_eq!(group.with_picture(1).dimensions(), (21, 50));

    let mut plain = TilefitDecoder::new(&file[..]).unwrap();
    assert_eq!(plain.icc_profile().unwrap(), None);
    let mut kept = TilefitDecoder::new(&bytes("gdn-metadata.tfit")[..]).unwrap();
    assert_eq!(kept.icc_profile().unwrap().map(|p| p.len()), Some(200));
    assert_eq!(kept.orientation().unwrap(), Orientation::Rotate90);
}

#[test]
fn damage_is_a_decoding_error_with_our_message() {
    let mut damaged = bytes("pyramid-colour.tfit");
    *damaged.last_mut().unwrap() ^= 1;
    let e = reader(damaged).decode().unwrap_err();
    assert!(matches!(e, ImageError::Decoding(_)) && e.to_string().contains("checksum"), "{e}");
    let e = reader(bytes("pyramid-colour.tfit")[..40].to_vec()).decode().unwrap_err();
    assert!(matches!(e, ImageError::Decoding(_)), "{e}");
    let mut newer = bytes("pyramid-colour.tfit");
    newer[5] = 2;
    assert!(matches!(reader(newer).decode(), Err(ImageError::Unsupported(_))));
}
