/* Virtqueues: rings, descriptors and indirect tables of any content, split and packed. */
#include <stdlib.h>
#include <string.h>

#include "base/bytes.h"
#include "vring/vring.h"

#define MEMORY 65536u
static uint8_t memory[MEMORY];

static bool map(void *opaque, uint64_t addr, uint32_t len, bool device_writes, struct vring_map *m)
{
	if (!range_within(addr, len, MEMORY))
		return false;
	*m = (struct vring_map){ memory + addr, addr, len, device_writes };
	return true;
}
static void unmap(void *opaque, struct vring_map *m, uint32_t written)
{
	if (written > m->len)
		abort();
}
static void touched(void *opaque, struct vring_map *m, uint32_t off, uint32_t len)
{
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	static const struct vring_mem mem = { map, unmap, touched, NULL };
	struct vring_setup s = { .indirect = true };
	struct vring *vr;
	struct vring_chain *c;
	unsigned chains = 0;

	if (size < 8)
		return 0;
	memset(memory, 0, sizeof(memory));
	memcpy(memory, data + 8, size - 8 < 0x3000 ? size - 8 : 0x3000);
	s.packed = data[0] & 1;
	s.event_idx = data[0] & 2;
	s.size = (uint16_t)(1u << (data[1] & 7));
	/* One behind the other: what a fuzzer tries at first is short. */
	s.desc = 0;
	s.driver = 16 * s.size;
	s.device = 0x3000;
	vring_setup_reset(&s);
	vr = vring_new(&mem);
	if (!vr || vring_start(vr, &s))
		goto out;
	while (chains++ < 300 && vring_pop(vr, &c, NULL) == VRING_CHAIN) {
		uint8_t b[256];
		struct iovec iov[4];
		size_t bytes;

		if (c->readable > MEMORY * (size_t)s.size || c->writable > MEMORY * (size_t)s.size)
			abort();
		vring_read(c, b, sizeof(b));
		vring_write_iov(c, 4096, iov, 4, &bytes);
		vring_write(c, b, sizeof(b));
		if (data[2] & 1 && chains % 3 == 0)
			vring_unpop(c);
		else
			vring_complete(c, 100);
		vring_should_interrupt(vr);
	}
out:
	if (vr)
		vring_free(vr);
	return 0;
}
