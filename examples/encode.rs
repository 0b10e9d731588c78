//! Encodes a PNG and prints what became of it: `cargo run --release --example encode -- picture.png picture.tfit`

use std::fs::File;
use std::io::BufReader;
use tilefit::{Encoder, Picture, Target};

/// An 8-bit grey or RGB picture.
fn read_png(path: &std::ffi::OsStr) -> Result<Picture, Box<dyn std::error::Error>> {
    let mut reader = png::Decoder::new(BufReader::new(File::open(path)?)).read_info()?;
    let mut samples = vec![0; reader.output_buffer_size().ok_or("the picture is too large")?];
    let info = reader.next_frame(&mut samples)?;
    let (width, height, channels) = (info.width as usize, info.height as usize, info.color_type.samples());
    Ok(Picture::from_u8(width, height, channels, &samples))
}

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let mut paths = std::env::args_os().skip(1);
    let (Some(input), Some(output)) = (paths.next(), paths.next()) else {
        return Err("usage: encode IN.png OUT.tfit".into());
    };
    let picture = read_png(&input)?;

    // At least 36 dB, at the lowest effort.
    let encoded = Encoder::new().target(Target::Psnr(36.0)).effort(1).encode(&picture)?;

    let report = &encoded.report;
    println!("{} bytes: {} of weights, {} of codes", encoded.bytes.len(), report.weights_bytes, report.codes_bytes);
    println!("{:.2} dB after {} steps in {:.1} s", report.psnr, report.steps, report.time.as_secs_f64());
    std::fs::write(output, &encoded.bytes)?;
    Ok(())
}
