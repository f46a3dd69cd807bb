# Needs Rust 1.95 or newer and a C linker. `make demo` is the place to start.

CARGO ?= cargo
REPORT ?= report

.PHONY: help demo test check doc bench bench-peers

help: ## these lines
	@sed -n 's/^\([a-z-]*\):.*## /  make \1\t/p' $(MAKEFILE_LIST) | expand -t 20

demo: ## train on built-in scans, search and score test scans, write report/report.html
	$(CARGO) build --release --locked
	$(CARGO) run --release --locked --quiet -- demo --report $(REPORT)

test: ## all tests, on the CPU and on the GPU path
	scripts/ensure-adapter.sh
	$(CARGO) test --workspace --locked

check: ## format, lints, documentation
	$(CARGO) fmt --all --check
	$(CARGO) clippy --workspace --all-targets --locked -- -D warnings
	RUSTDOCFLAGS="-D warnings" $(CARGO) doc --workspace --no-deps --locked

doc: ## API documentation, in target/doc
	$(CARGO) doc --workspace --no-deps --locked

bench: ## time of the kernels on this machine's CPU
	$(CARGO) bench -p ganomede-kernels --locked
