/* `vireo help` and what is generated from the option tables. Main thread. */
#ifndef VIREO_CLI_HELP_H
#define VIREO_CLI_HELP_H

#include "cli/options.h"

extern const struct cli_command cli_help_command;

#endif
