#!/bin/sh
# Measures decoding of one file on one thread, native and as WebAssembly (node): speed.sh [FILE.tfit]
set -eu
cd "$(dirname "$0")/.."
file=${1:-web/samples/nebula.tfit}
case $file in /*) ;; *) file=$PWD/$file ;; esac
cargo bench -q --bench speed -- "$file"
command -v node >/dev/null || { echo "node is missing: apt-get install nodejs" >&2; exit 1; }
scripts/web.sh
node benches/decode.mjs "$file" web/tilefit-simd.wasm web/tilefit.wasm
