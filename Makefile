# Lotse: what a person types. `make help` lists it.
#
# Every target sets up what is missing first (tests/setup.sh asks before sudo; YES=1 answers it) and fails when a step fails.

SHELL := /bin/bash
.SHELLFLAGS := -euo pipefail -c
.ONESHELL:
.DELETE_ON_ERROR:
MAKEFLAGS += --no-print-directory
export PATH := $(CURDIR)/.tools/bin:$(PATH)
# Only the network namespaces of two browser tests need root.
ROOT := $(if $(filter 0,$(shell id -u)),,sudo --preserve-env=PATH)

PROGRAMS := lotse-server lotse-archivist lotse-glass lotse-verify
PAGES := web-expert/dist/index.html
PAGE_SOURCES := $(shell find web-expert server/protocol/bindings -type f -not -path '*/node_modules/*' -not -path '*/dist/*' 2>/dev/null)
# Always the whole workspace: `-p` picks other features of shared crates, and cargo would build them all again.
PRODUCT_TESTS := $(patsubst tests/tests/%.rs,--test %,$(wildcard tests/tests/*.rs))
SCRIPTS := .ci/run $(wildcard tests/*.sh tests/*/*.sh)

.PHONY: help demo demo-ports setup setup-checks setup-fuzz build test test-quick test-product test-browser gallery check bench fuzz

help: ## this list
	@grep -hE '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | sed -E 's/^([a-z-]+):.*## (.*)/  make \1\t\2/' | expand -t 24

demo: demo-ports build ## set up, build, start everything on this machine (Ctrl-C ends it; DEMO_SECONDS=n; LAN=1 for phones on this network; LINK=cellar for a bad link)
	@[ -z "$(LINK)" ] || cargo build --locked --workspace --example relay
	bash tests/demo.sh

demo-ports: # a taken port is told before anything is installed or built
	@bash tests/demo.sh ports

setup: ## install what is missing: Debian packages, Node, npm packages, footage
	@bash tests/setup.sh

setup-checks: setup
	@bash tests/setup.sh checks

setup-fuzz: setup
	@bash tests/setup.sh fuzz

$(PAGES): $(PAGE_SOURCES) | setup
	@echo "build: pages"
	cd web-expert && npm run --silent build

build: setup $(PAGES) ## the pages and the four programs
	@[ -d target/debug ] || echo "build: the first time some 400 crates are compiled: ten minutes on two quiet cores, 2 GB in target/"
	@echo "build: $(PROGRAMS)"
	cargo build --locked --workspace --bins

test: test-quick test-product test-browser ## every test, quick ones first

test-quick: build ## unit tests, Rust and TypeScript, and the footage
	cargo test --locked --workspace --exclude lotse-tests
	(cd web-expert && npm test)
	(cd tests/footage && npm test)

test-product: build ## the whole product: real programs, bad networks, power cuts
	cargo build --locked --workspace --lib # the layer that fails
	cargo test --locked --workspace $(PRODUCT_TESTS)

test-browser: build ## the story in a real browser, again without any network, and through real networks
	cd tests/browser
	npm test
	$(ROOT) bash ./offline.sh
	cargo build --locked --workspace --examples
	$(ROOT) bash ./beyond.sh

gallery: build ## a picture of every page and state, into tests/out/gallery, to be looked at; fails on what axe finds
	cd tests/browser && npm run gallery

check: setup-checks $(PAGES) ## format, lint, fuzz corpora, types, licences, bindings, dependency rules, shell scripts
	for script in $(SCRIPTS); do bash -n "$$script"; done
	cargo fmt --all --check
	cargo clippy --locked --workspace --all-targets -- -D warnings
	cargo test --locked --workspace --test corpora
	cargo deny --log-level error check bans licenses sources
	bash tests/check-tree.sh
	(cd web-expert && npm run check)
	(cd tests/browser && npm run check)

bench: build ## measure, and write docs/BENCHMARKS.md
	bash tests/setup.sh bench
	cargo build --locked --workspace --examples --lib
	node tests/bench.mjs

fuzz: build setup-fuzz ## feed made-up bytes to everything that reads the outside, each target FUZZ_SECONDS (600)
	bash tests/fuzz/fuzz.sh
