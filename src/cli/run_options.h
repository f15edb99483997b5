/* The options that describe a machine and where it leads on the host, shared by `run`, `trace` and `restore`. */
#ifndef VIREO_CLI_RUN_OPTIONS_H
#define VIREO_CLI_RUN_OPTIONS_H

#define CLI_WHERE "stdio|none|null|pty|socket|file:"

/* clang-format off */
/* What a machine begins with: `run` and `trace`. */
#define CLI_BOOT_OPTIONS \
	{ "kernel", 'k', CLI_VALUE, "kernel", NULL, "FILE", "kernel: bzImage, vmlinux (ELF, PVH) or multiboot", \
	  "@file" }, \
	{ "firmware", 'f', CLI_VALUE, "firmware", NULL, "bios|uefi|FILE", \
	  "begin in firmware: bios (SeaBIOS), uefi (OVMF), or a ROM image", \
	  "bios|uefi" }, \
	{ "initrd", 'i', CLI_VALUE, "initrd", NULL, "FILE", "initial RAM disk, or the multiboot module", "@file" }, \
	{ "append", 'a', CLI_VALUE, "append", NULL, "TEXT", "kernel command line", NULL }, \
	{ "memory", 'm', CLI_VALUE, "memory", NULL, "SIZE", \
	  "guest memory, as 512M, 1.5G or 2GiB; a bare number counts MiB (default: 512M)", NULL }, \
	{ "cpus", 'c', CLI_VALUE, "cpus", NULL, "N", "number of CPUs (default: 1)", NULL }, \
	{ "cpu", 0, CLI_VALUE, "cpu.model", NULL, "MODEL[,+FEATURE][,-FEATURE]", \
	  "CPU model: max (default), host, x86-64-v3, or another of those that `--cpu help` lists", "@cpu" }, \
	{ "clock", 0, CLI_PAIRS, "clock", NULL, "SOURCE[,KEY=VALUE]...", \
	  "guest time from host (default) or icount; keys: idle=sleep|skip, base", "host|icount" }, \
	{ "uuid", 0, CLI_VALUE, "uuid", NULL, "UUID", "the machine's UUID (default: random)", NULL }, \
	{ "vga", 0, CLI_PAIRS, "vga", NULL, "std|none[,KEY=VALUE]...", \
	  "a screen (with a PS/2 keyboard and mouse; default: with firmware bios and uefi): see screenshot, screentext, sendkey, type; keys: memory, rom, addr", \
	  "std|none" }, \
	{ "device", 0, CLI_SWITCH, NULL, NULL, "NAME[,KEY=VALUE]...", \
	  "add a device: i8042 (PS/2 keyboard and mouse), hpet (timers), pvpanic, i6300esb (watchdog); for test suites: isa-debug-exit, pc-testdev, pci-testdev", \
	  "i8042|hpet|pvpanic|i6300esb|isa-debug-exit|pc-testdev|pci-testdev" }

