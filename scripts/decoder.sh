#!/bin/sh
# `tilefit-decode` as a static binary of at most 500 KB: target/tiny/.../tilefit-decode. The standard library is built
# with it, without the texts of panics; these flags of the compiler are not stable yet, hence RUSTC_BOOTSTRAP.
set -eu
cd "$(dirname "$0")/.."
target=$(uname -m)-unknown-linux-musl
library=$(rustc --print sysroot)/lib/rustlib
[ -d "$library/$target" ] || rustup target add "$target" ||
    { echo "no standard library for $target: rustup target add $target" >&2; exit 1; }
[ -d "$library/src/rust/library/std" ] || rustup component add rust-src ||
    { echo "no sources of the standard library: rustup component add rust-src" >&2; exit 1; }
RUSTC_BOOTSTRAP=1 \
    RUSTFLAGS="${RUSTFLAGS-} -Zunstable-options -Cpanic=immediate-abort -Zlocation-detail=none -Zfmt-debug=none" \
    cargo build -q --bin tilefit-decode --no-default-features --profile tiny --target "$target" --target-dir target/tiny \
    -Zbuild-std=std,panic_abort -Zbuild-std-features=optimize_for_size
binary=target/tiny/$target/tiny/tilefit-decode
size=$(wc -c <"$binary")
echo "$binary: $size bytes"
[ "$size" -le 500000 ] || { echo "tilefit-decode is over its budget of 500 KB" >&2; exit 1; }
