# Needs Rust 1.95 or newer and a C linker. `make demo` is the place to start.

CARGO ?= cargo
REPORT ?= report
DEVICE ?= auto
PYTHON ?= python3
SECONDS ?= 60
PEERS ?=
DATA ?=
# python, serve, web, ranks: BRIEF=yes takes the program that `make test` built, and some of what they check.
BRIEF ?=
# Features of crates, `ganomede-cli/mpi` say, that test, onnx and BRIEF=yes build alike.
FEATURES ?=
FLAGS = --locked $(if $(FEATURES),--features $(FEATURES))
BUILD = $(CARGO) build $(FLAGS) $(if $(BRIEF),--workspace,--release)
PROGRAM = target/$(if $(BRIEF),debug,release)/ganomede

# A virtual environment in target/$(1) with what the file $(2) lists.
define venv
test -x target/$(1)/venv/bin/pip || $(PYTHON) -m venv target/$(1)/venv
	target/$(1)/venv/bin/pip install --quiet --disable-pip-version-check --requirement $(2)
endef

.PHONY: help demo demo-picture test fetch onnx torch python pages ranks web serve site test-adapters tensorboard docs-check fuzz check check-full check-sides features doc bench bench-peers bench-scoring bench-growth bench-half bench-real figures

help: ## these lines
	@sed -n 's/^\([a-z-]*\):.*## /  make \1\t/p' $(MAKEFILE_LIST) | expand -t 20

demo: ## train on built-in scans, search and score test scans, write report/report.html
	$(CARGO) build --release --locked
	$(CARGO) run --release --locked --quiet -- demo --report $(REPORT)

test: ## all tests, on the CPU and on the GPU path
	scripts/ensure-adapter.sh
	$(CARGO) test --workspace $(FLAGS)

fetch: ## the Python packages of onnx, python, serve and web, which these fetch otherwise
	$(call venv,onnx,tests/onnx/requirements.txt)
	$(call venv,python,python/tests/requirements.txt)
	$(call venv,serve,tests/serve/requirements.txt)
	$(call venv,web,tests/web/requirements.txt)

onnx: ## the ONNX operators' own test vectors on both devices, and `export --onnx` in onnxruntime; needs python3 with venv and pip, fetches the onnx and onnxruntime wheels
	$(call venv,onnx,tests/onnx/requirements.txt)
	target/onnx/venv/bin/python tests/onnx/vectors.py target/onnx
	$(CARGO) test --workspace $(FLAGS) --test onnx
	$(CARGO) build --workspace $(FLAGS)
	target/onnx/venv/bin/python tests/onnx/export.py target/debug/ganomede target/onnx/export

torch: ## `export --torch` in PyTorch: scores, maps, gradients, the way back; needs python3 with venv and pip, fetches torch (3 GB)
	$(CARGO) build --workspace --locked
	$(call venv,torch,tests/torch/requirements.txt)
	target/torch/venv/bin/python tests/torch/export.py target/debug/ganomede target/torch/export

docs-check: ## every command that README and docs show, minutes of training included; needs python3 (3.11)
	$(CARGO) build --release --locked
	$(PYTHON) scripts/docs_check.py --slow

python: ## the Python package: built, its tests, types and notebooks; needs python3 with venv and pip, fetches maturin and more
	$(BUILD) $(if $(BRIEF),--features ganomede-python/module)
	$(call venv,python,python/tests/requirements.txt)
	$(if $(BRIEF),cp target/debug/lib_ganomede.so python/ganomede/_ganomede.abi3.so,cd python && VIRTUAL_ENV=$(CURDIR)/target/python/venv ../target/python/venv/bin/maturin develop --release --locked)
	cd python && ../target/python/venv/bin/mypy
	cd python && PYTHONPATH=$(CURDIR)/python GANOMEDE=$(CURDIR)/$(PROGRAM) ../target/python/venv/bin/pytest --quiet

pages: ## how report.html and its like look on screens and paper; needs python3 with venv and pip, Chromium; fetches playwright
	$(CARGO) build --release --locked
	$(call venv,pages,tests/pages/requirements.txt)
	target/pages/venv/bin/python tests/pages/pages.py --pictures target/pages/pictures

ranks: ## trainings by `mpirun` against one process, bit for bit; needs OpenMPI and libclang (libopenmpi-dev, openmpi-bin, libclang-dev)
	$(if $(BRIEF),$(BUILD),$(CARGO) build --locked --package ganomede-cli --features mpi --target-dir target/ranks)
	tests/ranks/ranks.sh $(if $(BRIEF),$(PROGRAM),target/ranks/debug/ganomede) target/ranks/work

web: ## what `export --web` writes, in Node on Dawn and in Chromium; root on Debian gets Chromium; fetches npm and Python packages
	$(BUILD)
	PYTHON=$(PYTHON) BRIEF=$(BRIEF) tests/web/run.sh $(PROGRAM)

