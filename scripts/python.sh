#!/bin/sh
# The wheel, built and tried as a user would: installed into an empty environment, tested outside of the sources.
# With the argument sdist also the source package, from which a wheel is built without the network.
set -eu
cd "$(dirname "$0")/.."
root=$PWD
export CARGO_TARGET_DIR="$root/target/python"
tools=target/python-tools venv=target/python-venv

[ -x $tools/bin/maturin ] || {
    python3 -m venv $tools
    $tools/bin/pip install -q "maturin>=1.9,<2"
}
cargo fmt --check --manifest-path python/Cargo.toml
rm -f target/wheels/tilefit-*
$tools/bin/maturin build --release --locked --manifest-path python/Cargo.toml --out target/wheels

rm -rf $venv
python3 -m venv $venv
wheel=$(ls target/wheels/tilefit-*.whl)
$venv/bin/pip install -q "$wheel[test,cluster]"

cd python/tests
"$root/$venv/bin/python" -m pytest -p no:cacheprovider -c ../pyproject.toml .
# The types: of the package, of a user's program, and of the native half against what it really has.
export MYPY_CACHE_DIR="$root/target/mypy"
"$root/$venv/bin/mypy" --config-file ../pyproject.toml -p tilefit
"$root/$venv/bin/mypy" --config-file ../pyproject.toml usage.py
cd "$root/target"
"$root/$venv/bin/python" -m mypy.stubtest tilefit._tilefit

[ "${1-}" = sdist ] || exit 0
cd "$root"
rm -rf target/python-sdist
$tools/bin/maturin sdist --manifest-path python/Cargo.toml --out target/wheels
# As pip does from the archive; the crates are those of Cargo's cache.
CARGO_NET_OFFLINE=true PATH="$root/$tools/bin:$PATH" $tools/bin/pip wheel -q --no-build-isolation --no-deps \
    -w target/python-sdist target/wheels/tilefit-*.tar.gz
$venv/bin/pip install -q --force-reinstall --no-deps target/python-sdist/tilefit-*.whl
cd target/python-sdist
"$root/$venv/bin/python" -c "import numpy, tilefit; tilefit.decode(tilefit.encode(numpy.zeros((9, 9), 'u1'), lossless=True))"
