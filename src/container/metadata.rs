//! The metadata section: colour and camera metadata of the input files, kept for the decoder's output.

#[cfg(feature = "fit")]
use super::reader::write_varint;
use super::reader::Reader;
#[cfg(feature = "fit")]
use crate::error::Error;
use crate::error::Result;
#[cfg(feature = "fit")]
use alloc::format;
use alloc::string::String;
use alloc::vec::Vec;

/// Kind of an item: an ICC profile as a zlib stream, as in PNG. It has at most 2^24 bytes when inflated. (Files of early
/// versions have the profile itself; no profile starts like a zlib stream.)
pub const ICC: u8 = 1;
/// Kind of an item: EXIF, starting with its byte order mark.
pub const EXIF: u8 = 2;
/// Kind of an item: the four bytes of a PNG's cICP chunk.
pub const CICP: u8 = 3;

/// Kind of an item: an XMP packet as a zlib stream, at most 2^24 bytes when inflated.
pub const XMP: u8 = 4;
/// Kind of an item: the body of a PNG's mDCV chunk (mastering display colour volume).
pub const MDCV: u8 = 5;
/// Kind of an item: the body of a PNG's cLLI chunk (content light level).
pub const CLLI: u8 = 6;
/// Kind of an item: the body of a PNG's gAMA chunk.
pub const GAMA: u8 = 7;
/// Kind of an item: the body of a PNG's cHRM chunk (white point and primaries).
pub const CHRM: u8 = 8;
/// Kind of an item: the body of a PNG's sRGB chunk (rendering intent).
pub const SRGB: u8 = 9;
/// Kind of an item: one byte for each channel, its number of significant bits.
pub const SBIT: u8 = 10;
/// Kind of an item: the body of a PNG's pHYs chunk (pixels per metre, or the shape of a pixel).
pub const PHYS: u8 = 11;
/// Kind of an item: the body of a PNG's bKGD chunk for the picture's channels without alpha and its depth.
pub const BKGD: u8 = 12;
/// Kind of an item: the body of a PNG's iTXt chunk (keyword, language, text); texts of other formats are converted to it.
pub const TEXT: u8 = 13;
/// Kind of an item: the body of a PNG's tIME chunk.
pub const TIME: u8 = 14;
/// Kind of an item: FITS header cards of 80 bytes as a zlib stream, at most 2^24 bytes when inflated. Cards that describe the
/// samples are left out.
pub const FITS: u8 = 15;
/// Kind of an item: two little-endian f64, scale and zero. The physical value of a sample is `zero + scale * sample`.
pub const SCALE: u8 = 16;
/// Kind of an item: another chunk of a PNG that is safe to copy, its type (four bytes) and its body.
pub const CHUNK: u8 = 17;
/// Kind of an item: tags of a TIFF file that describe neither samples nor colours, as of GeoTIFF: for each its number, its
/// field type (u16) and its count (u32), and its values, all little-endian.
pub const TIFF: u8 = 18;

/// Kind of an item: the pictures that a picture of bands was joined from. For each the number of its channels (one byte), the
/// length of its name (one byte) and its name. Items of the n-th of them have n as the number of their picture.
pub const BANDS: u8 = 19;

/// The channels and the names of the pictures that bands were joined from; `None` for a damaged item.
pub fn bands(mut data: &[u8]) -> Option<Vec<(usize, String)>> {
    let mut list = Vec::new();
    while let [channels, length, rest @ ..] = data {
        let name = rest.get(..usize::from(*length))?;
        list.push((usize::from(*channels), String::from_utf8_lossy(name).into_owned()));
        data = &rest[name.len()..];
    }
    data.is_empty().then_some(list)
}

/// One item of metadata. Readers skip kinds that they do not know.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Item {
    pub picture: usize,
    pub kind: u8,
    pub data: Vec<u8>,
}

