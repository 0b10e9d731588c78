#!/bin/sh
# The decoder as WebAssembly: web/tilefit.wasm and web/tilefit-simd.wasm. Gets the target through rustup and wasm-opt
# through npm where they are missing.
set -eu
cd "$(dirname "$0")/.."
target=wasm32-unknown-unknown
if [ ! -d "$(rustc --print sysroot)/lib/rustlib/$target" ]; then
    rustup target add $target || { echo "no standard library for $target: rustup target add $target" >&2; exit 1; }
fi
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
build() {
    RUSTFLAGS="${RUSTFLAGS-} $2" cargo build -q -p tilefit-wasm --lib --profile web --target $target --target-dir "target/$1"
    # shellcheck disable=SC2086
    "$opt" $features $3 -O3 --strip-producers --strip-target-features -o "web/$1.wasm" \
        "target/$1/$target/web/tilefit_wasm.wasm"
}
build tilefit "" ""
build tilefit-simd "-C target-feature=+simd128" --enable-simd
glue="web/tilefit.js web/worker.js web/decoder.js"
for variant in tilefit tilefit-simd; do
    raw=$(cat "web/$variant.wasm" $glue | wc -c)
    packed=$(for f in "web/$variant.wasm" $glue; do gzip -9 -c "$f" | wc -c; done | awk '{ n += $1 } END { print n }')
    echo "$variant with its glue: $raw bytes, $packed as gzip"
    if [ "$raw" -gt 150000 ] || [ "$packed" -gt 60000 ]; then
        echo "$variant is over its budget of 150000 bytes, 60000 as gzip" >&2
        [ -n "${WEB_ANY_SIZE-}" ] || exit 1
    fi
done
