/* See terminal.h. */
#include "vm/terminal.h"

#include <errno.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/ioctl.h>
#include <sys/signalfd.h>
#include <unistd.h>

#include "base/log.h"
#include "base/tty.h"
#include "vm/control.h"
#include "vm/impl.h"

#define ESCAPE 1 /* Ctrl-A */

enum { ESCAPES_TERMINAL, ESCAPES_ALWAYS, ESCAPES_NEVER };
enum { SIGNALS_AUTO, SIGNALS_ON, SIGNALS_OFF };

struct terminal {
	struct vm *vm;
	struct chan *chan; /* where typing goes; NULL: nowhere */
	const char *key;   /* of the configuration, of that port */
	struct loop_fd *signals;
	int signal_fd;
	int escapes, keep_signals; /* "terminal.escapes", "terminal.signals" */
	bool raw, escaped;
	bool to_monitor; /* what is typed */
	void (*resized)(void *opaque, uint16_t columns, uint16_t rows);
	void *resized_opaque;
};

/* --- escape keys: those of QEMU's have its letters --- */

static void key_quit(struct terminal *t)
{
	(void)!write(1, "\r\n", 2);
	vm_quit(t->vm, 0, "host-ui");
}

static void key_pause(struct terminal *t)
{
	struct err err;

	if (t->vm->state == VM_RUNNING)
		vm_pause(t->vm);
	else if (vm_resume(t->vm, &err))
		log_line(LOG_WARN, "vm", "%s", err.msg);
}

static void key_reset(struct terminal *t)
{
	struct err err;

	if (vm_reset(t->vm, "host-ui", &err))
		log_line(LOG_WARN, "vm", "%s", err.msg);
}

static void key_power(struct terminal *t)
{
	vm_power_button(t->vm);
}

static void key_break(struct terminal *t)
{
	chan_break(t->chan);
}

static void key_monitor(struct terminal *t)
{
	struct link *l;
	bool fresh;

	t->to_monitor = !t->to_monitor;
	(void)!write(1, "\r\n", 2);
	l = t->to_monitor ? control_terminal(t->vm->control, &monitor_protocol, &fresh) : NULL;
	/* Its way to a new prompt. */
	if (l && !fresh)
		link_feed(l, "\3", 1);
}

static void key_timestamps(struct terminal *t)
{
	chan_toggle_timestamps(t->chan);
}

static void key_help(struct terminal *t);

static const struct escape {
	char key;
	const char *name, *help;
	void (*run)(struct terminal *t); /* NULL: the key is sent */
} escapes[] = {
	{ 'h', "h", "this help", key_help },
	{ '?', NULL, NULL, key_help },
	{ 'x', "x", "end the machine", key_quit },
	{ 'p', "p", "pause or go on", key_pause },
	{ 'r', "r", "reset", key_reset },
	{ 'o', "o", "press the power button", key_power },
	{ 'b', "b", "send a break", key_break },
	{ 't', "t", "toggle console timestamps", key_timestamps },
	{ 'c', "c", "switch between the guest and the monitor", key_monitor },
	{ ESCAPE, "Ctrl-A", "send Ctrl-A", NULL },
};

static void key_help(struct terminal *t)
{
	for (size_t n = 0; n < sizeof(escapes) / sizeof(escapes[0]); n++)
		if (escapes[n].name)
			dprintf(1, "%sCtrl-A %-7s %s\r\n", n ? "" : "\r\n", escapes[n].name, escapes[n].help);
}

static void escape_key(struct terminal *t, char key)
{
	for (size_t n = 0; n < sizeof(escapes) / sizeof(escapes[0]); n++)
		if (escapes[n].key == key && escapes[n].run)
			escapes[n].run(t);
}

/* What is typed at the monitor is not the guest's. True: it was. */
static bool monitor_takes(struct terminal *t, char b)
{
	bool fresh;
	struct link *l = t->to_monitor ? control_terminal(t->vm->control, &monitor_protocol, &fresh) : NULL;

	if (l)
		link_feed(l, &b, 1);
	return t->to_monitor;
}

/* Only a person has escape keys, unless the configuration says otherwise: what comes from a file or a pipe is data. */
static size_t take_escapes(void *opaque, char *b, size_t len)
{
	struct terminal *t = opaque;
	size_t kept = 0;

	if (t->escapes == ESCAPES_NEVER || (t->escapes == ESCAPES_TERMINAL && !t->raw))
		return len;
	for (size_t n = 0; n < len; n++) {
		bool escape = b[n] == ESCAPE;

		if (t->escaped)
			escape_key(t, b[n]);
		if (t->escaped == escape && !monitor_takes(t, b[n]))
			b[kept++] = b[n];
		t->escaped = escape && !t->escaped;
	}
	return kept;
}

/* --- signals --- */

