/*
 * A walk over the fields of a state, for tests that change or compare them one by one. Any thread.
 */
#ifndef VIREO_TESTS_CPU_SCALARS_H
#define VIREO_TESTS_CPU_SCALARS_H

#include "base/state.h"

/* `top` is the field of the outermost object that `f` is part of, `at` the offset of the scalar in that object. */
typedef void scalar_fn(void *opaque, const struct state_field *top, const struct state_field *f, size_t at);

/* Each scalar of an object of this table, from the offset `base` on; `top` is NULL. */
static inline void each_scalar(const struct state_desc *d, const struct state_field *top, size_t base, scalar_fn *fn,
			       void *opaque)
{
	for (const struct state_field *f = d->fields; f->type != STATE_END; f++) {
		for (uint32_t n = 0; n < f->count; n++) {
			size_t at = base + f->offset + n * (size_t)f->size;

			if (f->type == STATE_STRUCT)
				each_scalar(f->sub, top ? top : f, at, fn, opaque);
			else
				fn(opaque, top ? top : f, f, at);
		}
	}
}

#endif
