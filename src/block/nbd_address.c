/* Where an NBD server is, as options and names say it. */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "block/nbd.h"

#define DEFAULT_PORT "10809"

static int hex(char c)
{
	const char *digits = "0123456789abcdef", *d = c ? strchr(digits, c | 0x20) : NULL;

	return d ? (int)(d - digits) : -1;
}

/* `len` bytes of a URI with what "%41" stands for. Caller frees. */
static char *unescape(const char *text, size_t len)
{
	char *out = malloc(len + 1);
	size_t n = 0;

	for (size_t i = 0; out && i < len; i++) {
		if (text[i] == '%' && i + 2 < len && hex(text[i + 1]) >= 0 && hex(text[i + 2]) >= 0) {
			out[n++] = (char)(hex(text[i + 1]) << 4 | hex(text[i + 2]));
			i += 2;
		} else {
			out[n++] = text[i];
		}
	}
	if (out)
		out[n] = 0;
	return out;
}

/* "HOST", "HOST:PORT", "[ADDRESS]:PORT". */
static int take_host(struct nbd_address *a, const char *text, size_t len)
{
	const char *end = text + len, *colon, *host = text, *host_end;

	if (*text == '[') {
		host = text + 1;
		host_end = memchr(host, ']', len - 1);
		if (!host_end)
			return -1;
		colon = host_end + 1 < end ? host_end + 1 : NULL;
		if (colon && *colon != ':')
			return -1;
	} else {
		colon = memchr(text, ':', len);
		host_end = colon ? colon : end;
	}
	a->host = unescape(host, (size_t)(host_end - host));
	a->port = colon ? strndup(colon + 1, (size_t)(end - colon - 1)) : strdup(DEFAULT_PORT);
	return a->host && a->port && *a->port && (*a->host || colon) ? 0 : -1;
}

/* "nbd://host:port/export", "nbd+unix:///export?socket=path" */
static int parse_uri(struct nbd_address *a, const char *uri, char **export)
{
	const char *server = strstr(uri, "://") + 3, *path, *query;
	size_t len = strcspn(server, "/?");

	path = server + len;
	query = path + strcspn(path, "?");
	if (*path == '/')
		path++;
	if (query > path)
		*export = unescape(path, (size_t)(query - path));
	a->is_unix = !strncmp(uri, "nbd+unix:", 9);
	if (!a->is_unix)
		return *query || !len ? -1 : take_host(a, server, len);
	if (len || strncmp(query, "?socket=", 8) || strchr(query, '&'))
		return -1;
	a->path = unescape(query + 8, strlen(query + 8));
	return 0;
}

/* "nbd:unix:PATH", "nbd:HOST:PORT", each perhaps with ":exportname=NAME" */
static int parse_old(struct nbd_address *a, const char *name, char **export, struct err *err)
{
	const char *mark = strstr(name, ":exportname="), *end = mark ? mark : name + strlen(name);

	if (mark && mark[12])
		*export = strdup(mark + 12);
	name += strcspn(name, ":") + 1;
	if (name >= end)
		return err_set(err, "NBD server address missing");
	if (!strncmp(name, "unix:", 5)) {
		a->is_unix = true;
		a->path = strndup(name + 5, (size_t)(end - name - 5));
		return 0;
	}
	if (!memchr(name, ':', (size_t)(end - name)) || take_host(a, name, (size_t)(end - name)))
		return err_set(err, "error parsing address '%.*s'", (int)(end - name), name);
	return 0;
}

static int parse_name(struct nbd_address *a, struct opts *o, const char *name, char **export, struct err *err)
{
	static const char *const others[] = { "host", "port", "path", "export", "server" };

	for (size_t i = 0; i < sizeof(others) / sizeof(*others); i++)
		if (opts_has(o, others[i]))
			return err_set(err, "Option '%s' cannot be used with a file name", others[i]);
	if (!strstr(name, "://"))
		return parse_old(a, name, export, err);
	return parse_uri(a, name, export) ? err_set(err, "No valid URL specified") : 0;
}

static char *copy(const char *text)
{
	return text ? strdup(text) : NULL;
}

static int take_server(struct nbd_address *a, struct opts *o, struct err *err)
{
	const char *type = opts_take(o, "server.type"), *path = opts_take(o, "server.path");
	const char *host = opts_take(o, "server.host"), *port = opts_take(o, "server.port");

	if (!type && !path && !host && !port)
		return err_set(err, "NBD server address missing");
	if (!type)
		return err_set(err, "Parameter 'server.type' is missing");
	a->is_unix = !strcmp(type, "unix");
	if (!a->is_unix && strcmp(type, "inet"))
		return err_set(err, "Parameter 'server.type' does not accept value '%s'", type);
	if (opts_bool(o, "server.abstract", false, &a->is_abstract, err))
		return -1;
	if (a->is_unix ? !path : !host || !port)
		return err_set(err, "Parameter 'server.%s' is missing", a->is_unix ? "path" : host ? "port" : "host");
	a->path = copy(path);
	a->host = copy(host);
	a->port = copy(port);
	return 0;
}

/* The older way to say the same. */
static int take_plain(struct nbd_address *a, struct opts *o, const char *path, const char *host, const char *port,
		      struct err *err)
{
	if (opts_has(o, "server"))
		return err_set(err, "Cannot use 'server' and path/host/port at the same time");
	if (path && host)
		return err_set(err, "path and host may not be used at the same time");
	if (!host && port)
		return err_set(err, "port may not be used without host");
	a->is_unix = path;
	a->path = copy(path);
	a->host = copy(host);
	a->port = copy(host && !port ? DEFAULT_PORT : port);
	return 0;
}

int nbd_address_take(struct nbd_address *a, struct opts *o, char **export, struct err *err)
{
	const char *name = opts_take(o, "filename");
	int ret;

	*export = NULL;
	if (name) {
		ret = parse_name(a, o, name, export, err);
	} else {
		const char *path = opts_take(o, "path"), *host = opts_take(o, "host"), *port = opts_take(o, "port");

		ret = path || host || port ? take_plain(a, o, path, host, port, err) : take_server(a, o, err);
		*export = copy(opts_take(o, "export"));
	}
	if (ret)
		return -1;
	if (*export && strlen(*export) > NBD_STRING_MAX)
		return err_set(err, "export name too long to send to server");
	if (!a->path && !(a->host && a->port))
		return err_errno(err, ENOMEM, "nbd");
	return 0;
}

char *nbd_address_name(const struct nbd_address *a, const char *export)
{
	char *out = NULL;
	int n;

	if (a->is_unix)
		n = asprintf(&out, "nbd+unix://%s%s?socket=%s", export ? "/" : "", export ? export : "", a->path);
	else
		n = asprintf(&out, "nbd://%s:%s%s%s", a->host, a->port, export ? "/" : "", export ? export : "");
	return n < 0 ? NULL : out;
}

void nbd_address_free(struct nbd_address *a)
{
	free(a->path);
	free(a->host);
	free(a->port);
	*a = (struct nbd_address){ 0 };
}
