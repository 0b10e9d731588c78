#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| tilefit_fuzz::weights(data));
