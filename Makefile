# A thin front for meson and the scripts: see README.md.
BUILD ?= build
PREFIX ?= /usr/local

all: $(BUILD)/build.ninja
	@ninja -C $(BUILD) --quiet

$(BUILD)/build.ninja:
	@scripts/setup run
	@meson setup $(BUILD) --prefix $(PREFIX) >/dev/null

# Boot a guest in this terminal; without one, print a report from inside it.
run: all
	@scripts/run $(BUILD)/vireo

check:
	@scripts/setup run check
	@scripts/check

# Slower: every boot, sanitizer and suite.
check-all:
	@scripts/setup run check
	@scripts/check --all

bench: all
	@scripts/bench $(BUILD)/vireo

fuzz:
	@scripts/setup run check
	@scripts/fuzz

install: all
	@meson install -C $(BUILD) --no-rebuild --quiet

.PHONY: all run check check-all bench fuzz install
