/*
 * SDM vol. 3, 8.1.3: a processor stores code, then says so in memory; another one that learns of it and serializes
 * executes the new code. The other one decodes the page (here: a hook does, at a store to a third page, when another
 * vCPU's thread could) between the first access of a group that shares a look into the TLB and the group's stores.
 */
#include "rig.h"

#include <string.h>

#include "base/bytes.h"
#include "cpu/x86/interp.h"

#define CODE_AT	 0x300000u /* code 100h from there on, the word that says that it is there at 108h */
#define OTHER_AT 0x310000u /* has code elsewhere */

static struct rig r;
static struct mem_window code_page, other;
static unsigned stores, told, early;

static void hook(void *opaque, uint64_t page, uint32_t offset, uint32_t len)
{
	if (page == other.page_index && ++stores == 5)
		x86_code_track(tiny_cpu(&r.vm)->vm->code, code_page.page_index, 0x100, 8);
	if (page == code_page.page_index && !told++)
		early += !memcmp(code_page.host + 0x100, code_page.host + 0x108, 4);
}

static void code_is_new_before_it_is_said_so(void **state)
{
	/* 1: inc ecx; mov eax, [rbx + 16]; mov [rsi], ecx; mov [rbx], ecx; mov [rbx + 8], ecx; dec r12d; jnz 1b; hlt */
	static const uint8_t code[] = { 0xff, 0xc1, 0x8b, 0x43, 16,   0x89, 0x0e, 0x89, 0x0b,
					0x89, 0x4b, 8,	  0x41, 0xff, 0xcc, 0x75, 0xef, 0xf4 };

	rig_new_on(&r, RIG_LONG, tiny_software(), config_new());
	assert_true(mem_window(r.vm.mem, gpa(CODE_AT), &code_page) && mem_window(r.vm.mem, gpa(OTHER_AT), &other));
	r.s.gpr[X86_RBX] = CODE_AT + 0x100;
	r.s.gpr[X86_RSI] = OTHER_AT;
	r.s.gpr[X86_RCX] = 0;
	r.s.gpr[12] = 50;
	mem_code_set(r.vm.mem, other.page_index);
	mem_set_code_hook(r.vm.mem, hook, NULL);
	rig_exec(&r, code, sizeof(code));
	assert_true(told > 0);
	assert_int_equal(early, 0);
	rig_free(&r);
}

int main(void)
{
	const struct CMUnitTest tests[] = { cmocka_unit_test(code_is_new_before_it_is_said_so) };

	return cmocka_run_group_tests(tests, NULL, NULL);
}
