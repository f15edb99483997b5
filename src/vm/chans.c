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

#include "base/log.h"
#include "vm/impl.h"
#include "vm/rundir.h"
#include "vm/terminal.h"

static void client(void *opaque, int fd, uint32_t events)
{
	int c = accept4(fd, NULL, NULL, SOCK_CLOEXEC | SOCK_NONBLOCK);

	if (c >= 0)
		chan_attach(opaque, c);
}

static int open_pty(struct vm *vm, const char *key, struct err *err)
{
	int fd = posix_openpt(O_RDWR | O_NOCTTY | O_CLOEXEC);
	struct termios raw;

	if (fd < 0 || grantpt(fd) || unlockpt(fd)) {
		err_errno(err, errno, "%s: pty", key);
		if (fd >= 0)
			close(fd);
		return -1;
	}
	if (!tcgetattr(fd, &raw)) {
		cfmakeraw(&raw);
		tcsetattr(fd, TCSANOW, &raw);
	}
	fprintf(stderr, "vireo: %s is on %s\n", key, ptsname(fd));
	return fd;
}

static int open_log(struct vm *vm, struct err *err)
{
	char path[128];
	int fd;

	if (rundir_path(vm->rundir, "console.log", path, sizeof(path), err))
		return -1;
	fd = open(path, O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0600);
	return fd < 0 ? err_errno(err, errno, "%s", path) : fd;
}

/* The first channel is what `vireo console` attaches to. */
static int serve(struct vm *vm, struct chan *c, struct err *err)
{
	int fd = rundir_listen(vm->rundir, "console.sock", err);

	return fd >= 0 && loop_fd_add(vm->loop, fd, EPOLLIN, client, c, err) ? 0 : -1;
}

int vm_open_chan(struct vm *vm, const char *key, const char *dflt, struct chan **out, struct err *err)
{
	const char *where;
	int fd = -1, log = -1;
	bool stdio, pty;
	struct chan *c;

	*out = NULL;
	if (config_str(vm->config, key, dflt, &where, err))
		return -1;
	if (!strcmp(where, "none"))
		return 0;
	stdio = !strcmp(where, "stdio");
	pty = !strcmp(where, "pty");
	if (vm->chan_count == VM_CHANS)
		return err_set(err, "%s: too many ports", key);
	if (stdio) {
		fd = 1;
	} else if (pty) {
		fd = open_pty(vm, key, err);
		if (fd < 0)
			return -1;
	} else if (!strncmp(where, "file:", 5)) {
		fd = open(where + 5, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0666);
		if (fd < 0)
			return err_errno(err, errno, "%s: %s", key, where + 5);
	} else if (strcmp(where, "null") && strcmp(where, "socket")) {
		return err_set(err, "%s: '%s' is not one of stdio, none, null, pty, socket, file:PATH", key, where);
	}
	if (strcmp(where, "null") && !vm->chan_count) {
		log = open_log(vm, err);
		if (log < 0)
			return -1;
	}
	c = chan_new(vm->loop, fd, log, err);
	if (!c)
		return -1;
	vm->chans[vm->chan_count++] = c;
	if ((log >= 0 && serve(vm, c, err)) || (stdio && terminal_claim(vm->terminal, c, err)) ||
	    (pty && chan_read_from(c, fd, err)))
		return -1;
	*out = c;
	return 0;
}
