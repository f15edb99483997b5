/*
 * What a network is: its definition, as a value, as JSON (how it is kept), and checked. Nothing here looks at the
 * host. Any thread; a definition belongs to its caller.
 */
#ifndef VIREO_LAN_DEF_H
#define VIREO_LAN_DEF_H

#include <jansson.h>
#include <net/if.h>

#include "base/err.h"
#include "lan/ip.h"

#define LAN_NET_NAME	31 /* characters */
#define LAN_NAME_LABEL	63
#define LAN_STATIC_MAX	256
#define LAN_PUBLISH_MAX 64
#define LAN_ROUTES_MAX	16
#define LAN_MTU_MIN	1280
#define LAN_SHIFTED_MAX 1024 /* ports of a range that have other numbers at the machine: a rule has each */

enum { LAN_4 = 1, LAN_6 = 2 };
enum lan_model { LAN_NAT, LAN_ISOLATED, LAN_ROUTED, LAN_BRIDGED, LAN_MODELS };
enum lan_dns { LAN_DNS_OWN, LAN_DNS_DNSMASQ, LAN_DNS_OFF, LAN_DNS_KINDS };

/* A machine with an address of its own. */
struct lan_static {
	uint8_t mac[6];
	char name[LAN_NAME_LABEL + 1]; /* "": none */
	uint32_t addr4;		       /* 0: one of the range */
};

/* Ports of the host that lead to those of a machine of the network. */
struct lan_publish {
	bool udp;
	unsigned families; /* that it is for: LAN_4, LAN_6 or both */
	uint32_t at4;	   /* of the host; 0: any */
	struct in6_addr at6;
	uint16_t port, to_port;	     /* the first ones */
	uint16_t more;		     /* that follow them */
	char to[LAN_NAME_LABEL + 1]; /* name of a machine, or an address */
};

struct lan_def {
	char name[LAN_NET_NAME + 1];
	enum lan_model model;
	char uplink[IFNAMSIZ]; /* bridged */
	char bridge[IFNAMSIZ]; /* "": made of the name */
	struct lan_net4 net4;  /* len 0: none */
	struct lan_net6 net6;
	uint32_t first4, last4; /* what DHCP hands out */
	char domain[128];
	enum lan_dns dns;
	bool dhcp;
	unsigned mtu; /* 0: as it comes */
	unsigned statics_len, publish_len, routes_len;
	struct lan_static statics[LAN_STATIC_MAX];
	struct lan_publish publish[LAN_PUBLISH_MAX];
	char routes[LAN_ROUTES_MAX][LAN_NET_NAME + 1]; /* networks that this one may talk with */
};

extern const char *const lan_model_names[LAN_MODELS + 1]; /* NULL at the end */
extern const char *const lan_dns_names[LAN_DNS_KINDS + 1];

/* Everything but the name empty; DHCP and DNS on. */
void lan_def_init(struct lan_def *d, const char *name);
/* The whole definition: an error names what is wrong in it. Fills in the range, if none is given. */
int lan_def_check(struct lan_def *d, struct err *err);
/* One that was written down: without what would only be of no use, which older versions took. */
int lan_def_check_stored(struct lan_def *d, struct err *err);

json_t *lan_def_to_json(const struct lan_def *d);
/* Checked. What is not known is refused by its name. */
int lan_def_from_json(struct lan_def *d, const json_t *o, struct err *err);

/*
 * Another subnet, or none (len 0): a range that is not all of the old one was said, and stays, though lan_def_check()
 * may find that it is not in the new one, or that there is none.
 */
void lan_def_set_net4(struct lan_def *d, const struct lan_net4 *net4);

/* "MAC,NAME,ADDR": name or address may be empty. */
int lan_parse_static(struct lan_def *d, const char *text, struct err *err);
/* "[tcp|udp:][ADDR:]PORT[-PORT]-VM:PORT[-PORT]"; IPv6 addresses in brackets. 0.0.0.0 and [::] are all of a family. */
int lan_parse_publish(struct lan_def *d, const char *text, struct err *err);
/* "A-B" */
int lan_parse_range(struct lan_def *d, const char *text, struct err *err);
/* As it is read. */
const char *lan_publish_text(const struct lan_publish *p, char *buf, unsigned size);

bool lan_name_ok(const char *name);
/* The same, or that it means something else, as an error. */
int lan_name_check(const char *name, struct err *err);
/* A port that a packet to the host could come to and be meant by both; 0: none. */
unsigned lan_publish_meets(const struct lan_publish *a, const struct lan_publish *b);
/* 1 to 63 letters, digits and dashes, as a name in DNS. */
bool lan_label_ok(const char *name, unsigned len);
/* The label that a machine's name is in DNS: `_`, `.` and spaces are `-` there. False: it is none all the same. */
bool lan_label_of(const char *name, char label[LAN_NAME_LABEL + 1]);

/* --- what follows from a definition --- */
void lan_bridge_name(const struct lan_def *d, char buf[IFNAMSIZ]);
/* The other ends: of the server, and how machines' cables begin. */
void lan_server_name(const struct lan_def *d, char buf[IFNAMSIZ]);
#define LAN_TAP "vt"
/* The MAC of the bridge, by which it is known as ours from its first moment on. */
void lan_bridge_mac(const char *name, uint8_t mac[6]);
/* By which the server is known to machines. */
void lan_server_own_mac(const char *name, uint8_t mac[6]);
/* Whether it may talk with a network of this name. */
bool lan_def_names(const struct lan_def *d, const char *name);
/* A name of an interface that can be used anywhere, filters as well. The kernel takes all but spaces and slashes. */
bool lan_ifname_ok(const char *name);
bool lan_has_server(const struct lan_def *d);  /* ours or dnsmasq */
bool lan_has_gateway(const struct lan_def *d); /* the host has an address in it */
/* An address that a machine can have: in the subnet, behind the gateway and the server. */
bool lan_is_machine4(const struct lan_def *d, uint32_t addr);
static inline uint32_t lan_gateway4(const struct lan_def *d)
{
	return d->net4.addr + 1;
}
static inline uint32_t lan_server4(const struct lan_def *d)
{
	return d->net4.addr + 2;
}

#endif
