/* Network cards: what is at the host's end of each, by its word in a table, and the card in front of it. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/bytes.h"
#include "boot/boot.h"
#include "dev/e1000.h"
#include "virtio/devices.h"
#include "vm/impl.h"
#include "vm/lan.h"

/* --- the host's end --- */

/* clang-format off */
/* `net0.backend`; another room's back end is one more row. */
static const struct {
	const char *name;
	struct net_peer *(*make)(struct loop *loop, struct config *c, const char *prefix, struct err *err);
	int (*check)(struct config *c, const char *prefix, struct err *err); /* keys only. May be NULL */
} backends[] = {
	{ "user", net_user_new, net_user_check },
	{ "tap", net_tap_new, net_tap_check },
	{ "socket", net_socket_new, net_socket_check },
	{ "stream", net_stream_new, net_stream_check },
	{ "dgram", net_dgram_new, net_dgram_check },
	{ "passt", net_passt_new, NULL },
	{ "null", net_null_new, NULL },
};
/* clang-format on */
#define NONE	ARRAY_LEN(backends) /* no card at all */
#define NETWORK (NONE + 1)	    /* another word: a network of the host, by its name */

static int read_backend(struct config *c, const char *prefix, size_t *backend, struct err *err)
{
	const char *words[NONE + 2] = { [NONE] = "none" };
	char key[64];
	int choice;

	for (size_t n = 0; n < NONE; n++)
		words[n] = backends[n].name;
	snprintf(key, sizeof(key), "%s.backend", prefix);
	if (config_choice(c, key, 0, words, &choice, err)) {
		size_t said = strlen(err->msg);

		*backend = NETWORK;
		if (vm_lan_is(config_get(c, key)))
			return 0;
		snprintf(err->msg + said, sizeof(err->msg) - said, ", nor a network%s",
			 vm_lan_is_roots() ? " of your own (cables of root's are for root)"
					   : " (see `vireo net list`)");
		return -1;
	}
	*backend = (size_t)choice;
	return 0;
}

int vm_check_network(struct config *c, const char *prefix, struct err *err)
{
	size_t backend;

	if (read_backend(c, prefix, &backend, err))
		return -1;
	return backend < NONE && backends[backend].check ? backends[backend].check(c, prefix, err) : 0;
}

/* `net0.dump=FILE`, with `net0.dump.maxlen`. Takes the peer. */
static struct net_peer *add_dump(struct vm *vm, struct net_peer *peer, const char *prefix, struct err *err)
{
	struct net_dump_config d = { .name = prefix, .goes_on = vm->restored };
	char key[64];
	uint64_t maxlen;

	snprintf(key, sizeof(key), "%s.dump-maxlen", prefix);
	if (config_uint(vm->config, key, 65536, (struct config_range){ 1, 262144 }, &maxlen, err))
		goto fail;
	snprintf(key, sizeof(key), "%s.dump", prefix);
	if (config_str(vm->config, key, NULL, &d.path, err))
		goto fail;
	d.maxlen = (uint32_t)maxlen;
	return d.path ? net_dump_new(peer, &d, err) : peer;
fail:
	peer->ops->destroy(peer);
	return NULL;
}

static struct net_peer *make_peer(struct vm *vm, size_t backend, struct vm_net *net, struct err *err)
{
	const char *prefix = net->name;
	struct net_peer *peer = backend == NETWORK ? vm_lan_peer(vm, prefix, &vm->nets[vm->net_count].started, err)
						   : backends[backend].make(vm->loop, vm->config, prefix, err);

	net->back_end = peer;
	return peer ? add_dump(vm, peer, prefix, err) : NULL;
}

/* --- the card --- */

static bool parse_mac(const char *text, uint8_t mac[6])
{
	int end = 0;

	return sscanf(text, "%2hhx:%2hhx:%2hhx:%2hhx:%2hhx:%2hhx%n", &mac[0], &mac[1], &mac[2], &mac[3], &mac[4],
		      &mac[5], &end) == 6 &&
	       !text[end] && !(mac[0] & 1) && (mac[0] | mac[1] | mac[2] | mac[3] | mac[4] | mac[5]);
}

/* Of net `n`, from its key or by its number. */
static int read_mac(struct vm *vm, unsigned n, uint8_t mac[6], struct err *err)
{
	char key[64], dflt[18];
	const char *text;

	snprintf(key, sizeof(key), "net%u.mac", n);
	snprintf(dflt, sizeof(dflt), "52:54:00:12:34:%02x", (0x56 + n) & 0xff);
	if (config_str(vm->config, key, dflt, &text, err))
		return -1;
	return parse_mac(text, mac)
		       ? 0
		       : err_set(err, "%s: '%s' is not a unicast MAC address (52:54:00:12:34:56)", key, text);
}

