/*
 * virtio-console (virtio 1.2 section 5.3) with several ports. Input that the guest has no buffers for is left
 * with the host end; output that the host end does not take keeps its chain until there is room.
 */
#include <stdlib.h>
#include <string.h>

#include "base/bytes.h"
#include "virtio/devices.h"

#define F_SIZE	    0
#define F_MULTIPORT 1

enum { DEVICE_READY, PORT_ADD, PORT_REMOVE, PORT_READY, CONSOLE_PORT, RESIZE, PORT_OPEN, PORT_NAME };
enum { Q_CONTROL_IN = 2, Q_CONTROL_OUT = 3, QUEUES = 4 + 2 * (VIRTIO_CONSOLE_PORTS - 1) };
#define PENDING 32
#define TURN	64 /* chains before the loop does something else */

struct console;

struct port {
	struct console *con;
	unsigned id;
	struct virtio_console_port cfg;
	struct vring_chain *out; /* partly written */
	uint32_t out_done;	 /* bytes of `out`, or of the chain that drain() put back, that the sink has */
	bool starved;		 /* input waits for buffers, or for somebody in the guest to open the port */
	bool guest_open, host_open;
};

struct message {
	uint32_t port;
	uint16_t event, value;
};

struct console {
	struct virtio_dev d;
	uint8_t config[12]; /* cols, rows, max_nr_ports, emerg_wr */
	struct port port[VIRTIO_CONSOLE_PORTS];
	struct message pending[PENDING];
	uint32_t pending_count;
};

static unsigned q_in(unsigned port)
{
	return port ? 2 + 2 * port : 0;
}

/* The console is always there, another port when it has a name. */
static bool port_exists(const struct console *con, uint32_t id)
{
	return id < VIRTIO_CONSOLE_PORTS && (!id || con->port[id].cfg.name);
}

/* --- control messages --- */

static void flush_control(struct console *con)
{
	uint32_t sent = 0;

	while (sent < con->pending_count) {
		const struct message *m = &con->pending[sent];
		struct vring_chain *c = virtio_pop(&con->d, Q_CONTROL_IN);
		uint8_t b[12 + 64];
		size_t len = 8;

		if (!c)
			break;
		st_le32(b, m->port);
		st_le16(b + 4, m->event);
		st_le16(b + 6, m->value);
		if (m->event == RESIZE) {
			memcpy(b + 8, con->config, 4);
			len += 4;
		} else if (m->event == PORT_NAME) {
			const char *name = con->port[m->port].cfg.name;
			size_t n = strnlen(name, 63) + 1;

			memcpy(b + 8, name, n);
			len += n;
		}
		virtio_done(&con->d, Q_CONTROL_IN, c, (uint32_t)vring_write(c, b, len));
		sent++;
	}
	con->pending_count -= sent;
	memmove(con->pending, con->pending + sent, con->pending_count * sizeof(con->pending[0]));
}

/* A guest that asks and never listens loses answers. */
static void send_control(struct console *con, unsigned port, uint16_t event, uint16_t value)
{
	/* The size is looked up when the message goes out. */
	for (uint32_t n = 0; event == RESIZE && n < con->pending_count; n++)
		if (con->pending[n].event == RESIZE)
			return;
	if (con->pending_count < PENDING)
		con->pending[con->pending_count++] = (struct message){ port, event, value };
	flush_control(con);
}

static void port_ready(struct console *con, unsigned id)
{
	if (id == 0) {
		send_control(con, id, CONSOLE_PORT, 1);
		send_control(con, id, RESIZE, 0);
	}
	if (con->port[id].cfg.name)
		send_control(con, id, PORT_NAME, 1);
	send_control(con, id, PORT_OPEN, con->port[id].host_open);
}

/* Input to a port that nobody in the guest has open would be dropped there: it waits. */
static void guest_opened(struct port *p, bool open)
{
	p->guest_open = open;
	if (open && p->starved) {
		p->starved = false;
		char_wake_up(&p->cfg.wake);
	}
}

