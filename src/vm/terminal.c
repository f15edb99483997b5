/* See terminal.h. */
#include "vm/terminal.h"

#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/ioctl.h>
#include <sys/signalfd.h>
#include <termios.h>
#include <unistd.h>

#include "base/log.h"
#include "vm/impl.h"

#define ESCAPE 1 /* Ctrl-A */

struct terminal {
	struct vm *vm;
	struct chan *chan; /* where typing goes; NULL: nowhere */
	struct loop_fd *input, *signals;
	int signal_fd;
	bool raw, escaped;
	void (*resized)(void *opaque, uint16_t columns, uint16_t rows);
	void *resized_opaque;
};

/* For the case that the process ends without terminal_stop(): there is one terminal. */
static struct termios saved;
static volatile sig_atomic_t must_restore;

static void restore(void)
{
	if (must_restore)
		tcsetattr(0, TCSADRAIN, &saved);
	must_restore = 0;
}

static void crashed(int sig)
{
	restore();
	raise(sig); /* the handler was for once */
}

static void escape_help(void)
{
	static const char text[] = "\r\nCtrl-A x  end the machine\r\n"
				   "Ctrl-A p  pause or go on\r\n"
				   "Ctrl-A r  reset\r\n"
				   "Ctrl-A b  press the power button\r\n"
				   "Ctrl-A h  this help\r\n"
				   "Ctrl-A Ctrl-A  send Ctrl-A\r\n";

	(void)!write(1, text, sizeof(text) - 1);
}

static void escape_key(struct terminal *t, char key)
{
	struct vm *vm = t->vm;

	switch (key) {
	case 'x':
		vm_quit(vm, 0, "host-ui");
		break;
	case 'p':
		if (vm->state == VM_RUNNING)
			vm_pause(vm);
		else
			vm_resume(vm);
		break;
	case 'r':
		vm_reset(vm);
		break;
	case 'b':
		vm_power_button(vm);
		break;
	case 'h':
	case '?':
		escape_help();
		break;
	case ESCAPE:
	case 'a':
		if (t->chan)
			chan_input(t->chan, "\1", 1);
		break;
	}
}

static void input(void *opaque, int fd, uint32_t events)
{
	struct terminal *t = opaque;
	char b[256];
	ssize_t n = read(fd, b, sizeof(b)), from = 0;

	if (n < 0 && (errno == EAGAIN || errno == EINTR))
		return;
	if (n <= 0) {
		/* The end of a pipe is no reason to end the guest. */
		loop_fd_del(t->input);
		t->input = NULL;
		return;
	}
	if (!t->raw) {
		if (t->chan)
			chan_input(t->chan, b, (size_t)n);
		return;
	}
	for (ssize_t k = 0; k < n; k++) {
		if (t->escaped) {
			t->escaped = false;
			escape_key(t, b[k]);
			from = k + 1;
		} else if (b[k] == ESCAPE) {
			if (t->chan && k > from)
				chan_input(t->chan, b + from, (size_t)(k - from));
			t->escaped = true;
			from = k + 1;
		}
	}
	if (t->chan && n > from)
		chan_input(t->chan, b + from, (size_t)(n - from));
}

static void tell_size(struct terminal *t)
{
	struct winsize w;

	if (t->resized && !ioctl(0, TIOCGWINSZ, &w) && w.ws_col && w.ws_row)
		t->resized(t->resized_opaque, w.ws_col, w.ws_row);
}

static void signalled(void *opaque, int fd, uint32_t events)
{
	struct terminal *t = opaque;
	struct signalfd_siginfo s;

	if (read(fd, &s, sizeof(s)) != sizeof(s))
		return;
	if (s.ssi_signo == SIGWINCH) {
		tell_size(t);
		return;
	}
	vm_quit(t->vm, 128 + (int)s.ssi_signo, "host-signal");
}

struct terminal *terminal_new(struct vm *vm, struct err *err)
{
	struct terminal *t = calloc(1, sizeof(*t));
	sigset_t mask;

	if (!t) {
		err_set(err, "out of memory");
		return NULL;
	}
	t->vm = vm;
	signal(SIGPIPE, SIG_IGN);
	/* Before any thread is made, so that all of them leave these to the main loop. */
	sigemptyset(&mask);
	sigaddset(&mask, SIGINT);
	sigaddset(&mask, SIGTERM);
	sigaddset(&mask, SIGHUP);
	sigaddset(&mask, SIGWINCH);
	sigprocmask(SIG_BLOCK, &mask, NULL);
	t->signal_fd = signalfd(-1, &mask, SFD_CLOEXEC | SFD_NONBLOCK);
	if (t->signal_fd >= 0)
		t->signals = loop_fd_add(vm->loop, t->signal_fd, EPOLLIN, signalled, t, err);
	if (!t->signals) {
		err_errno(err, errno, "signals");
		terminal_free(t);
		return NULL;
	}
	return t;
}

int terminal_claim(struct terminal *t, struct chan *c, struct err *err)
{
	if (t->chan)
		return err_set(err, "stdio: already used by another port");
	t->chan = c;
	return 0;
}

void terminal_on_resize(struct terminal *t, void (*fn)(void *opaque, uint16_t columns, uint16_t rows), void *opaque)
{
	t->resized = fn;
	t->resized_opaque = opaque;
	tell_size(t);
}

int terminal_start(struct terminal *t, struct err *err)
{
	static const int fatal[] = { SIGSEGV, SIGBUS, SIGABRT, SIGFPE, SIGILL };
	struct termios raw;

	if (!t->chan)
		return 0;
	/* A file as standard input cannot be watched, and has nothing to say. */
	t->input = loop_fd_add(t->vm->loop, 0, EPOLLIN, input, t, err);
	if (!isatty(0) || !isatty(1) || tcgetattr(0, &saved))
		return 0;
	raw = saved;
	cfmakeraw(&raw);
	raw.c_oflag |= OPOST; /* log lines between the guest's */
	raw.c_oflag &= ~(tcflag_t)ONLCR;
	must_restore = 1;
	atexit(restore);
	for (unsigned n = 0; n < sizeof(fatal) / sizeof(fatal[0]); n++)
		sigaction(fatal[n], &(struct sigaction){ .sa_handler = crashed, .sa_flags = (int)SA_RESETHAND }, NULL);
	tcsetattr(0, TCSADRAIN, &raw);
	t->raw = true;
	log_set_raw(true);
	return 0;
}

void terminal_stop(struct terminal *t)
{
	restore();
	log_set_raw(false);
	t->raw = false;
}

void terminal_free(struct terminal *t)
{
	terminal_stop(t);
	if (t->input)
		loop_fd_del(t->input);
	if (t->signals)
		loop_fd_del(t->signals);
	if (t->signal_fd >= 0)
		close(t->signal_fd);
	free(t);
}
