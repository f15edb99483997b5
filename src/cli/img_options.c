/* The options of `vireo img` commands, taken by one table each, and what they have in common. */
#include <errno.h>
#include <getopt.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "block/secret.h"
#include "cli/img_impl.h"

#define LONG_ONLY 256

static int add_object(void *opaque, const char *text)
{
	struct img *t = opaque;
	struct opts *o = opts_new();
	struct err err;
	int ret = opts_parse(o, text, "qom-type", &err);

	if (!ret)
		ret = secret_add(&t->ctx, o, &err);
	if (ret)
		img_error("%s", err.msg);
	opts_free(o);
	return ret;
}

static int number(const struct img_option *x, const char *text)
{
	char *end;
	long long v;

	errno = 0;
	v = strtoll(text, &end, 0);
	if (errno || end == text || *end || v < x->least || v > x->most) {
		img_error("%s", x->what);
		return -1;
	}
	*(int64_t *)x->to = v;
	return 0;
}

static int size(const struct img_option *x, const char *text)
{
	int64_t v;

	if (img_size(x->what, text, &v))
		return -1;
	if (x->most && (v < x->least || v > x->most)) {
		img_error("Invalid %s specified. Must be between %lld and %lld.", x->what, (long long)x->least,
			  (long long)x->most);
		return -1;
	}
	*(int64_t *)x->to = v;
	return 0;
}

static int take(const struct img_option *x, const char *text)
{
	switch (x->kind) {
	case IMG_TEXT:
		*(const char **)x->to = text;
		return 0;
	case IMG_ON:
		*(bool *)x->to = true;
		return 0;
	case IMG_SIZE:
		return size(x, text);
	case IMG_NUMBER:
		return number(x, text);
	case IMG_CALL:
	case IMG_NOTE:
		return x->call(x->to, text);
	case IMG_SKIP:
	case IMG_OFF:
		break;
	}
	return 0;
}

static bool has_text(const struct img_option *x)
{
	return x->kind != IMG_ON && x->kind != IMG_NOTE && x->kind != IMG_OFF;
}

int img_options(struct img *t, const struct img_option *list, int argc, char **argv)
{
	const struct img_option object = { 0,
					   "object",
					   IMG_CALL,
					   t,
					   "OBJECT",
					   "what options of the image name, as secret,id=ID,file=PATH",
					   .call = add_object };
	struct option longs[IMG_OPTIONS_MAX + 3] = { { "help", no_argument, 0, 'h' } };
	const struct img_option *by[IMG_OPTIONS_MAX + 2] = { 0 };
	char shorts[3 * IMG_OPTIONS_MAX] = ":h", *p = shorts + 2;
	unsigned n = 1;
	int k;

	for (const struct img_option *x = list;; x = x == &object ? NULL : x + 1) {
		if (x != &object && !x->letter && !x->name)
			x = &object;
		by[n] = x;
		longs[n] = (struct option){ x->name ? x->name : "", has_text(x), NULL, LONG_ONLY + (int)n };
		if (x->letter) {
			*p++ = x->letter;
			if (has_text(x))
				*p++ = ':';
		}
		n++;
		if (x == &object || n > IMG_OPTIONS_MAX)
			break;
	}
	while ((k = getopt_long(argc, argv, shorts, longs, NULL)) != -1) {
		unsigned i = 1;

		if (k == 'h') {
			img_describe(t, by + 1, n - 1);
			return 0;
		}
		if (k == ':')
			return img_usage("missing argument for option '%s'", argv[optind - 1]);
		if (k == '?')
			return img_usage("unrecognized option '%s'", argv[optind - 1]);
		if (k > LONG_ONLY)
			i = (unsigned)(k - LONG_ONLY);
		else
			while (by[i]->letter != k)
				i++;
		if (take(by[i], optarg))
			return 1;
	}
	return -1;
}

int img_options_one(struct img *t, const struct img_option *list, int argc, char **argv, struct img_source *s)
{
	int status = img_options(t, list, argc, argv);

	if (status < 0 && optind != argc - 1)
		return img_usage("Expecting one image file name");
	s->name = argv[optind];
	return status;
}

int img_output(const char *text, bool *json)
{
	*json = text && !strcmp(text, "json");
	if (!text || *json || !strcmp(text, "human"))
		return 0;
	img_error("--output must be used with human or json as argument.");
	return -1;
}

/* --- progress --- */

static volatile sig_atomic_t asked;

static void ask(int signal)
{
	asked = 1;
}

static void print_progress(struct img *t)
{
	if (t->progress_on) {
		printf("    (%3.2f/100%%)\r", t->progress);
		fflush(stdout);
	} else if (asked) {
		asked = 0;
		fprintf(stderr, "    (%3.2f/100%%)\n", t->progress);
	}
}

void img_progress_begin(struct img *t, bool on)
{
	struct sigaction a = { .sa_handler = ask, .sa_flags = SA_RESTART };
	sigset_t set;

	t->progress_on = on && !t->quiet;
	t->progress = t->progress_said = 0;
	if (t->progress_on) {
		signal(SIGUSR1, SIG_IGN);
	} else {
		sigaction(SIGUSR1, &a, NULL);
		sigemptyset(&set);
		sigaddset(&set, SIGUSR1);
		pthread_sigmask(SIG_UNBLOCK, &set, NULL);
	}
	print_progress(t);
}

void img_progress(struct img *t, double percent)
{
	t->progress = percent < 100 ? percent : 100;
	if (!asked && t->progress >= t->progress_said && t->progress - t->progress_said < 1 && percent < 100)
		return;
	t->progress_said = t->progress;
	print_progress(t);
}

void img_progress_end(struct img *t)
{
	if (t->progress_on)
		putchar('\n');
	fflush(stdout);
}

/* --- rate --- */

static int sleep_for(void *opaque)
{
	return nanosleep(opaque, NULL);
}

void img_rate_wait(struct node_ctx *c, struct img_rate *r, uint64_t bytes)
{
	struct timespec now, wait;
	double ahead;

	if (!r->bytes)
		return;
	clock_gettime(CLOCK_MONOTONIC, &now);
	if (!r->next)
		r->next = (double)now.tv_sec + (double)now.tv_nsec / 1e9;
	ahead = r->next - ((double)now.tv_sec + (double)now.tv_nsec / 1e9);
	r->next += (double)bytes / (double)r->bytes;
	if (ahead <= 0)
		return;
	wait.tv_sec = (time_t)ahead;
	wait.tv_nsec = (long)((ahead - (double)wait.tv_sec) * 1e9);
	node_work(c, sleep_for, &wait);
}
