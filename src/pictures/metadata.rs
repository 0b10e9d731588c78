//! Items of metadata: their names, their compression, and what `--strip` leaves out.

use super::truncated;
use crate::container::metadata::*;
use crate::error::{Error, Result};
use flate2::{bufread::ZlibDecoder, write::ZlibEncoder, Compression};
use std::io::{Read, Write};

/// One item of metadata: a kind of [`crate::metadata`] and its data.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Item {
    /// The kind.
    pub kind: u8,
    /// The data, in the form that the kind says.
    pub data: Vec<u8>,
}

/// Most bytes of a profile, a packet or the texts of a file when inflated. Profiles with large tables have about 2^22.
pub const MAX_INFLATED: usize = 1 << 24;

/// Texts from this size on are deflated. Shorter ones hardly get smaller.
pub const LONG_TEXT: usize = 256;

/// What to leave out.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Strip {
    /// What does not change how the picture looks.
    Safe,
    /// Everything.
    All,
}

impl Strip {
    /// Whether an item of `kind` is left.
    pub fn keeps(self, kind: u8) -> bool {
        let look = [ICC, CICP, MDCV, CLLI, GAMA, CHRM, SRGB, SBIT, SCALE];
        self == Strip::Safe && look.contains(&kind)
    }
}

/// The name of an item for warnings and lists.
pub fn name(item: &Item) -> String {
    match item.kind {
        ICC => "ICC profile".into(),
        EXIF => "EXIF".into(),
        CICP => "cICP".into(),
        XMP => "XMP".into(),
        MDCV => "mDCV".into(),
        CLLI => "cLLI".into(),
        GAMA => "gAMA".into(),
        CHRM => "cHRM".into(),
        SRGB => "sRGB".into(),
        SBIT => "sBIT".into(),
        PHYS => "pHYs".into(),
        BKGD => "bKGD".into(),
        TEXT => match Text::parse(&item.data) {
            Ok(t) => format!("text {:?}", t.keyword),
            Err(_) => "text".into(),
        },
        TIME => "tIME".into(),
        FITS => "FITS cards".into(),
        SCALE => match super::samples::scale_of(&item.data) {
            Some((scale, zero)) => format!("scale (value = {zero} + {scale} * sample)"),
            None => "scale".into(),
        },
        CHUNK => format!("PNG chunk {}", item.data.get(..4).unwrap_or(b"?").escape_ascii()),
        TIFF => "TIFF tags".into(),
        BANDS => match bands(&item.data) {
            Some(list) => list.iter().map(|(n, name)| format!("{name} ({n})")).collect::<Vec<_>>().join(", "),
            None => "bands".into(),
        },
        kind => format!("kind {kind}"),
    }
}

/// The data of the first item of a kind.
pub fn find(items: &[Item], kind: u8) -> Option<&[u8]> {
    items.iter().find(|i| i.kind == kind).map(|i| &i.data[..])
}

/// The warning that an output cannot hold items; `None` if there are none.
pub fn not_written<'a>(format: &str, items: impl Iterator<Item = &'a Item>) -> Option<String> {
    let names: Vec<String> = items.map(name).collect();
    (!names.is_empty()).then(|| format!("{format} has no place for {}", names.join(", ")))
}

/// Data as a zlib stream.
pub fn deflated(data: &[u8]) -> Vec<u8> {
    let mut encoder = ZlibEncoder::new(Vec::new(), Compression::best());
    encoder.write_all(data).and_then(|()| encoder.finish()).expect("a vector takes all bytes")
}

/// The bytes of a whole zlib stream, at most `limit` of them.
///
/// # Errors
/// An [`Error`] if the stream is damaged, ends early, or has more bytes.
pub fn inflated(stream: &[u8], limit: usize) -> Result<Vec<u8>> {
    let mut out = Vec::new();
    match ZlibDecoder::new(stream).take(limit as u64 + 1).read_to_end(&mut out) {
        Err(e) if e.kind() == std::io::ErrorKind::UnexpectedEof => Err(truncated("zlib stream")),
        Err(_) => Err(Error::format("damaged zlib stream")),
        Ok(n) if n > limit => Err(Error::format(format!("more than {limit} bytes when inflated"))),
        Ok(_) => Ok(out),
    }
}

/// An ICC profile of an item's data. Files of early versions have the profile itself, which starts with its size: less than
/// 2^24, so with a byte 0, where a zlib stream has another.
pub fn profile(data: &[u8]) -> Result<Vec<u8>> {
    match data.first() {
        Some(0) => Ok(data.to_vec()),
        _ => inflated(data, MAX_INFLATED),
    }
}

/// The item of an ICC profile, or a warning if it is none.
pub fn icc_item(profile: &[u8]) -> std::result::Result<Item, String> {
    check_profile(profile).map(|()| Item { kind: ICC, data: deflated(profile) })
}

/// Checks what every profile has: its size at 0 and its signature at 36 (ICC.1, table 17).
pub fn check_profile(profile: &[u8]) -> std::result::Result<(), String> {
    if profile.len() > MAX_INFLATED {
        return Err(format!("the ICC profile has {} bytes, more than {MAX_INFLATED}: it is not kept", profile.len()));
    }
    let size = profile.get(..4).map(|b| u32::from_be_bytes([b[0], b[1], b[2], b[3]]) as usize);
    let signed = profile.get(36..40) == Some(b"acsp");
    match size {
        Some(size) if signed && size <= profile.len() => Ok(()),
        _ => Err(format!("the ICC profile ({} bytes) is damaged: it is not kept", profile.len())),
    }
}

