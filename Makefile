# Everything a newcomer and CI run. `make demo` and `make test` are the two commands of the README.
SHELL := /bin/bash
.SHELLFLAGS := -euo pipefail -c
.DEFAULT_GOAL := build

TARGET  := x86_64-unknown-linux-gnu
DEBUG   := target/$(TARGET)/debug
RELEASE := target/$(TARGET)/release
BINS    := airtight airtight-gate airtight-runtime containerd-shim-airtight-v1
PREFIX  ?= /usr/local
DESTDIR ?=

BUILD_PACKAGES := gcc libc6-dev make pkg-config ca-certificates
# Filters of ours are held against libseccomp's; no binary is made with it.
CHECK_PACKAGES := libseccomp-dev
DEMO_PACKAGES  := python3 python3-redis redis-server curl
TEST_PACKAGES  := $(DEMO_PACKAGES) nginx-light busybox-static skopeo umoci oci-image-tool podman containerd docker-registry apache2-utils openssl uidmap zstd gzip util-linux runc crun conmon gnupg dpkg-dev binutils zstd
BENCH_PACKAGES := debootstrap busybox-static runc crun bubblewrap umoci buildah zstd gzip util-linux golang-github-containers-common

.PHONY: build compare-podman debug demo test check fuzz bench bench-packages install clean deps-build deps-check deps-demo deps-test deps-bench

# Release binaries, also at target/release: the build names its target explicitly (see .cargo/config.toml). Copied, as an installation copies them: what the linker
# wrote lies in the page cache in single pages, of which a start has to map each, and what is copied in larger pieces (half a millisecond of five).
build: deps-build
	cargo build --release --bins -p airtight -p airtight-gate -p airtight-runtime -p containerd-shim-airtight-v1
	mkdir -p target/release
	for bin in $(BINS); do cmp -s $(RELEASE)/$$bin target/release/$$bin || install -m 755 $(RELEASE)/$$bin target/release/; done

# What the tests run: the binaries and the helpers beside them.
debug: deps-build deps-check
	cargo build --workspace --bins
	cargo build -p airtight-sandbox --example launch-plan
	cargo build --release --manifest-path examples/static-rust/Cargo.toml --target $(TARGET) --target-dir target/examples
	mkdir -p examples/static-rust/dist
	install -m 755 target/examples/$(TARGET)/release/hello examples/static-rust/dist/hello

demo: deps-build deps-demo build
	scripts/demo target/release

# As root the privileged tests run too; what a test lacks it says aloud, and with AIRTIGHT_MUST_RUN=1 that fails.
test: deps-build deps-test debug
	AIRTIGHT_BIN_DIR=$(CURDIR)/$(DEBUG) cargo test --workspace

check: deps-build deps-check
	cargo fmt --all --check
	cargo clippy --workspace --all-targets -- -D warnings
	RUSTDOCFLAGS="-D warnings" cargo doc --workspace --no-deps --quiet
	if command -v cargo-deny >/dev/null; then cargo deny check; else echo "check: cargo-deny is not installed, so deny.toml was not checked"; fi

# `make test` runs each target for a second; here for SECONDS.
fuzz: SECONDS ?= 60
fuzz: deps-build
	AIRTIGHT_FUZZ_SECONDS=$(SECONDS) cargo test -p airtight-fuzz -p airtight-runtime -p airtight -- --nocapture

bench: deps-bench build
	cargo build --release -p airtight-bench
	$(RELEASE)/airtight-bench --bin $(CURDIR)/target/release --out target/bench/bench.json

# Downloads: the example that is made of packages against debootstrap.
bench-packages: deps-bench build
	cargo build --release -p airtight-bench
	$(RELEASE)/airtight-bench --bin $(CURDIR)/target/release --out target/bench/packages.json packages

install: build
	install -d $(addprefix $(DESTDIR)$(PREFIX)/,bin share/bash-completion/completions share/zsh/site-functions share/fish/vendor_completions.d)
	for bin in $(BINS); do install -m 755 target/release/$$bin $(DESTDIR)$(PREFIX)/bin/; done
	target/release/airtight man $(DESTDIR)$(PREFIX)/share/man/man1
	for program in airtight airtight-runtime; do \
	  target/release/airtight completions bash --program $$program > $(DESTDIR)$(PREFIX)/share/bash-completion/completions/$$program; \
	  target/release/airtight completions zsh --program $$program > $(DESTDIR)$(PREFIX)/share/zsh/site-functions/_$$program; \
	  target/release/airtight completions fish --program $$program > $(DESTDIR)$(PREFIX)/share/fish/vendor_completions.d/$$program.fish; \
	done

# podman through runc and through ours, line by line, as root and as a user; about two minutes on a quiet machine.
compare-podman: deps-test build
	tests/podman/compare /usr/sbin/runc $(CURDIR)/target/release/airtight-runtime compat

clean:
	cargo clean
	rm -rf examples/*/dist

deps-build: ; @scripts/deps $(BUILD_PACKAGES)
deps-check: ; @scripts/deps $(CHECK_PACKAGES)
deps-demo:  ; @scripts/deps $(DEMO_PACKAGES)
deps-test:  ; @scripts/deps $(TEST_PACKAGES)
deps-bench: ; @scripts/deps $(BENCH_PACKAGES)
