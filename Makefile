# Everdesk's commands. `make` alone lists them. A target's one-line help follows its `##`.
SHELL := /bin/bash
.SHELLFLAGS := -eu -o pipefail -c
.DEFAULT_GOAL := help
MAKEFLAGS += --no-builtin-rules --no-print-directory

# The build cache lies outside the checkout, so that a fresh clone does not compile RocksDB again (12 minutes). Where
# that directory cannot be made, ./target serves.
EVERDESK_CACHE ?= $(or $(XDG_CACHE_HOME),$(or $(HOME),/tmp)/.cache)/everdesk
export EVERDESK_CACHE
ifeq ($(strip $(CARGO_TARGET_DIR)),)
  CARGO_TARGET_DIR := $(shell mkdir -p '$(EVERDESK_CACHE)/target' 2>/dev/null && test -w '$(EVERDESK_CACHE)/target' && echo '$(EVERDESK_CACHE)/target' || echo '$(CURDIR)/target')
endif
export CARGO_TARGET_DIR

export PATH := $(EVERDESK_CACHE)/tools/bin:$(PATH):$(HOME)/.cargo/bin

# One profile and one selection of packages in every target: cargo unifies features over what is selected, so another
# selection would be another RocksDB. See docs/adr/0002-one-release-profile.md.
CARGO_FLAGS := --release --locked --workspace

# Clones share the build cache, so the cache's `release/everdesk` may be another clone's. Each keeps its own copy.
BIN_DIR := $(CARGO_TARGET_DIR)/bin-$(firstword $(shell printf %s '$(CURDIR)' | cksum))
export EVERDESK_BIN := $(BIN_DIR)/everdesk
export EVERDESK_BENCH_BIN := $(BIN_DIR)/everdesk-bench

ARGS ?=
N ?= 1

.PHONY: help
help: ## list the targets
	@echo 'usage: make TARGET [ARGS="..."]'
	@grep -hE '^[a-z0-9-]+:.*## ' $(MAKEFILE_LIST) | sed -E 's/^([a-z0-9-]+):.*## /\1\t/' | while IFS=$$'\t' read -r name text; do printf '  %-12s %s\n' "$$name" "$$text"; done

##@ run

.PHONY: setup
setup: ## install what building and testing needs; says what and why, does nothing when it is there
	@scripts/setup.sh tools

.PHONY: setup-build
setup-build:
	@scripts/setup.sh build

# A running binary cannot be written over, so the copy is made anew.
define keep_binaries
@mkdir -p '$(BIN_DIR)'
@for bin in everdesk everdesk-bench everdesk-chaos everdesk-delayer; do if [ -f "$(CARGO_TARGET_DIR)/release/$$bin" ]; then install -m 755 "$(CARGO_TARGET_DIR)/release/$$bin" '$(BIN_DIR)/'; fi; done
endef

.PHONY: build
build: setup-build ## build the release binaries
	@cargo build $(CARGO_FLAGS) --bins
	$(keep_binaries)
	@echo 'built: $(EVERDESK_BIN)' >&2

# With the tests in one call: crates that only tests use switch on features, and building in two steps builds twice.
.PHONY: build-tests
build-tests: setup
	@cargo build $(CARGO_FLAGS) --bins --tests
	$(keep_binaries)

.PHONY: run
run: build ## set up, build and start one node on 127.0.0.1:8080 with its data in ./data (ARGS goes to `everdesk start`)
	@exec '$(EVERDESK_BIN)' start $(ARGS)

.PHONY: run3
run3: build ## start three nodes on 127.0.0.1:8081-8083 with their data in ./data/1..3; Ctrl-C stops all
	@exec scripts/run3.sh all

.PHONY: node
node: build ## bring node N of run3 back: make node N=2
	@exec scripts/run3.sh node '$(N)'

.PHONY: clean-data
clean-data: ## delete ./data, the data of run and run3
	rm -rf ./data

##@ check

.PHONY: test
test: build-tests ## set up and run all tests and the simulation (with ARGS, which go to nextest, only those tests: make test ARGS=acked_message)
	@cargo nextest run $(CARGO_FLAGS) $(ARGS)
	@if [ -z '$(ARGS)' ]; then $(MAKE) sim; fi

