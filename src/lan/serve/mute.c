/* See mute.h. */
#include "lan/serve/mute.h"

#include <string.h>
#include <sys/socket.h>

#include "base/bytes.h"

#define FILTER_MAX 64u

/* What of a packet is compared with what of a key. */
struct part {
	unsigned size; /* bytes: 2 or 4 */
	unsigned at;   /* in the packet, for the filter */
	unsigned from; /* in the key */
};

static const struct {
	unsigned len, parts;
	struct part part[4];
} kinds[] = {
	[MUTE_MAC] = { 6, 2, { { 4, 8, 2 }, { 2, 6, 0 } } },
	[MUTE_IP4] = { 4, 1, { { 4, (unsigned)SKF_NET_OFF + 12, 0 } } },
	[MUTE_IP6] = { 16,
		       4,
		       { { 4, (unsigned)SKF_NET_OFF + 20, 12 },
			 { 4, (unsigned)SKF_NET_OFF + 16, 8 },
			 { 4, (unsigned)SKF_NET_OFF + 12, 4 },
			 { 4, (unsigned)SKF_NET_OFF + 8, 0 } } },
};

static const struct sock_filter everybody[] = { BPF_STMT(BPF_RET | BPF_K, 0xffffffff) };

void mute_init(struct mute *m, int fd, enum mute_kind kind, const struct sock_filter *filter, unsigned len)
{
	*m = (struct mute){ .fd = fd,
			    .kind = kind,
			    .filter = filter ? filter : everybody,
			    .filter_len = filter ? len : ARRAY_LEN(everybody) };
}

/* Packets of that source are dropped, others go on behind it. */
static unsigned put_source(struct sock_filter *code, enum mute_kind kind, const uint8_t *key)
{
	unsigned n = 0, parts = kinds[kind].parts;

	for (unsigned k = 0; k < parts; k++) {
		const struct part *p = &kinds[kind].part[k];
		unsigned size = p->size == 4 ? BPF_W : BPF_H;
		uint32_t value = p->size == 4 ? ld_be32(key + p->from) : ld_be16(key + p->from);
		uint8_t behind = (uint8_t)(2 * (parts - k) - 1);

		code[n++] = (struct sock_filter)BPF_STMT(BPF_LD | BPF_ABS | size, p->at);
		code[n++] = (struct sock_filter)BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, value, 0, behind);
	}
	code[n++] = (struct sock_filter)BPF_STMT(BPF_RET | BPF_K, 0);
	return n;
}

static void set_filter(struct mute *m)
{
	struct sock_filter code[MUTE_SOURCES * 9 + FILTER_MAX];
	struct sock_fprog program = { .filter = code };
	unsigned n = 0;

	for (unsigned k = 0; k < MUTE_SOURCES; k++)
		if (m->source[k].count >= MUTE_AFTER)
			n += put_source(code + n, m->kind, m->source[k].key);
	if (m->filter_len > FILTER_MAX)
		return;
	memcpy(code + n, m->filter, m->filter_len * sizeof(*code));
	program.len = (unsigned short)(n + m->filter_len);
	m->muted = n;
	setsockopt(m->fd, SOL_SOCKET, SO_ATTACH_FILTER, &program, sizeof(program));
}

/* The frequent ones of a stream, in bounded space: Misra and Gries. */
void mute_note(struct mute *m, const void *key)
{
	unsigned len = kinds[m->kind].len, place = MUTE_SOURCES;

	for (unsigned k = 0; k < MUTE_SOURCES; k++) {
		if (!m->source[k].count) {
			place = k;
		} else if (!memcmp(m->source[k].key, key, len)) {
			if (++m->source[k].count != MUTE_AFTER)
				return;
			m->times++;
			set_filter(m);
			return;
		}
	}
	if (place < MUTE_SOURCES) {
		memcpy(m->source[place].key, key, len);
		m->source[place].count = 1;
		return;
	}
	for (unsigned k = 0; k < MUTE_SOURCES; k++)
		if (m->source[k].count < MUTE_AFTER)
			m->source[k].count--;
}

void mute_tick(struct mute *m)
{
	for (unsigned k = 0; k < MUTE_SOURCES; k++)
		m->source[k].count = 0;
	if (m->muted)
		set_filter(m);
}
