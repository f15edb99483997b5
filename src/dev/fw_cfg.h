/*
 * QEMU's firmware configuration device: named blobs that firmware and kernels read through ports 510h-517h.
 * docs/specs/fw_cfg of QEMU. Items are added before vCPUs run.
 */
#ifndef VIREO_DEV_FW_CFG_H
#define VIREO_DEV_FW_CFG_H

#include <stddef.h>

#include "bus/bus.h"
#include "bus/device.h"
#include "mem/mem.h"

enum fw_cfg_key {
	FW_CFG_SIGNATURE = 0x00,
	FW_CFG_ID = 0x01,
	FW_CFG_UUID = 0x02,
	FW_CFG_RAM_SIZE = 0x03,
	FW_CFG_NB_CPUS = 0x05,
	FW_CFG_BOOT_MENU = 0x0e,
	FW_CFG_MAX_CPUS = 0x0f,
	FW_CFG_FILE_DIR = 0x19,
	FW_CFG_FILE_FIRST = 0x20,
	FW_CFG_IRQ0_OVERRIDE = 0x8002 /* of x86: the timer is at pin 2 of the I/O APIC */
};

/* A part of a file. */
struct fw_cfg_part {
	int fd;
	uint64_t off;
	uint32_t len;
};

struct device *fw_cfg_new(struct bus *bus, struct mem_space *mem, struct err *err);
/* A copy of `data` under a well-known key. */
int fw_cfg_add(struct device *d, uint16_t key, const void *data, size_t len, struct err *err);
/* What is in a file of the host, whose descriptor is lent. If that has become shorter, a read by DMA is an error. */
int fw_cfg_add_part(struct device *d, uint16_t key, struct fw_cfg_part part, struct err *err);
/* A copy of `data` as a file of the directory. Names are at most 55 bytes. */
int fw_cfg_add_file(struct device *d, const char *name, const void *data, size_t len, struct err *err);

/*
 * Files that are made when the guest first looks at one after a reset, for they depend on what its firmware has done so
 * far: `make` puts their contents by fw_cfg_remake(), in a vCPU's thread with the lock held. Each has its length from
 * the beginning (`data`, `len`), and may be shorter later: zeros follow. fw_cfg_set_make() comes first.
 */
void fw_cfg_set_make(struct device *d, void (*make)(void *opaque, struct device *d), void *opaque);
int fw_cfg_add_made(struct device *d, const char *name, const void *data, size_t len, struct err *err);
/* False: it is none of those, or has become longer. */
bool fw_cfg_remake(struct device *d, const char *name, const void *data, size_t len);

#endif
