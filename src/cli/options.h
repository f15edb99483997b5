/*
 * Option tables: the one description of every subcommand's command line, from which the parser,
 * `vireo help CMD`, the man page and the bash completion are made.
 *
 * An option writes into the configuration tree (base/config.h); the reader of the key validates it.
 * Main thread, before any other starts.
 */
#ifndef VIREO_CLI_OPTIONS_H
#define VIREO_CLI_OPTIONS_H

#include <stdbool.h>
#include <stdio.h>

#include "base/config.h"
#include "base/err.h"

enum cli_kind {
	CLI_VALUE,    /* --memory 2G: the key gets the text */
	CLI_FLAG,     /* --no-reboot: the key gets "on" */
	CLI_NUMBERED, /* --serial pty: the n-th use on the command line writes KEYn */
	CLI_SERIES,   /* --disk a,readonly=on: writes KEYn.FIRST and KEYn.readonly of the first n that is free */
	CLI_SWITCH,   /* --device isa-debug-exit,iobase=0xf4: WORD (one of `words`) gets "on", WORD.iobase the rest */
	CLI_PAIRS,    /* --clock icount,idle=skip: the key gets the word, KEY.idle the rest */
	CLI_SET,      /* --set key=value */
	CLI_CONFIG    /* --config FILE: read at its place, so that later options win */
};

#define CLI_MANY 10000

/* A list of them ends with one that has neither name nor letter. */
struct cli_option {
	const char *name; /* without dashes; NULL where only the letter is known (of a run_raw command) */
	char letter;	  /* 0: none */
	enum cli_kind kind;
	const char *key;     /* of the configuration tree */
	const char *first;   /* CLI_SERIES: the key of the leading bare word */
	const char *metavar; /* NULL for flags */
	const char *help;
	const char *words; /* of the value, for completion: see cli_command */
};

struct cli_command;
typedef void cli_command_fn(const struct cli_command *cmd, void *opaque);
/* Writes one of the things that a command describes further, each with a name, what follows that, what it does, and
 * lines of details ("  -x  what it does", or NULL). */
typedef void cli_item_fn(FILE *out, const char *const item[4]);

struct cli_command {
	const char *name;
	const char *also;		/* "rm|remove": what others call a subcommand, which it is suggested for */
	const char *summary;		/* one line */
	const char *operands;		/* "NAME FILE"; "" for none */
	int min_operands, max_operands; /* CLI_MANY: any number */
	/* What completes each operand, the last of them also those that follow: "word|word", "@file", "@machine" (a
	 * running one), "@network" (also "@network|word": or one of these), "@interface" (of the host), "@command",
	 * "@subcommand" (of the command before it), "@cpu" or NULL. */
	const char *operand_words[2];
	const struct cli_option *options; /* may be NULL */
	/* Of a command that has commands: NULL-terminated, with names of two words; or what makes each for a
	 * call (its name stays). */
	const struct cli_command *const *subcommands;
	void (*each_subcommand)(cli_command_fn *fn, void *opaque);
	const char *text;	 /* paragraphs for the man page and help */
	void (*help)(FILE *out); /* what `vireo help` prints, when that is not made from the rest */
	/* More for the man page and help, under a title. */
	const char *items_title;
	void (*items)(cli_item_fn *item, FILE *out);
	/* Returns the exit status. */
	int (*run)(struct config *c, int argc, char **argv);
	/* Instead of that and of options: the command takes its arguments apart by itself. */
	int (*run_raw)(int argc, char **argv);
};

/* All subcommands, NULL-terminated, in the order of `vireo help`. */
extern const struct cli_command *const cli_commands[];
bool cli_option_end(const struct cli_option *o);
/* Of "net create" the second word. */
const char *cli_last_word(const struct cli_command *cmd);
/* Every command that `cmd` has. */
void cli_each_subcommand(const struct cli_command *cmd, cli_command_fn *fn, void *opaque);
/* NULL with an error that suggests the nearest command when there is none of this name. */
const struct cli_command *cli_command_find(const char *name, struct err *err);

/* Call fn(subcommand, opaque) with the one whose second word is `name`; -1 with an error like that when there is none.
 */
int cli_subcommand(const struct cli_command *cmd, const char *name, cli_command_fn *fn, void *opaque, struct err *err);

/*
 * Parse argv[0..argc) of `cmd` into `c`; operands are moved to the front of argv and counted in
 * *operands. `--config FILE` is read at its place, so that later options win. Returns 0, -1 on an error,
 * or CLI_PARSED_HELP when --help or -h was met.
 */
#define CLI_PARSED_HELP 1
int cli_parse(const struct cli_command *cmd, struct config *c, int argc, char **argv, int *operands, struct err *err);

/* The name that this program goes by in messages, instead of "vireo"; kept. */
void cli_set_program(const char *name);
/* "vireo: MESSAGE" on stderr; returns 1, the exit status of a failed command. */
int cli_fail(const struct err *err);

#endif
