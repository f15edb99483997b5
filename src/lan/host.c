/* See host.h. */
#include "lan/host.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <linux/capability.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "base/bytes.h"
#include "lan/lan_impl.h"

int lan_host_rights(struct err *err)
{
	static const struct {
		unsigned number;
		const char *name;
	} needed[] = { { CAP_NET_ADMIN, "CAP_NET_ADMIN" },
		       { CAP_NET_RAW, "CAP_NET_RAW" },
		       { CAP_SYS_ADMIN, "CAP_SYS_ADMIN" } };
	struct __user_cap_header_struct h = { .version = _LINUX_CAPABILITY_VERSION_3 };
	struct __user_cap_data_struct d[2] = { { 0 } };

	if (syscall(SYS_capget, &h, d))
		return err_errno(err, errno, "capget");
	for (size_t i = 0; i < ARRAY_LEN(needed); i++)
		if (!(d[needed[i].number / 32].effective & 1u << needed[i].number % 32))
			return err_set(err, "%s is missing: networks of the host are changed as root", needed[i].name);
	return 0;
}

/* --- switches --- */

bool lan_sysctl_get(const char *path, char *buf, unsigned size)
{
	char full[160];
	ssize_t n;
	int fd;

	snprintf(full, sizeof(full), "/proc/sys/net/%s", path);
	fd = open(full, O_RDONLY | O_CLOEXEC);
	n = fd < 0 ? -1 : read(fd, buf, size - 1);
	if (fd >= 0)
		close(fd);
	if (n < 0)
		return false;
	buf[n] = '\0';
	buf[strcspn(buf, "\n")] = '\0';
	return true;
}

int lan_sysctl_set(const char *path, const char *value, struct err *err)
{
	char full[160], now[32];
	int fd, rc = 0;

	if (lan_sysctl_get(path, now, sizeof(now)) && !strcmp(now, value))
		return 0;
	snprintf(full, sizeof(full), "/proc/sys/net/%s", path);
	fd = open(full, O_WRONLY | O_CLOEXEC);
	if (fd < 0 || write(fd, value, strlen(value)) < 0)
		rc = err_errno(err, errno, "%s", full);
	if (fd >= 0)
		close(fd);
	return rc;
}

/* Whether it is one that can be set, and has a value: a secret that was never told has none. */
static bool is_switch(int dir, const char *name)
{
	struct stat st;

	return *name != '.' && !fstatat(dir, name, &st, 0) && S_ISREG(st.st_mode) && st.st_mode & S_IWUSR;
}

/* What differs in a directory ("ipv6/conf"); returns how many. `strict`: none may refuse. */
static int copy_switches(const char *where, const char *from, const char *to, bool strict, struct err *err)
{
	char full[160], a[96], b[96], value[64], now[64];
	int changed = 0, rc = 0;
	struct dirent *e;
	DIR *d;

	snprintf(full, sizeof(full), "/proc/sys/net/%s/%s", where, from);
	d = opendir(full);
	while (d && !rc && (e = readdir(d))) {
		/* That of IPv6 the kernel sets when the link comes. */
		if (!is_switch(dirfd(d), e->d_name) || !strcmp(e->d_name, "mtu"))
			continue;
		snprintf(a, sizeof(a), "%s/%s/%.40s", where, from, e->d_name);
		snprintf(b, sizeof(b), "%s/%s/%.40s", where, to, e->d_name);
		if (!lan_sysctl_get(a, value, sizeof(value)) ||
		    (lan_sysctl_get(b, now, sizeof(now)) && !strcmp(now, value)))
			continue;
		rc = lan_sysctl_set(b, value, err) && strict ? -1 : 0;
		changed++;
	}
	if (d)
		closedir(d);
	return rc ? -1 : changed;
}

int lan_switches_copy(const char *from, const char *to, struct err *err)
{
	static const char *const where[] = { "ipv4/conf", "ipv6/conf", "ipv4/neigh", "ipv6/neigh" };
	int changed = 0;

	/* Twice, as some change or need others: a way to make addresses needs its secret. */
	for (size_t i = 0; i < ARRAY_LEN(where) && changed >= 0; i++)
		if (copy_switches(where[i], from, to, false, err))
			changed = copy_switches(where[i], from, to, true, err);
	return changed < 0 ? -1 : 0;
}

void lan_here(char buf[LAN_HERE])
{
	FILE *f = fopen("/proc/sys/kernel/random/boot_id", "re");
	struct stat st = { 0 };
	char boot[40] = "";

	if (f) {
		if (fscanf(f, "%39s", boot) != 1)
			*boot = '\0';
		fclose(f);
	}
	stat("/proc/self/ns/net", &st);
	snprintf(buf, LAN_HERE, "%s/%llu", boot, (unsigned long long)st.st_ino);
}
