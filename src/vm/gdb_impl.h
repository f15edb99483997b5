/* Between gdb.c, the connection, and gdb_commands.c, what it is about. Loop thread. */
#ifndef VIREO_VM_GDB_IMPL_H
#define VIREO_VM_GDB_IMPL_H

#include "base/loop.h"
#include "cpu/debug.h"
#include "vm/gdb.h"

#define GDB_PACKET_MAX 8192u

struct gdb {
	struct vm *vm;
	int fd, client; /* -1: none */
	struct accepter *accepter;
	struct loop_fd *client_watch;
	char *path; /* of the socket that goes with it, or NULL */

	bool holding; /* the machine stands still for the debugger */
	bool waiting; /* it runs, and the debugger waits for a stop */
	bool broken, leaving, no_ack;
	bool reasons;	       /* it takes errors that say what is wrong */
	unsigned cpu, run_cpu; /* which registers and memory are about, and what an old-style step is */

	enum { GDB_BETWEEN, GDB_DATA, GDB_SUM } where;
	char in[GDB_PACKET_MAX + 1], sum[2];
	size_t in_len, sum_len;
	char out[GDB_PACKET_MAX + 8]; /* the last packet, after its '$' */
	size_t out_len;

	struct cpu_debug points; /* the same for all vCPUs */
	char description[32768];
};

/* --- gdb_commands.c --- */
void gdb_begin(struct gdb *g); /* an empty answer */
/* Answer the packet in `in`. False: nothing is to be sent now. */
bool gdb_execute(struct gdb *g);
void gdb_say_stop(struct gdb *g, const struct debug_stop *s);
void gdb_say_signal(struct gdb *g, unsigned signal);
void gdb_say_exit(struct gdb *g, int status);
/* All points go. */
void gdb_forget(struct gdb *g);

/* --- gdb.c --- */
void gdb_stop(struct gdb *g);
int gdb_resume(struct gdb *g, struct err *err);
/* Fill in the answer if a vCPU has stopped, and hold the machine. */
bool gdb_report(struct gdb *g);
void gdb_interrupt(struct gdb *g);

#endif
