//! Directories (IFDs) of TIFF, which EXIF has too.

use super::NAME;
use crate::error::Result;
use crate::pictures::{damaged, truncated};

/// Values of one tag are at most this long: profiles and packets have the same limit. Lists of strips are shorter.
const MAX_VALUE: usize = crate::pictures::metadata::MAX_INFLATED;

/// A file, its byte order and the width of its offsets.
#[derive(Clone, Copy)]
pub struct File<'a> {
    pub data: &'a [u8],
    pub little: bool,
    big: bool,
}

/// A tag with its values, little-endian.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Entry {
    pub tag: u16,
    pub kind: u16,
    pub count: u64,
    pub values: Vec<u8>,
}

/// Bytes of a value of a field type; `None` if the type is unknown.
pub fn size_of(kind: u16) -> Option<usize> {
    Some(match kind {
        1 | 2 | 6 | 7 => 1,
        3 | 8 => 2,
        4 | 9 | 11 | 13 => 4,
        5 | 10 | 12 | 16 | 17 | 18 => 8,
        _ => return None,
    })
}

impl Entry {
    /// A tag of 16-bit integers.
    pub fn shorts(tag: u16, values: &[u16]) -> Entry {
        Entry {
            tag,
            kind: 3,
            count: values.len() as u64,
            values: values.iter().flat_map(|v| v.to_le_bytes()).collect(),
        }
    }

    /// A tag of 32-bit integers.
    pub fn longs(tag: u16, values: &[u32]) -> Entry {
        Entry {
            tag,
            kind: 4,
            count: values.len() as u64,
            values: values.iter().flat_map(|v| v.to_le_bytes()).collect(),
        }
    }

    /// A tag of bytes: type 2 for text, 7 otherwise.
    pub fn bytes(tag: u16, kind: u16, values: &[u8]) -> Entry {
        Entry { tag, kind, count: values.len() as u64, values: values.to_vec() }
    }

    /// Appends the tag as items of metadata have it: number, type, count and values, little-endian.
    pub fn pack(&self, out: &mut Vec<u8>) {
        out.extend(self.tag.to_le_bytes());
        out.extend(self.kind.to_le_bytes());
        out.extend((self.count as u32).to_le_bytes());
        out.extend(&self.values);
    }

    /// The tags of an item; `None` if it is damaged.
    pub fn unpacked(mut data: &[u8]) -> Option<Vec<Entry>> {
        let mut entries = Vec::new();
        while !data.is_empty() {
            let (head, more) = data.split_at_checked(8)?;
            let (tag, kind) = (u16::from_le_bytes([head[0], head[1]]), u16::from_le_bytes([head[2], head[3]]));
            let count = u32::from_le_bytes([head[4], head[5], head[6], head[7]]);
            let (values, more) = more.split_at_checked(size_of(kind)?.checked_mul(count as usize)?)?;
            entries.push(Entry { tag, kind, count: count.into(), values: values.to_vec() });
            data = more;
        }
        Some(entries)
    }

    /// The value `i` as an unsigned integer; `None` for other types.
    pub fn integer(&self, i: usize) -> Option<u64> {
        let size = size_of(self.kind)?;
        let v = self.values.get(i.checked_mul(size)?..)?.get(..size)?;
        matches!(self.kind, 1 | 3 | 4 | 13 | 16 | 18).then(|| v.iter().rev().fold(0, |n, &b| n << 8 | u64::from(b)))
    }

    /// All values as unsigned integers.
    pub fn integers(&self) -> Vec<u64> {
        (0..self.count as usize).map_while(|i| self.integer(i)).collect()
    }

    /// The first value as a fraction of two integers.
    pub fn fraction(&self) -> Option<f64> {
        let part = |at: usize| Some(u32::from_le_bytes(self.values.get(at..at + 4)?.try_into().ok()?));
        match self.kind {
            5 => Some(f64::from(part(0)?) / f64::from(part(4)?)).filter(|v| v.is_finite()),
            _ => self.integer(0).map(|v| v as f64),
        }
    }
}

impl<'a> File<'a> {
    /// The file and the offset of its first directory.
    pub fn open(data: &'a [u8]) -> Result<(File<'a>, u64)> {
        let little = data.starts_with(b"II");
        let mut file = File { data, little, big: false };
        match file.number(2, 2)? {
            42 => Ok((file, file.number(4, 4)?)),
            43 if file.number(4, 4)? == if little { 8 } else { 8 << 16 } => {
                file.big = true;
                Ok((file, file.number(8, 8)?))
            }
            _ => Err(damaged(NAME, "the header is not valid")),
        }
    }

