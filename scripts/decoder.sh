#!/bin/sh
# `tilefit-decode` as a static binary of at most 500 KB: target/tiny/.../tilefit-decode. The standard library is built
# with it, without panic messages, to save space.
set -eu
cd "$(dirname "$0")/.."
target=$(uname -m)-unknown-linux-musl
. scripts/toolchain.sh
need_target "$target"
need_sources
RUSTC_BOOTSTRAP=1 RUSTFLAGS="${RUSTFLAGS-} $small" \
    cargo build -q --bin tilefit-decode --no-default-features --profile tiny --target "$target" --target-dir target/tiny \
    -Zbuild-std=std,panic_abort -Zbuild-std-features=optimize_for_size
binary=target/tiny/$target/tiny/tilefit-decode
size=$(wc -c <"$binary")
echo "$binary: $size bytes"
[ "$size" -le 500000 ] || { echo "tilefit-decode is over its budget of 500 KB" >&2; exit 1; }