serve: ## what `serve` answers to tritonclient, schemathesis and Chromium, and under load; needs python3 with venv and pip; fetches these
	$(BUILD)
	$(call venv,serve,tests/serve/requirements.txt)
	target/serve/venv/bin/python tests/serve/clients.py $(PROGRAM) target/serve/work $(if $(BRIEF),--brief,--load $(SECONDS))

site: ## README, documents, course and pages as one static site, in target/site; needs python3 with venv and pip; fetches markdown-it-py
	$(CARGO) build --release --locked
	$(call venv,site-maker,scripts/site/requirements.txt)
	target/site-maker/venv/bin/python scripts/site/site.py target/site --program target/release/ganomede

test-adapters: ## which drivers and compilers run what, into docs/portability.md; after `make web` Dawn too; needs python3 (3.11)
	$(CARGO) build --release --locked
	$(PYTHON) scripts/adapters.py --web target/web

tensorboard: ## reads with TensorBoard what `train --log` writes; needs python3 with venv and pip, fetches tensorboard
	$(CARGO) build --release --locked
	$(call venv,tensorboard,tests/tensorboard/requirements.txt)
	target/tensorboard/venv/bin/python tests/tensorboard/read.py target/release/ganomede

fuzz: ## a minute of random files for every kind that is read; needs cargo-fuzz (fuzz/README.md); SECONDS=600 for longer
	for target in $$($(CARGO) fuzz list); do \
	    $(CARGO) fuzz run --sanitizer none $$target -- \
	        -max_total_time=$(SECONDS) -rss_limit_mb=1024 -timeout=20 -print_final_stats=1 || exit 1; \
	done

check: ## format, lints, documentation, words; needs python3
	$(CARGO) fmt --all --check
	$(CARGO) clippy --workspace --all-targets --locked -- -D warnings
	RUSTDOCFLAGS="-D warnings" $(CARGO) doc --workspace --no-deps --locked
	$(PYTHON) scripts/words_check.py

check-full: ## what takes longer than continuous integration allows, in turn: hours, gigabytes; as root on Debian
	apt-get install --yes --no-install-recommends chromium libopenmpi-dev openmpi-bin libclang-dev
	$(MAKE) check features onnx python ranks pages tensorboard serve web torch check-sides docs-check

features: ## the library without its features, and with each alone
	for features in "" gpu report isa onnx torch; do \
	    $(CARGO) clippy --package ganomede --lib --no-default-features --features "$$features" --locked \
	        --target-dir target/features -- -D warnings || exit 1; \
	done
	$(CARGO) tree --package ganomede --no-default-features --edges normal --locked > target/features/tree.txt
	! grep -E "(wgpu|clap|ctrlc|indicatif|plotters) v" target/features/tree.txt

doc: ## API documentation, in target/doc
	$(CARGO) doc --workspace --no-deps --locked

demo-picture: ## docs/demo.png, by the model of `make demo`
	$(CARGO) build --release --locked
	scripts/demo-picture.sh

figures: ## the pictures of the networks in docs/systems
	$(CARGO) build --release --locked
	scripts/figures.sh

bench: ## time of a training step and a search step on this machine; DEVICE=gpu for another device
	$(CARGO) build --release --locked
	$(CARGO) run --release --locked --quiet -- bench step --size 64 --width 64 --batch 64 --device $(DEVICE)
	$(CARGO) run --release --locked --quiet -- bench search --batch 64 --device $(DEVICE)

bench-peers: ## beside PyTorch, burn and candle, into docs/benchmarks.md; needs a python3 with torch; PEERS="--mnist DIR --build"
	$(CARGO) build --release --locked
	$(CARGO) bench --locked --no-run --bench peers
	$(CARGO) build --release --locked --manifest-path benches/peers/rust/Cargo.toml
	$(PYTHON) benches/peers/run.py --write docs/benchmarks.md $(PEERS)

bench-scoring: ## scoring beside ONNX Runtime and PyTorch, into docs/benchmarks.md; needs a python3 with torch, onnx, onnxruntime, pillow
	$(CARGO) build --release --locked
	$(PYTHON) benches/peers/scoring.py target/release/ganomede "$$($(CARGO) bench --locked --no-run --bench scoring 2>&1 | sed -n 's/.*(\(.*scoring-[^)]*\)).*/\1/p')"

bench-growth: ## memory over sizes and search time over batches, into docs/growth.md; needs python3
	$(CARGO) build --release --locked
	$(PYTHON) benches/growth/run.py

check-sides: ## every image system at sides that are no powers of two, on both devices; about 20 minutes, needs python3
	$(CARGO) build --release --locked
	benches/sides.sh target/release/ganomede

bench-half: ## what half precision and bf16 cost and save, into docs/half.md; needs python3
	$(CARGO) build --release --locked
	$(PYTHON) benches/half/run.py

bench-real: ## systems on real image sets, into docs/results.md and the systems' pages; DATA=DIR holds the sets (benches/real)
	$(CARGO) build --release --locked
	$(PYTHON) benches/real/run.py --data "$(DATA)"
	$(PYTHON) scripts/measured.py
