//! A small PNG writer: the Paeth filter on all rows, Huffman codes without matches. Its files are some percent larger
//! than those of the common libraries, its code is a hundredth of theirs.

use std::io::{self, Write};
use tilefit::container::metadata::{self, Item};
use tilefit::crc::crc32;
use tilefit::Picture;

/// Filtered bytes of a deflate block, each of which has its own Huffman code. Any value of this order works: the code takes
/// about 130 bytes.
const BLOCK: usize = 1 << 17;

/// Symbols of the Huffman code: 256 literals and the end of the block.
const SYMBOLS: usize = 257;

/// Longest code word that deflate allows, in bits.
const LONGEST: u32 = 15;

/// Writes a picture with the metadata that PNG has chunks for.
pub fn write(picture: &Picture, items: &[Item], out: &mut dyn Write) -> io::Result<()> {
    out.write_all(b"\x89PNG\r\n\x1a\n")?;
    let mut header = Vec::new();
    for side in [picture.width, picture.height] {
        let side = u32::try_from(side).map_err(|_| io::Error::other("the picture is too large for a PNG"))?;
        header.extend(side.to_be_bytes());
    }
    let format = picture.format;
    if ![1, 3].contains(&format.colours()) {
        return Err(io::Error::other(format!("a PNG cannot hold {}", format.name())));
    }
    let colour = if format.colours() == 3 { 2 } else { 0 } | if format.alpha { 4 } else { 0 };
    header.extend([8 * format.sample_bytes() as u8, colour, 0, 0, 0]);
    chunk(out, b"IHDR", &header)?;

    for item in items {
        let mut zlib = Zlib::new();
        // Files of early versions have the profile itself.
        let data = match item.data.first() {
            Some(0) if item.kind == metadata::ICC => {
                zlib.push(&item.data, true);
                &zlib.bits.bytes
            }
            _ => &item.data,
        };
        if let Some((kind, body)) = metadata::png_chunk(item.kind, data, format.channels, format.colours()) {
            chunk(out, &kind, &body)?;
        }
    }

    let mut zlib = Zlib::new();
    let stride = picture.width * format.channels;
    let pixel = format.channels * format.sample_bytes();
    let (mut above, mut row) = (vec![0; picture.width * pixel], Vec::new());
    let mut filtered = Vec::new();
    for (y, samples) in picture.samples.chunks_exact(stride).enumerate() {
        row.clear();
        match format.sample_bytes() {
            1 => row.extend(samples.iter().map(|s| *s as u8)),
            // PNG asks for samples of 9 to 15 bits scaled to 16.
            _ => row.extend(samples.iter().flat_map(|s| format.scaled(*s, u16::MAX).to_be_bytes())),
        }
        filtered.push(4);
        paeth(&row, &above, pixel, &mut filtered);
        std::mem::swap(&mut above, &mut row);
        let last = y + 1 == picture.height;
        if filtered.len() >= BLOCK || last {
            zlib.push(&filtered, last);
            chunk(out, b"IDAT", &zlib.bits.bytes)?;
            zlib.bits.bytes.clear();
            filtered.clear();
        }
    }
    chunk(out, b"IEND", &[])
}

/// Writes a chunk: length, kind, data, CRC-32.
fn chunk(out: &mut dyn Write, kind: &[u8; 4], data: &[u8]) -> io::Result<()> {
    let mut bytes = kind.to_vec();
    bytes.extend(data);
    out.write_all(&(data.len() as u32).to_be_bytes())?;
    out.write_all(&bytes)?;
    out.write_all(&crc32(&bytes).to_be_bytes())
}

/// Appends each sample minus its Paeth prediction: of left, above and upper left the one nearest to left + above - upper
/// left.
fn paeth(row: &[u8], above: &[u8], pixel: usize, out: &mut Vec<u8>) {
    for (i, &v) in row.iter().enumerate() {
        let before = |r: &[u8]| i.checked_sub(pixel).map_or(0, |j| i32::from(r[j]));
        let (a, b, c) = (before(row), i32::from(above[i]), before(above));
        let (da, db, dc) = ((b - c).abs(), (a - c).abs(), (a + b - 2 * c).abs());
        let predicted = if da <= db && da <= dc {
            a
        } else if db <= dc {
            b
        } else {
            c
        };
        out.push(v.wrapping_sub(predicted as u8));
    }
}

/// A zlib stream that grows block by block.
struct Zlib {
    bits: Bits,
    adler: Adler,
}