    fn number(&self, at: u64, size: usize) -> Result<u64> {
        let at = usize::try_from(at).map_err(|_| truncated(NAME))?;
        let v = self.data.get(at..).and_then(|d| d.get(..size)).ok_or_else(|| truncated(NAME))?;
        let join = |n: u64, &b: &u8| n << 8 | u64::from(b);
        Ok(if self.little { v.iter().rev().fold(0, join) } else { v.iter().fold(0, join) })
    }

    /// The entries of the directory at `offset`, and the offset of the next directory. Entries of unknown types are left out.
    pub fn directory(&self, offset: u64) -> Result<(Vec<Entry>, u64)> {
        self.entries(offset, |_| true)
    }

    /// The same with only the entries of tags that are `wanted`.
    pub fn entries(&self, offset: u64, wanted: impl Fn(u16) -> bool) -> Result<(Vec<Entry>, u64)> {
        let (count_size, entry_size, inline) = if self.big { (8, 20, 8) } else { (2, 12, 4) };
        let n = self.number(offset, count_size)?;
        let start = offset + count_size as u64;
        let end = n.checked_mul(entry_size).and_then(|n| n.checked_add(start)).ok_or_else(|| truncated(NAME))?;
        if end > self.data.len() as u64 {
            return Err(truncated(NAME));
        }
        let mut entries = Vec::new();
        // Values do not overlap in an honest file, so all together are not longer than it.
        let mut room = self.data.len();
        for i in 0..n {
            let at = start + i * entry_size;
            let (tag, kind) = (self.number(at, 2)? as u16, self.number(at + 2, 2)? as u16);
            let count = self.number(at + 4, inline)?;
            let Some(size) = size_of(kind).filter(|_| wanted(tag)) else { continue };
            let bytes =
                usize::try_from(count).ok().and_then(|n| n.checked_mul(size)).filter(|&n| n <= MAX_VALUE.min(room));
            let bytes = bytes.ok_or_else(|| damaged(NAME, format!("tag {tag} has {count} values")))?;
            room -= bytes;
            let place = at + 4 + inline as u64;
            let from = if bytes <= inline { place } else { self.number(place, inline)? };
            let values = usize::try_from(from).ok().and_then(|from| self.data.get(from..)?.get(..bytes));
            let mut values = values.ok_or_else(|| truncated(NAME))?.to_vec();
            if !self.little {
                // Fractions are pairs of integers of 4 bytes.
                let unit = if matches!(kind, 5 | 10) { 4 } else { size };
                values.chunks_exact_mut(unit).for_each(<[u8]>::reverse);
            }
            entries.push(Entry { tag, kind, count, values });
        }
        Ok((entries, self.number(end, inline)?))
    }

    /// The bytes of a strip or tile.
    pub fn chunk(&self, offset: u64, size: u64) -> Result<&'a [u8]> {
        let range = usize::try_from(offset).ok().zip(usize::try_from(size).ok());
        range.and_then(|(at, n)| self.data.get(at..)?.get(..n)).ok_or_else(|| truncated(NAME))
    }
}

/// Appends a directory of `entries` to `out`, which begins the file, and the values that do not fit into it. Returns its
/// offset. There is no next directory.
pub fn append(out: &mut Vec<u8>, mut entries: Vec<Entry>) -> u32 {
    entries.sort_by_key(|e| e.tag);
    entries.dedup_by_key(|e| e.tag);
    out.resize(out.len().next_multiple_of(2), 0);
    let start = out.len();
    let mut values_at = start + 2 + 12 * entries.len() + 4;
    let mut values: Vec<u8> = Vec::new();
    out.extend((entries.len() as u16).to_le_bytes());
    for e in &entries {
        out.extend(e.tag.to_le_bytes());
        out.extend(e.kind.to_le_bytes());
        out.extend((e.count as u32).to_le_bytes());
        if e.values.len() <= 4 {
            out.extend(&e.values);
            out.resize(out.len() + 4 - e.values.len(), 0);
        } else {
            out.extend((values_at as u32).to_le_bytes());
            values.extend(&e.values);
            values.resize(values.len().next_multiple_of(2), 0);
            values_at = start + 2 + 12 * entries.len() + 4 + values.len();
        }
    }
    out.extend([0; 4]);
    out.extend(values);
    start as u32
}