static void tell_size(struct terminal *t)
{
	struct winsize w;

	if (t->resized && (!ioctl(0, TIOCGWINSZ, &w) || !ioctl(1, TIOCGWINSZ, &w)) && w.ws_col && w.ws_row)
		t->resized(t->resized_opaque, w.ws_col, w.ws_row);
}

static void set_raw(struct terminal *t, bool on)
{
	if (!on)
		tty_restore();
	t->raw =
		on && t->key && tty_raw(t->keep_signals == SIGNALS_ON || (t->keep_signals == SIGNALS_AUTO && !t->chan));
	log_set_raw(t->raw);
}

/* As any job that is stopped. The guest stands still too, rather than find that time has jumped. */
static void suspend(struct terminal *t)
{
	bool was_running = t->vm->state == VM_RUNNING;
	struct err err;

	vm_pause(t->vm);
	set_raw(t, false);
	kill(getpid(), SIGSTOP);
	set_raw(t, true);
	if (was_running)
		vm_resume(t->vm, &err);
}

static void signalled(void *opaque, int fd, uint32_t events)
{
	struct terminal *t = opaque;
	struct signalfd_siginfo s;

	if (read(fd, &s, sizeof(s)) != sizeof(s))
		return;
	switch (s.ssi_signo) {
	case SIGWINCH:
		tell_size(t);
		break;
	case SIGTSTP:
		suspend(t);
		break;
	case SIGCONT:
		set_raw(t, true);
		break;
	default:
		log_line(LOG_INFO, "vm", "ends by signal %s", strsignal((int)s.ssi_signo));
		t->vm->signal = (int)s.ssi_signo;
		t->vm->signal_from = (int)s.ssi_pid;
		vm_quit(t->vm, 128 + (int)s.ssi_signo, "host-signal");
	}
}

bool terminal_signalled(struct terminal *t)
{
	struct signalfd_siginfo s;

	while (read(t->signal_fd, &s, sizeof(s)) == sizeof(s))
		if (s.ssi_signo != SIGWINCH && s.ssi_signo != SIGTSTP && s.ssi_signo != SIGCONT)
			return true;
	return false;
}

/* What the parent had ignored (nohup, a job of a script) stays ignored. */
static void block_signals(sigset_t *mask)
{
	static const int ours[] = { SIGINT, SIGQUIT, SIGTERM, SIGHUP, SIGTSTP, SIGCONT, SIGWINCH };
	struct sigaction sa;

	sigemptyset(mask);
	for (size_t n = 0; n < sizeof(ours) / sizeof(ours[0]); n++)
		if (!sigaction(ours[n], NULL, &sa) && sa.sa_handler != SIG_IGN)
			sigaddset(mask, ours[n]);
	sigprocmask(SIG_BLOCK, mask, NULL);
	/* Errors of write() to a reader that is gone, and to a file at its limit (ulimit -f). */
	signal(SIGPIPE, SIG_IGN);
	signal(SIGXFSZ, SIG_IGN);
}

/* --- life --- */

struct terminal *terminal_new(struct vm *vm, struct err *err)
{
	static const char *const escape_words[] = { "terminal", "always", "never", NULL };
	static const char *const signal_words[] = { "auto", "on", "off", NULL };
	struct terminal *t = calloc(1, sizeof(*t));
	sigset_t mask;

	if (!t) {
		err_set(err, "out of memory");
		return NULL;
	}
	t->vm = vm;
	t->signal_fd = -1;
	if (config_choice(vm->config, "terminal.escapes", ESCAPES_TERMINAL, escape_words, &t->escapes, err) ||
	    config_choice(vm->config, "terminal.signals", SIGNALS_AUTO, signal_words, &t->keep_signals, err)) {
		terminal_free(t);
		return NULL;
	}
	block_signals(&mask);
	t->signal_fd = signalfd(-1, &mask, SFD_CLOEXEC | SFD_NONBLOCK);
	if (t->signal_fd < 0)
		err_errno(err, errno, "signals");
	else
		t->signals = loop_fd_add(vm->loop, t->signal_fd, EPOLLIN, signalled, t, err);
	if (t->signals)
		return t;
	terminal_free(t);
	return NULL;
}

int terminal_claim(struct terminal *t, const char *key, struct chan *c, struct err *err)
{
	if (t->key)
		return err_set(err, "%s: stdio is %s's already", key, t->key);
	t->key = key;
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
	if (!t->key)
		return 0;
	set_raw(t, true);
	if (!t->chan)
		return 0; /* control.c reads */
	return chan_read_from(t->chan, 0, take_escapes, t, err);
}

void terminal_stop(struct terminal *t)
{
	set_raw(t, false);
}

void terminal_free(struct terminal *t)
{
	terminal_stop(t);
	loop_fd_del(t->signals);
	if (t->signal_fd >= 0)
		close(t->signal_fd);
	free(t);
}
