# What there is to do here. Every target says what it does, installs what it lacks, and may be run again.

CARGO  ?= cargo
PREFIX ?= /usr/local
TARGET := $(or $(CARGO_TARGET_DIR),target)
ARM    ?= 2

export CARGO_TERM_COLOR ?= auto

.DEFAULT_GOAL := help
.PHONY: help setup build demo test fuzz bench bench-quick lint docs install clean

help: ## list the targets
	@awk -F ':.*## ' '/^[a-z-]+:.*## /{ printf "make %-12s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

setup: ## install missing Debian packages (needs root only if one is missing)
	@.ci/setup

build: setup ## build the release binaries
	$(CARGO) build --release --locked

demo: build ## show a client, the balancer and two nginx servers in network namespaces; ARM=1: one-arm; NAT=1: a NAT gateway
	@DPNAT_BIN=$(TARGET)/release tests/demo$(if $(NAT),-nat).sh $(ARM)

# The crates with debug assertions, and fuzzed for a little; then the binaries that users get, end to end.
test: setup ## run all tests: crates, EAL, end to end in network namespaces (root)
	$(CARGO) test --workspace --exclude dpnat --locked --no-fail-fast
	@tests/fuzz/run.sh
	$(CARGO) test --package dpnat --release --locked --no-fail-fast

fuzz: setup ## fuzz parser, path, API and configuration, FUZZ_SECONDS (10) each
	@tests/fuzz/run.sh

bench: ## measure, and write target/bench/report.json, report.md and the plots
	@.ci/setup bench
	@benches/run.sh

bench-quick: ## the same in about a minute, with more noise
	@.ci/setup bench
	@benches/run.sh --quick

lint: setup ## formatting, clippy with warnings denied, licences and banned crates
	$(CARGO) fmt --all --check
	$(CARGO) clippy --workspace --all-targets --locked -- -D warnings
	@command -v cargo-deny >/dev/null || $(CARGO) install cargo-deny --locked
	$(CARGO) deny --locked check licenses bans sources

docs: ## build the book into target/book and the API documentation into target/doc
	@command -v mdbook >/dev/null || $(CARGO) install mdbook --locked
	mdbook build docs
	$(CARGO) doc --workspace --no-deps --locked

install: build ## install under PREFIX (default /usr/local): binaries, man pages, units, sample configuration
	install -D -m 755 $(TARGET)/release/dpnatd $(DESTDIR)$(PREFIX)/sbin/dpnatd
	install -D -m 755 $(TARGET)/release/dpctl $(DESTDIR)$(PREFIX)/bin/dpctl
	install -D -m 755 $(TARGET)/release/dptoa $(DESTDIR)$(PREFIX)/sbin/dptoa
	install -d $(DESTDIR)$(PREFIX)/libexec/dpnat
	ln -sf ../../bin/dpctl $(DESTDIR)$(PREFIX)/libexec/dpnat/ipvsadm
	ln -sf ../../bin/dpctl $(DESTDIR)$(PREFIX)/libexec/dpnat/dpip
	install -d $(DESTDIR)$(PREFIX)/share && cp -R $(TARGET)/release/share/. $(DESTDIR)$(PREFIX)/share
	install -d $(DESTDIR)$(PREFIX)/lib/systemd/system $(DESTDIR)/etc/dpnat
	for unit in dpnatd dptoa; do sed 's|/usr/local/|$(PREFIX)/|' conf/$$unit.service \
	  > $(DESTDIR)$(PREFIX)/lib/systemd/system/$$unit.service || exit 1; done
	test -e $(DESTDIR)/etc/dpnat/dpnat.yaml || \
	  install -m 640 conf/dpnat.yaml $(DESTDIR)/etc/dpnat/dpnat.yaml
	test -e $(DESTDIR)/etc/dpnat/balancers || \
	  install -m 644 conf/balancers $(DESTDIR)/etc/dpnat/balancers

clean: ## remove all that was built
	$(CARGO) clean
