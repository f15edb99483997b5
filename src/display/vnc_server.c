/*
 * The process that serves VNC viewers, by neatvnc and its event loop (aml): see vnc_impl.h. It has no memory of the
 * guest.
 */
#include <aml.h>
#include <errno.h>
#include <neatvnc.h>
#include <pixman.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

#include "base/log.h"
#include "display/vnc_impl.h"

#define XRGB8888 0x34325258u /* "XR24" */
#define WORKERS	 1	     /* threads that encode */
#define FIRST_W	 640
#define HOLD_MS	 20
#define HOLDS	 250 /* of a size at most: a viewer may say nothing for ever */
#define FIRST_H	 400

/*
 * neatvnc 0.5 makes what encodes for a viewer when it sends it pixels first, and does not look whether it is there when
 * the size changes: another size waits for those that have no pixels yet. The answer to a first request may be about
 * keys only.
 */
#define REQUESTS 2
struct newcomer {
	unsigned requests; /* to come until it has pixels */
	unsigned round;	   /* of newcomers that are waited for together */
};

struct server {
	const struct vnc_config *c;
	const uint32_t *pixels;
	int fd;
	char path[sizeof(((struct sockaddr_un *)NULL)->sun_path)];
	struct aml *loop;
	struct nvnc *nvnc;
	struct nvnc_display *display;
	struct nvnc_fb_pool *pool;
	uint16_t width, height; /* of what is shown */
	int viewers;
	int newcomers;	/* of this round */
	unsigned round; /* another one begins when one was waited for in vain */
	struct aml_timer *hold;
	unsigned held; /* how often `picture` was held back */
	struct vnc_picture picture;
	bool down[INPUT_KEYS];
	int x, y; /* of the pointer; negative: unknown */
	uint8_t buttons;
};

static void tell(struct server *s, const struct vnc_news_message *m)
{
	if (send(s->fd, m, sizeof(*m), MSG_NOSIGNAL) < 0 && errno != EINTR)
		_exit(0); /* the machine has ended */
}

/* --- pictures --- */

static bool resize(struct server *s, uint16_t w, uint16_t h)
{
	if (s->pool && s->width == w && s->height == h)
		return true;
	if (!s->pool)
		s->pool = nvnc_fb_pool_new(w, h, XRGB8888, w);
	else
		nvnc_fb_pool_resize(s->pool, w, h, XRGB8888, w);
	s->width = w;
	s->height = h;
	return s->pool;
}

static void show(struct server *s, const struct vnc_picture *p)
{
	struct pixman_region16 damage;
	struct nvnc_fb *fb = resize(s, p->width, p->height) ? nvnc_fb_pool_acquire(s->pool) : NULL;
	uint8_t *to = fb ? nvnc_fb_get_addr(fb) : NULL;

	if (!to)
		return;
	for (unsigned y = 0; y < p->height; y++)
		memcpy(to + (size_t)nvnc_fb_get_stride(fb) * 4 * y, s->pixels + (size_t)p->width * y,
		       p->width * sizeof(*s->pixels));
	pixman_region_init(&damage);
	for (unsigned n = 0; n < p->count; n++)
		pixman_region_union_rect(&damage, &damage, p->rect[n].x, p->rect[n].y, p->rect[n].w, p->rect[n].h);
	nvnc_display_feed_buffer(s->display, fb, &damage);
	pixman_region_fini(&damage);
	nvnc_fb_unref(fb);
}

static void show_or_hold(struct server *s)
{
	const struct vnc_picture *p = &s->picture;

	if (s->newcomers > 0 && (p->width != s->width || p->height != s->height)) {
		if (s->held++ < HOLDS) {
			aml_start(s->loop, s->hold);
			return;
		}
		s->newcomers = 0;
		s->round++;
	}
	s->held = 0;
	show(s, p);
	tell(s, &(struct vnc_news_message){ .what = VNC_DONE });
}

static void on_hold(void *timer)
{
	show_or_hold(aml_get_userdata(timer));
}

static void on_picture(void *handler)
{
	struct server *s = aml_get_userdata(handler);
	ssize_t n = recv(s->fd, &s->picture, sizeof(s->picture), MSG_DONTWAIT);

	if (n <= 0 && (n == 0 || (errno != EAGAIN && errno != EINTR)))
		_exit(0);
	if (n > 0)
		show_or_hold(s);
}