/* Two cards of one address answer for each other on any network. */
static int check_mac(struct vm *vm, unsigned n, const uint8_t mac[6], struct err *err)
{
	uint8_t other[6];
	char key[64];

	for (unsigned k = 0; k < n; k++) {
		const char *backend;

		snprintf(key, sizeof(key), "net%u.backend", k);
		backend = config_peek(vm->config, key);
		if (backend && !strcmp(backend, "none"))
			continue;
		if (read_mac(vm, k, other, err))
			return -1;
		if (!memcmp(mac, other, sizeof(other)))
			return err_set(err, "net%u.mac: net%u has this address already", n, k);
	}
	return 0;
}

enum { NET_VIRTIO, NET_E1000 };

int vm_add_rom(struct vm *vm, const char *p, const struct vm_rom *rom, struct err *err)
{
	const char *path;
	struct boot_image i;
	uint64_t slot;
	uint8_t *data;
	char key[64];
	int rc = -1;

	snprintf(key, sizeof(key), "%s.rom", p);
	if (config_str(vm->config, key, rom->usual ? rom->word : NULL, &path, err))
		return -1;
	if (!path || !strcmp(path, "none"))
		return 0;
	if (!strcmp(path, rom->word))
		path = rom->path;
	if (boot_image_open(&i, "rom", path, err))
		return -1;
	snprintf(key, sizeof(key), "%s.addr", p);
	data = i.size <= PCI_ROM_MAX ? malloc(i.size) : NULL;
	if (!config_peek(vm->config, key))
		err_set(err, "%s.rom: %s is for a card on PCI", p, path);
	else if (!data)
		err_set(err, "%s.rom: %s is larger than %u MiB", p, path, PCI_ROM_MAX >> 20);
	else if (ld_le16(i.head) != 0xaa55)
		err_set(err, "%s.rom: %s is not an expansion ROM", p, path);
	else if (!boot_image_read(&i, 0, data, i.size, err) &&
		 !config_uint(vm->config, key, 0, (struct config_range){ 1, 31 }, &slot, err))
		rc = pci_set_rom(vm->pci, (uint8_t)(slot << 3), data, i.size, err);
	free(data);
	boot_image_close(&i);
	return rc;
}

/* Takes the peer, also on error. */
static int add_e1000(struct vm *vm, struct vm_net *net, struct net_peer *peer, const uint8_t mac[6], struct err *err)
{
	static const char *const buses[] = { "pci", NULL };
	struct e1000_config c = { .pci = vm->pci, .mem = vm->mem, .clock = vm->clock, .loop = vm->loop, .peer = peer };
	const char *p = net->name;
	char key[64];
	int bus, devfn;

	snprintf(key, sizeof(key), "%s.bus", p);
	if (config_choice(vm->config, key, 0, buses, &bus, err) || vm_pci_address(vm, p, &devfn, err)) {
		peer->ops->destroy(peer);
		return -1;
	}
	c.devfn = (uint8_t)devfn;
	memcpy(c.mac, mac, sizeof(c.mac));
	net->e1000 = e1000_new(&c, err);
	if (!net->e1000)
		return err_prefix(err, "%s", p);
	vm_add_device(vm, net->e1000);
	return 0;
}

/* Features by QEMU's names, which can be taken away: "net0.feature.csum=off". virtio 1.2, 5.1.3. */
static const struct {
	const char *name;
	uint64_t bits;
} features[] = {
	{ "csum", 1ull << 0 | 0x1800 | 1ull << 13 | 1ull << 56 }, /* and what needs it */
	{ "guest_csum", 1ull << 1 | 0x380 | 3ull << 54 },
	{ "ctrl_guest_offloads", 1ull << 2 },
	{ "guest_tso4", 1ull << 7 },
	{ "guest_tso6", 1ull << 8 },
	{ "guest_ecn", 1ull << 9 },
	{ "host_tso4", 1ull << 11 },
	{ "host_tso6", 1ull << 12 },
	{ "host_ecn", 1ull << 13 },
	{ "mrg_rxbuf", 1ull << 15 },
	{ "status", 1ull << 16 },
	{ "ctrl_rx", 1ull << 18 },
	{ "ctrl_vlan", 1ull << 19 },
	{ "ctrl_rx_extra", 1ull << 20 },
	{ "guest_announce", 1ull << 21 },
	{ "mq", 1ull << 22 },
	{ "ctrl_mac_addr", 1ull << 23 },
	{ "queue_reset", 1ull << VIRTIO_F_RING_RESET },
	{ "guest_uso4", 1ull << 54 },
	{ "guest_uso6", 1ull << 55 },
	{ "host_uso", 1ull << 56 },
};

/* What the guest is told of the cable, which nothing is faster or slower by. */
static int read_link(struct vm *vm, const char *p, struct virtio_net_config *v, struct err *err)
{
	static const char *const duplexes[] = { "half", "full", "unknown", NULL };
	uint64_t speed;
	char key[64];
	int duplex;

	snprintf(key, sizeof(key), "%s.speed", p);
	if (config_uint(vm->config, key, UINT32_MAX, (struct config_range){ 0, INT32_MAX }, &speed, err))
		return -1;
	snprintf(key, sizeof(key), "%s.duplex", p);
	if (config_choice(vm->config, key, 2, duplexes, &duplex, err))
		return -1;
	v->link_known = speed != UINT32_MAX || duplex != 2;
	v->speed = (uint32_t)speed;
	v->duplex = duplex == 2 ? 0xff : (uint8_t)duplex;
	return 0;
}

