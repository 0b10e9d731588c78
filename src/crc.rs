//! CRC-32 (ISO 3309, as in PNG): reflected polynomial 0xEDB88320, start and end inverted.

/// The table for one byte at a time. It is computed at each call: as 1 KiB of data it would be a considerable part of a
/// small decoder binary.
fn table() -> [u32; 256] {
    let entry = |i: u32| (0..8).fold(i, |c, _| if c & 1 != 0 { 0xedb8_8320 ^ (c >> 1) } else { c >> 1 });
    std::array::from_fn(|i| entry(i as u32))
}

/// The CRC-32 of `bytes`.
pub fn crc32(bytes: &[u8]) -> u32 {
    crc32_of(bytes.iter().copied())
}

/// The CRC-32 of bytes that are not in one slice.
pub fn crc32_of(bytes: impl Iterator<Item = u8>) -> u32 {
    let table = table();
    !bytes.fold(!0, |c, b| table[((c ^ u32::from(b)) & 0xff) as usize] ^ (c >> 8))
}

#[cfg(test)]
mod tests {
    #[test]
    fn check_value() {
        assert_eq!(super::crc32(b"123456789"), 0xcbf4_3926);
    }
}
