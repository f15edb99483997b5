/*
 * One CPU on KVM for each test of a program, which skips where there is none: setup() and teardown() are its fixtures.
 */
#ifndef VIREO_TESTS_CPU_KVM_RIG_H
#define VIREO_TESTS_CPU_KVM_RIG_H

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <stdlib.h>

#include "cpu/kvm/kvm.h"
#include "tiny_vm.h"

/* What its probe says, once setup() was called. */
static bool kvm_is_fast __attribute__((unused));

static int setup(void **state)
{
	struct engine_probe p = { 0 };
	struct tiny_vm *t;

	engine_kvm.probe(&p);
	kvm_is_fast = p.fast;
	if (!p.available) {
		print_message("no KVM here: %s\n", p.why);
		*state = NULL;
		return 0;
	}
	t = malloc(sizeof(*t));
	tiny_vm_new_on(t, &engine_kvm);
	*state = t;
	return 0;
}

static int teardown(void **state)
{
	if (*state) {
		tiny_vm_free(*state);
		free(*state);
	}
	return 0;
}

static struct tiny_vm *vm_of(void **state)
{
	if (!*state)
		skip();
	return *state;
}

#endif
