/*
 * A whole machine with a few bytes of guest code, driven over its control socket. Each test program has a run
 * directory of its own. Main thread of the test; the machine runs in another.
 */
#ifndef VIREO_TESTS_VM_MACHINE_H
#define VIREO_TESTS_VM_MACHINE_H

#include <jansson.h>
#include <pthread.h>
#include <stdbool.h>
#include <stdint.h>

#include "base/config.h"
#include "vm/vm.h"

struct machine {
	struct config *config;
	struct vm *vm;
	pthread_t thread;
	int status;	/* of vm_run() */
	struct err err; /* if that is -1 */
	int qmp;
	char in[65536]; /* from the control socket */
	size_t in_len;
};

/* Guest code: 32-bit, flat, loaded at 1 MiB + 32, interrupts off. */
struct code {
	const char *bytes;
	size_t len;
};
#define CODE(s) (&(const struct code){ s, sizeof(s) - 1 })

#define COUNTER 0x200000u /* where CODE_COUNT counts */
/* inc dword [COUNTER]; out 80h, al; jmp to the first */
#define CODE_COUNT CODE("\xff\x05\x00\x00\x20\x00\xe6\x80\xeb\xf6")
/* hlt; jmp to it */
#define CODE_HALT CODE("\xf4\xeb\xfd")
/* mov al, 6; mov dx, cf9h; out dx, al; jmp to itself */
#define CODE_RESET CODE("\xb0\x06\x66\xba\xf9\x0c\xee\xeb\xfe")
/* lidt [COUNTER], which is zero; int3 */
#define CODE_TRIPLE_FAULT CODE("\x0f\x01\x1d\x00\x00\x20\x00\xcc")
/* mov eax, d0000000h; jmp eax: no RAM is there */
#define CODE_NOWHERE CODE("\xb8\x00\x00\x00\xd0\xff\xe0")
/* mov ax, 3400h; mov dx, 604h; out dx, ax; jmp to itself */
#define CODE_POWER_OFF CODE("\x66\xb8\x00\x34\x66\xba\x04\x06\x66\xef\xeb\xfe")
/*
 * mov dword [8000h], 0006ff66h; mov dword [8004h], 00f9eb90h (inc dword [9000h]; jmp to it, in real mode);
 * mov dword [fee00300h], c4500h (INIT to the others); mov dword [fee00300h], c4608h (SIPI);
 * then as CODE_COUNT
 */
#define AP_COUNTER 0x9000u
#define CODE_TWO                                                                                                       \
	CODE("\xc7\x05\x00\x80\x00\x00\x66\xff\x06\x00\xc7\x05\x04\x80\x00\x00\x90\xeb\xf9\x00"                        \
	     "\xc7\x05\x00\x03\xe0\xfe\x00\x45\x0c\x00\xc7\x05\x00\x03\xe0\xfe\x08\x46\x0c\x00"                        \
	     "\xff\x05\x00\x00\x20\x00\xe6\x80\xeb\xf6")

/* Of the whole program: a temporary directory, XDG_RUNTIME_DIR. For cmocka's group functions. */
int machines_begin(void **state);
int machines_end(void **state);
/* A path in the temporary directory; valid until the 16th next call. */
const char *machines_path(const char *file);

/* Fails the test on an error. `keys`: "a=b c=d"; defaults: 16 MiB, no serial port, no rng. */
void machine_new(struct machine *m, const struct code *code, const char *keys);
struct config *machine_config(const struct code *code, const char *keys);
/* Run it, with a client of its control socket attached. */
void machine_start(struct machine *m);
/* The "return" of a command; fails the test on an error. The caller's. */
json_t *machine_execute(struct machine *m, const char *command, const char *arguments);
void machine_do(struct machine *m, const char *command);
/* The description of the error that the command gives. The caller's. */
char *machine_refuses(struct machine *m, const char *command, const char *arguments);
/* It has `part` in it. */
void machine_must_refuse(struct machine *m, const char *command, const char *arguments, const char *part);
bool machine_is(struct machine *m, const char *status);
/* The next event, which must be this one. The caller's. */
json_t *machine_event(struct machine *m, const char *name);
/* A message of any kind. */
json_t *machine_message(struct machine *m);
/* Wait for its end; the status of vm_run(). Frees. */
int machine_end(struct machine *m);
int machine_quit(struct machine *m);

uint32_t machine_word(struct machine *m, uint64_t addr);
/* Wait until the guest has changed the word. */
void machine_wait_progress(struct machine *m, uint64_t addr);

#endif
