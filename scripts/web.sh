#!/bin/sh
# Builds the decoder as WebAssembly: web/tilefit.wasm and web/tilefit-simd.wasm. Installs the target and the sources of the
# standard library through rustup, and wasm-opt through npm, if they are missing.
#
# `core` and `alloc` are built with the module, without panic messages: this saves a fifth of the bytes.
set -eu
cd "$(dirname "$0")/.."
target=wasm32-unknown-unknown
. scripts/toolchain.sh
need_target $target
need_sources
tools=target/web-tools
opt=$(command -v "${WASM_OPT:-$tools/node_modules/.bin/wasm-opt}" || true)
if [ -z "$opt" ]; then
    mkdir -p $tools
    npm install --silent --no-save --prefix $tools binaryen@132 ||
        { echo "no wasm-opt: npm install binaryen, or name one in WASM_OPT" >&2; exit 1; }
    opt=$tools/node_modules/.bin/wasm-opt
fi
features="--enable-bulk-memory --enable-sign-ext --enable-nontrapping-float-to-int --enable-mutable-globals"
features="$features --enable-multivalue --enable-reference-types --enable-bulk-memory-opt"
passes="--flatten --rereloop -Oz -Oz --one-caller-inline-max-function-size=0 --converge"
strip="--strip-debug --strip-producers --strip-target-features"
build() {
    RUSTC_BOOTSTRAP=1 \
        RUSTFLAGS="${RUSTFLAGS-} $2 $small" \
        cargo build -q -p tilefit-wasm --lib --profile web --target $target --target-dir "target/$1" \
        -Zbuild-std=core,alloc -Zbuild-std-features=optimize_for_size
    # shellcheck disable=SC2086
    "$opt" $features $3 $passes $strip -o "web/$1.wasm" "target/$1/$target/web/tilefit_wasm.wasm"
}
build tilefit "" ""
build tilefit-simd "-C target-feature=+simd128" --enable-simd
glue="web/tilefit.js web/worker.js web/decoder.js"
for variant in tilefit tilefit-simd; do
    # shellcheck disable=SC2086
    raw=$(cat "web/$variant.wasm" $glue | wc -c)
    packed=$(for f in "web/$variant.wasm" $glue; do gzip -9 -c "$f" | wc -c; done | awk '{ n += $1 } END { print n }')
    echo "$variant with its glue: $raw bytes, $packed as gzip"
    if [ "$raw" -gt 245760 ] || [ "$packed" -gt 106496 ]; then
        echo "$variant is over its budget of 240 KiB, 104 KiB as gzip" >&2
        exit 1
    fi
done
