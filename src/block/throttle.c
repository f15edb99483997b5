/* The filter `throttle` and its groups: see throttle.h. */
#include "block/throttle.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/timerfd.h>
#include <time.h>
#include <unistd.h>

#include "base/bytes.h"
#include "base/now.h"
#include "block/filter.h"

#define VALUE_MAX 1000000000000000ull
#define SECOND	  1000000000.0

enum { READS, WRITES, DIRECTIONS };

struct bucket {
	uint64_t avg, max; /* units per second: for ever, and in a burst */
	uint64_t burst;	   /* seconds that a burst may last */
	double level, burst_level;
};

/* As QEMU names them. */
static const char *const bucket_names[] = { "bps-total",  "bps-read",  "bps-write",
					    "iops-total", "iops-read", "iops-write" };
#define BUCKETS	 6u
#define FIRST_OP 3u

struct throttle_group {
	char *id;
	struct node_ctx *ctx;
	struct bucket b[BUCKETS];
	uint64_t op_size; /* a request counts once for each so many bytes; 0: once */
	int64_t leaked;	  /* when, ns */
	struct side {
		struct throttle_group *g;
		struct co_queue queue;
		unsigned waiting;
		int fd;
		struct loop_fd *watch;
		bool armed;
	} side[DIRECTIONS];
	struct throttle_group *next;
};

struct throttle {
	struct throttle_group *g;
};

/* --- how long to wait --- */

static double down(double level, double by)
{
	return level > by ? level - by : 0;
}

static void leak(struct throttle_group *g)
{
	int64_t now = now_ns();
	double passed = (double)(now - g->leaked) / SECOND;

	g->leaked = now;
	for (unsigned i = 0; i < BUCKETS; i++) {
		g->b[i].level = down(g->b[i].level, (double)g->b[i].avg * passed);
		if (g->b[i].burst > 1)
			g->b[i].burst_level = down(g->b[i].burst_level, (double)g->b[i].max * passed);
	}
}

/* Seconds until the bucket has room. */
static double wait_for(const struct bucket *b)
{
	double room = b->max ? (double)b->max * (double)b->burst : (double)b->avg / 10;
	double over;

	if (!b->avg)
		return 0;
	over = b->level - room;
	if (over > 0)
		return over / (double)b->avg;
	over = b->burst > 1 ? b->burst_level - (double)b->max / 10 : 0;
	return over > 0 ? over / (double)b->max : 0;
}

static bool concerns(unsigned bucket, unsigned side)
{
	return bucket % 3 == 0 || bucket % 3 == 1 + side;
}

/* Nanoseconds until a request may go. */
static int64_t must_wait(struct throttle_group *g, unsigned side)
{
	double most = 0;

	leak(g);
	for (unsigned i = 0; i < BUCKETS; i++) {
		double w = concerns(i, side) ? wait_for(&g->b[i]) : 0;

		most = w > most ? w : most;
	}
	return most > 0 ? (int64_t)(most * SECOND) + 1 : 0;
}

static void account(struct throttle_group *g, unsigned side, uint64_t bytes)
{
	double ops = g->op_size && bytes > g->op_size ? (double)bytes / (double)g->op_size : 1;

	for (unsigned i = 0; i < BUCKETS; i++) {
		double units = i < FIRST_OP ? (double)bytes : ops;

		if (!concerns(i, side))
			continue;
		g->b[i].level += units;
		if (g->b[i].burst > 1)
			g->b[i].burst_level += units;
	}
}

/* --- waiting --- */

/* Let the next one go, now or when it is time. */
static void next_one(struct throttle_group *g, unsigned side)
{
	struct side *s = &g->side[side];
	int64_t ns = must_wait(g, side);
	struct itimerspec at = { .it_value = { ns / 1000000000, ns % 1000000000 } };

	if (!s->waiting || s->armed)
		return;
	if (ns && !timerfd_settime(s->fd, 0, &at, NULL)) {
		s->armed = true;
		return;
	}
	co_queue_wake(&s->queue);
}

