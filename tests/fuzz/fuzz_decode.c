/* The instruction decoder: any bytes in any mode. */
#include <stdlib.h>

#include "cpu/x86/insn.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	static const struct x86_decode_mode modes[] = { { 16, true }, { 16, false }, { 32, false }, { 64, false } };
	struct x86_insn insn;

	if (size < 2)
		return 0;
	x86_decode_init();
	enum x86_decode_result r = x86_decode(data + 1, size - 1, modes[data[0] & 3], &insn, NULL);
	if (r == X86_DECODE_OK && (insn.len == 0 || insn.len > 15 || insn.len > size - 1 || !insn.fn))
		abort();
	if (r == X86_DECODE_SHORT && size - 1 >= 15)
		abort();
	return 0;
}
