/* The user-mode network as the configuration describes it, in a process of its own. */
#include "net/user.h"

#include <arpa/inet.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "net/process.h"

/* "[ADDRESS]:PORT" or "PORT"; an empty address stays as it is. */
static bool parse_end(const char *text, struct in_addr *addr, uint16_t *port)
{
	const char *colon = strrchr(text, ':');
	char host[32];
	int n;

	if (colon && colon != text) {
		size_t len = (size_t)(colon - text);

		if (len >= sizeof(host))
			return false;
		memcpy(host, text, len);
		host[len] = 0;
		if (inet_pton(AF_INET, host, addr) != 1)
			return false;
	}
	text = colon ? colon + 1 : text;
	if (!*text || strlen(text) > 5 || strspn(text, "0123456789") != strlen(text))
		return false;
	n = atoi(text);
	*port = (uint16_t)n;
	return n > 0 && n < 65536;
}

/*
 * "[tcp|udp]:[ADDRESS]:PORT-[ADDRESS]:PORT" as QEMU has it, but that a port without an address of the host is open to
 * the host only.
 */
static bool parse_forward(char *text, struct net_forward *f)
{
	char *from, *dash;

	*f = (struct net_forward){ .udp = !strncmp(text, "udp:", 4) };
	f->host.s_addr = htonl(INADDR_LOOPBACK);
	f->guest.s_addr = inet_addr(NET_USER_GUEST);
	from = text + (f->udp || !strncmp(text, "tcp:", 4) ? 4 : *text == ':');
	dash = strchr(from, '-');
	if (from == text || !dash)
		return false;
	*dash = 0;
	return parse_end(from, &f->host, &f->host_port) && parse_end(dash + 1, &f->guest, &f->guest_port);
}

static int read_forwards(struct net_user_config *u, struct config *c, const char *key, struct err *err)
{
	const char *list;
	char *copy, *rest, *word;
	int rc = 0;

	if (config_str(c, key, "", &list, err))
		return -1;
	copy = rest = strdup(list);
	if (!copy)
		return err_set(err, "out of memory");
	while (!rc && (word = strsep(&rest, "+"))) {
		char shown[64];

		snprintf(shown, sizeof(shown), "%s", word);
		if (!*word)
			continue;
		if (u->count == NET_FORWARDS)
			rc = err_set(err, "%s: more than %d ports", key, NET_FORWARDS);
		else if (!parse_forward(word, &u->forward[u->count++]))
			rc = err_set(err, "%s: '%s' is not [tcp|udp]:[ADDRESS]:PORT-[ADDRESS]:PORT", key, shown);
	}
	free(copy);
	return rc;
}

static int read_text(struct config *c, const char *key, char *to, size_t size, struct err *err)
{
	const char *text;

	if (config_str(c, key, "", &text, err))
		return -1;
	return snprintf(to, size, "%s", text) < (int)size
		       ? 0
		       : err_set(err, "%s: longer than %u characters", key, (unsigned)size - 1);
}

/* What a guest boots by the network. */
static int read_boot(struct net_user_config *u, struct config *c, const char *prefix, struct err *err)
{
	char key[64];

	snprintf(key, sizeof(key), "%s.bootfile", prefix);
	if (read_text(c, key, u->bootfile, sizeof(u->bootfile), err))
		return -1;
	snprintf(key, sizeof(key), "%s.tftp", prefix);
	if (read_text(c, key, u->tftp, sizeof(u->tftp), err))
		return -1;
	return *u->tftp && access(u->tftp, R_OK | X_OK) ? err_errno(err, errno, "%s: %s", key, u->tftp) : 0;
}

int net_user_read(struct net_user_config *u, struct config *c, const char *prefix, struct err *err)
{
	char key[64];

	memset(u, 0, sizeof(*u));
	snprintf(u->name, sizeof(u->name), "%s", prefix);
	snprintf(key, sizeof(key), "%s.restrict", prefix);
	if (config_bool(c, key, false, &u->restricted, err))
		return -1;
	snprintf(key, sizeof(key), "%s.hostfwd", prefix);
	return read_forwards(u, c, key, err) || read_boot(u, c, prefix, err) ? -1 : 0;
}

static struct net_peer *make(struct loop *loop, const void *config, struct err *err)
{
	return net_slirp_new(loop, config, err);
}

struct net_peer *net_user_new(struct loop *loop, struct config *c, const char *prefix, struct err *err)
{
	struct net_user_config u;

	if (net_user_read(&u, c, prefix, err))
		return NULL;
	return net_process_new(loop, &(struct net_process_config){ u.name, true, make, &u, sizeof(u) }, err);
}