static void on_timer(void *opaque, int fd, uint32_t events)
{
	struct side *s = opaque;
	uint64_t expired;

	if (read(fd, &expired, sizeof(expired)) < 0)
		return;
	s->armed = false;
	next_one(s->g, (unsigned)(s - s->g->side));
}

static void take_turn(struct throttle_group *g, unsigned side, uint64_t bytes)
{
	struct side *s = &g->side[side];

	if (s->waiting++ || must_wait(g, side)) {
		if (s->waiting == 1)
			next_one(g, side);
		co_queue_wait(&s->queue);
	}
	s->waiting--;
	account(g, side, bytes);
	next_one(g, side);
}

static int throttled(struct node *n, struct node_req *r)
{
	struct throttle *t = n->state;

	if (r->op != BLOCK_FLUSH)
		take_turn(t->g, r->op == BLOCK_READ ? READS : WRITES, r->bytes);
	return filter_pass(n, r);
}

static void throttle_submit(struct node *n, struct node_req *r)
{
	filter_start(n, r, throttled);
}

/* --- groups --- */

static int check_limits(const struct throttle_group *g, struct err *err)
{
	bool ops = false;

	for (unsigned k = 0; k < BUCKETS; k += 3) {
		const struct bucket *total = &g->b[k], *one = total + 1, *other = total + 2;

		if ((total->avg && (one->avg || other->avg)) || (total->max && (one->max || other->max)))
			return err_set(err,
				       "bps/iops/max total values and read/write values cannot be used at the same "
				       "time");
	}
	for (unsigned i = 0; i < BUCKETS; i++) {
		const struct bucket *b = &g->b[i];

		ops |= i >= FIRST_OP && b->avg;
		if (b->avg > VALUE_MAX || b->max > VALUE_MAX)
			return err_set(err, "bps/iops/max values must be within [0, %llu]", VALUE_MAX);
		if (!b->burst)
			return err_set(err, "the burst length cannot be 0");
		if (b->burst > 1 && !b->max)
			return err_set(err, "burst length set without burst rate");
		if (b->max && b->burst > VALUE_MAX / b->max)
			return err_set(err, "burst length too high for this burst rate");
		if (b->max && !b->avg)
			return err_set(err, "bps_max/iops_max require corresponding bps/iops values");
		if (b->max && b->max < b->avg)
			return err_set(err, "bps_max/iops_max cannot be lower than bps/iops");
	}
	return g->op_size && !ops ? err_set(err, "iops size requires an iops value to be set") : 0;
}

/* "x-NAME" or "limits.NAME" */
static int take_limit(struct opts *o, const char *name, const char *more, uint64_t *out, struct err *err)
{
	static const char *const prefixes[] = { "x-", "limits." };
	char key[64];

	for (unsigned i = 0; i < 2; i++) {
		snprintf(key, sizeof(key), "%s%s%s", prefixes[i], name, more);
		if (opts_number(o, key, *out, out, err))
			return -1;
	}
	return 0;
}

static int take_limits(struct throttle_group *g, struct opts *o, struct err *err)
{
	for (unsigned i = 0; i < BUCKETS; i++) {
		struct bucket *b = &g->b[i];

		b->burst = 1;
		if (take_limit(o, bucket_names[i], "", &b->avg, err) ||
		    take_limit(o, bucket_names[i], "-max", &b->max, err) ||
		    take_limit(o, bucket_names[i], "-max-length", &b->burst, err))
			return -1;
	}
	return take_limit(o, "iops-size", "", &g->op_size, err) || check_limits(g, err) ? -1 : 0;
}

static struct throttle_group *find(const struct node_ctx *c, const char *id)
{
	struct throttle_group *g = c->throttles;

	while (g && strcmp(g->id, id))
		g = g->next;
	return g;
}

static void free_group(struct throttle_group *g)
{
	for (unsigned i = 0; i < DIRECTIONS; i++) {
		loop_fd_del(g->side[i].watch);
		if (g->side[i].fd >= 0)
			close(g->side[i].fd);
	}
	free(g->id);
	free(g);
}

