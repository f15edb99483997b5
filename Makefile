# A thin front for meson and the scripts: see README.md.
BUILD ?= build
PREFIX ?= /usr/local

all: $(BUILD)/build.ninja
	@ninja -C $(BUILD)

$(BUILD)/build.ninja:
	@scripts/setup run
	@meson setup $(BUILD) --prefix $(PREFIX) >/dev/null

check:
	@scripts/setup run check
	@scripts/check

.PHONY: all check