/* --- who looks --- */

static void send_key(struct server *s, unsigned key, bool down)
{
	if (!key || key >= INPUT_KEYS)
		return;
	s->down[key] = down;
	tell(s, &(struct vnc_news_message){ VNC_KEY, { (int)key, down } });
}

/* Nobody is there who could let go of the keys. */
static void let_go(struct server *s)
{
	for (unsigned n = 0; n < INPUT_KEYS; n++)
		if (s->down[n])
			send_key(s, n, false);
	if (s->buttons)
		tell(s, &(struct vnc_news_message){ .what = VNC_MOUSE });
	s->buttons = 0;
	s->x = s->y = -1;
}

static struct server *of_client(const struct nvnc_client *client)
{
	return nvnc_get_userdata(nvnc_client_get_server(client));
}

/* It has its pixels, or is gone. */
static void settle(struct nvnc_client *client)
{
	struct server *s = of_client(client);
	struct newcomer *n = nvnc_get_userdata(client);

	if (n && n->round == s->round)
		s->newcomers--;
	nvnc_set_userdata(client, NULL, NULL);
	free(n);
}

static void gone(struct nvnc_client *client)
{
	struct server *s = of_client(client);

	settle(client);
	if (!--s->viewers)
		let_go(s);
	tell(s, &(struct vnc_news_message){ VNC_VIEWERS, { s->viewers } });
}

static void came(struct nvnc_client *client)
{
	struct server *s = of_client(client);
	struct newcomer *n = malloc(sizeof(*n));

	if (!n)
		_exit(1);
	*n = (struct newcomer){ REQUESTS, s->round };
	nvnc_set_client_cleanup_fn(client, gone);
	nvnc_set_userdata(client, n, NULL);
	s->newcomers++;
	s->viewers++;
	tell(s, &(struct vnc_news_message){ VNC_VIEWERS, { s->viewers } });
}

static void asked(struct nvnc_client *client, bool incremental, uint16_t x, uint16_t y, uint16_t w, uint16_t h)
{
	struct newcomer *n = nvnc_get_userdata(client);

	if (n && !--n->requests)
		settle(client);
}

/* --- keys and the pointer --- */

static void on_keysym(struct nvnc_client *client, uint32_t keysym, bool down)
{
	send_key(of_client(client), vnc_key(keysym), down);
}

static void on_key(struct nvnc_client *client, uint32_t key, bool down)
{
	send_key(of_client(client), key, down);
}

static uint8_t buttons_of(enum nvnc_button_mask mask)
{
	return (uint8_t)((mask & NVNC_BUTTON_LEFT ? INPUT_LEFT : 0) | (mask & NVNC_BUTTON_MIDDLE ? INPUT_MIDDLE : 0) |
			 (mask & NVNC_BUTTON_RIGHT ? INPUT_RIGHT : 0));
}

/* The mouse has no places, only ways: from where the viewer's pointer was before. */
static void on_pointer(struct nvnc_client *client, uint16_t x, uint16_t y, enum nvnc_button_mask mask)
{
	struct server *s = of_client(client);
	struct vnc_news_message m = { .what = VNC_MOUSE };

	if (s->x >= 0) {
		m.value[0] = x - s->x;
		m.value[1] = y - s->y;
	}
	m.value[2] = (mask & NVNC_SCROLL_DOWN ? 1 : 0) - (mask & NVNC_SCROLL_UP ? 1 : 0);
	m.value[3] = s->buttons = buttons_of(mask);
	s->x = x;
	s->y = y;
	tell(s, &m);
}

/* --- life --- */

static void on_log(const struct nvnc_log_data *d, const char *message)
{
	if (d->level <= NVNC_LOG_WARNING)
		log_guest("vnc", "%s", message);
}

/* Libraries below neatvnc write to stderr what viewers make them say. */
static ssize_t to_log(void *cookie, const char *text, size_t len)
{
	const char *end = memchr(text, '\n', len);

	log_line(LOG_DEBUG, "vnc", "%.*s", (int)(end ? end - text : (ssize_t)len), text);
	return (ssize_t)len;
}

