#!/bin/sh
# Decodes the golden files on all targets that this machine can run: its own instruction sets, a static build, WebAssembly with
# and without simd128 under node, and aarch64 (NEON) under qemu-user. Digests of codes and samples must equal those in
# fixtures/golden/results.txt. Installs missing tools, or fails with a one-line message.
set -eu
cd "$(dirname "$0")/.."
say() { echo "golden-check: $*"; }
fail() { echo "golden-check: $*" >&2; exit 1; }
. scripts/toolchain.sh
# Only the decoder, with threads: the check does not need the encoder.
check() {
    cargo test -q --no-default-features --features threads --test conformance "$@"
}

if [ "$(uname -m)" = x86_64 ]; then
    levels=scalar,sse2
    grep -qw avx2 /proc/cpuinfo && levels=$levels,avx2
    grep -qw avx512vl /proc/cpuinfo && levels=$levels,avx512
    export TILEFIT_LEVELS="${TILEFIT_LEVELS-$levels}"
    say "levels $TILEFIT_LEVELS, 1 and 2 threads"
    check
    say "static build (musl)"
    need_target x86_64-unknown-linux-musl
    check --target x86_64-unknown-linux-musl
fi

say "WebAssembly, plain and simd128"
command -v node >/dev/null || fail "node is missing: apt-get install nodejs"
scripts/web.sh
node tests/wasm/check.mjs web/tilefit.wasm web/tilefit-simd.wasm

say "aarch64 (NEON) under qemu-user"
command -v qemu-aarch64 >/dev/null || apt-get install -y -qq qemu-user >/dev/null ||
    fail "qemu-aarch64 is missing: apt-get install qemu-user"
need_target aarch64-unknown-linux-musl
# Static, with the linker that comes with Rust: no cross compiler is needed.
TILEFIT_LEVELS=scalar,neon \
    CARGO_TARGET_AARCH64_UNKNOWN_LINUX_MUSL_LINKER=rust-lld \
    CARGO_TARGET_AARCH64_UNKNOWN_LINUX_MUSL_RUNNER=qemu-aarch64 \
    check --target aarch64-unknown-linux-musl
say "all passed"