/* How many buffers wait at most. */
static int read_sizes(struct vm *vm, const char *p, struct virtio_net_config *v, struct err *err)
{
	const struct {
		const char *name;
		uint16_t *to;
	} sizes[] = { { "rx-queue-size", &v->rx_size }, { "tx-queue-size", &v->tx_size } };
	uint64_t size;
	char key[64];

	for (size_t n = 0; n < ARRAY_LEN(sizes); n++) {
		snprintf(key, sizeof(key), "%s.%s", p, sizes[n].name);
		if (config_uint(vm->config, key, 256, (struct config_range){ 256, VRING_MAX_SIZE }, &size, err))
			return -1;
		if (size & (size - 1))
			return err_set(err, "%s: '%u' is not a power of two", key, (unsigned)size);
		*sizes[n].to = (uint16_t)size;
	}
	return 0;
}

/*
 * What the guest sees of a virtio card. Machines that were saved before there was a control queue have none, and no
 * word about it.
 */
static int read_virtio(struct vm *vm, const char *p, struct virtio_net_config *v, struct err *err)
{
	uint64_t mtu;
	char key[64];
	bool on;

	snprintf(key, sizeof(key), "%s.ctrl_vq", p);
	if (config_bool(vm->config, key, !vm->restored, &v->control, err) ||
	    config_choose(vm->config, key, v->control ? "on" : "off", err))
		return -1;
	snprintf(key, sizeof(key), "%s.rss", p);
	if (config_bool(vm->config, key, false, &v->rss, err))
		return -1;
	if (v->rss && !v->control)
		return err_set(err, "%s: it needs a control queue (ctrl_vq=on)", key);
	snprintf(key, sizeof(key), "%s.hash", p);
	if (config_bool(vm->config, key, false, &v->hash, err))
		return -1;
	if (v->hash && !v->control)
		return err_set(err, "%s: it needs a control queue (ctrl_vq=on)", key);
	v->withheld = v->control ? 0 : 1ull << VIRTIO_F_RING_RESET;
	snprintf(key, sizeof(key), "%s.mtu", p);
	if (config_uint(vm->config, key, 0, (struct config_range){ 0, 65535 }, &mtu, err))
		return -1;
	if (mtu && mtu < 68)
		return err_set(err, "%s: '%u' is not a number from 68 to 65535, nor 0 for none", key, (unsigned)mtu);
	v->mtu = (uint16_t)mtu;
	if (read_link(vm, p, v, err) || read_sizes(vm, p, v, err))
		return -1;
	for (size_t n = 0; n < ARRAY_LEN(features); n++) {
		snprintf(key, sizeof(key), "%s.feature.%s", p, features[n].name);
		if (config_bool(vm->config, key, true, &on, err))
			return -1;
		v->withheld |= on ? 0 : features[n].bits;
	}
	return 0;
}

int vm_add_net(struct vm *vm, unsigned n, const char *p, struct err *err)
{
	static const char *const models[] = { "virtio", "e1000", NULL };
	static const struct vm_rom roms[] = {
		[NET_VIRTIO] = { "ipxe", "/usr/lib/ipxe/qemu/efi-virtio.rom", false },
		[NET_E1000] = { "ipxe", "/usr/lib/ipxe/qemu/efi-e1000.rom", false },
	};
	struct virtio_net_config c = { .mem = vm->mem, .loop = vm->loop };
	struct vm_net *net = &vm->nets[vm->net_count];
	size_t backend;
	char key[64];
	int model, rc;

	if (read_backend(vm->config, p, &backend, err))
		return -1;
	if (backend == NONE)
		return 0;
	if (backend == NETWORK && vm_lan_prepare(vm->config, n, p, err))
		return -1;
	snprintf(key, sizeof(key), "%s.model", p);
	if (config_choice(vm->config, key, NET_VIRTIO, models, &model, err) || read_mac(vm, n, c.mac, err) ||
	    check_mac(vm, n, c.mac, err) || (model == NET_VIRTIO && read_virtio(vm, p, &c, err)))
		return -1;
	snprintf(net->name, sizeof(net->name), "%s", p);
	if (vm_read_names(vm, net->name, &net->called, err))
		return -1;
	c.peer = make_peer(vm, backend, net, err);
	if (!c.peer)
		return -1;
	memcpy(net->interface, c.peer->interface, sizeof(net->interface));
	if (c.peer->next && !c.control) {
		c.peer->ops->destroy(c.peer);
		return err_set(err, "%s.queues: this card has one pair", p);
	}
	if (model == NET_VIRTIO)
		net->virtio = virtio_net_new(&c, err);
	rc = model == NET_E1000 ? add_e1000(vm, net, c.peer, c.mac, err) : vm_attach(vm, net->virtio, p, err);
	vm->net_count++;
	return rc ? -1 : vm_add_rom(vm, p, &roms[model], err);
}
