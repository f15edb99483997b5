/* The virtio block device (virtio 1.2 section 5.2) over a block node. */
#ifndef VIREO_VIRTIO_BLK_H
#define VIREO_VIRTIO_BLK_H

#include "block/block.h"
#include "virtio/virtio.h"

#define VIRTIO_BLK_MAX_QUEUES 4
#define VIRTIO_BLK_ID_LEN     20 /* bytes of a serial number that the guest sees */

struct virtio_blk_config {
	struct mem_space *mem;
	struct block_node *node; /* ownership is taken, also on error */
	const char *serial;	 /* NULL: none; at most VIRTIO_BLK_ID_LEN characters */
	unsigned queues;	 /* 1 to VIRTIO_BLK_MAX_QUEUES; 0: 1 */
	unsigned queue_size;	 /* a power of two up to VRING_MAX_SIZE; 0: 256 */
	bool write_through;	 /* the driver finds a write cache that is off, which it may put on */
	bool accept_changed;	 /* a state may be loaded over an image that was written since */
};

/*
 * NULL with a line in `err`. Requests run in the node's I/O thread. To pause the VM when the disk is full
 * set the node's event handler before; saving must then be refused while block_has_stalled(node).
 */
struct virtio_dev *virtio_blk_new(const struct virtio_blk_config *c, struct err *err);
/* The node has another size: the driver is told. While no request is in flight, not the I/O thread. */
void virtio_blk_resized(struct virtio_dev *d);

#endif
