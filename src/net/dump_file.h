/*
 * The file of a capture: records of pcap's format, which a thread of its own writes: a disk that does not answer holds
 * up nobody else. Private to net/; the loop thread.
 */
#ifndef VIREO_NET_DUMP_FILE_H
#define VIREO_NET_DUMP_FILE_H

#include "net/net.h"

struct dump_file;

struct dump_file *dump_file_open(const struct net_dump_config *c, struct err *err);
/* A frame of `len` bytes, at this moment. Where too much waits for the disk it is lost, after a moment. */
void dump_file_add(struct dump_file *f, const struct iovec *iov, unsigned count, size_t len);
/* When all is written, or the disk has not taken it for seconds. */
void dump_file_close(struct dump_file *f);

#endif
