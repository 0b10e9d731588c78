//! TIFF 6.0 and BigTIFF. Written by hand: the crate `tiff` drops the bands after RGB and reads no palettes.

mod directory;
mod read;
mod window;
mod write;

pub use read::read;
pub use window::moved;
pub use write::write;

const NAME: &str = "TIFF";

/// Tags that describe the samples or are converted to other items. All others are kept as they are.
mod tag {
    pub const NEW_SUBFILE: u16 = 254;
    pub const WIDTH: u16 = 256;
    pub const HEIGHT: u16 = 257;
    pub const BITS: u16 = 258;
    pub const COMPRESSION: u16 = 259;
    pub const PHOTOMETRIC: u16 = 262;
    pub const FILL_ORDER: u16 = 266;
    pub const STRIP_OFFSETS: u16 = 273;
    pub const ORIENTATION: u16 = 274;
    pub const SAMPLES: u16 = 277;
    pub const ROWS_PER_STRIP: u16 = 278;
    pub const STRIP_SIZES: u16 = 279;
    pub const X_RESOLUTION: u16 = 282;
    pub const Y_RESOLUTION: u16 = 283;
    pub const PLANAR: u16 = 284;
    pub const RESOLUTION_UNIT: u16 = 296;
    pub const DATE_TIME: u16 = 306;
    pub const PREDICTOR: u16 = 317;
    pub const COLOUR_MAP: u16 = 320;
    pub const TILE_WIDTH: u16 = 322;
    pub const TILE_HEIGHT: u16 = 323;
    pub const TILE_OFFSETS: u16 = 324;
    pub const TILE_SIZES: u16 = 325;
    pub const SUB_IFDS: u16 = 330;
    pub const EXTRA_SAMPLES: u16 = 338;
    pub const SAMPLE_FORMAT: u16 = 339;
    pub const JPEG_TABLES: u16 = 347;
    pub const XMP: u16 = 700;
    pub const EXIF: u16 = 34665;
    pub const ICC: u16 = 34675;
    pub const GPS: u16 = 34853;

    /// Tags about the way samples are stored that need no other handling: thresholds, free space, page numbers, ranges of
    /// samples, JPEG's and YCbCr's parameters.
    pub const STORAGE: [u16; 26] = [
        255, 263, 264, 265, 280, 281, 288, 289, 290, 291, 292, 293, 297, 301, 318, 319, 321, 332, 340, 341, 512, 513,
        514, 529, 530, 532,
    ];

    /// Tags of texts and their keywords in PNG.
    pub const TEXTS: [(u16, &str); 8] = [
        (269, "Title"),
        (270, "Description"),
        (271, "Make"),
        (272, "Model"),
        (305, "Software"),
        (DATE_TIME, "Creation Time"),
        (315, "Author"),
        (33432, "Copyright"),
    ];
}
