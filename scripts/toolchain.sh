# Parts of the Rust toolchain that scripts ask for, through rustup where they are missing. To be sourced.
library=$(rustc --print sysroot)/lib/rustlib

# The standard library for a target.
need_target() {
    [ -d "$library/$1" ] || rustup target add "$1" ||
        { echo "no standard library for $1: rustup target add $1" >&2; exit 1; }
}

# Its sources, for -Zbuild-std.
need_sources() {
    [ -d "$library/src/rust/library/core" ] || rustup component add rust-src ||
        { echo "no sources of the standard library: rustup component add rust-src" >&2; exit 1; }
}

# A standard library without the texts of panics. These flags of the compiler are not stable yet, hence RUSTC_BOOTSTRAP;
# they change no result.
small="-Zunstable-options -Cpanic=immediate-abort -Zlocation-detail=none -Zfmt-debug=none"