# Another build: simulated sockets and time, and seeded bugs that can be switched on, must never be in a release.
SEEDS ?= 100
.PHONY: sim
sim: setup ## simulate SEEDS runs of a minute with faults each, 100 if not said, and judge them (ARGS goes to everdesk-sim)
	@cargo build $(CARGO_FLAGS) --features chaos-tests/sim --bin everdesk-sim
	@mkdir -p '$(BIN_DIR)' && install -m 755 "$(CARGO_TARGET_DIR)/release/everdesk-sim" '$(BIN_DIR)/'
	@'$(BIN_DIR)/everdesk-sim' --seeds '$(SEEDS)' --out '$(CARGO_TARGET_DIR)/sim' $(ARGS)

.PHONY: verify
verify: setup ## check format, lints, licences and tidiness; writes nothing in the checkout; CI is this and `make test`
	cargo fmt --all --check
	python3 scripts/tidy.py
	cargo deny --locked --log-level error check -D unmatched-skip -D unnecessary-skip -D license-exception-not-encountered licenses bans sources
	cargo clippy $(CARGO_FLAGS) --features chaos-tests/sim --all-targets -- -D warnings

.PHONY: fix
fix: setup ## format the code and lower the numbers in scripts/tidy-exceptions.txt
	cargo fmt --all
	python3 scripts/tidy.py --fix

SEED ?= 1
MINUTES ?= 10
# As root it has networks, disks and clocks of its own to break; else kills and stops on the loopback address are left.
.PHONY: chaos
chaos: build ## break real nodes by a seed while people talk, and judge: make chaos SEED=1 MINUTES=10 (ARGS: everdesk-chaos --help)
	@'$(BIN_DIR)/everdesk-chaos' --seed '$(SEED)' --minutes '$(MINUTES)' $(ARGS)

SECONDS ?= 60
.PHONY: fuzz
fuzz: setup-build ## fuzz each parser for SECONDS, 60 if not said: make fuzz SECONDS=600 TARGET=client_frame (needs cargo-fuzz; ARGS goes to libFuzzer)
	@SECONDS_EACH='$(SECONDS)' TARGET='$(TARGET)' scripts/fuzz.sh $(ARGS)

.PHONY: api-test
api-test: build ## ask one node whatever its OpenAPI document allows and does not (ARGS goes to schemathesis)
	@scripts/api-test.sh $(ARGS)

.PHONY: s3
s3: build-tests ## back up to an S3-compatible store and restore from it, and move old conversations there; the store is moto, from PyPI
	@scripts/s3.sh cargo nextest run $(CARGO_FLAGS) -E 'test(s3_compatible_store)' --no-capture $(ARGS)

# The build that stands for the next release is made first and kept aside: both builds go by the same name.
NEXT_BIN := $(BIN_DIR)/everdesk-next
.PHONY: upgrade-test
upgrade-test: setup ## upgrade a cluster node by node, old build to next, while visitors talk (about 4 minutes after the builds)
	@cargo build $(CARGO_FLAGS) --bin everdesk --features node/next
	@mkdir -p '$(BIN_DIR)' && install -m 755 "$(CARGO_TARGET_DIR)/release/everdesk" '$(NEXT_BIN)'
	@cargo build $(CARGO_FLAGS) --bins
	$(keep_binaries)
	@EVERDESK_NEXT_BIN='$(NEXT_BIN)' cargo nextest run $(CARGO_FLAGS) --features chaos-tests/upgrade -E 'binary(upgrade)' --no-capture $(ARGS)

##@ measure

.PHONY: bench
bench: build ## measure three nodes end to end over WebSockets (ARGS goes to everdesk-bench)
	@'$(EVERDESK_BENCH_BIN)' $(ARGS)

.PHONY: compare
compare: build ## the same beside NATS JetStream with fsync, and the ratios
	@bash bench/compare.sh $(ARGS)

.PHONY: docs
docs: setup-build ## build the API documentation of the crates and check the links of the guides
	cargo doc $(CARGO_FLAGS) --no-deps
	python3 scripts/tidy.py --only links
	@echo 'open $(CARGO_TARGET_DIR)/doc/everdesk/index.html, or start with docs/ARCHITECTURE.md'

##@ packages

.PHONY: test-packages
test-packages: ## render and check the Helm chart, and check the systemd unit
	@scripts/setup.sh packages
	@'$(EVERDESK_CACHE)/tools/venv/bin/python' docker/helm/test.py
	@bash docker/systemd/test.sh

.PHONY: docker-test
docker-test: build ## build the image, compose three nodes, chat, kill one (root; ARGS="--compile" builds all stages)
	@bash docker/test.sh $(ARGS)

.PHONY: deb
deb: build ## make the .deb of this machine's architecture
	@bash docker/deb/build.sh

.PHONY: cross
cross: ## build the binary for aarch64 and run it under qemu-user (RocksDB: half an hour on two cores)
	@bash docker/cross.sh
