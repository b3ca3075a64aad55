# Opportune: what is done often. `make` alone lists it.
SHELL := /bin/bash
STEP := .ci/step
CARGO ?= cargo
# Arguments of the end-to-end tests, such as a part of a test's name.
E2E_ARGS ?=
# Arguments of the load bench, such as --quick.
BENCH_ARGS ?=
# Seconds for which `make fuzz` runs each target.
FUZZ_SECONDS ?= 20
FUZZ_TARGETS := review annotations record

.DEFAULT_GOAL := help
.PHONY: help toolchain build test lint bench bench-load bench-check e2e fuzz demo install

help: ## Show this list
	@awk -F ':.*## ' '/^[a-z0-9-]+:.*## / { printf "  make %-12s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

toolchain:
	@command -v $(CARGO) > /dev/null || { \
		echo "cargo is missing: install rustup (https://rustup.rs), it reads rust-toolchain.toml" >&2; exit 1; }
	@if command -v rustup > /dev/null && ! rustup show active-toolchain > /dev/null 2>&1; then \
		$(STEP) "Installing the Rust toolchain of rust-toolchain.toml" rustup toolchain install; fi

build: toolchain ## Build the program (release)
	@$(STEP) "Building the program" $(CARGO) build --release --locked

test: toolchain ## Run all tests, then print their total
	@$(STEP) "Building and running the tests" .ci/test

lint: toolchain ## Check formatting and lints
	@$(STEP) "Checking the formatting" $(CARGO) fmt --all --check
	@$(STEP) "Checking the lints" $(CARGO) clippy --workspace --all-targets --locked -- -D warnings
	@$(STEP) "Checking the lints of the end-to-end tests" \
		$(CARGO) clippy -p opportune-e2e --test control_plane --test node --locked -- -D warnings

bench: toolchain ## Measure the engine and the server (a quarter of an hour)
	@$(STEP) "Measuring the engine" $(CARGO) bench --locked -p opportune-core --bench engine
	@$(MAKE) --no-print-directory bench-load

bench-load: toolchain ## Put load on the server, and write the tables of docs/performance.md
	@$(STEP) "Building the program" $(CARGO) build --release --locked
	@$(STEP) "Building the bench" $(CARGO) build --release --locked -p opportune-benches
	@$(STEP) "Putting load on the server" \
		$(CARGO) run --quiet --release --locked -p opportune-benches --bin load -- $(BENCH_ARGS)

bench-check: toolchain ## Check that a decision costs the same with 10 and with 10,000 offers
	@$(STEP) "Comparing catalogs of 10 and 10,000 offers" \
		$(CARGO) bench --locked -p opportune-core --bench engine -- --check

e2e: toolchain ## Test on a real Kubernetes (its first build takes 6 minutes; needs Go)
	@$(STEP) "Building the program" $(CARGO) build --release --locked
	@$(STEP) "Testing end to end" .ci/e2e $(E2E_ARGS)

fuzz: ## Run each fuzz target for FUZZ_SECONDS (20); needs nightly Rust
	@for target in $(FUZZ_TARGETS); do \
		$(STEP) "Fuzzing $$target for $(FUZZ_SECONDS) s" .ci/fuzz $$target $(FUZZ_SECONDS) || exit 1; done

demo: toolchain ## Show an injection, without a cluster
	@$(CARGO) run --release --locked -- demo

install: toolchain ## Install `opportune`, and `kubectl opportune`, for this user
	@$(STEP) "Installing opportune" $(CARGO) install --locked --path .
	@bin="$${CARGO_INSTALL_ROOT:-$${CARGO_HOME:-$$HOME/.cargo}}/bin" && ln -sf opportune "$$bin/kubectl-opportune"
