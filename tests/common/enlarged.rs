//! A picture of any size from a small one of whole tiles: its inner tiles again and again (docs/FORMAT.md, 2 and 3).

use tilefit::container::header::{Header, PictureInfo, Segment};

/// `width` and `height` are whole tiles; the digest is none.
pub fn enlarged(bytes: &[u8], width: usize, height: usize) -> Vec<u8> {
    let small = Header::read(bytes).expect("a good file");
    let PictureInfo { width: old_width, height: old_height, .. } = small.pictures[0];
    let (columns, rows) = (old_width / small.tile, old_height / small.tile);
    assert!(columns > 0 && rows > 0 && [width, height].iter().all(|n| n.is_multiple_of(small.tile)), "whole tiles");
    let mut header = small.clone();
    header.pictures = vec![PictureInfo { width, height, digest: 0 }];
    header.count_tiles();
    let (wide, _) = header.tile_grid(0);
    let source = |layer: usize, tile: usize| -> Segment {
        small.segment(layer, 0, tile / wide % rows * small.tile_grid(0).0 + tile % wide % columns)
    };
    let tiles = header.tiles(0);
    let picked: Vec<Segment> =
        (0..small.layers).flat_map(|l| (0..tiles).map(move |t| (l, t))).map(|(l, t)| source(l, t)).collect();
    let codes = picked.iter().flat_map(|s| &bytes[s.offset..s.offset + s.length]).copied().collect();
    header.segments = picked;
    [header.write(), codes].concat()
}
