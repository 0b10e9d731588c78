//! Decodes a preview and a region: `cargo run --release --example decode_region -- picture.tfit`
//!
//! A region costs what its own pixels cost, and has the same samples as that part of the whole picture.

use tilefit::{Decoder, Limits, Rect};

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let input = std::env::args_os().nth(1).ok_or("usage: decode_region FILE.tfit")?;
    let bytes = std::fs::read(input)?;
    let decoder = Decoder::new(&bytes, Limits::default())?;
    let info = decoder.info();
    let (width, height) = (info.pictures[0].width, info.pictures[0].height);
    println!("{width}x{height}, {}, decoding all of it holds {} bytes", info.model, info.decode_memory_bytes);

    // At 1/8: the fine grids are not even read.
    let preview = decoder.decode_scaled(0, 3, None)?;
    println!("preview {}x{}", preview.width, preview.height);

    // The middle of the picture, 256 pixels at most.
    let (x, y) = (width.saturating_sub(256) / 2, height.saturating_sub(256) / 2);
    let region = Rect::new(x, y, (x + 256).min(width), (y + 256).min(height));
    let part = decoder.decode_region(0, region)?;
    let mean = part.samples.iter().map(|&s| f64::from(s)).sum::<f64>() / part.samples.len() as f64;
    println!("region {}x{} at {x},{y}: mean sample {mean:.1}", part.width, part.height);
    Ok(())
}
