/*
 * Processor state for the ways a machine can start: what firmware or a boot loader would leave.
 * Fills plain data; any thread.
 */
#ifndef VIREO_CPU_X86_ENTRY_H
#define VIREO_CPU_X86_ENTRY_H

#include <stdint.h>

#include "cpu/x86/state.h"

/* 64-bit mode with flat segments: the Linux 64-bit boot protocol. `cr3` maps [0, 4 GiB) one to one. */
void x86_entry_long64(struct x86_state *s, uint64_t rip, uint64_t rsi, uint64_t cr3, uint64_t gdt_base,
		      uint16_t gdt_limit);
/* 32-bit flat protected mode without paging: PVH (ebx = start info) and multiboot (eax = magic, ebx = info). */
void x86_entry_flat32(struct x86_state *s, uint32_t eip, uint32_t eax, uint32_t ebx, uint64_t gdt_base,
		      uint16_t gdt_limit);

#endif
