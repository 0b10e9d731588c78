//! The metadata section: colour and camera metadata of the input files, kept for the decoder's output.

#[cfg(feature = "fit")]
use super::reader::write_varint;
use super::reader::Reader;
#[cfg(feature = "fit")]
use crate::error::Error;
use crate::error::Result;
#[cfg(feature = "fit")]
use alloc::format;
use alloc::vec::Vec;

/// Kind of an item: an ICC profile, uncompressed (unlike in PNG).
pub const ICC: u8 = 1;
/// Kind of an item: EXIF, starting with its byte order mark.
pub const EXIF: u8 = 2;
/// Kind of an item: the four bytes of a PNG's cICP chunk.
pub const CICP: u8 = 3;

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
