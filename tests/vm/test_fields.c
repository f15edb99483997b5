/*
 * Every field of a saved machine, changed: the state is refused with one line, or the machine that it makes can be run,
 * saved and ended. The checksums are made right, so this is what somebody could do who means harm.
 *
 * A part of the changes is tried by default; VIREO_FIELD_STRIDE=1 tries all of them.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "full.h"
#include "machine.h"
#include "stream.h"
#include "vm/impl.h"
#include "vm/save.h"

static char now[256]; /* what is being tried, for who reads the failure */
static char keys[1024];
static const char *path;
static struct stream good;

static void tell(int sig)
{
	(void)!write(2, now, strlen(now));
	(void)!write(2, "\n", 1);
	signal(sig, SIG_DFL);
	raise(sig);
}

static void make_disk(const char *file)
{
	int fd = open(file, O_RDWR | O_CREAT, 0600);

	assert_true(fd >= 0 && !ftruncate(fd, 1 << 20));
	close(fd);
}

static int begin(void **state)
{
	struct machine m;
	char args[256];

	if (machines_begin(state))
		return -1;
	signal(SIGSEGV, tell);
	signal(SIGABRT, tell);
	signal(SIGALRM, tell);
	make_disk(machines_path("disk0"));
	make_disk(machines_path("disk1"));
	snprintf(keys, sizeof(keys), FULL_KEYS " disk0.path=%s disk1.path=%s paused=on", machines_path("disk0"),
		 machines_path("disk1"));
	path = machines_path("state");
	machine_new(&m, CODE_TWO, keys);
	full_drive(m.vm);
	machine_start(&m);
	machine_do(&m, "cont");
	machine_wait_progress(&m, AP_COUNTER);
	machine_do(&m, "stop");
	snprintf(args, sizeof(args), "{\"uri\": \"file:%s\"}", path);
	json_decref(machine_execute(&m, "migrate", args));
	while (!machine_is(&m, "postmigrate"))
		usleep(1000);
	machine_quit(&m);
	stream_read(&good, path);
	return 0;
}

static int end(void **state)
{
	stream_free(&good);
	return machines_end(state);
}

/* On the machine's main loop: it has run since it was restored. */
static void live_a_little(void *opaque)
{
	struct vm *vm = opaque;
	struct err err;

	usleep(500);
	vm_pause(vm);
	vm_resume(vm, &err);
	vm_quit(vm, 0, "host-ui");
}

/* True if it was accepted. */
static bool try_state(void)
{
	struct config *c = machine_config(NULL, "name=full paused=off");
	struct err err = { "" };
	struct vm *vm;

	alarm(120); /* under a sanitizer on a busy host */
	vm = vm_restore(c, path, &err);
	if (vm) {
		loop_post(vm->loop, live_a_little, vm);
		vm_run(vm, &err);
		vm_free(vm);
	} else if (!*err.msg || strchr(err.msg, '\n')) {
		fail_msg("%s: '%s' is not one line", now, err.msg);
	}
	config_free(c);
	alarm(0);
	return vm;
}

static void the_machine_has_all_kinds_of_state(void **state)
{
	static const char *const sections[] = { "cpu-model",  "clock",	       "cpu-x86",	 "ioapic",
						"lapic",      "pit8254",       "rtc146818",	 "uart16550",
						"i440fx",     "virtio-blk",    "virtio-console", "virtio-net",
						"virtio-rng", "virtio-balloon" };

	for (size_t n = 0; n < sizeof(sections) / sizeof(sections[0]); n++) {
		bool found = false;

		for (size_t k = 0; k < good.field_count; k++)
			found |= !strncmp(good.fields[k].section, sections[n], strlen(sections[n]));
		if (!found)
			fail_msg("no section %s", sections[n]);
	}
	assert_true(good.field_count > 3000);
	stream_write(&good, path);
	assert_true(try_state());
}

/* Values that are wrong in different ways; those of arrays only for the ends and some in between. */
static uint64_t change(const struct field *f, unsigned kind)
{
	uint64_t v = stream_get(&good, f), ones = f->size == 8 ? ~0ull : (1ull << 8 * f->size) - 1;

	switch (kind) {
	case 0:
		return ones;
	case 1:
		return 0;
	case 2:
		return v ^ 1;
	case 3:
		return v + 1;
	case 4:
		return v ^ 1ull << (8 * f->size - 1);
	case 5:
		return v ^ 0x5555555555555555 * (uint64_t)(f->at | 1);
	default:
		return ones >> 1;
	}
}
#define KINDS 7

static void every_field_is_checked(void **state)
{
	const char *text = getenv("VIREO_FIELD_STRIDE");
	size_t stride = text ? strtoul(text, NULL, 10) : 199, accepted = 0, refused = 0, turn = 0;
	struct stream s;

	stream_parse(&s, good.data, good.len);
	for (size_t n = 0; n < s.field_count; n++) {
		const struct field *f = &s.fields[n];

		if (f->count > 8 && f->index && f->index != f->count - 1 && f->index % 13)
			continue;
		for (unsigned kind = 0; kind < KINDS; kind++) {
			uint64_t v = change(f, kind), old = stream_get(&good, f);

			if (turn++ % stride || v == old)
				continue;
			snprintf(now, sizeof(now), "%s %s %s[%u] = %#llx (was %#llx)", f->section, f->instance, f->name,
				 f->index, (unsigned long long)v, (unsigned long long)old);
			stream_put(&s, f, v);
			stream_seal(&s);
			stream_write(&s, path);
			if (try_state())
				accepted++;
			else
				refused++;
			stream_put(&s, f, old);
		}
	}
	printf("%zu changes were accepted, %zu refused\n", accepted, refused);
	assert_true(accepted > 20 && refused > 10);
	stream_free(&s);
}

/* Bytes of the stream's own structure: names, types, counts, ends. */
static void its_structure_is_checked(void **state)
{
	const char *text = getenv("VIREO_FIELD_STRIDE");
	unsigned tries = text ? 20000 / (unsigned)strtoul(text, NULL, 10) : 150, seed = 7;
	struct stream s;

	stream_parse(&s, good.data, good.len);
	for (unsigned n = 0; n < tries; n++) {
		size_t at = s.sections + (size_t)rand_r(&seed) % (s.len - 4 - s.sections);
		uint8_t old = s.data[at];

		if (n % 5 == 0)
			at = s.config + (size_t)rand_r(&seed) % s.config_len, old = s.data[at];
		s.data[at] = (uint8_t)rand_r(&seed);
		snprintf(now, sizeof(now), "byte %zu = %#x (was %#x)", at, s.data[at], old);
		stream_seal(&s);
		stream_write(&s, path);
		try_state();
		s.data[at] = old;
	}
	stream_free(&s);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(the_machine_has_all_kinds_of_state),
		cmocka_unit_test(every_field_is_checked),
		cmocka_unit_test(its_structure_is_checked),
	};

	return cmocka_run_group_tests(tests, begin, end);
}
