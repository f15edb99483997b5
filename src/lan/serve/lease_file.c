/*
 * The file of lease.h: a line for each lease, "4|6 MAC ADDRESS EXPIRES NAME|- ID|-", behind a first line that says what
 * it is. It is renamed into place, so that a reader sees the old or the new one. It is not flushed to the disk: who
 * lost its power has no machines that have addresses, either, and an answer does not wait for a disk.
 */
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "lan/serve/lease.h"

#define HEAD "vireo-leases 1\n"
#define LINE 512u
/* More than a full table of both families has. */
#define LINES_MAX (4 * (LEASES_MAX + LAN_HOSTS_MAX))

static bool hex_parse(const char *text, struct lease *e)
{
	size_t len = strlen(text);

	if (!strcmp(text, "-"))
		return true;
	if (len % 2 || len / 2 > LEASE_ID_MAX || strspn(text, "0123456789abcdef") != len)
		return false;
	for (; e->id_len < len / 2; e->id_len++) {
		const char digits[3] = { text[2 * e->id_len], text[2 * e->id_len + 1] };

		e->id[e->id_len] = (uint8_t)strtoul(digits, NULL, 16);
	}
	return true;
}

static bool parse(char *line, struct lease *e, bool *v4)
{
	char *word[6], *save = NULL, *end;

	memset(e, 0, sizeof(*e));
	for (unsigned n = 0; n < 6; n++, line = NULL) {
		word[n] = strtok_r(line, " \n", &save);
		if (!word[n])
			return false;
	}
	if (strtok_r(NULL, " \n", &save) || (strcmp(word[0], "4") && strcmp(word[0], "6")))
		return false;
	*v4 = *word[0] == '4';
	e->expires = strtoll(word[3], &end, 10);
	if (*end || strlen(word[4]) > LAN_NAME_MAX)
		return false;
	strcpy(e->name, strcmp(word[4], "-") ? word[4] : "");
	return mac_parse(word[1], e->mac) && addr_parse(word[2], &e->addr) && hex_parse(word[5], e);
}

int leases_load(struct leases *l4, struct leases *l6, const struct lease_file *f, int64_t now, unsigned *bad)
{
	int fd = openat(f->dir, f->name, O_RDONLY | O_CLOEXEC | O_NOFOLLOW | O_NONBLOCK);
	FILE *in = fd < 0 ? NULL : fdopen(fd, "r");
	char line[LINE];
	struct lease e;
	bool v4;

	*bad = 0;
	if (!in) {
		if (fd >= 0)
			close(fd);
		return errno == ENOENT ? 0 : -1;
	}
	if (!fgets(line, sizeof(line), in) || strcmp(line, HEAD)) {
		*bad = 1;
		fclose(in);
		return 0;
	}
	for (unsigned n = 0; n < LINES_MAX && fgets(line, sizeof(line), in); n++) {
		struct leases *l;

		if (!parse(line, &e, &v4) || __builtin_sub_overflow(e.expires, f->ahead, &e.expires)) {
			*bad += 1;
			continue;
		}
		l = v4 ? l4 : l6;
		/* What has expired meanwhile is no lie. */
		if (l && e.expires > now && !leases_restore(l, &e, now))
			*bad += 1;
	}
	fclose(in);
	return 0;
}

static void write_table(FILE *out, const struct leases *l, int family, int64_t ahead)
{
	char mac[MAC_TEXT], addr[ADDR_TEXT];

	for (const struct lease *e = l ? leases_next(l, NULL) : NULL; e; e = leases_next(l, e)) {
		if (e->state != LEASE_BOUND)
			continue;
		fprintf(out, "%d %s %s %" PRId64 " %s ", family, mac_text(e->mac, mac), addr_text(e->addr, addr),
			e->expires + ahead, *e->name ? e->name : "-");
		for (unsigned n = 0; n < e->id_len; n++)
			fprintf(out, "%02x", e->id[n]);
		fputs(e->id_len ? "\n" : "-\n", out);
	}
}

int leases_save(struct leases *l4, struct leases *l6, const struct lease_file *f)
{
	char temp[300];
	FILE *out;
	int fd, e;
	bool ok;

	snprintf(temp, sizeof(temp), "%s.new", f->name);
	fd = openat(f->dir, temp, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC | O_NOFOLLOW, 0644);
	out = fd < 0 ? NULL : fdopen(fd, "w");
	if (!out) {
		e = errno;
		if (fd >= 0)
			close(fd);
		errno = e;
		return -1;
	}
	fputs(HEAD, out);
	write_table(out, l4, 4, f->ahead);
	write_table(out, l6, 6, f->ahead);
	ok = !ferror(out);
	ok = !fclose(out) && ok;
	if (ok && !renameat(f->dir, temp, f->dir, f->name))
		return 0;
	e = errno;
	unlinkat(f->dir, temp, 0);
	errno = e;
	return -1;
}
