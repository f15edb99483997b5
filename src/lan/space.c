/*
 * In which network name space a network is: one run directory may be seen from several (`ip netns exec`, containers),
 * and what is written in it is of one of them. See lan_impl.h.
 */
#include <ctype.h>
#include <dirent.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include "lan/lan_impl.h"
#include "lan/serve/resolv.h"

/* The first pid name space, which the kernel always gives this number: all processes are in it, or within it. */
#define FIRST_PIDS 0xEFFFFFFCu

unsigned long long lan_pids(const char *process)
{
	struct stat st = { 0 };
	char path[64];

	snprintf(path, sizeof(path), "/proc/%.16s/ns/pid", process);
	stat(path, &st);
	return st.st_ino;
}

/* What goes with the servers is no way into it. */
static bool is_servers(const char *pid)
{
	char path[64], text[32] = "";
	FILE *f;

	snprintf(path, sizeof(path), "/proc/%.16s/comm", pid);
	f = fopen(path, "re");
	if (f && fgets(text, sizeof(text), f))
		text[strcspn(text, "\n")] = '\0';
	if (f)
		fclose(f);
	return !strcmp(text, RESOLV_NAME);
}

/* By a process in it. */
static bool has_process(unsigned long long inode)
{
	DIR *d = opendir("/proc");
	struct dirent *e;
	struct stat st;
	bool yes = false;
	char path[64];

	while (d && !yes && (e = readdir(d))) {
		snprintf(path, sizeof(path), "/proc/%.16s/ns/net", e->d_name);
		yes = isdigit((unsigned char)*e->d_name) && !stat(path, &st) && st.st_ino == inode &&
		      !is_servers(e->d_name);
	}
	if (d)
		closedir(d);
	return yes;
}

/* By a name that somebody has given it (`ip netns add`). */
static bool has_name(unsigned long long inode)
{
	FILE *f = fopen("/proc/self/mountinfo", "re");
	char mark[40], *line = NULL;
	size_t size = 0;
	bool yes = false;

	snprintf(mark, sizeof(mark), " net:[%llu] ", inode);
	while (f && !yes && getline(&line, &size, f) > 0)
		yes = strstr(line, mark);
	free(line);
	if (f)
		fclose(f);
	return yes;
}

bool lan_is_here(const struct lan_run *r)
{
	char here[LAN_HERE];

	lan_here(here);
	return !*r->space || !strcmp(r->space, here);
}

/*
 * Whether who is there would be seen: /proc shows the processes of one pid name space, and of those within it. (Older
 * versions do not say of which one they were.)
 */
static bool is_visible(const struct lan_run *r)
{
	const unsigned long long shown = lan_pids("1"), pids = shown ? shown : lan_pids("self");

	return !r->pids || pids == r->pids || pids == FIRST_PIDS;
}

/* What serves it is ours: its socket says whether it is there, wherever that is looked at from. */
static bool has_socket(const struct lan_run *r)
{
	return lan_has_server(&r->def) && r->def.dns != LAN_DNS_DNSMASQ;
}

bool lan_is_elsewhere(struct lan *l, const struct lan_run *r)
{
	const char *inode = strrchr(r->space, '/');
	char here[LAN_HERE];
	unsigned long long n;

	lan_here(here);
	/* Of another boot nothing is left. */
	if (!inode || lan_is_here(r) || strncmp(r->space, here, (size_t)(inode - r->space) + 1))
		return false;
	n = strtoull(inode + 1, NULL, 10);
	/* A server alone, which holds it by its sockets, is no way in for anybody. */
	return has_name(n) || has_process(n) || (has_socket(r) ? lan_server_is_hidden(l, r->def.name) : !is_visible(r));
}

static int refuse(struct lan *l, const struct lan_run *r, struct err *err)
{
	const char *name = r->def.name;

	return is_visible(r) || has_socket(r)
		       ? err_set(err,
				 "network %s is in another network name space, and this one has the same run directory "
				 "%s (VIREO_NET_DIR says another)",
				 name, l->store.run)
		       : err_set(err,
				 "network %s is in another network name space, of which it cannot be seen from here "
				 "whether it is still there, and this one has the same run directory %s (VIREO_NET_DIR "
				 "says another; if it is not, remove %s/%s)",
				 name, l->store.run, l->store.run, name);
}

int lan_check_space(struct lan *l, struct err *err)
{
	struct lan_run *r = calloc(1, sizeof(*r));
	struct lan_names running = { 0 };
	struct err ignored;
	int rc = 0;

	/* Whoever may change nothing makes nothing that could meet it. */
	if (!r || lan_host_rights(&ignored) || lan_store_running(&l->store, &running, &ignored)) {
		free(r);
		return 0;
	}
	for (unsigned i = 0; i < running.len && !rc; i++) {
		if (lan_run_load(l, running.v[i], r))
			continue;
		if (lan_is_elsewhere(l, r))
			rc = refuse(l, r, err);
		/* Nothing of it is here, and nobody is there. */
		else if (!lan_is_here(r)) {
			lan_server_stop(l, r, false);
			rc = lan_run_remove(&l->store, running.v[i], err);
		}
		lan_run_free(r);
	}
	lan_names_free(&running);
	free(r);
	return rc;
}
