//! The metadata section: what a picture's file held beside its samples, given back when it is decoded.

#[cfg(feature = "fit")]
use super::reader::write_varint;
use super::reader::Reader;
#[cfg(feature = "fit")]
use crate::error::Error;
use crate::error::Result;
#[cfg(feature = "fit")]
use alloc::format;
use alloc::vec::Vec;

/// An ICC profile, as it is (not compressed as in PNG).
pub const ICC: u8 = 1;
/// EXIF from its byte order mark on.
pub const EXIF: u8 = 2;
/// The four bytes of a PNG's cICP chunk.
pub const CICP: u8 = 3;

/// One item of one picture. Kinds that a reader does not know are passed over.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Item {
    pub picture: usize,
    pub kind: u8,
    pub data: Vec<u8>,
}

/// The items of a section.
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

/// The first item of that kind.
pub fn find(items: &[Item], kind: u8) -> Option<&[u8]> {
    items.iter().find(|i| i.kind == kind).map(|i| &i.data[..])
}

/// The section of `items`; refused where it is longer than a file may hold.
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
        false => Err(Error::of_argument("metadata", format!("{} bytes, at most 2^26 can be kept", out.len()))),
    }
}

#[cfg(all(test, feature = "fit"))]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn items_come_back(list in proptest::collection::vec((0usize..70_000, any::<u8>(), proptest::collection::vec(any::<u8>(), 0..300)), 0..6)) {
            let items: Vec<Item> =
                list.into_iter().map(|(picture, kind, data)| Item { picture: picture.min(65536), kind, data }).collect();
            let section = write(&items).unwrap();
            prop_assert_eq!(read(&section).unwrap(), items);
        }

        #[test]
        fn any_bytes_are_items_or_an_error(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
            let _ = read(&bytes);
        }
    }
}
