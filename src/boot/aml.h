/*
 * A writer of AML, the byte code of ACPI definition blocks (ACPI 6.4, chapter 20). Packages are opened and
 * closed like brackets; lengths are filled in when they close. Errors (out of space) stick and are
 * reported by aml_ok(). One thread.
 */
#ifndef VIREO_BOOT_AML_H
#define VIREO_BOOT_AML_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define AML_DEPTH 8

struct aml {
	uint8_t *buf;
	size_t len, size;
	size_t open[AML_DEPTH]; /* where the lengths go */
	unsigned depth;
	bool failed;
};

static inline bool aml_ok(const struct aml *a)
{
	return !a->failed && !a->depth;
}

void aml_bytes(struct aml *a, const void *data, size_t len);
void aml_byte(struct aml *a, uint8_t b);
void aml_int(struct aml *a, uint64_t v);
void aml_string(struct aml *a, const char *s);
/* "PCI0", "_SB_": four characters, padded with '_'; a leading '\' is kept. */
void aml_name_string(struct aml *a, const char *name);
void aml_eisaid(struct aml *a, const char *id); /* "PNP0A03" as an integer */

void aml_end(struct aml *a); /* closes the innermost of the following */
void aml_scope(struct aml *a, const char *name);
void aml_device(struct aml *a, const char *name);
void aml_package(struct aml *a, uint8_t elements);
/* Name(name, ...): the object follows. */
void aml_name(struct aml *a, const char *name);
void aml_name_int(struct aml *a, const char *name, uint64_t v);
void aml_name_string_value(struct aml *a, const char *name, const char *value);

/* Resource templates: open, descriptors, close. ACPI 6.4, 6.4. */
void aml_resources(struct aml *a, const char *name);
void aml_resources_end(struct aml *a);
void aml_res_io(struct aml *a, uint16_t base, uint8_t len);
void aml_res_irq(struct aml *a, unsigned irq);	     /* edge, active high */
void aml_res_interrupt(struct aml *a, uint32_t gsi); /* extended, level, active high */
void aml_res_memory32(struct aml *a, uint32_t base, uint32_t len);
void aml_res_bus_range(struct aml *a, uint16_t first, uint16_t last);
void aml_res_io_window(struct aml *a, uint16_t first, uint16_t last);
void aml_res_memory_window(struct aml *a, uint64_t first, uint64_t last);

#endif
