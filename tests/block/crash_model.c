/* See crash_model.h. */
#include "crash_model.h"

#include <stdlib.h>

#include "base/bytes.h"

unsigned model_begin(struct model *m, enum op_kind kind, uint64_t offset, uint64_t bytes, uint64_t place)
{
	if (m->n == OPS)
		abort();
	m->ops[m->n] = (struct op){ .kind = kind,
				    .offset = offset,
				    .bytes = bytes,
				    .begun = ++m->now,
				    .ended = UINT32_MAX,
				    .from = place,
				    .until = UINT64_MAX };
	return m->n++;
}

void model_end(struct model *m, unsigned op, uint64_t place)
{
	m->ops[op].ended = ++m->now;
	m->ops[op].until = place;
}

void model_fill(uint8_t *sector, unsigned op, uint64_t number)
{
	for (unsigned i = 0; i < SECTOR / 8; i++)
		st_le64(sector + 8 * i, (uint64_t)(op + 1) << 32 | number);
}

int64_t model_read(const struct model *m, const uint8_t *sector, uint64_t number)
{
	uint64_t first = ld_le64(sector), value = first >> 32;

	for (unsigned i = 8; i < SECTOR; i += 8)
		if (ld_le64(sector + i) != first)
			return -1;
	return !first || (value <= m->n && (first & 0xffffffffu) == number) ? (int64_t)value : -1;
}

unsigned model_last_flush(const struct model *m, uint64_t place)
{
	unsigned best = OPS;

	for (unsigned i = 0; i < m->n; i++)
		if (m->ops[i].kind == FLUSH && m->ops[i].until <= place &&
		    (best == OPS || m->ops[i].begun > m->ops[best].begun))
			best = i;
	return best;
}

/* What operation `i` has made of a sector; false: it left it alone. */
static bool made(const struct model *m, unsigned i, uint64_t at, unsigned *value)
{
	const struct op *o = &m->ops[i];

	if (o->kind == APPLY) {
		*value = model_value_before(m, o->before, at);
		return true;
	}
	if (o->kind == RESIZE && at >= (o->bytes < o->offset ? o->bytes : o->offset)) {
		*value = 0; /* cut off, or new */
		return true;
	}
	if ((o->kind != WRITE && o->kind != ZERO) || at < o->offset || at - o->offset >= o->bytes)
		return false;
	*value = o->kind == WRITE ? i + 1 : 0;
	return true;
}

unsigned model_value_before(const struct model *m, unsigned op, uint64_t at)
{
	unsigned value = 0;

	for (unsigned i = 0; i < op; i++)
		made(m, i, at, &value);
	return value;
}

bool model_may_hold(const struct model *m, uint64_t at, unsigned value, uint64_t place, unsigned flush)
{
	unsigned flushed = 0, v;
	bool ok = false;

	for (unsigned i = 0; i < m->n; i++) {
		const struct op *o = &m->ops[i];

		if (o->from > place || !made(m, i, at, &v))
			continue;
		if (flush < OPS && o->ended < m->ops[flush].begun)
			flushed = v;
		else
			ok |= v == value;
	}
	return ok || value == flushed;
}

bool model_size_fits(const struct model *m, uint64_t size, uint64_t place)
{
	uint64_t last = m->first_size;
	bool ok = false;

	for (unsigned i = 0; i < m->n; i++) {
		const struct op *o = &m->ops[i];

		if (o->kind != RESIZE || o->from > place)
			continue;
		ok |= o->bytes == size;
		if (o->until <= place) {
			last = o->bytes;
			ok = false;
		}
	}
	return ok || size == last;
}