static int start_timers(struct throttle_group *g, struct err *err)
{
	for (unsigned i = 0; i < DIRECTIONS; i++) {
		struct side *s = &g->side[i];

		s->g = g;
		s->fd = timerfd_create(CLOCK_MONOTONIC, TFD_CLOEXEC | TFD_NONBLOCK);
		if (s->fd < 0)
			return err_errno(err, errno, "timerfd");
		s->watch = loop_fd_add(g->ctx->loop, s->fd, EPOLLIN, on_timer, s, err);
		if (!s->watch)
			return -1;
	}
	return 0;
}

int throttle_add(struct node_ctx *c, struct opts *o, struct err *err)
{
	const char *id = opts_take(o, "id"), *unknown;
	struct throttle_group *g;

	opts_take(o, "qom-type");
	if (!id)
		return err_set(err, "Parameter 'id' is missing");
	if (find(c, id))
		return err_set(err, "attempt to add duplicate property '%s' to object (type 'container')", id);
	g = calloc(1, sizeof(*g));
	if (!g)
		return err_errno(err, ENOMEM, "%s", id);
	g->ctx = c;
	g->id = strdup(id);
	g->leaked = now_ns();
	g->side[READS].fd = g->side[WRITES].fd = -1;
	unknown = NULL;
	if (g->id && !take_limits(g, o, err) && !(unknown = opts_unknown(o)) && !start_timers(g, err)) {
		g->next = c->throttles;
		c->throttles = g;
		return 0;
	}
	if (unknown)
		err_set(err, "Property 'throttle-group.%s' not found", unknown);
	free_group(g);
	return -1;
}

void throttle_free_all(struct node_ctx *c)
{
	while (c->throttles) {
		struct throttle_group *g = c->throttles;

		c->throttles = g->next;
		free_group(g);
	}
}

/* --- the filter --- */

static int throttle_open(struct node *n, struct opts *o, struct err *err)
{
	struct throttle *t = n->state;
	const char *name = opts_take(o, "throttle-group");

	if (!name)
		return err_set(err, "Please specify a throttle group");
	t->g = find(n->ctx, name);
	if (!t->g)
		return err_set(err, "Throttle group '%s' does not exist", name);
	n->size = n->file->size;
	return 0;
}

const struct node_driver node_throttle = {
	.name = "throttle",
	.state_size = sizeof(struct throttle),
	.is_filter = true,
	.forces = true,
	.compresses = true,
	.open = throttle_open,
	.submit = throttle_submit,
	.truncate = filter_truncate,
	.status = filter_status,
	.info = filter_info,
};

/* --- for a disk --- */

struct node *throttle_over(struct node *n, const char *name, const struct block_limits *l, unsigned flags,
			   struct err *err)
{
	const struct {
		const char *name;
		uint64_t value;
	} limits[] = {
		{ "limits.iops-total", l->iops },    { "limits.iops-read", l->iops_rd },
		{ "limits.iops-write", l->iops_wr }, { "limits.bps-total", l->bps },
		{ "limits.bps-read", l->bps_rd },    { "limits.bps-write", l->bps_wr },
	};
	struct opts *o = opts_new(), *filter = opts_new();
	struct node *top = n;
	unsigned set = 0;

	opts_set(o, "id", name);
	opts_set(filter, "throttle-group", name);
	for (size_t i = 0; i < ARRAY_LEN(limits); i++) {
		if (limits[i].value) {
			opts_setf(o, limits[i].name, "%llu", (unsigned long long)limits[i].value);
			set++;
		}
	}
	if (set && throttle_add(n->ctx, o, err)) {
		node_close(n);
		top = NULL;
	} else if (set) {
		top = node_open_over(n, &node_throttle, filter, flags, err);
	}
	if (!top)
		err_prefix(err, "%s", name);
	opts_free(o);
	opts_free(filter);
	return top;
}
