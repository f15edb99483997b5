/*
 * A chain as a reader and a writer: cursors over its segments. The thread that owns the chain; no locks.
 * The driver can rewrite the bytes at any time, so nothing here looks at them twice.
 */
#include "base/bytes.h"
#include "base/shared.h"
#include "vring/vring.h"

/* The segments of one direction. */
struct span {
	const struct vring_map *seg;
	unsigned n;
	uint32_t total;
};

static struct span reader(const struct vring_chain *c)
{
	return (struct span){ c->seg, c->n_read, c->readable };
}

static struct span writer(const struct vring_chain *c)
{
	return (struct span){ c->seg + c->n_read, c->n_write, c->writable };
}

/* Move up to `len` bytes at `off`; returns how many there were. */
static size_t move(struct span s, size_t off, void *buf, size_t len, bool to_guest)
{
	size_t done = 0;

	if (off >= s.total)
		return 0;
	if (len > s.total - off)
		len = s.total - off;
	for (unsigned i = 0; i < s.n && done < len; i++) {
		if (off >= s.seg[i].len) {
			off -= s.seg[i].len;
			continue;
		}
		char *host = (char *)s.seg[i].host + off;
		size_t n = s.seg[i].len - off;

		if (n > len - done)
			n = len - done;
		if (to_guest)
			shared_copy(host, (char *)buf + done, n);
		else
			shared_copy((char *)buf + done, host, n);
		done += n;
		off = 0;
	}
	return done;
}

static unsigned view(struct span s, size_t off, size_t max_bytes, struct iovec *iov, unsigned max_iov, size_t *bytes)
{
	unsigned n = 0;

	*bytes = 0;
	for (unsigned i = 0; i < s.n && *bytes < max_bytes; i++) {
		if (off >= s.seg[i].len) {
			off -= s.seg[i].len;
			continue;
		}
		char *host = (char *)s.seg[i].host + off;
		size_t len = s.seg[i].len - off;

		if (len > max_bytes - *bytes)
			len = max_bytes - *bytes;
		if (n && (char *)iov[n - 1].iov_base + iov[n - 1].iov_len == host)
			iov[n - 1].iov_len += len;
		else if (n < max_iov)
			iov[n++] = (struct iovec){ host, len };
		else
			break;
		*bytes += len;
		off = 0;
	}
	return n;
}

static void wrote(struct vring_chain *c, size_t end)
{
	if (end > c->dirty_end)
		c->dirty_end = end;
}

size_t vring_read_at(const struct vring_chain *c, size_t off, void *buf, size_t len)
{
	return move(reader(c), off, buf, len, false);
}

size_t vring_write_at(struct vring_chain *c, size_t off, const void *buf, size_t len)
{
	size_t n = move(writer(c), off, (void *)buf, len, true);

	if (n)
		wrote(c, off + n);
	return n;
}

size_t vring_read(struct vring_chain *c, void *buf, size_t len)
{
	size_t n = vring_read_at(c, c->rpos, buf, len);

	c->rpos += n;
	return n;
}

size_t vring_write(struct vring_chain *c, const void *buf, size_t len)
{
	size_t n = vring_write_at(c, c->wpos, buf, len);

	c->wpos += n;
	return n;
}

size_t vring_read_left(const struct vring_chain *c)
{
	return c->readable - c->rpos;
}

size_t vring_write_left(const struct vring_chain *c)
{
	return c->writable - c->wpos;
}

unsigned vring_pieces(const struct vring_chain *c)
{
	return c->n_read > c->n_write ? c->n_read : c->n_write;
}

unsigned vring_read_iov(const struct vring_chain *c, size_t max_bytes, struct iovec *iov, unsigned max_iov,
			size_t *bytes)
{
	return view(reader(c), c->rpos, max_bytes, iov, max_iov, bytes);
}

unsigned vring_write_iov(struct vring_chain *c, size_t max_bytes, struct iovec *iov, unsigned max_iov, size_t *bytes)
{
	unsigned n = view(writer(c), c->wpos, max_bytes, iov, max_iov, bytes);

	wrote(c, c->wpos + *bytes);
	return n;
}

size_t vring_read_skip(struct vring_chain *c, size_t len)
{
	size_t n = len < vring_read_left(c) ? len : vring_read_left(c);

	c->rpos += n;
	return n;
}

size_t vring_write_skip(struct vring_chain *c, size_t len)
{
	size_t n = len < vring_write_left(c) ? len : vring_write_left(c);

	c->wpos += n;
	return n;
}

bool vring_write_piece(struct vring_chain *c, uint64_t *addr, uint32_t *len)
{
	struct span s = writer(c);
	uint32_t off = c->wpos;

	for (unsigned i = 0; i < s.n; i++) {
		if (off < s.seg[i].len) {
			*addr = s.seg[i].addr + off;
			*len = s.seg[i].len - off;
			c->wpos += *len;
			return true;
		}
		off -= s.seg[i].len;
	}
	return false;
}
