//! Encodes a PNG and prints what became of it: `cargo run --release --example encode -- picture.png picture.tfit`

use tilefit::cli::png_io::{read_file, ReadLimits};
use tilefit::{Encoder, Target};

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let mut paths = std::env::args_os().skip(1);
    let (Some(input), Some(output)) = (paths.next(), paths.next()) else {
        return Err("usage: encode IN.png OUT.tfit".into());
    };
    let picture = read_file(input.as_ref(), &ReadLimits::default())?.picture;

    // At least 36 dB, at the lowest effort.
    let encoded = Encoder::new().target(Target::Psnr(36.0)).effort(1).encode(&picture)?;

    let report = &encoded.report;
    println!("{} bytes: {} of weights, {} of codes", encoded.bytes.len(), report.weights_bytes, report.codes_bytes);
    println!("{:.2} dB after {} steps in {:.1} s", report.psnr, report.steps, report.time.as_secs_f64());
    std::fs::write(output, &encoded.bytes)?;
    Ok(())
}