/// The item of an XMP packet, or a warning if it is too long.
pub fn xmp_item(packet: &[u8]) -> std::result::Result<Item, String> {
    match packet.len() <= MAX_INFLATED {
        true => Ok(Item { kind: XMP, data: deflated(packet) }),
        false => Err(format!("the XMP packet has {} bytes, more than {MAX_INFLATED}: it is not kept", packet.len())),
    }
}

/// A text with its keyword.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Text {
    /// What the text is: PNG registers Title, Author, Description, Copyright, Creation Time, Software, Disclaimer, Warning,
    /// Source and Comment. 1 to 79 bytes.
    pub keyword: String,
    /// Language tag; may be empty.
    pub language: String,
    /// The keyword in that language; may be empty.
    pub translated: String,
    /// The text.
    pub text: String,
}

impl Text {
    /// A text in no particular language.
    pub fn new(keyword: &str, text: impl Into<String>) -> Self {
        Text { keyword: keyword.into(), text: text.into(), ..Text::default() }
    }

    /// Parses the body of an iTXt chunk.
    pub fn parse(body: &[u8]) -> Result<Text> {
        let bad = || Error::format("damaged text");
        let string = |b: &[u8]| String::from_utf8(b.to_vec()).map_err(|_| bad());
        let mut rest = body;
        let mut field = |skip: usize| {
            let end = rest.iter().position(|&b| b == 0).ok_or_else(bad)?;
            let (field, more) = (&rest[..end], rest.get(end + 1 + skip..).ok_or_else(bad)?);
            let skipped = &rest[end + 1..end + 1 + skip];
            rest = more;
            Ok((field, skipped))
        };
        let (keyword, flags) = field(2)?;
        let (language, _) = field(0)?;
        let (translated, _) = field(0)?;
        let text = match flags {
            [0, _] => rest.to_vec(),
            [1, 0] => inflated(rest, MAX_INFLATED)?,
            _ => return Err(bad()),
        };
        Ok(Text {
            keyword: latin1(keyword),
            language: string(language)?,
            translated: string(translated)?,
            text: string(&text)?,
        })
    }

    /// The body of an iTXt chunk. Texts that get shorter by it are deflated.
    pub fn body(&self) -> Vec<u8> {
        let text = self.text.as_bytes();
        let short = if text.len() >= LONG_TEXT { deflated(text) } else { text.to_vec() };
        let (flag, text) = if short.len() < text.len() { (1, &short[..]) } else { (0, text) };
        let keyword = to_latin1(&self.keyword).unwrap_or_else(|| b"Comment".to_vec());
        [&keyword[..], &[0, flag, 0], self.language.as_bytes(), &[0], self.translated.as_bytes(), &[0], text].concat()
    }

    /// The item of this text.
    pub fn item(&self) -> Item {
        Item { kind: TEXT, data: self.body() }
    }
}

/// Latin-1 as a string.
pub fn latin1(bytes: &[u8]) -> String {
    bytes.iter().map(|&b| char::from(b)).collect()
}

/// A string as Latin-1; `None` if it has other characters.
pub fn to_latin1(text: &str) -> Option<Vec<u8>> {
    text.chars().map(|c| u8::try_from(u32::from(c)).ok()).collect()
}

/// UTF-8, or Latin-1 if the bytes are not UTF-8; without zeros at the end.
pub fn any_text(bytes: &[u8]) -> String {
    let end = bytes.iter().rposition(|&b| b != 0).map_or(0, |i| i + 1);
    String::from_utf8(bytes[..end].to_vec()).unwrap_or_else(|_| latin1(&bytes[..end]))
}

/// The item with a resolution in pixels per unit of `metres`; `None` for no positive number.
pub fn resolution_item(x: f64, y: f64, metres: f64) -> Option<Item> {
    let per_metre =
        |v: f64| Some((v / metres).round()).filter(|&v| (1.0..=2147483647.0).contains(&v)).map(|v| v as u32);
    let (x, y) = (per_metre(x)?, per_metre(y)?);
    Some(Item { kind: PHYS, data: [&x.to_be_bytes()[..], &y.to_be_bytes(), &[1]].concat() })
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn streams_have_a_limit() {
        let stream = deflated(&[7; 1000]);
        assert_eq!(inflated(&stream, 1000).unwrap(), [7; 1000]);
        assert!(inflated(&stream, 999).is_err());
        for n in 0..stream.len() {
            assert!(inflated(&stream[..n], 1000).is_err(), "{n}");
        }
    }

    #[test]
    fn profiles_are_checked() {
        let mut p = vec![0; 128];
        p[3] = 128;
        p[36..40].copy_from_slice(b"acsp");
        let item = icc_item(&p).unwrap();
        assert_eq!(profile(&item.data).unwrap(), p);
        assert_eq!(profile(&p).unwrap(), p);
        assert!(icc_item(&p[..127]).is_err() && icc_item(&[]).is_err());
        assert!(icc_item(&vec![0; MAX_INFLATED + 1]).is_err());
    }

    #[test]
    fn strip_safe_keeps_what_changes_the_look() {
        assert!(
            Strip::Safe.keeps(ICC) && Strip::Safe.keeps(GAMA) && !Strip::Safe.keeps(EXIF) && !Strip::Safe.keeps(200)
        );
        assert!((0..=255).all(|k| !Strip::All.keeps(k)));
    }

    proptest! {
        #[test]
        fn texts_round_trip(text in "\\PC{0,600}", language in "[a-z-]{0,8}", translated in "\\PC{0,9}") {
            let t = Text { keyword: "Title".into(), language, translated, text };
            prop_assert_eq!(Text::parse(&t.body()).unwrap(), t);
        }

        #[test]
        fn any_bytes_are_a_text_or_an_error(bytes in proptest::collection::vec(any::<u8>(), 0..60)) {
            let _ = Text::parse(&bytes);
        }
    }
}
