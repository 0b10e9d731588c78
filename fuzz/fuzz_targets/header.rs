#![no_main]

use libfuzzer_sys::fuzz_target;
use tilefit::container::{header::Header, metadata};

fuzz_target!(|data: &[u8]| {
    let _ = metadata::read(data);
    if let Ok(header) = Header::read(data) {
        let _ = metadata::read(&header.metadata);
        assert!(header.length <= data.len());
        for picture in 0..header.pictures.len().min(4) {
            for tile in 0..header.tiles(picture).min(4) {
                assert!(!header.tile_rect(picture, tile).is_empty());
                let _ = header.segment(0, picture, tile);
            }
        }
    }
});