static void take_stderr(void)
{
	FILE *f = fopencookie(NULL, "w", (cookie_io_functions_t){ .write = to_log });

	if (!f)
		return;
	setvbuf(f, NULL, _IOLBF, BUFSIZ);
	stderr = f;
}

/* What is at a path may be somebody's file, or in use: neatvnc would take its place. */
static int check_path(const struct server *s, struct err *err)
{
	struct sockaddr_un a = { .sun_family = AF_UNIX };
	struct stat st;
	int fd, rc;

	if (lstat(s->path, &st))
		return 0;
	if (!S_ISSOCK(st.st_mode))
		return err_set(err, "vnc: %s is there, and not a socket", s->path);
	memcpy(a.sun_path, s->path, sizeof(a.sun_path));
	fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
	rc = fd < 0 ? -1 : connect(fd, (struct sockaddr *)&a, sizeof(a));
	if (fd >= 0)
		close(fd);
	if (!rc)
		return err_set(err, "vnc: somebody listens at %s already", s->path);
	unlink(s->path);
	return 0;
}

static int listen_at(struct server *s, struct err *err)
{
	const struct vnc_config *c = s->c;

	if (c->path) {
		if (strlen(c->path) >= sizeof(s->path))
			return err_set(err, "vnc: %s: the path is too long for a socket", c->path);
		strcpy(s->path, c->path);
		if (check_path(s, err))
			return -1;
		mode_t was = umask(0077);
		errno = 0;
		s->nvnc = nvnc_open_unix(s->path);
		umask(was);
	} else {
		errno = 0;
		s->nvnc = nvnc_open(c->host, c->port);
	}
	if (s->nvnc)
		return 0;
	return c->path ? err_errno(err, errno ? errno : EIO, "vnc: %s", s->path)
		       : err_errno(err, errno ? errno : EIO, "vnc: %s:%u", c->host, c->port);
}

/* A viewer may come before the first picture. */
static int show_black(struct server *s, struct err *err)
{
	struct nvnc_fb *fb = nvnc_fb_new(FIRST_W, FIRST_H, XRGB8888, FIRST_W);
	struct pixman_region16 damage;

	s->display = nvnc_display_new(0, 0);
	if (!fb || !s->display)
		return err_set(err, "out of memory");
	memset(nvnc_fb_get_addr(fb), 0, FIRST_W * FIRST_H * 4);
	nvnc_add_display(s->nvnc, s->display);
	pixman_region_init_rect(&damage, 0, 0, FIRST_W, FIRST_H);
	nvnc_display_feed_buffer(s->display, fb, &damage);
	pixman_region_fini(&damage);
	nvnc_fb_unref(fb);
	return 0;
}

int vnc_serve(const struct vnc_config *c, const uint32_t *pixels, int fd, struct err *err)
{
	struct server s = { .c = c, .pixels = pixels, .fd = fd, .x = -1, .y = -1, .width = FIRST_W, .height = FIRST_H };
	struct aml_handler *pictures;

	take_stderr();
	nvnc_set_log_fn(on_log);
	s.loop = aml_new();
	if (!s.loop)
		return err_set(err, "out of memory");
	aml_set_default(s.loop);
	if (aml_require_workers(s.loop, WORKERS))
		return err_set(err, "vnc: no thread");
	if (listen_at(&s, err))
		return -1;
	nvnc_set_userdata(s.nvnc, &s, NULL);
	nvnc_set_name(s.nvnc, c->name);
	nvnc_set_key_fn(s.nvnc, on_keysym);
	nvnc_set_key_code_fn(s.nvnc, on_key);
	nvnc_set_pointer_fn(s.nvnc, on_pointer);
	nvnc_set_new_client_fn(s.nvnc, came);
	nvnc_set_fb_req_fn(s.nvnc, asked);
	s.hold = aml_timer_new(HOLD_MS, on_hold, &s, NULL);
	pictures = aml_handler_new(fd, on_picture, &s, NULL);
	if (!s.hold || !pictures || aml_start(s.loop, pictures) || show_black(&s, err))
		return err_set(err, "out of memory");
	if (c->tls_creds && vnc_front(c, err))
		return -1;
	if (send(fd, "", 1, MSG_NOSIGNAL) != 1)
		return err_errno(err, errno, "vnc");
	aml_run(s.loop);
	_exit(0);
}