/// Parses a metadata section.
///
/// # Errors
/// [`Class::Format`](crate::Class::Format) or [`Class::Truncated`](crate::Class::Truncated) if the section is damaged.
pub fn read(section: &[u8]) -> Result<Vec<Item>> {
    let mut r = Reader::new(section);
    let mut items = Vec::new();
    while r.position() < section.len() {
        let picture = r.varint(super::header::MAX_PICTURES, "metadata: a picture's number")? as usize;
        let kind = r.u8("metadata: a kind")?;
        let n = r.varint(super::header::MAX_METADATA, "metadata: a length")?;
        items.push(Item { picture, kind, data: r.take(n as usize, "metadata: an item")?.to_vec() });
    }
    Ok(items)
}

/// The data of the first item of a kind.
pub fn find(items: &[Item], kind: u8) -> Option<&[u8]> {
    items.iter().find(|i| i.kind == kind).map(|i| &i.data[..])
}

/// Kinds whose data are the body of a chunk of PNG, the type of that chunk, and the body's length.
pub const CHUNKS: [(u8, &[u8; 4], usize); 8] = [
    (CICP, b"cICP", 4),
    (MDCV, b"mDCV", 24),
    (CLLI, b"cLLI", 8),
    (GAMA, b"gAMA", 4),
    (CHRM, b"cHRM", 32),
    (SRGB, b"sRGB", 1),
    (PHYS, b"pHYs", 9),
    (TIME, b"tIME", 7),
];

/// The keyword of the iTXt chunk with an XMP packet.
pub const XMP_KEYWORD: &str = "XML:com.adobe.xmp";

/// The chunk of a PNG that holds an item: its type and its body. `colours` are the picture's `channels` without alpha. `None` if
/// PNG has no chunk for it, or if it is a profile that is not deflated.
pub fn png_chunk(kind: u8, data: &[u8], channels: usize, colours: usize) -> Option<([u8; 4], Vec<u8>)> {
    if let Some((_, name, n)) = CHUNKS.iter().find(|c| c.0 == kind) {
        return (data.len() == *n).then(|| (**name, data.to_vec()));
    }
    Some(match kind {
        // The name of the profile, its end, and method 0: a zlib stream. The same method in the text after its flag.
        ICC if data.first() != Some(&0) => (*b"iCCP", [b"ICC\0\0", data].concat()),
        XMP => (*b"iTXt", [XMP_KEYWORD.as_bytes(), b"\0\x01\0\0\0", data].concat()),
        EXIF => (*b"eXIf", data.to_vec()),
        TEXT => (*b"iTXt", data.to_vec()),
        SBIT if data.len() == channels => (*b"sBIT", data.to_vec()),
        BKGD if data.len() == 2 * colours => (*b"bKGD", data.to_vec()),
        CHUNK => (*data.first_chunk::<4>()?, data[4..].to_vec()),
        _ => return None,
    })
}

/// Writes `items` as a metadata section.
///
/// # Errors
/// [`Class::Argument`](crate::Class::Argument) if the section would have more than 2^26 bytes, the limit of the format.
#[cfg(feature = "fit")]
pub fn write(items: &[Item]) -> Result<Vec<u8>> {
    let mut out = Vec::new();
    for item in items {
        write_varint(&mut out, item.picture as u64);
        out.push(item.kind);
        write_varint(&mut out, item.data.len() as u64);
        out.extend(&item.data);
    }
    match out.len() as u64 <= super::header::MAX_METADATA {
        true => Ok(out),
        false => Err(Error::of_argument("metadata", format!("{} bytes, at most 2^26 are possible", out.len()))),
    }
}

#[cfg(all(test, feature = "fit"))]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn items_round_trip(list in proptest::collection::vec((0usize..70_000, any::<u8>(), proptest::collection::vec(any::<u8>(), 0..300)), 0..6)) {
            let items: Vec<Item> =
                list.into_iter().map(|(picture, kind, data)| Item { picture: picture.min(65536), kind, data }).collect();
            let section = write(&items).unwrap();
            prop_assert_eq!(read(&section).unwrap(), items);
        }

        #[test]
        fn any_bytes_parse_or_fail_without_panic(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
            let _ = read(&bytes);
        }
    }
}
