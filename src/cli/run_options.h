/* The options that describe a machine, shared by `run` and `restore`. */
#ifndef VIREO_CLI_RUN_OPTIONS_H
#define VIREO_CLI_RUN_OPTIONS_H

#define CLI_MACHINE_OPTIONS                                                                                              \
	{ "name", 'n', CLI_VALUE, "name", NULL, "NAME", "name of the machine (default: vm-PID)", NULL },                 \
		{ "disk",                                                                                                \
		  'd',                                                                                                   \
		  CLI_SERIES,                                                                                            \
		  "disk",                                                                                                \
		  "path",                                                                                                \
		  "PATH[,KEY=VALUE]...",                                                                                 \
		  "add a virtio disk; keys: format, readonly, serial, queues, discard, bus",                             \
		  "@file" },                                                                                             \
		{ "net",                                                                                                 \
		  0,                                                                                                     \
		  CLI_SERIES,                                                                                            \
		  "net",                                                                                                 \
		  "backend",                                                                                             \
		  "BACKEND[,KEY=VALUE]...",                                                                              \
		  "add a virtio network card; BACKEND user or none; keys: hostfwd, mac, bus",                            \
		  "user|none" },                                                                                         \
		{ "serial",                                                                                              \
		  0,                                                                                                     \
		  CLI_VALUE,                                                                                             \
		  "serial0",                                                                                             \
		  NULL,                                                                                                  \
		  "WHERE",                                                                                               \
		  "first serial port: stdio, none, null, pty, file:PATH, socket",                                        \
		  "stdio|none|null|pty|socket" },                                                                        \
		{ "console",                                                                                             \
		  0,                                                                                                     \
		  CLI_VALUE,                                                                                             \
		  "console0",                                                                                            \
		  NULL,                                                                                                  \
		  "WHERE",                                                                                               \
		  "virtio console: as --serial",                                                                         \
		  "stdio|none|null|pty|socket" },                                                                        \
		{ "engine", 0, CLI_VALUE, "engine", NULL, "NAME", "what runs the CPUs (default: auto)", "auto|interp" }, \
		{ "config", 0, CLI_VALUE, "config", NULL, "FILE", "read KEY = VALUE lines from FILE", "@file" },         \
		{ "set", 0, CLI_SET, NULL, NULL, "KEY=VALUE", "set any key of the configuration", NULL },                \
		{ "stats", 0, CLI_FLAG, "stats", NULL, NULL, "print counters at the end", NULL },                        \
	{                                                                                                                \
		"verbose", 'v', CLI_FLAG, "verbose", NULL, NULL, "log the start-up with times", NULL                     \
	}

#endif