impl Zlib {
    fn new() -> Self {
        // The header: deflate, a window of 32 KiB, no dictionary.
        Zlib { bits: Bits { bytes: vec![0x78, 0x01], held: 0, count: 0 }, adler: Adler { a: 1, b: 0 } }
    }

    /// Appends a block; after the last one the checksum.
    fn push(&mut self, data: &[u8], last: bool) {
        self.adler.update(data);
        block(data, last, &mut self.bits);
        if last {
            self.bits.push(0, (8 - self.bits.count) % 8);
            self.bits.bytes.extend((self.adler.b << 16 | self.adler.a).to_be_bytes());
        }
    }
}

/// Packs bits into bytes, the lowest first.
struct Bits {
    bytes: Vec<u8>,
    held: u64,
    count: u32,
}

impl Bits {
    /// Appends `n` bits.
    fn push(&mut self, value: u32, n: u32) {
        self.held |= u64::from(value) << self.count;
        self.count += n;
        while self.count >= 8 {
            self.bytes.push(self.held as u8);
            self.held >>= 8;
            self.count -= 8;
        }
    }
}

/// Appends one deflate block with a Huffman code for its own bytes.
fn block(data: &[u8], last: bool, bits: &mut Bits) {
    let mut counts = [0u64; SYMBOLS];
    data.iter().for_each(|v| counts[usize::from(*v)] += 1);
    counts[256] = 1;
    let lengths = code_lengths(&counts);
    let codes = canonical(&lengths);
    bits.push(last.into(), 1);
    bits.push(2, 2);
    bits.push(0, 5); // 257 literal codes
    bits.push(0, 5); // one distance code, of length 0: none
    bits.push(15, 4); // 19 lengths for the lengths: 16 to 18 unused, all others 4 bits
    (0..19).for_each(|i| bits.push(if i < 3 { 0 } else { 4 }, 3));
    for length in lengths.iter().chain([&0]) {
        bits.push(length.reverse_bits() >> 28, 4);
    }
    for v in data.iter().map(|v| usize::from(*v)).chain([256]) {
        bits.push(codes[v], lengths[v]);
    }
}

/// Lengths of the words of a complete prefix code, nearly the best one: Shannon's lengths, rounded up, then shortened, the
/// most frequent symbols first, until no word is unused.
fn code_lengths(counts: &[u64; SYMBOLS]) -> [u32; SYMBOLS] {
    // A little is added to each count, so that no symbol needs more than LONGEST bits.
    let total: u64 = counts.iter().sum();
    let least = total >> (LONGEST - 2);
    let raised = |c: u64| if c == 0 { 0 } else { c + least };
    let total: u64 = counts.iter().map(|c| raised(*c)).sum();
    let mut lengths = counts.map(|c| match raised(c) {
        0 => 0,
        c => (1..=LONGEST).find(|l| c << l >= total).unwrap_or(LONGEST),
    });
    let mut order: Vec<usize> = (0..SYMBOLS).filter(|i| counts[*i] > 0).collect();
    order.sort_by_key(|i| std::cmp::Reverse(counts[*i]));
    // How many words of LONGEST bits begin with a word of l bits.
    let words = |l: u32| 1u32 << (LONGEST - l);
    let mut unused = words(0) - order.iter().map(|i| words(lengths[*i])).sum::<u32>();
    while unused > 0 {
        for &i in &order {
            if lengths[i] > 1 && words(lengths[i]) <= unused {
                unused -= words(lengths[i]);
                lengths[i] -= 1;
            }
        }
    }
    lengths
}

/// The canonical code words of these lengths, the first bit lowest.
fn canonical(lengths: &[u32; SYMBOLS]) -> [u32; SYMBOLS] {
    let mut codes = [0; SYMBOLS];
    let mut next = 0u32;
    for length in 1..=LONGEST {
        next <<= 1;
        for i in (0..SYMBOLS).filter(|i| lengths[*i] == length) {
            codes[i] = next.reverse_bits() >> (32 - length);
            next += 1;
        }
    }
    codes
}

/// Adler-32, the checksum of zlib.
struct Adler {
    a: u32,
    b: u32,
}

impl Adler {
    fn update(&mut self, data: &[u8]) {
        // The most bytes for which b stays below 2^32 without the remainder.
        for bytes in data.chunks(5552) {
            for v in bytes {
                self.a += u32::from(*v);
                self.b += self.a;
            }
            self.a %= 65521;
            self.b %= 65521;
        }
    }
}
