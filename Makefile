# make try    see the firewall at work, in network namespaces of its own; TRY=--gate17: the tunnel, with a network of five nodes
# make test   everything that must hold
# make install, make uninstall   on this host, or below DESTDIR
# make deb, make rpm   a package in target/packages
# make bench  figures, side by side with other firewalls, name servers and tunnels
SHELL := /bin/bash
.SHELLFLAGS := -euo pipefail -c
.DEFAULT_GOAL := help

PROGRAMS := -p interceptor -p process-resolver -p policy -p dns -p gate17-entry -p api-gateway -p gate17-node -p cli
ifneq ($(shell id -u),0)
# Compiled by you, run by root: namespaces, rules and queues need it.
SUDO := sudo
export CARGO_TARGET_X86_64_UNKNOWN_LINUX_GNU_RUNNER := sudo -E
export CARGO_TARGET_AARCH64_UNKNOWN_LINUX_GNU_RUNNER := sudo -E
endif
# Below a DESTDIR nobody needs root.
SUDO_HERE := $(if $(DESTDIR),,$(SUDO:%=% -E))
export DESTDIR PREFIX PROGRAMS SYSTEMD ZSHDIR

.PHONY: help setup web try build install uninstall deb rpm test fmt lint programs previous unit docs licences bench

help:
	@sed -n 's/^# //;1,4p' Makefile

setup:
	@scripts/setup

# The web page of the API, into target/web: what is compiled after it has it in.
web: setup
	@scripts/web

# ── try ──
build: web
	cargo build --release --locked $(PROGRAMS)

try: build
	$(SUDO) target/release/portmaster try $(TRY)

# ── install ──
# Builds nothing, since root should not: `make build` first. DESTDIR, PREFIX and more: see scripts/install.
install:
	@$(SUDO_HERE) scripts/install

# All but /var/lib/portmaster; with PURGE=1 that too.
uninstall:
	@$(SUDO_HERE) scripts/uninstall $(if $(PURGE),--purge)

# ── packages ──
# Into target/packages.
deb: build
	@scripts/setup debhelper
	PROGRAMS=target/release OUT=target/packages debian/rules binary

rpm: build
	@scripts/setup rpm
	rpmbuild -bb --build-in-place --define "_topdir $(CURDIR)/target/rpm" --define "_rpmdir $(CURDIR)/target/packages" \
		--define "programs target/release" packaging/portmaster.spec

# ── test ──
test: web fmt lint programs previous unit docs licences

fmt:
	cargo fmt --all --check

lint:
	cargo clippy --workspace --all-targets --locked -- -D warnings

# Tests start them; cargo builds other packages' programs only when told to.
programs:
	cargo build --workspace --bins --locked

# The version before this one, which some tests run beside the current one.
previous: programs
	@scripts/previous

unit: programs previous
	if cargo nextest --version >/dev/null 2>&1; then cargo nextest run --workspace --locked; else cargo test --workspace --locked; fi

docs:
	RUSTDOCFLAGS="-D warnings" cargo doc --workspace --no-deps --locked --quiet

# The test `house` checks every dependency's licence by the same list; cargo-deny, where it is installed, knows more.
licences:
	if cargo deny --version >/dev/null 2>&1; then cargo deny --offline check licenses bans; fi

# ── bench ──
# Debian's packages are unpacked, not installed: they would start what is in them, here and now, in the machine's own namespace.
target/opensnitch:
	mkdir -p target/opensnitch.new
	cd target/opensnitch.new && apt-get download opensnitch && dpkg-deb --extract opensnitch_*.deb . && rm opensnitch_*.deb
	mv target/opensnitch.new target/opensnitch

target/peers/debian:
	mkdir -p target/peers/debian.new
	cd target/peers/debian.new && apt-get download tor stunnel4 && \
		for package in *.deb; do dpkg-deb --extract $$package .; done && rm *.deb
	mv target/peers/debian.new target/peers/debian

# As their authors ship them: these builds take minutes, once.
target/peers/bin/ssserver:
	CARGO_TARGET_DIR=target/peers-build cargo install --locked --quiet --root target/peers --no-default-features \
		--features local,server,local-tunnel,multi-threaded,aead-cipher --bin sslocal --bin ssserver shadowsocks-rust@1.25.0

target/peers/bin/hickory-dns:
	CARGO_TARGET_DIR=target/peers-build cargo install --locked --quiet --root target/peers --no-default-features \
		--features resolver,blocklist hickory-dns@0.26.3

bench:
	@scripts/setup libnetfilter-queue1 dnsperf libevent-2.1-7 libwrap0
	$(MAKE) --no-print-directory target/opensnitch target/peers/debian target/peers/bin/ssserver target/peers/bin/hickory-dns
	cargo build --release --locked $(PROGRAMS) -p gate17-node -p integration --bins
	cargo build --release --locked -p dns --example serve
	$(SUDO) target/release/bench
