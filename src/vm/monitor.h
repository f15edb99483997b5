/* The monitor on a connection: a prompt, line editing, hmp.h's commands. Loop thread. */
#ifndef VIREO_VM_MONITOR_H
#define VIREO_VM_MONITOR_H

struct vm;
struct json_t;

/* One line's output, lines ended as QEMU ends them ("\r\n"); malloc()ed, NULL: no memory. `cpu` is the one meant. */
char *monitor_run(struct vm *vm, unsigned cpu, const char *line);

#endif
