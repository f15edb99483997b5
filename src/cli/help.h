/* `vireo help`, and the documents that the build makes from the option tables. Main thread. */
#ifndef VIREO_CLI_HELP_H
#define VIREO_CLI_HELP_H

#include <stdio.h>

#include "cli/options.h"

extern const struct cli_command cli_help_command;

/* One command with its options; all commands. */
void cli_help(const struct cli_command *cmd, FILE *out);
void cli_overview(FILE *out);
/* vireo(1) in man(7) macros, and the completion script for bash. */
void cli_man_page(FILE *out);
/* Running text of a man page. */
void cli_roff(FILE *out, const char *text);
void cli_bash_completion(FILE *out);

#endif
