/* See crash_places.h. */
#include "crash_places.h"

#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "base/bytes.h"
#include "block/qcow2.h"

bool places_on;
static const void *at[256], *left;
static unsigned n_at;

static bool left_out(const void *from)
{
	unsigned i = 0;

	if (!places_on)
		return false;
	while (i < n_at && at[i] != from)
		i++;
	if (i == n_at && i < ARRAY_LEN(at))
		at[n_at++] = from;
	return from == left;
}

int __real_node_flush(struct node *n);
int __real_qc_flush(struct node *n);
int __real_qc_cache_write(struct node *n, struct qc_cache *c);
int __real_qc_cache_depend(struct node *n, struct qc_cache *c, struct qc_cache *on);
int __wrap_node_flush(struct node *n);
int __wrap_qc_flush(struct node *n);
int __wrap_qc_cache_write(struct node *n, struct qc_cache *c);
int __wrap_qc_cache_depend(struct node *n, struct qc_cache *c, struct qc_cache *on);

int __wrap_node_flush(struct node *n)
{
	bool log = n->filename && !strcmp(n->filename, "log");

	return !log && left_out(__builtin_return_address(0)) ? 0 : __real_node_flush(n);
}

int __wrap_qc_flush(struct node *n)
{
	return left_out(__builtin_return_address(0)) ? 0 : __real_qc_flush(n);
}

int __wrap_qc_cache_write(struct node *n, struct qc_cache *c)
{
	return left_out(__builtin_return_address(0)) ? 0 : __real_qc_cache_write(n, c);
}

int __wrap_qc_cache_depend(struct node *n, struct qc_cache *c, struct qc_cache *on)
{
	return left_out(__builtin_return_address(0)) ? 0 : __real_qc_cache_depend(n, c, on);
}

unsigned places_n(void)
{
	return n_at;
}

void place_leave_out(unsigned i)
{
	left = at[i];
}

void place_name(unsigned i, char *out, size_t room)
{
	extern const char __executable_start[];
	char command[256], *nl;
	FILE *f;

	snprintf(out, room, "%p", at[i]);
	/* The call is before the address to which it returns. */
	snprintf(command, sizeof(command), "addr2line -s -e /proc/%d/exe %#lx 2>/dev/null", getpid(),
		 (unsigned long)((const char *)at[i] - __executable_start - 1));
	f = popen(command, "r");
	if (f && fgets(out, (int)room, f) && (nl = strchr(out, '\n')))
		*nl = 0;
	if (f)
		pclose(f);
}
