pub mod png_io;