#define CLI_MACHINE_OPTIONS                                                                                            \
	{ "name", 'n', CLI_VALUE, "name", NULL, "NAME", "name of the machine (default: vm-PID)", NULL },               \
	{ "disk", 'd', CLI_SERIES, "disk", "path", "PATH[,KEY=VALUE]...",                                              \
	  "add a disk: a file, a block device, or nbd://HOST/EXPORT; keys: format, ro, snapshot, cache, discard, backing=near|follow," \
	  " aio, queues, bus=pci|mmio|ide, addr, serial, bootindex, werror, rerror, iops, bps, changed",                    \
	  "@file" },                                                                                                   \
	{ "cdrom", 0, CLI_SERIES, "cdrom", "path", "PATH[,KEY=VALUE]...",                                              \
	  "add a CD-ROM drive (IDE) with an image, or none; keys: aio, addr, changed, bootindex", "@file" },                      \
	{ "net", 0, CLI_SERIES, "net", "backend", "BACKEND[,KEY=VALUE]...",                                            \
	  "add a network card; BACKEND user, tap, socket, stream, dgram, passt, null or none, or the name of a network (vireo net); keys: model=virtio|e1000, mac, bus, addr, bootindex, rom, dump=FILE, dump-maxlen; of virtio: mtu, speed, duplex, rx-queue-size, tx-queue-size, ctrl_vq, rss, hash, feature.NAME=off (as QEMU calls it); of user: hostfwd, guestfwd0 and so on, restrict, net, host, dns, dhcpstart, ipv4, ipv6, ipv6-net, ipv6-host, ipv6-dns, hostname, domainname, dnssearch, tftp, bootfile, tftp-server-name; of tap: ifname, fd, fds, queues, script, downscript, bridge, helper, sndbuf; of socket and stream: listen, connect, reconnect, fd; of socket: mcast, udp, localaddr; of dgram: remote, local, fd; of passt: socket, program, tcp-ports and udp-ports ([ADDRESS/]PORTS, of this host only without an address); of a network: trust", \
	  "@network|user|tap|socket|stream|dgram|passt|null|none" },   \
	{ "vnc", 0, CLI_PAIRS, "vnc", NULL, "WHERE",                                                                   \
	  "let VNC viewers come (and have a screen): unix (vnc.sock in the run directory), unix:PATH, 127.0.0.1:PORT or :N; other addresses with ,tls-creds=DIR,password-file=FILE",\
	  "unix|none" },                                                                                              \
	{ "serial", 0, CLI_NUMBERED, "serial", NULL, "WHERE",                                                          \
	  "first (used again: second) serial port: stdio, none, null, pty, socket, file:PATH", CLI_WHERE },            \
	{ "console", 0, CLI_NUMBERED, "console", NULL, "WHERE", "virtio console: as --serial", CLI_WHERE },            \
	{ "engine", 0, CLI_VALUE, "engine", NULL, "NAME", "what runs the CPUs (default: auto)", "auto|interp|jit|kvm" },\
	{ "jit-cache", 0, CLI_VALUE, "jit.cache", NULL, "SIZE",                                                        \
	  "memory for what engine jit translates, 1M to 1G (default: 64M)", NULL },                                    \
	{ "jit-perf", 0, CLI_VALUE, "jit.perf", NULL, "map|dump",                                                      \
	  "tell Linux's perf of translated code: /tmp/perf-PID.map, or jit-PID.dump in this directory", "map|dump" },  \
	{ "gdb", 0, CLI_VALUE, "gdb", NULL, "[HOST:]PORT|unix:PATH",                                                   \
	  "let a debugger attach by the GDB remote protocol (HOST: this one)", "unix:" },                              \
	{ "no-reboot", 0, CLI_FLAG, "no-reboot", NULL, NULL, "end when the guest resets", NULL },                      \
	{ "no-shutdown", 0, CLI_FLAG, "no-shutdown", NULL, NULL, "pause instead of ending when the guest powers off" },  \
	{ "daemonize", 0, CLI_FLAG, "daemonize", NULL, NULL, "go on in the background once the machine runs" },        \
	{ "pidfile", 0, CLI_VALUE, "pidfile", NULL, "FILE", "write the process id to FILE", "@file" },                 \
	{ "log", 0, CLI_VALUE, "log", NULL, "FILE", "write log lines to FILE instead of stderr", "@file" },            \
	{ "paused", 0, CLI_FLAG, "paused", NULL, NULL, "do not run before `vireo resume NAME`", NULL },                \
	{ "config", 0, CLI_CONFIG, NULL, NULL, "FILE", "read KEY = VALUE lines from FILE", "@file" },                  \
	{ "set", 0, CLI_SET, NULL, NULL, "KEY=VALUE", "set any key of the configuration", NULL },                      \
	{ "stats", 0, CLI_FLAG, "stats", NULL, NULL, "print counters at the end", NULL },                              \
	{ "verbose", 'v', CLI_FLAG, "verbose", NULL, NULL, "log the start-up and the machine's life with times", NULL }
/* clang-format on */

#endif
