# Functions that install missing parts of the Rust toolchain through rustup. To be sourced by other scripts.
library=$(rustc --print sysroot)/lib/rustlib

# Makes the standard library for a target available.
need_target() {
    [ -d "$library/$1" ] || rustup target add "$1" ||
        { echo "no standard library for $1: rustup target add $1" >&2; exit 1; }
}

# Makes the sources of the standard library available, for -Zbuild-std.
need_sources() {
    [ -d "$library/src/rust/library/core" ] || rustup component add rust-src ||
        { echo "no sources of the standard library: rustup component add rust-src" >&2; exit 1; }
}

# Flags for a standard library without panic messages. They are unstable, which is why RUSTC_BOOTSTRAP is set; they do not change
# any result.
small="-Zunstable-options -Cpanic=immediate-abort -Zlocation-detail=none -Zfmt-debug=none"