static void control(struct console *con)
{
	struct vring_chain *c;
	int n = 0;

	while (n++ < TURN && (c = virtio_pop(&con->d, Q_CONTROL_OUT))) {
		uint8_t b[8] = { 0 };
		uint32_t id;
		uint16_t event, value;

		vring_read(c, b, sizeof(b));
		virtio_done(&con->d, Q_CONTROL_OUT, c, 0);
		id = ld_le32(b);
		event = ld_le16(b + 4);
		value = ld_le16(b + 6);
		if (event == DEVICE_READY && value) {
			for (unsigned k = 0; k < VIRTIO_CONSOLE_PORTS; k++)
				if (port_exists(con, k))
					send_control(con, k, PORT_ADD, 1);
		} else if (event == PORT_READY && value && port_exists(con, id)) {
			port_ready(con, id);
		} else if (event == PORT_OPEN && port_exists(con, id)) {
			guest_opened(&con->port[id], value);
		}
	}
	if (n > TURN)
		virtio_defer(&con->d, Q_CONTROL_OUT);
}

/* --- data --- */

static void output(struct console *con, struct port *p)
{
	unsigned q = q_in(p->id) + 1;

	for (int turn = 0; turn < TURN; turn++) {
		struct iovec iov;
		size_t bytes;

		if (!p->out) {
			p->out = virtio_pop(&con->d, q);
			if (!p->out)
				return;
			vring_read_skip(p->out, p->out_done);
		}
		while (vring_read_iov(p->out, SIZE_MAX, &iov, 1, &bytes)) {
			size_t n = char_sink_write(&p->cfg.sink, iov.iov_base, iov.iov_len);

			vring_read_skip(p->out, n);
			p->out_done += n;
			if (n < iov.iov_len)
				return; /* can_write() comes */
		}
		virtio_done(&con->d, q, p->out, 0);
		p->out = NULL;
		p->out_done = 0;
	}
	virtio_defer(&con->d, q);
}

static void process(struct virtio_dev *d, unsigned q)
{
	struct console *con = d->self;

	if (q == Q_CONTROL_OUT) {
		control(con);
	} else if (q == Q_CONTROL_IN) {
		flush_control(con);
	} else {
		struct port *p = &con->port[q < 2 ? 0 : (q - 2) / 2];

		if (q & 1) {
			output(con, p);
		} else if (p->starved) {
			p->starved = false;
			char_wake_up(&p->cfg.wake);
		}
	}
}

static size_t input(void *opaque, const void *buf, size_t len)
{
	struct port *p = opaque;
	struct console *con = p->con;
	size_t done = 0;

	pthread_mutex_lock(&con->d.lock);
	while (done < len) {
		/* A console is always open (5.3.6.2). */
		bool open = !p->id || p->guest_open;
		struct vring_chain *c = open ? virtio_pop(&con->d, q_in(p->id)) : NULL;
		size_t n;

		if (!c) {
			p->starved = true;
			break;
		}
		n = vring_write(c, (const char *)buf + done, len - done);
		virtio_done(&con->d, q_in(p->id), c, (uint32_t)n);
		done += n;
		/* Without end such buffers would keep this loop busy. */
		if (!n)
			virtio_fail(&con->d, "an input buffer without room");
	}
	pthread_mutex_unlock(&con->d.lock);
	return done;
}

static void can_write(void *opaque)
{
	struct port *p = opaque;

	virtio_defer(&p->con->d, q_in(p->id) + 1);
}

static bool multiport(const struct virtio_dev *d)
{
	return d->status & VIRTIO_S_DRIVER_OK && virtio_has_feature(d, F_MULTIPORT);
}

static void connected(void *opaque, int yes)
{
	struct port *p = opaque;
	struct console *con = p->con;

	pthread_mutex_lock(&con->d.lock);
	if (p->host_open != !!yes && multiport(&con->d))
		send_control(con, p->id, PORT_OPEN, !!yes);
	p->host_open = yes;
	pthread_mutex_unlock(&con->d.lock);
}

void virtio_console_resize(void *opaque, uint16_t columns, uint16_t rows)
{
	struct virtio_dev *d = opaque;
	struct console *con = d->self;

	pthread_mutex_lock(&d->lock);
	st_le16(con->config, columns);
	st_le16(con->config + 2, rows);
	if (multiport(d))
		send_control(con, 0, RESIZE, 0);
	virtio_config_changed(d);
	pthread_mutex_unlock(&d->lock);
}

