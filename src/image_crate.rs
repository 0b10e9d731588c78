//! `.tfit` files for the crate `image`: a decoder with its traits, and the registration of its hooks.

use crate::container::{header::MAGIC, metadata};
use crate::decoder::Decoder;
use crate::error::{Class, Error};
use crate::image::{PixelFormat, Rect};
use crate::limits::Limits;
use ::image::error::{
    DecodingError, ImageFormatHint, LimitError, LimitErrorKind, UnsupportedError, UnsupportedErrorKind,
};
use ::image::hooks::{register_decoding_hook, register_format_detection_hook};
use ::image::{ColorType, ImageDecoder, ImageDecoderRect, ImageError, ImageResult, LimitSupport};
use std::io::Read;

const EXTENSION: &str = "tfit";

/// Registers the format with the readers of the crate `image`, by the extension `tfit` and by the signature. To be called
/// once in a process; returns false if the extension was registered before.
pub fn register() -> bool {
    let first = register_decoding_hook(EXTENSION.into(), Box::new(|reader| Ok(Box::new(TilefitDecoder::new(reader)?))));
    if first {
        register_format_detection_hook(EXTENSION.into(), &MAGIC, None);
    }
    first
}

/// One picture of a file.
pub struct TilefitDecoder {
    decoder: Decoder<'static>,
    picture: usize,
}

impl TilefitDecoder {
    /// Reads a file and its header; nothing is decoded yet. Its first picture is chosen.
    ///
    /// # Errors
    /// A reader that fails, a file that [`Decoder::from_beginning`] refuses, and pictures that are neither grey nor RGB.
    pub fn new(mut reader: impl Read) -> ImageResult<Self> {
        let mut bytes = Vec::new();
        reader.read_to_end(&mut bytes).map_err(ImageError::IoError)?;
        let decoder = Decoder::from_beginning(&bytes, bytes.len(), Limits::default()).map_err(failed)?;
        let format = decoder.header().format;
        if ![1, 3].contains(&format.colours()) {
            let what = format!("{}: the crate image has grey and RGB", format.name());
            return Err(failed(Error::new(Class::Unsupported, what)));
        }
        Ok(TilefitDecoder { decoder, picture: 0 })
    }

    /// Number of pictures in the file.
    pub fn pictures(&self) -> usize {
        self.decoder.pictures().len()
    }

    /// Chooses another picture of the file, counted from 0. If there is none, [`Self::read_image`] is an error.
    pub fn with_picture(mut self, picture: usize) -> Self {
        self.picture = picture;
        self
    }

    /// The metadata item of this kind of the chosen picture.
    fn item(&mut self, kind: u8) -> ImageResult<Option<Vec<u8>>> {
        let items = self.decoder.items(self.picture).map_err(failed)?;
        Ok(metadata::find(&items, kind).map(<[u8]>::to_vec))
    }
}

/// The profile of an item: a zlib stream, or in files of early versions the profile itself, which starts with a byte 0.
fn inflated(data: &[u8]) -> ImageResult<Vec<u8>> {
    const LIMIT: u64 = 1 << 24;
    if data.first() == Some(&0) {
        return Ok(data.to_vec());
    }
    let mut profile = Vec::new();
    let read = flate2::bufread::ZlibDecoder::new(data).take(LIMIT + 1).read_to_end(&mut profile);
    match read {
        Ok(n) if n as u64 <= LIMIT => Ok(profile),
        _ => Err(failed(crate::Error::format("the ICC profile is damaged"))),
    }
}

impl ImageDecoder for TilefitDecoder {
    fn dimensions(&self) -> (u32, u32) {
        // The format limits sides to 2^30.
        self.decoder.pictures().get(self.picture).map_or((0, 0), |p| (p.width as u32, p.height as u32))
    }

    fn color_type(&self) -> ColorType {
        let format = self.decoder.header().format;
        match (format.colours(), format.alpha, format.sample_bytes()) {
            (1, false, 1) => ColorType::L8,
            (1, true, 1) => ColorType::La8,
            (3, false, 1) => ColorType::Rgb8,
            (3, true, 1) => ColorType::Rgba8,
            (1, false, _) => ColorType::L16,
            (1, true, _) => ColorType::La16,
            (3, false, _) => ColorType::Rgb16,
            // `new` refuses all others.
            _ => ColorType::Rgba16,
        }
    }

    fn icc_profile(&mut self) -> ImageResult<Option<Vec<u8>>> {
        let profile = self.item(metadata::ICC)?;
        profile.map(|data| inflated(&data)).transpose()
    }

    fn exif_metadata(&mut self) -> ImageResult<Option<Vec<u8>>> {
        self.item(metadata::EXIF)
    }

    fn set_limits(&mut self, limits: ::image::Limits) -> ImageResult<()> {
        limits.check_support(&LimitSupport::default())?;
        let (width, height) = self.dimensions();
        limits.check_dimensions(width, height)?;
        let max_memory = limits.max_alloc.unwrap_or(u64::MAX);
        self.decoder.set_limits(Limits { max_memory, max_pixels: u64::MAX, ..Limits::default() });
        Ok(())
    }

    fn read_image(self, buf: &mut [u8]) -> ImageResult<()> {
        if self.decoder.header().format.sample_bytes() == 1 {
            return self.decoder.decode_into(self.picture, 0, None, buf).map_err(failed);
        }
        let picture = self.decoder.decode(self.picture).map_err(failed)?;
        store(&picture.samples, picture.format, buf);
        Ok(())
    }

    fn read_image_boxed(self: Box<Self>, buf: &mut [u8]) -> ImageResult<()> {
        (*self).read_image(buf)
    }
}

impl ImageDecoderRect for TilefitDecoder {
    fn read_rect(&mut self, x: u32, y: u32, width: u32, height: u32, buf: &mut [u8], pitch: usize) -> ImageResult<()> {
        let [x, y, width, height] = [x, y, width, height].map(|v| v as usize);
        let region = Rect::new(x, y, x.saturating_add(width), y.saturating_add(height));
        let picture = self.decoder.decode_region(self.picture, region).map_err(failed)?;
        let row = width * picture.format.channels;
        for (to, from) in buf.chunks_mut(pitch).zip(picture.samples.chunks_exact(row)) {
            store(from, picture.format, to);
        }
        Ok(())
    }
}

/// Samples as the crate `image` has them: bytes up to 8 bits, otherwise `u16` of the machine, scaled to 16 bits.
fn store(samples: &[u16], format: PixelFormat, out: &mut [u8]) {
    if format.sample_bytes() == 1 {
        out.iter_mut().zip(samples).for_each(|(o, s)| *o = *s as u8);
        return;
    }
    for (o, s) in out.chunks_exact_mut(2).zip(samples) {
        o.copy_from_slice(&format.scaled(*s, u16::MAX).to_ne_bytes());
    }
}

/// An error in the terms of the crate `image`. Its limit errors have no message.
fn failed(e: Error) -> ImageError {
    let format = || ImageFormatHint::Name("Tilefit".into());
    match e.class() {
        Class::PixelLimit | Class::MemoryLimit | Class::WorkLimit => {
            ImageError::Limits(LimitError::from_kind(LimitErrorKind::InsufficientMemory))
        }
        Class::Unsupported => {
            let kind = UnsupportedErrorKind::GenericFeature(e.to_string());
            ImageError::Unsupported(UnsupportedError::from_format_and_kind(format(), kind))
        }
        _ => ImageError::Decoding(DecodingError::new(format(), e)),
    }
}
