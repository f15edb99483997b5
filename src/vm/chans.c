/* Opening the host ends of serial ports and consoles from the words of the configuration. */
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <termios.h>
#include <unistd.h>

#include "base/accept.h"
#include "base/log.h"
#include "base/sock.h"
#include "vm/conlog.h"
#include "vm/impl.h"
#include "vm/rundir.h"
#include "vm/terminal.h"

static void client(void *opaque, int fd)
{
	chan_attach(opaque, fd);
}

/* At the port's own place. */
static void place_client(void *opaque, int fd)
{
	struct vm_chan *v = opaque;
	bool was = v->waits;

	chan_attach(v->chan, fd);
	v->waits = false;
	if (was)
		vm_clients_came(v->vm);
}

bool vm_chans_wait(const struct vm *vm)
{
	for (unsigned n = 0; n < vm->chan_count; n++)
		if (vm->chans[n].waits)
			return true;
	return false;
}

/* With the other end held open, so that a user may come and go. */
static int open_pty(const char *key, int *slave, struct err *err)
{
	int fd = posix_openpt(O_RDWR | O_NOCTTY | O_CLOEXEC | O_NONBLOCK);
	struct termios raw;

	*slave = -1;
	if (fd >= 0 && !grantpt(fd) && !unlockpt(fd))
		*slave = open(ptsname(fd), O_RDWR | O_NOCTTY | O_CLOEXEC);
	if (*slave < 0) {
		err_errno(err, errno, "%s: pty", key);
		if (fd >= 0)
			close(fd);
		return -1;
	}
	if (!tcgetattr(*slave, &raw)) {
		cfmakeraw(&raw);
		tcsetattr(*slave, TCSANOW, &raw);
	}
	fprintf(stderr, "vireo: %s is on %s\n", key, ptsname(fd));
	return fd;
}

static struct conlog *open_log(struct vm *vm, struct err *err)
{
	char path[128];

	return rundir_path(vm->rundir, "console.log", path, sizeof(path), err) ? NULL : conlog_new(path, err);
}

/* For `vireo console`: the socket of the port, and the one that is meant when none is named. */
static int serve(struct vm *vm, struct vm_chan *v, bool console, struct err *err)
{
	char file[32];

	snprintf(file, sizeof(file), "%s.sock", v->key);
	v->listen_fd = rundir_listen(vm->rundir, file, err);
	if (v->listen_fd < 0 || (console && rundir_link(vm->rundir, file, "console.sock", err)))
		return -1;
	v->accepter = accepter_new(vm->loop, v->listen_fd, v->key, client, v->chan, err);
	return v->accepter ? 0 : -1;
}

/*
 * "KEY.server": whether clients come there (on, the default), or it is connected to. "KEY.wait": the machine waits for
 * the first of them. Before anything is started.
 */
static int open_place(struct vm *vm, struct vm_chan *v, struct err *err)
{
	char key[40];

	snprintf(key, sizeof(key), "%s.server", v->key);
	if (config_bool(vm->config, key, true, &v->place_server, err))
		return -1;
	snprintf(key, sizeof(key), "%s.wait", v->key);
	if (config_bool(vm->config, key, false, &v->waits, err))
		return -1;
	v->waits &= v->place_server;
	v->place_fd = (v->place_server ? sock_listen : sock_connect)(v->key, v->place, err);
	if (v->place_fd < 0)
		return -1;
	if (v->place_server)
		v->place_accepter = accepter_new(vm->loop, v->place_fd, v->key, place_client, v, err);
	return v->place_server && !v->place_accepter ? -1 : 0;
}

static void close_place(struct vm_chan *v)
{
	accepter_free(v->place_accepter);
	if (v->place_fd < 0)
		return;
	close(v->place_fd);
	if (v->place_server && sock_path(v->place))
		unlink(sock_path(v->place));
}

