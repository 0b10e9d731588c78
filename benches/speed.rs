//! Whole and partial decodes of a pyramid file: `cargo bench --bench speed -- FILE.tfit`. Prints megapixels per second on one
//! thread for each instruction set. `scripts/speed.sh` also measures WebAssembly.

mod common;
#[path = "../tests/common/enlarged.rs"]
mod enlarged;

use common::best;
use std::time::Duration;
use tilefit::decoder::Decoder;
use tilefit::{Level, Limits, Rect};

const SIDE: usize = 4096;

fn main() {
    let path = std::env::args().skip(1).find(|a| !a.starts_with('-'));
    let path = path.unwrap_or(concat!(env!("CARGO_MANIFEST_DIR"), "/web/samples/nebula.tfit").into());
    let bytes = std::fs::read(&path).expect("a .tfit file");
    let one = rayon::ThreadPoolBuilder::new().num_threads(1).build().expect("a thread");
    one.install(|| {
        let open = |bytes, level| Decoder::new(bytes, Limits::default()).expect("a good file").with_level(level);
        let macs = open(&bytes, Level::best()).info().macs_per_pixel;
        println!("{path}: {macs:.0} multiplications per pixel, one thread");
        for level in Level::available() {
            let decoder = open(&bytes, level);
            let pixels = decoder.decode(0).expect("a picture").pixels();
            let seconds = best(Duration::from_secs(2), || drop(decoder.decode(0)));
            println!("decode/native {level:?} {:.2} Mpixel/s", pixels as f64 / seconds / 1e6);
        }
        let large = enlarged::enlarged(&bytes, SIDE, SIDE);
        let decoder = open(&large, Level::best());
        let whole = best(Duration::from_secs(1), || drop(decoder.decode(0)));
        // The same region as in tests/memory.rs.
        let region = Rect::new(1700, 2100, 2212, 2612);
        let part = best(Duration::from_secs(1), || drop(decoder.decode_region(0, region)));
        println!("decode/16.8 Mpixel {whole:.3} s, 512x512 of it {part:.4} s: 1/{:.0}", whole / part);
    });
}
