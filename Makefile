# A thin front for meson and the scripts: see README.md.
BUILD ?= build
PREFIX ?= /usr/local
export DESTDIR
# Progress is for people; the rest want errors only.
NINJA = ninja -C $(BUILD) $(shell [ -t 2 ] || echo --quiet)

all: $(BUILD)/build.ninja
	@$(NINJA)

$(BUILD)/build.ninja:
	@scripts/setup run
	@meson setup $(BUILD) --prefix $(PREFIX) >/dev/null

# Boot a guest in this terminal; without one, print a report from inside it.
run: all
	@scripts/run $(BUILD)/vireo

# make check STAGES="gcc guests" runs only those (scripts/check --list).
check:
	@scripts/setup run check cross
	@scripts/check $(STAGES)

# Slower: every boot, sanitizer and suite.
check-all:
	@scripts/setup run check cross nested
	@scripts/check --all $(STAGES)

# The hardware engine on a true KVM, which QEMU emulates: boots with one and two CPUs, both kinds of interrupt controller
# and without what KVM does by itself, and unit tests. A stage of check-all.
check-kvm:
	@scripts/setup run check nested
	@scripts/check --all kvm

# Everything, or make bench BENCH="boot hash gcc --runs 3" (scripts/bench --help).
bench: all
	@scripts/bench $(BUILD)/vireo $(BENCH)

# A guest that boots again and again with 1, 2 and 4 CPUs; one that is kept busy with timers, interrupts, page tables and
# modules. make boots ENDURE="--count 10", make soak ENDURE="--seconds 3600 --cpus 4" (scripts/endure --help).
boots soak: all
	@scripts/endure $@ $(BUILD)/vireo $(ENDURE)

# 2000 random disk images that vireo img and io write and QEMU's tools read, and the other way; make interchange
# INTERCHANGE="--count 100 --seed 5" (scripts/interchange --help). A stage of check-all.
interchange: all
	@scripts/setup run check
	@VIREO=$(BUILD)/vireo scripts/interchange $(INTERCHANGE)

# A minute for each harness, or make fuzz SECONDS=600.
fuzz:
	@scripts/setup run check
	@scripts/fuzz $(or $(SECONDS),60)

# Honours PREFIX and DESTDIR. The build is not run again when the prefix is the same, so that root leaves it alone.
install: all
	@grep -qx 'prefix = $(PREFIX)' $(BUILD)/meson-private/cmd_line.txt || \
		{ meson configure $(BUILD) -Dprefix=$(PREFIX) && $(NINJA); }
	@meson install -C $(BUILD) --no-rebuild --quiet

uninstall:
	@$(NINJA) uninstall

clean:
	@rm -rf build build-*

.PHONY: all run check check-all check-kvm bench boots soak fuzz interchange install uninstall clean