int vm_open_chan(struct vm *vm, const char *key, const char *dflt, struct chan **out, struct err *err)
{
	static const char *const words[] = { "stdio", "null", "pty", "socket" };
	bool is[4], file, place, console;
	const char *where;
	char id[40];
	struct vm_chan *v = &vm->chans[vm->chan_count];
	struct chan_config c = { .loop = vm->loop, .name = key, .out = -1 };

	*out = NULL;
	if (config_str(vm->config, key, dflt, &where, err))
		return -1;
	if (!strcmp(where, "none"))
		return 0;
	for (unsigned n = 0; n < 4; n++)
		is[n] = !strcmp(where, words[n]);
	file = !strncmp(where, "file:", 5) && where[5];
	place = !strncmp(where, "unix:", 5) || !strncmp(where, "tcp:", 4);
	if (!is[0] && !is[1] && !is[2] && !is[3] && !file && !place)
		return err_set(err,
			       "%s: '%s' is not one of stdio, none, null, pty, socket, file:PATH, unix:PATH, "
			       "tcp:[HOST:]PORT",
			       key, where);
	if (vm->chan_count == VM_CHANS)
		return err_set(err, "%s: too many ports", key);
	*v = (struct vm_chan){ .vm = vm,
			       .key = key,
			       .path = file ? where + 5 : NULL,
			       .slave = -1,
			       .listen_fd = -1,
			       .place = place ? where : NULL,
			       .place_fd = -1 };
	snprintf(id, sizeof(id), "%s.id", key);
	if (config_str(vm->config, id, key, &v->label, err))
		return -1;
	console = !strcmp(key, vm->console_key) && !is[1];
	if (is[0])
		c.out = 1;
	c.lossy = is[2];
	c.programs = (is[3] && !console) || place;
	if (is[2] && (c.out = open_pty(key, &v->slave, err)) < 0)
		return -1;
	if (console && !(c.log = open_log(vm, err)))
		goto fail;
	v->chan = chan_new(&c, err);
	if (!v->chan)
		goto fail;
	vm->chan_count++;
	if ((place && open_place(vm, v, err)) || (!is[1] && serve(vm, v, console, err)) ||
	    (is[0] && terminal_claim(vm->terminal, key, v->chan, err)) ||
	    (is[2] && chan_read_from(v->chan, c.out, NULL, NULL, err)))
		return -1;
	*out = v->chan;
	return 0;
fail:
	conlog_free(c.log);
	if (is[2]) {
		close(c.out);
		close(v->slave);
	}
	return -1;
}

/* Only a machine that is going to run writes to files. */
int vm_chans_start(struct vm *vm, struct err *err)
{
	for (unsigned n = 0; n < vm->chan_count; n++) {
		struct vm_chan *v = &vm->chans[n];
		int fd;

		if (v->place && !v->place_server) {
			chan_attach(v->chan, v->place_fd);
			v->place_fd = -1;
		}
		if (!v->path)
			continue;
		fd = open(v->path, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0666);
		if (fd < 0)
			return err_errno(err, errno, "%s: %s", v->key, v->path);
		chan_write_to(v->chan, fd);
	}
	return 0;
}

#define FLUSH_MS    200
#define IMPATIENT_S 1

void vm_chans_flush(struct vm *vm, bool patient)
{
	for (unsigned n = 0; n < vm->chan_count; n++) {
		size_t left, before = SIZE_MAX;
		unsigned stuck = 0;

		while ((left = chan_unwritten(vm->chans[n].chan, FLUSH_MS))) {
			stuck = left < before ? 0 : stuck + 1;
			before = left;
			if ((!patient && stuck > IMPATIENT_S * 1000 / FLUSH_MS) || terminal_signalled(vm->terminal))
				return;
		}
	}
}

void vm_chans_free(struct vm *vm)
{
	for (unsigned n = 0; n < vm->chan_count; n++) {
		struct vm_chan *v = &vm->chans[n];

		accepter_free(v->accepter);
		if (v->listen_fd >= 0)
			close(v->listen_fd);
		close_place(v);
		chan_free(v->chan);
		if (v->slave >= 0)
			close(v->slave);
	}
	vm->chan_count = 0;
}
