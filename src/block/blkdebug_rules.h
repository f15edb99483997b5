/* The rules of a blkdebug node: what shall happen at which event. Private to blkdebug*.c; threads as in node.h. */
#ifndef VIREO_BLOCK_BLKDEBUG_RULES_H
#define VIREO_BLOCK_BLKDEBUG_RULES_H

#include "block/event.h"
#include "block/node.h"

enum bd_io { BD_READ, BD_WRITE, BD_WRITE_ZEROES, BD_DISCARD, BD_FLUSH, BD_BLOCK_STATUS, BD_IO_COUNT };
enum bd_action { BD_INJECT_ERROR, BD_SET_STATE, BD_SUSPEND };

struct bd_rule {
	enum node_event event;
	enum bd_action action;
	int state;     /* in which it applies; 0: in any */
	int new_state; /* BD_SET_STATE */
	/* BD_INJECT_ERROR */
	int error;
	unsigned io_mask; /* 1 << enum bd_io */
	int64_t offset;	  /* a byte that the request has; -1: any */
	bool immediately; /* not from the loop */
	bool once, active;
	char *tag; /* BD_SUSPEND */
};

#define BD_MAX_RULES 4096u

struct bd_rules {
	struct bd_rule *at; /* in the order in which they were added */
	unsigned n, room;
	int current; /* state */
};

/* Rules of the file `config` (NULL: none) and of the options inject-error.N.* and set-state.N.*. */
int bd_rules_read(struct bd_rules *s, const char *config, struct opts *o, struct err *err);
/* The same from the text of a file. */
int bd_rules_parse(struct bd_rules *s, const char *name, char *text, struct err *err);
int bd_rules_add(struct bd_rules *s, const struct bd_rule *r); /* takes its tag */
void bd_rules_remove(struct bd_rules *s, unsigned i);
void bd_rules_free(struct bd_rules *s);
/* By name; EVENT_COUNT: there is none. */
enum node_event bd_event(const char *name);
/* Errors become active and states change; `suspend(opaque, tag)` is called for a break, which is gone then. */
void bd_rules_event(struct bd_rules *s, enum node_event e, void (*suspend)(void *opaque, char *tag), void *opaque);
/* The error that a request shall have, or 0. */
int bd_rules_check(struct bd_rules *s, enum bd_io io, uint64_t offset, uint64_t bytes, bool *immediately);

#endif
