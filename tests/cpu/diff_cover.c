/* See diff_cover.h. */
#include "diff_cover.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/bytes.h"

/* What a user program cannot compare with the host: the test that fails when the row is broken. */
static const struct {
	const char *name;     /* of the row */
	uint8_t map, op, ext; /* ext: as in struct x86_opdef */
	const char *test;
} directed[] = {
	{ "callf", X86_MAP_1, 0x9a, 0, "test_segments.c: call_gates_change_level_and_stack" },
	{ "jmpf", X86_MAP_1, 0xea, 0, "test_real.c: far_transfers_load_a_base" },
	{ "int1", X86_MAP_1, 0xf1, 0, "test_debug.c: software_interrupts_and_faults_are_not_stepped_over" },
	{ "sldt", X86_MAP_0F, 0x00, 1 + 0, "test_query.c: selectors_are_stored" },
	{ "str", X86_MAP_0F, 0x00, 1 + 1, "test_query.c: selectors_are_stored" },
	{ "sgdt", X86_MAP_0F, 0x01, 1 + 0, "test_query.c: tables_are_stored" },
	{ "sidt", X86_MAP_0F, 0x01, 1 + 1, "test_query.c: tables_are_stored" },
	{ "smsw", X86_MAP_0F, 0x01, 1 + 4, "test_query.c: the_machine_status_word_is_stored" },
	{ "rdtscp", X86_MAP_0F, 0x01, 1 + 7, "test_query.c: time_goes_on" },
	{ "rdpkru", X86_MAP_0F, 0x01, 1 + 5, "test_paging.c: pkru_is_read_and_written" },
	{ "wrpkru", X86_MAP_0F, 0x01, 1 + 5, "test_paging.c: pkru_is_read_and_written" },
	{ "rdrand", X86_MAP_0F, 0xc7, 1 + 6, "test_system.c: random_numbers_are_told_by_carry" },
	{ "rdseed", X86_MAP_0F, 0xc7, 1 + 7, "test_system.c: random_numbers_are_told_by_carry" },
	{ "rdpid", X86_MAP_0F, 0xc7, 1 + 7, "test_query.c: time_goes_on" },
	{ "rdtsc", X86_MAP_0F, 0x31, 0, "test_query.c: time_goes_on" },
	{ "vmcall", X86_MAP_0F, 0x01, 1 + 0, "test_query.c: hypercalls_answer" },
	{ "vmmcall", X86_MAP_0F, 0x01, 1 + 3, "test_query.c: hypercalls_answer" },
	{ "cpuid", X86_MAP_0F, 0xa2, 0, "test_system.c: cpuid_says_what_the_model_is" },
	{ "rsm", X86_MAP_0F, 0xaa, 0, "test_smm.c: everything_comes_back_in_every_mode" },
	{ "syscall", X86_MAP_0F, 0x05, 0, "test_segments.c: syscall_and_sysret" },
	{ "sysret", X86_MAP_0F, 0x07, 0, "test_segments.c: syscall_and_sysret" },
	{ "sysenter", X86_MAP_0F, 0x34, 0, "test_segments.c: sysenter_and_sysexit" },
	{ "sysexit", X86_MAP_0F, 0x35, 0, "test_segments.c: sysenter_and_sysexit" },
	{ "xgetbv", X86_MAP_0F, 0x01, 1 + 2, "test_xsave.c: xcr0_takes_what_the_model_has" },
	{ "xsetbv", X86_MAP_0F, 0x01, 1 + 2, "test_xsave.c: xcr0_takes_what_the_model_has" },
	{ "xsave", X86_MAP_0F, 0xae, 1 + 4, "test_xsave.c: xsave_writes_what_is_asked_for" },
	{ "xrstor", X86_MAP_0F, 0xae, 1 + 5, "test_xsave.c: xrstor_brings_it_back_or_initializes" },
	{ "xsaveopt", X86_MAP_0F, 0xae, 1 + 6, "test_xsave.c: components_in_their_initial_state_are_told" },
	{ "xsavec", X86_MAP_0F, 0xc7, 1 + 4, "test_xsave.c: components_in_their_initial_state_are_told" },
	{ "xsaves", X86_MAP_0F, 0xc7, 1 + 5, "test_xsave.c: supervisors_have_a_compacted_form_of_their_own" },
	{ "xrstors", X86_MAP_0F, 0xc7, 1 + 3, "test_xsave.c: supervisors_have_a_compacted_form_of_their_own" },
};

static const struct x86_opdef **seen;
static size_t seen_count;

static bool is_seen(const struct x86_opdef *d)
{
	for (size_t n = 0; n < seen_count; n++)
		if (seen[n] == d)
			return true;
	return false;
}

void diff_cover(const struct diff_block *b)
{
	for (unsigned n = 0; n < b->insns; n++) {
		const struct diff_insn *i = &b->insn[n];
		const struct x86_decode_mode mode = { diff_modes[b->mode].bits, false };
		const struct x86_opdef *d = NULL;
		struct x86_insn insn;

		if (x86_decode(b->bytes + DIFF_PAD + i->at, i->len, mode, &insn, &d) != X86_DECODE_OK || is_seen(d))
			continue;
		seen = realloc(seen, (seen_count + 1) * sizeof(*seen));
		if (!seen)
			abort();
		seen[seen_count++] = d;
	}
}

static bool is_directed(const struct x86_opdef *d, bool *used)
{
	for (size_t n = 0; n < ARRAY_LEN(directed); n++) {
		if (directed[n].map == d->map && directed[n].op == d->op && directed[n].ext == d->ext &&
		    !strcmp(directed[n].name, d->name)) {
			used[n] = true;
			return true;
		}
	}
	return false;
}

unsigned diff_cover_gaps(void)
{
	size_t count;
	const struct x86_opdef *const *rows = x86_decode_rows(&count), *last = NULL;
	bool used[ARRAY_LEN(directed)] = { false };
	unsigned gaps = 0;

	for (size_t n = 0; n < count; n++) {
		const struct x86_opdef *d = rows[n];
		bool form = is_seen(d), test = is_directed(d, used);

		if (form != test || d == last)
			continue;
		last = d;
		printf("%s: %s, map %u, opcode %02x, prefix %u, /%d, rm %d\n",
		       form ? "a form holds it, and it need not be in the list" : "no form and no test", d->name,
		       d->map, d->op, d->pfx, d->ext - 1, d->rm - 1);
		gaps++;
	}
	for (size_t n = 0; n < ARRAY_LEN(directed); n++) {
		if (used[n])
			continue;
		printf("in the list, but there is no such row: %s (%s)\n", directed[n].name, directed[n].test);
		gaps++;
	}
	return gaps;
}