/* --- life --- */

static void reset(struct virtio_dev *d)
{
	struct console *con = d->self;

	con->pending_count = 0;
	for (unsigned n = 0; n < VIRTIO_CONSOLE_PORTS; n++) {
		struct port *p = &con->port[n];

		if (p->out)
			virtio_done(d, q_in(n) + 1, p->out, 0);
		p->out = NULL;
		p->out_done = 0;
		p->starved = p->guest_open = false;
	}
}

/* What the sink has taken only in part goes back to the ring; out_done says where to go on. */
static void drain(struct virtio_dev *d)
{
	struct console *con = d->self;

	pthread_mutex_lock(&d->lock);
	for (unsigned n = 0; n < VIRTIO_CONSOLE_PORTS; n++) {
		if (con->port[n].out)
			vring_unpop(con->port[n].out);
		con->port[n].out = NULL;
	}
	pthread_mutex_unlock(&d->lock);
}

static void destroy(struct virtio_dev *d)
{
	virtio_fini(d);
	free(d->self);
}

static int post_load(void *obj, struct err *err)
{
	struct console *con = obj;

	if (con->pending_count > PENDING)
		return err_set(err, "virtio-console: too many messages");
	for (uint32_t n = 0; n < con->pending_count; n++)
		if (!port_exists(con, con->pending[n].port) || con->pending[n].event > PORT_NAME ||
		    (con->pending[n].event == PORT_NAME && !con->port[con->pending[n].port].cfg.name))
			return err_set(err, "virtio-console: a message makes no sense");
	for (unsigned n = 0; n < VIRTIO_CONSOLE_PORTS; n++)
		con->port[n].starved = true;
	return 0;
}

static const struct virtio_ops ops = { .process = process, .reset = reset, .drain = drain, .destroy = destroy };
static const struct state_field message_fields[] = {
	STATE_U32F(struct message, port),
	STATE_U16F(struct message, event),
	STATE_U16F(struct message, value),
	STATE_FIELD_END,
};
static const struct state_desc message = { .name = "msg", .version = 1, .min_version = 1, .fields = message_fields };
static const struct state_field port_fields[] = {
	STATE_U32F(struct port, out_done),
	STATE_BOOLF(struct port, guest_open),
	STATE_FIELD_END,
};
/* Any out_done is safe: the chain is skipped as far as it goes. */
static const struct state_desc port = { .name = "port", .version = 1, .min_version = 1, .fields = port_fields };
static const struct state_field fields[] = {
	STATE_SUBA(struct console, port, &port),
	STATE_SUBA(struct console, pending, &message),
	STATE_U32F(struct console, pending_count),
	STATE_FIELD_END,
};
static const struct state_desc state = {
	.name = "console", .version = 1, .min_version = 1, .fields = fields, .post_load = post_load
};

struct virtio_dev *virtio_console_new(const struct virtio_console_config *c, struct err *err)
{
	struct console *con = calloc(1, sizeof(*con));

	if (!con) {
		err_set(err, "out of memory");
		return NULL;
	}
	con->d.name = "virtio-console";
	con->d.id = VIRTIO_ID_CONSOLE;
	con->d.ops = &ops;
	con->d.self = con;
	con->d.state = &state;
	con->d.mem = c->mem;
	con->d.loop = c->loop;
	con->d.offered = 1u << F_SIZE | 1u << F_MULTIPORT;
	con->d.config = con->config;
	con->d.config_size = sizeof(con->config);
	st_le16(con->config, 80);
	st_le16(con->config + 2, 24);
	st_le32(con->config + 4, VIRTIO_CONSOLE_PORTS);
	con->d.n_queues = QUEUES;
	for (unsigned q = 0; q < QUEUES; q++)
		con->d.queues[q].max_size = 64;
	for (unsigned n = 0; n < VIRTIO_CONSOLE_PORTS; n++) {
		struct port *p = &con->port[n];

		p->con = con;
		p->id = n;
		p->cfg = c->port[n];
		p->host_open = true;
		if (p->cfg.source)
			*p->cfg.source = (struct char_source){ input, can_write, connected, p };
	}
	if (!virtio_init(&con->d, err))
		return &con->d;
	free(con);
	return NULL;
}
