# Short names for command lines; the logic is in cargo and scripts/.
TILEFIT = target/release/tilefit
STATIC = $(shell uname -m)-unknown-linux-musl

.PHONY: help demo test lint package bench static decoder capi golden rd python python-sdist web web-test web-samples web-shots golden-check

help:
	@grep -E '^[a-z-]+:.*##' Makefile | sed 's/:.*## /\t/' | expand -t 13

demo: ## encode the nebula picture, decode it, compare it with JPEG (less than three minutes)
	cargo build --release
	mkdir -p target/demo
	$(TILEFIT) encode fixtures/nebula.png -o target/demo/nebula.tfit -f -e 1 --tune psnr --time-limit 60s
	$(TILEFIT) decode target/demo/nebula.tfit -o target/demo/nebula.png -f
	$(TILEFIT) info target/demo/nebula.tfit
	$(TILEFIT) compare fixtures/nebula.png target/demo/nebula.tfit --html target/demo/compare.html -f
	@echo "Crops side by side: target/demo/compare.html"

test: ## all tests
	cargo test --workspace --features image
	cargo test -p tilefit-capi --profile capi
	cargo test --no-default-features --lib

lint: ## format, warnings, also of the decoder alone and of the documentation
	cargo fmt --check
	cargo clippy --workspace --features image --all-targets -- -D warnings
	cargo clippy --no-default-features -- -D warnings
	RUSTDOCFLAGS="-D warnings" cargo doc --no-deps --workspace --features image

package: ## the crates as they would be published, built from their packages
	@# In a folder of its own: Cargo takes a build of an older package of the same version for fresh.
	rm -rf target/packaged "$${CARGO_HOME:-$$HOME/.cargo}"/registry/src/*/tilefit-kernels-*
	CARGO_TARGET_DIR=target/packaged CARGO_PROFILE_DEV_OPT_LEVEL=0 cargo package --allow-dirty -p tilefit-kernels -p tilefit

bench: ## measure kernels and codec, and decoding as native code and as WebAssembly
	cargo bench --workspace
	scripts/speed.sh

static: ## the release binary without shared libraries, of at most 5 MB
	. scripts/toolchain.sh && need_target $(STATIC)
	cargo build --release --bin tilefit --target $(STATIC)
	@size=$$(stat -c %s target/$(STATIC)/release/tilefit) && \
		echo "target/$(STATIC)/release/tilefit: $$size bytes, at most 5000000" && test $$size -le 5000000

decoder: ## tilefit-decode as a static binary of at most 500 KB
	scripts/decoder.sh

capi: ## the decoder for C: target/capi/libtilefit_capi.a, with capi/tilefit.h
	cargo build -p tilefit-capi --profile capi

golden: ## check that the golden files still decode to the same samples
	cargo test --test conformance

rd: ## rate-distortion curve of the nebula picture as CSV
	cargo build --release
	scripts/rd.sh $(TILEFIT) fixtures/nebula.png

python: ## the wheel for Python: target/wheels/tilefit-*.whl, installed and tested in target/python-venv
	scripts/python.sh

python-sdist: ## the same, and the source package, from which a wheel is built offline
	scripts/python.sh sdist

web: ## the decoder for browsers: web/tilefit.wasm and web/tilefit-simd.wasm
	scripts/web.sh

web-test: ## the page end to end in headless Chromium
	scripts/web-test.sh

web-samples: ## make the page's samples, the files of other codecs and the golden pixels again
	cargo build --release
	scripts/samples.py $(TILEFIT)

web-shots: ## make the screenshots of the page in docs/
	cd web/test && node shots.js ../../docs

golden-check: ## the golden files on all instruction sets, as wasm and on aarch64
	scripts/golden-check.sh
