/* QEMU's command line: which keys it becomes, and what is refused in which words. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <stdlib.h>
#include <string.h>

#include "cli/commands.h"
#include "cli/qemu.h"

const struct cli_command *const cli_commands[] = { NULL };

int cli_machine(struct config *c, const char *state, const struct cli_after *after)
{
	return 0;
}

/* Words between spaces; one in '' may have some. */
struct line {
	char text[1024], *argv[64];
	int argc, rc;
	bool done;
	struct config *c;
	struct err err;
};

static struct line *parse(const char *text)
{
	static struct line l;
	struct qemu q = { .program = "qemu-system-x86_64", .err = &l.err };
	char *p;

	memset(&l, 0, sizeof(l));
	q.c = l.c = config_new();
	snprintf(l.text, sizeof(l.text), "%s", text);
	for (p = l.text; *p;) {
		char end = *p == '\'' ? '\'' : ' ';

		l.argv[l.argc++] = p += end == '\'';
		p += strcspn(p, end == ' ' ? " " : "'");
		while (*p == end || *p == ' ')
			*p++ = '\0';
	}
	l.rc = qemu_configure(&q, l.argc, l.argv);
	l.done = q.done;
	return &l;
}

/* "a=b c=- d": keys with their values, a key that is not there, and (no '=') one that is. */
static void check_keys(const char *text, struct line *l, const char *keys)
{
	char *copy = strdup(keys), *rest = copy, *key;

	while ((key = strsep(&rest, " "))) {
		char *eq = strchr(key, '=');
		const char *is;

		*eq++ = '\0';
		for (char *p = eq; *p; p++)
			*p = *p == '~' ? ' ' : *p;
		is = config_peek(l->c, key);
		if (!strcmp(eq, "-") ? is != NULL : !is || strcmp(is, eq) != 0)
			fail_msg("'%s': %s is '%s', not '%s'", text, key, is ? is : "(none)", eq);
	}
	free(copy);
}

static const struct {
	const char *line, *keys;
} good[] = {
	/* What QEMU has without being asked. */
	{ "-accel tcg",
	  "memory=128M cpu.model=qemu64,check serial0=socket i8042=on hpet=on rng=off firmware=bios net0.backend=user "
	  "net0.model=e1000 vga=std cdrom0.path=none cdrom0.addr=2 cpus=-" },
	{ "-nodefaults", "vga=none serial0=none net0.backend=- cdrom0.path=- i8042=on firmware=bios" },
	{ "-nographic", "serial0=stdio terminal.escapes=always terminal.signals=off monitor0=-" },
	{ "-serial stdio", "serial0=stdio terminal.escapes=never terminal.signals=on" },
	{ "-nographic -monitor stdio -serial null", "serial0=null monitor0=stdio" },
	{ "-monitor unix:/m,server,nowait -qmp tcp:127.0.0.1:9,server=on -qmp-pretty unix:/q",
	  "monitor0=unix:/m monitor0.server=- monitor0.wait=- qmp0=tcp:127.0.0.1:9 qmp0.wait=on qmp1=unix:/q "
	  "qmp1.server=off "
	  "qmp1.pretty=on" },
	{ "-chardev socket,id=m,path=/m,server=on,wait=off -mon chardev=m,mode=control",
	  "qmp0=unix:/m qmp0.server=- qmp0.wait=-" },
	{ "-chardev socket,id=m,fd=5,server=on -mon m", "monitor0=fd:5 monitor0.wait=on" },
	{ "-chardev stdio,id=c,mux=on,signal=off -serial chardev:c -mon c",
	  "serial0=stdio monitor0=- terminal.escapes=always" },
	{ "-serial unix:/s,server -chardev socket,id=c,path=/c,server=on,wait=on -device virtio-serial-pci -device "
	  "virtserialport,chardev=c",
	  "serial0=unix:/s serial0.server=- serial0.wait=on agent.wait=on" },
	{ "-serial unix:/s,server,nowait -serial tcp::4,server=on,wait=off",
	  "serial0=unix:/s serial0.server=- serial1=tcp:4 serial1.server=-" },
	{ "-chardev socket,id=s,host=h,port=7 -device isa-serial,chardev=s", "serial0=tcp:h:7 serial0.server=off" },
	{ "-monitor none -qmp null -monitor vc", "monitor0=- qmp0=-" },
	{ "-nographic -serial null", "serial0=null" },
	/* One and two dashes. */
	{ "--m 64 --nodefaults", "memory=64" },
	/* Machine, accelerator, processors. */
	{ "-machine pc,accel=tcg,pit=off,i8042=off,hpet=off", "pit=off i8042=off hpet=off" },
	{ "-M pc-i440fx-6.2,accel=tcg -m 1G,slots=0", "memory=1G" },
	{ "-machine accel=tcg,x-engine=interp", "engine=interp" },
	{ "-accel tcg,x-engine=interp,tb-size=32,thread=multi", "engine=interp jit.cache=32M" },
	{ "-machine type=pc -enable-kvm -machine accel=tcg,x-engine=interp", "engine=interp" },
	{ "-accel bogus:tcg,x-engine=interp", "engine=interp" },
	{ "-smp 4", "cpus=4" },
	{ "-smp cpus=4,sockets=2,cores=2", "cpus=4" },
	{ "-smp sockets=1,cores=3,threads=1", "cpus=3" },
	{ "-smp 2,maxcpus=2", "cpus=2" },
	{ "-cpu max,+x2apic,-sse4_1,pni=off,check", "cpu.model=max,+x2apic,-sse4.1,-sse3,check" },
	{ "-cpu qemu64,-vmx,-vmx-mbec,migratable=no", "cpu.model=qemu64,check" },
	{ "-cpu EPYC-v1,enforce,vendor=GenuineIntel", "cpu.model=EPYC,vendor=GenuineIntel" },
	{ "-cpu IvyBridge,phys-bits=36,host-phys-bits=off", "cpu.model=IvyBridge,phys-bits=36,check" },
	{ "-cpu host,hv_passthrough", "cpu.model=host,+hv-relaxed,+hv-vapic,+hv-vpindex,+hv-time,check" },
	{ "-cpu max,tsc-frequency=2000000000", "clock.tsc-hz=2000000000" },
	/* Boot. */
	{ "-kernel k -initrd i -append 'a b=c,d'", "kernel=k initrd=i append=a~b=c,d firmware=-" },
	{ "-machine kernel=k,append=x", "kernel=k append=x" },
	{ "-boot d", "boot.order=cdrom" },
	{ "-boot order=ncd,menu=on", "boot.order=net,disk,cdrom boot.menu=2500" },
	{ "-boot menu=on,splash-time=10", "boot.menu=10" },
	{ "-boot once=d,order=c", "boot.order=disk boot.once=cdrom" },
	{ "-boot once=d -boot order=n", "boot.order=net boot.once=cdrom" },
	{ "-kernel k -boot once=d", "boot.once=-" },
	{ "-kernel k -boot c", "boot.order=-" },
	{ "-bios /etc/passwd", "firmware=/etc/passwd" },
	{ "-bios passwd -L /etc", "firmware=/etc/passwd" },
	/* Drives. */
	{ "-hda a.img -cdrom c.iso",
	  "disk0.path=a.img disk0.bus=ide disk0.addr=0 disk0.discard=ignore cdrom0.path=c.iso "
	  "cdrom0.addr=2 cdrom1.path=-" },
	{ "a,b.img", "disk0.path=a,b.img disk0.bus=ide disk0.addr=0" },
	{ "-drive file=a,,b,if=virtio,format=raw,readonly=on,discard=unmap,cache=none,aio=native,werror=enospc",
	  "disk0.path=a,b disk0.format=raw disk0.readonly=on disk0.discard=unmap disk0.aio=auto disk0.bus=-" },
	{ "-drive file=a,cache=directsync,werror=stop,rerror=ignore -drive file=b,cache=writeback,werror=auto",
	  "disk0.cache=directsync disk0.werror=stop disk0.rerror=ignore disk1.cache=- disk1.werror=-" },
	{ "-drive file=a,cache=unsafe -drive file=b,cache.writeback=off -drive file=c,if=virtio,cache.direct=on",
	  "disk0.cache=unsafe disk1.cache=writethrough disk2.cache=none" },
	{ "-blockdev driver=file,node-name=f,filename=a,cache.direct=on -blockdev driver=raw,node-name=n,file=f "
	  "-device "
	  "virtio-blk-pci,drive=n,werror=ignore,rerror=auto",
	  "disk0.cache=none disk0.werror=ignore disk0.rerror=-" },
	{ "-drive file=a -drive file=b,index=3 -drive file=c,bus=1,unit=0", "disk0.addr=0 disk1.addr=3 disk2.addr=2" },
	{ "-drive file=c.iso,media=cdrom,readonly=on", "cdrom0.path=c.iso cdrom0.addr=0" },
	{ "-drive if=none,id=d,file=a -device virtio-blk-pci,drive=d,serial=S,num-queues=2,addr=0x5,bootindex=1",
	  "disk0.path=a disk0.serial=S disk0.queues=2 disk0.addr=5 disk0.bootindex=1" },
	{ "-kernel k -drive if=none,id=d,file=a -device virtio-blk,drive=d,bootindex=1", "disk0.bootindex=-" },
	{ "-blockdev driver=file,node-name=f,filename=a -blockdev driver=raw,node-name=n,file=f,read-only=on -device "
	  "ide-hd,drive=n,bus=ide.1,unit=1",
	  "disk0.path=a disk0.format=raw disk0.readonly=on disk0.bus=ide disk0.addr=3" },
	{ "-blockdev {\"driver\":\"raw\",\"node-name\":\"n\",\"file\":{\"driver\":\"file\",\"filename\":\"a\"}} "
	  "-device "
	  "{\"driver\":\"virtio-blk-pci\",\"drive\":\"n\",\"id\":\"x\"}",
	  "disk0.path=a disk0.format=raw" },
	{ "-drive if=pflash,format=raw,unit=0,file=C,readonly=on -drive if=pflash,format=raw,unit=1,file=V",
	  "firmware=C firmware.vars=V" },
	{ "-object iothread,id=t -drive if=none,id=d,file=a -device virtio-blk-pci,drive=d,iothread=t",
	  "disk0.path=a" },
	{ "-snapshot -hda a", "disk0.snapshot=on" },
	{ "-drive file=a,snapshot=on -hdb b", "disk0.snapshot=on disk1.snapshot=-" },
	/* Networks. */
	{ "-nic user,model=virtio,mac=52:54:00:1:2:3,hostfwd=tcp::1-:2,hostfwd=udp::3-:4",
	  "net0.backend=user net0.mac=52:54:00:1:2:3 net0.hostfwd=tcp::1-:2+udp::3-:4" },
	{ "-netdev user,id=n,restrict=on -device virtio-net-pci,netdev=n,mac=52:54:00:1:2:3,romfile=",
	  "net0.backend=user net0.restrict=on net0.mac=52:54:00:1:2:3 net0.rom=- net1.backend=-" },
	{ "-nic user,guestfwd=tcp:10.0.2.100:80-cmd:cat,guestfwd=:10.0.2.101:1-unix:/x",
	  "net0.guestfwd0=tcp:10.0.2.100:80-cmd:cat net0.guestfwd1=:10.0.2.101:1-unix:/x" },
	{ "-netdev user,id=n,hostfwd=tcp::1-:2", "net0.backend=-" },
	{ "-chardev null,id=c -drive if=none,id=d,file=/etc/passwd", "memory=128M" },
	{ "-nic none", "net0.backend=-" },
	{ "-nic tap,ifname=t,model=virtio", "net0.backend=tap net0.ifname=t net0.script=/etc/qemu-ifup "
					    "net0.downscript=/etc/qemu-ifdown" },
	{ "-nic tap,fd=7,vhost=off", "net0.fd=7 net0.script=-" },
	{ "-nic tap,helper=/h", "net0.helper=/h net0.bridge=br0 net0.script=-" },
	{ "-netdev bridge,id=b -device e1000,netdev=b", "net0.backend=tap net0.bridge=br0" },
	{ "-nic bridge", "net0.backend=tap net0.bridge=br0" },
	{ "-netdev bridge,id=b,br=lan -device "
	  "virtio-net-pci,netdev=b,mq=on,guest_tso4=off,host_mtu=1300,ctrl_vq=off,rss=on,hash=on",
	  "net0.backend=tap net0.bridge=lan net0.feature.mq=on net0.feature.guest_tso4=off net0.mtu=1300 "
	  "net0.ctrl_vq=off net0.rss=on net0.hash=on" },
	{ "-netdev tap,id=t,ifname=t,script=no,downscript=no,queues=4 -device virtio-net-pci,netdev=t",
	  "net0.script=no net0.queues=4" },
	{ "-nic socket,listen=:1234 -nic socket,connect=h:1", "net0.listen=0.0.0.0:1234 net1.connect=h:1" },
	{ "-nic socket,mcast=230.0.0.1:1234,localaddr=1.2.3.4", "net0.mcast=230.0.0.1:1234 net0.localaddr=1.2.3.4" },
	{ "-net nic,model=virtio -net socket,udp=h:1,localaddr=:2", "net0.backend=socket net0.udp=h:1" },
	{ "-nic stream,server=on,addr.type=unix,addr.path=/s", "net0.backend=stream net0.listen=unix:/s" },
	{ "-nic stream,addr.type=inet,addr.host=::1,addr.port=5,reconnect=3", "net0.connect=[::1]:5 net0.reconnect=3" },
	{ "-nic stream,addr.type=fd,addr.str=9", "net0.fd=9 net0.listen=-" },
	{ "-nic dgram,remote.type=inet,remote.host=h,remote.port=5,local.type=inet,local.host=,local.port=6",
	  "net0.backend=dgram net0.remote=h:5 net0.local=0.0.0.0:6" },
	{ "-nic user,id=u -object filter-dump,id=f,netdev=u,file=/d,maxlen=99,queue=all,status=on,position=tail",
	  "net0.dump=/d net0.dump-maxlen=99" },
	{ "-nic dgram,remote.type=inet,remote.host=230.0.0.1,remote.port=5,local.type=inet,local.host=1.2.3.4,"
	  "local.port=6",
	  "net0.remote=230.0.0.1:5 net0.local=1.2.3.4" },
	{ "-nic stream,addr.type=unix,addr.path=/s,addr.abstract=off,addr.tight=on,server=no", "net0.connect=unix:/s" },
	{ "-nic tap,ifname=t,sndbuf=1M,vhostforce=off,poll-us=0", "net0.sndbuf=1M" },
	{ "-nic user,ipv6=on,ipv6-net=fec0::/64,ipv6-host=fec0::2,ipv6-dns=fec0::3",
	  "net0.backend=user net0.ipv4=off net0.ipv6=- net0.ipv6-net=fec0::/64 net0.ipv6-host=fec0::2 "
	  "net0.ipv6-dns=fec0::3" },
	{ "-nic user,ipv4=on,ipv6-prefix=fd00::", "net0.ipv4=- net0.ipv6=off net0.ipv6-net=fd00::/64" },
	{ "-nic user,ipv6=n,ipv6-prefixlen=48", "net0.ipv4=- net0.ipv6=off net0.ipv6-net=fec0::/48" },
	{ "-nic user,ipv4=y,ipv6=yes", "net0.ipv4=- net0.ipv6=-" },
	{ "-nic user,ip=10.1.2.0,restrict=y", "net0.net=10.1.2.0/24 net0.restrict=y" },
	{ "-nic "
	  "user,net=192.168.76.0/24,host=192.168.76.1,dns=192.168.76.2,dhcpstart=192.168.76.9,hostname=h,dnssearch=a,"
	  "dnssearch=b.c,domainname=d,tftp-server-name=t",
	  "net0.net=192.168.76.0/24 net0.host=192.168.76.1 net0.dns=192.168.76.2 net0.dhcpstart=192.168.76.9 "
	  "net0.hostname=h net0.dnssearch=a+b.c net0.domainname=d net0.tftp-server-name=t" },
	{ "-netdev "
	  "{\"type\":\"user\",\"id\":\"n\",\"hostfwd\":[{\"str\":\"tcp::1-:2\"},{\"str\":\"udp::3-:4\"}],"
	  "\"guestfwd\":[]} -device e1000,netdev=n",
	  "net0.hostfwd=tcp::1-:2+udp::3-:4 net0.guestfwd0=-" },
	{ "-netdev user,id=n -device virtio-net-pci,netdev=n,speed=10000,duplex=full,host_mtu=0,rx_queue_size=1024,"
	  "tx_queue_size=512,packed=off,event_idx=off,indirect_desc=no,bootindex=-1,addr=-1",
	  "net0.speed=10000 net0.duplex=full net0.mtu=0 net0.rx-queue-size=1024 net0.tx-queue-size=512 "
	  "net0.feature.packed=off net0.feature.event_idx=off net0.feature.indirect_desc=no net0.bootindex=- "
	  "net0.addr=- net0.rom=-" },
	{ "-netdev user,id=n -device virtio-net-pci,netdev=n,speed=-1,tx=bh,vectors=10,gso=off,guest_ufo=on",
	  "net0.speed=-" },
	{ "-device virtio-rng-pci,packed=off", "rng.feature.packed=off" },
	{ "-boot n -netdev user,id=n -device e1000,netdev=n,rombar=0,mitigation=on", "net0.rom=-" },
	{ "-netdev user,id=n -device e1000,netdev=n,rombar=1,bootindex=2", "net0.rom=ipxe" },
	{ "-nic user -nic user,model=virtio-net-pci", "net0.model=e1000 net1.backend=user net1.model=- net1.rom=-" },
	{ "-netdev user,id=n -device e1000,netdev=n,addr=7,bootindex=1", "net0.model=e1000 net0.addr=7 net0.rom=ipxe" },
	{ "-boot n", "net0.rom=ipxe" },
	{ "-boot once=n", "net0.rom=ipxe" },
	{ "-boot n -netdev user,id=n -device virtio-net,netdev=n,romfile=", "net0.rom=-" },
	{ "-kernel k -boot n", "net0.rom=-" },
	/* The screen. */
	{ "-nodefaults -device VGA,vgamem_mb=32,addr=5", "vga=std vga.memory=32M vga.addr=5" },
	{ "-nodefaults -vga std", "vga=std" },
	{ "-vga none", "vga=none" },
	{ "-nodefaults -vnc :1", "vga=-" },
	{ "-vnc :1", "vnc=127.0.0.1:5901 vga=std" },
	{ "-nodefaults -display vnc=127.0.0.1:2", "vnc=127.0.0.1:5902" },
	{ "-vnc unix:/v", "vnc=unix:/v" },
	{ "-net none", "net0.backend=-" },
	{ "-net nic,model=virtio,macaddr=52:54:00:1:2:3 -net user,hostfwd=:1-:2",
	  "net0.mac=52:54:00:1:2:3 net0.hostfwd=:1-:2 net1.backend=-" },
	/* Ports. */
	{ "-serial mon:stdio -serial file:/x,y", "serial0=stdio serial1=file:/x,y" },
	{ "-chardev stdio,id=c,mux=on -serial chardev:c -monitor none", "serial0=stdio" },
	{ "-chardev file,id=c,path=/x -device isa-serial,chardev=c", "serial0=file:/x" },
	{ "-chardev null,id=c -device isa-debugcon,iobase=0x402,chardev=c", "debugcon=null debugcon.iobase=0x402" },
	{ "-chardev pty,id=c -device virtio-serial-pci -device virtconsole,chardev=c", "console0=pty" },
	{ "-chardev null,id=c -device virtio-serial -device virtserialport,chardev=c,name=a.b",
	  "agent=null agent.name=a.b console0=-" },
	/* Devices. */
	{ "-device isa-debug-exit,iobase=0xf4,iosize=0x4 -device pc-testdev -device pci-testdev",
	  "isa-debug-exit=on isa-debug-exit.iobase=0xf4 pc-testdev=on pci-testdev=on" },
	{ "-device pvpanic,ioport=0x505 -action panic=pause", "pvpanic=on pvpanic.ioport=0x505 pvpanic.action=pause" },
	{ "-action panic=pause,reboot=shutdown,shutdown=pause", "pvpanic.action=- no-reboot=on no-shutdown=on" },
	{ "-device i6300esb -action watchdog=poweroff", "i6300esb=on i6300esb.action=shutdown" },
	{ "-object rng-random,id=r,filename=/dev/urandom -device virtio-rng-pci,rng=r,disable_legacy=on", "rng=on" },
	{ "-device virtio-balloon", "balloon=on" },
	{ "-global isa-debug-exit.iobase=0x10 -device isa-debug-exit", "isa-debug-exit.iobase=0x10" },
	{ "-global isa-debug-exit.iobase=0x10 -device isa-debug-exit,iobase=0xf4", "isa-debug-exit.iobase=0xf4" },
	{ "-global kvm-pit.lost_tick_policy=discard", "memory=128M" },
	/* Of what is there without -device. */
	{ "-global VGA.vgamem_mb=32 -global e1000.romfile=", "vga=std vga.memory=32M net0.rom=-" },
	{ "-nic user,model=virtio -global virtio-net-pci.romfile=/r", "net0.rom=/r" },
	{ "-global e1000.mac=52:54:00:00:00:01 -nic user,mac=52:54:00:00:00:02", "net0.mac=52:54:00:00:00:02" },
	{ "-vga none -global VGA.vgamem_mb=32", "vga=none vga.memory=-" },
	{ "-global driver=PIIX4_PM,property=disable_s3,value=1", "memory=128M" },
	/* Those without an address do not take one of those that have one. */
	{ "-nodefaults -device virtio-rng-pci -device virtio-balloon-pci,addr=4", "rng.addr=5 balloon.addr=4" },
	/* Life. */
	{ "-S -s -no-reboot -no-shutdown -name guest=n,debug-threads=on -D /x -pidfile /p -daemonize",
	  "paused=on gdb=1234 no-reboot=on no-shutdown=on name=n log=/x pidfile=/p daemonize=on" },
	{ "-gdb tcp:127.0.0.1:99,server,nowait", "gdb=127.0.0.1:99" },
	{ "-gdb unix:/x", "gdb=unix:/x" },
	{ "-runas nobody", "runas=nobody" },
	{ "-sandbox on,obsolete=allow,elevateprivileges=children,spawn=deny",
	  "sandbox=on sandbox.obsolete=allow sandbox.elevateprivileges=children sandbox.spawn=deny" },
	{ "-sandbox off,spawn=deny", "sandbox=off sandbox.spawn=-" },
	{ "-rtc base=2026-01-02,clock=vm", "clock.base=2026-01-02T00:00:00" },
	{ "-rtc base=utc", "clock.base=-" },
	{ "-d guest_errors,unimp -overcommit mem-lock=off -sandbox off -msg timestamp=on -no-user-config",
	  "memory=128M" },
	{ "-smbios type=1,manufacturer=M,product=P,uuid=U -smbios type=0,vendor=V -smbios type=11,value=a,value=b",
	  "smbios.type1.manufacturer=M smbios.type1.product=P uuid=U smbios.type0.vendor=V smbios.oem0=a "
	  "smbios.oem1=b" },
	{ "-fw_cfg opt/a,file=/x -fw_cfg name=opt/b,string=c,,d",
	  "fwcfg0.name=opt/a fwcfg0.path=/x fwcfg1.name=opt/b fwcfg1.text=c,d" },
	{ "-object memory-backend-ram,id=m,size=67108864 -machine memory-backend=m", "memory=65536K memory.backing=-" },
	{ "-m 64 -object memory-backend-file,id=m,size=64M,mem-path=/x,share=on,prealloc=yes,dump=off -machine "
	  "memory-backend=m",
	  "memory=64 memory.backing=file memory.path=/x memory.share=on memory.prealloc=yes" },
	{ "-object memory-backend-memfd,id=m,size=1G,hugetlb=off -machine pc,memory-backend=m",
	  "memory=1048576K memory.backing=memfd memory.share=-" },
	{ "-device virtio-balloon-pci,deflate-on-oom=on,free-page-reporting=off",
	  "balloon.deflate-on-oom=on balloon.free-page-reporting=off" },
	{ "-device pvpanic -device i6300esb -action panic=exit-failure,watchdog=inject-nmi",
	  "pvpanic.action=exit-failure i6300esb.action=inject-nmi" },
	/* What clients call things by. */
	{ "-hda a -drive file=b,if=virtio -drive file=c,if=virtio,id=vd -drive file=d,if=virtio",
	  "disk0.id=ide0-hd0 disk1.id=virtio0 disk2.id=vd disk3.id=virtio2 cdrom0.id=ide1-cd0 disk0.qdev=-" },
	{ "-drive if=none,id=cdd,media=cdrom -device ide-cd,drive=cdd,id=mycd -device ide-cd,id=e",
	  "cdrom0.id=cdd cdrom0.qdev=mycd cdrom1.id= cdrom1.qdev=e" },
	{ "-blockdev driver=raw,node-name=n,file.driver=file,file.filename=a -device virtio-blk,drive=n,id=q",
	  "disk0.node-name=n disk0.qdev=q disk0.id=" },
	{ "-netdev user,id=nn -device e1000,netdev=nn,id=card -chardev null,id=cc -serial chardev:cc",
	  "net0.id=nn net0.qdev=card serial0.id=cc" },
	/* Several accelerators: the first that is there. */
	{ "-accel tcg,x-engine=interp -accel kvm -accel bogus", "engine=interp" },
	{ "-accel bogus -accel tcg,x-engine=interp -accel tcg", "engine=interp" },
	/* Whoever has no address leaves the screen's alone. */
	{ "-device pci-testdev -device virtio-rng-pci,addr=3", "pci-testdev.addr=5 net0.addr=4 rng.addr=3" },
	{ "-device pci-testdev,addr=9", "pci-testdev.addr=9" },
	/* A drive of IDE that says its bus only. */
	{ "-drive file=a,if=none,id=a -drive file=b,if=none,id=b -device ide-hd,drive=a,bus=ide.1 -device "
	  "ide-hd,drive=b,bus=ide.1",
	  "disk0.addr=2 disk1.addr=3" },
	{ "-drive file=a,if=none,id=a -drive file=b,if=none,id=b -device ide-hd,drive=a -device ide-hd,drive=b,unit=1",
	  "disk0.addr=0 disk1.addr=1" },
	{ "-chardev null,id=c -device virtio-serial,id=v -device virtserialport,bus=v.0,chardev=c", "agent=null" },
	{ "-chardev null,id=c -device virtio-serial -device virtserialport,bus=virtio-serial-bus.0,chardev=c",
	  "agent=null" },
	{ "-drive file=a,aio=native,cache=none", "disk0.aio=auto disk0.cache=none" },
	{ "-rtc base=2006-06-17", "clock.base=2006-06-17T00:00:00" },
	{ "-nic user,id=a -nic user,id=b", "net0.backend=user net1.backend=user" },
	{ "-drive file=a,if=virtio,index=1 -drive file=b,if=virtio -drive file=c,if=virtio",
	  "disk0.id=virtio1 disk1.id=virtio0 disk2.id=virtio2" },
	/* Defaults of devices that other options bring. */
	{ "-drive file=a,if=virtio -hda b -global virtio-blk-pci.serial=S -global ide-hd.werror=stop -global "
	  "virtio-blk-pci.num-queues=2",
	  "disk0.serial=S disk0.queues=2 disk0.werror=- disk1.serial=- disk1.werror=stop" },
	{ "-drive file=a,if=none,id=d -device virtio-blk,drive=d,serial=T -global virtio-blk-pci.serial=S",
	  "disk0.serial=T" },
	/* Names: those that are given, else QEMU's. */
	{ "-hda a -drive file=b,index=3,id=z -cdrom c -drive file=d,if=virtio -drive file=e,if=virtio,id=v",
	  "disk0.id=ide0-hd0 disk1.id=z disk2.id=virtio0 disk3.id=v cdrom0.id=ide1-cd0 disk0.qdev=- "
	  "disk0.node-name=-" },
	{ "-accel tcg", "cdrom0.id=ide1-cd0 net0.qdev=e1000.0 net0.id=-" },
	{ "-drive file=a,if=none,id=d -device ide-hd,drive=d,id=D -blockdev driver=raw,node-name=n,file.driver=file,"
	  "file.filename=b -device virtio-blk,drive=n,id=N -device ide-cd",
	  "disk0.id=d disk0.qdev=D disk0.node-name=- disk1.id= disk1.qdev=N disk1.node-name=n cdrom0.id=" },
	{ "-nic user,id=a -nic user,model=virtio -netdev user,id=b -device e1000,netdev=b -netdev user,id=c -device "
	  "virtio-net-pci,netdev=c,id=C",
	  "net0.qdev=e1000.0 net0.id=a net1.qdev=virtio-net-pci.0 net1.id=- net2.qdev=e1000.1 net2.id=b "
	  "net3.qdev=C net3.id=c" },
	{ "-device virtio-balloon,id=b -device i6300esb,id=w -device VGA,id=v -device pci-testdev,id=t -vga none",
	  "balloon.qdev=b i6300esb.qdev=w vga.qdev=v pci-testdev.qdev=t" },
	{ "-chardev null,id=c -serial chardev:c -chardev socket,id=m,path=/m,server=on -mon m,mode=control -monitor "
	  "unix:/n,server -qmp unix:/q,server",
	  "serial0.id=c qmp0.id=m monitor0.id=compat_monitor0 qmp1.id=compat_monitor1" },
	{ "-object memory-backend-ram,id=m,size=1G,share=on -machine pc,memory-backend=m",
	  "memory=1048576K memory.backing=memfd memory.share=on" },
	{ "-object memory-backend-ram,id=m,size=1G,share=off -machine pc,memory-backend=m",
	  "memory=1048576K memory.backing=- memory.share=-" },
	{ "-object memory-backend-memfd,id=m,size=1G,hugetlb=on,hugetlbsize=2M -machine pc,memory-backend=m",
	  "memory.backing=memfd memory.hugetlb=on" },
	{ "-vnc 0.0.0.0:1,tls-creds=t,password-secret=s -object secret,id=s,file=/f,format=raw -object "
	  "tls-creds-x509,id=t,dir=/d,endpoint=server,verify-peer=no",
	  "vnc=0.0.0.0:5901 vnc.tls-creds=/d vnc.password-file=/f" },
	{ "-vnc unix:/v -nodefaults", "vnc=unix:/v vnc.tls-creds=- vga=-" },
	{ "-mem-path /x -mem-prealloc", "memory.backing=file memory.path=/x memory.prealloc=on memory.share=-" },
};

static void options_become_keys(void **state)
{
	for (size_t n = 0; n < sizeof(good) / sizeof(good[0]); n++) {
		struct line *l = parse(good[n].line);

		if (l->rc)
			fail_msg("'%s': %s", good[n].line, l->err.msg);
		check_keys(good[n].line, l, good[n].keys);
		config_free(l->c);
	}
}

static const struct {
	const char *line, *error;
} bad[] = {
	{ "-foo", "-foo: invalid option" },
	{ "-drive file=a,if=virtio,id=ide0-hd0 -hda b", "Device with id 'ide0-hd0' already exists" },
	{ "-drive file=a,if=virtio,index=2 -drive file=b,if=virtio,index=2",
	  "drive with bus=0, unit=2 (index=2) exists" },
	{ "-drive file=a,if=virtio,index=x", "Parameter 'index' expects a number below 64" },
	{ "--foo x", "--foo: invalid option" },
	{ "-m", "-m: requires an argument" },
	{ "-m 1x", "-m 1x: Parameter 'size' expects a size" },
	{ "-m 64,maxmem=1G", "memory cannot be plugged in" },
	{ "-smp 0", "must be greater than zero" },
	{ "-smp 4,cores=3", "Invalid CPU topology" },
	{ "-smp 2,maxcpus=4", "CPUs cannot be plugged in" },
	{ "-smp 100", "Invalid SMP CPUs 100. The max CPUs supported by machine 'pc' is 64 (64)" },
	{ "-smp 2,foo=1", "Invalid parameter 'foo'" },
	{ "-machine q35", "unsupported machine type 'q35'" },
	{ "-machine foo=1", "Property 'pc-machine.foo' not found" },
	{ "-machine acpi=off", "Property 'pc-machine.acpi': 'off' is not there, only on|auto" },
	{ "-accel foo", "-accel foo: invalid accelerator foo" },
	{ "-accel tcg,foo=1", "Invalid parameter 'foo'" },
	{ "-accel tcg,thread=single", "thread: 'single' is not there" },
	{ "-accel tcg -machine accel=tcg", "incompatible" },
	{ "-cpu foo", "unable to find CPU model 'foo'" },
	{ "-cpu max,+foo", "Property 'max-x86_64-cpu.foo' not found" },
	{ "-cpu max,+svm", "does not have the CPU feature 'svm'" },
	{ "-cpu max,kvm=off", "kvm=off is not there" },
	{ "-device foo", "-device foo: 'foo' is not a valid device model name" },
	{ "-device virtio-rng-pci,foo=1", "Property 'virtio-rng-pci.foo' not found" },
	{ "-device virtio-rng-pci,ats=on", "Property 'virtio-rng-pci.ats': 'on' is not there, only off" },
	{ "-netdev user,id=n -device virtio-net-pci,netdev=n,tx=timer", "'timer' is not there, only bh" },
	{ "-netdev user,id=n -device virtio-net-pci,netdev=n,duplex=x", "'x' is not there, only half|full" },
	{ "-netdev user,id=n -device virtio-net-pci,netdev=n,vectors=abc", "Parameter 'vectors' expects integer" },
	{ "-netdev user,id=n -device virtio-net-pci,netdev=n,vectors=-1", "Parameter 'vectors' expects integer" },
	{ "-netdev user,id=n -device virtio-net-pci,netdev=n,rombar=", "Parameter 'rombar' expects integer" },
	{ "-netdev user,id=n -device e1000,netdev=n,mitigation=off", "'off' is not there, only on" },
	{ "-device virtio-rng-pci -device virtio-rng-pci", "a machine has one virtio-rng-pci at most" },
	{ "-device virtio-rng-pci,rng=x", "Property 'rng' can't find value 'x'" },
	{ "-device virtio-rng-pci,addr=3.1", "addr '3.1'" },
	{ "-device virtio-rng-pci,addr=3 -device virtio-balloon-pci,addr=3",
	  "slot 3 function 0 not available, in use by rng" },
	{ "-device virtio-rng-pci,id=a -device virtio-balloon-pci,id=a", "Duplicate ID 'a' for device" },
	{ "-device virtio-blk-pci", "drive property not set" },
	{ "-device virtio-blk-pci,drive=x", "Property 'drive' can't find value 'x'" },
	{ "-drive if=none,id=d,file=a -device virtio-blk,drive=d -device virtio-blk,drive=d",
	  "Drive 'd' is already in use" },
	{ "-device ide-hd", "No drive specified" },
	{ "-device isa-serial", "chardev property not set" },
	{ "-device virtio-serial-pci", "it has no port" },
	{ "-drive foo=1", "Must specify either driver or file" },
	{ "-drive file=a,foo=1", "-drive file=a,foo=1: Invalid parameter 'foo'" },
	{ "-drive file=a,if=scsi", "if=scsi is not there" },
	{ "-drive file=a,cache=off", "invalid cache option" },
	{ "-drive file=a,werror=x", "'x' invalid write error action" },
	{ "-drive file=a,media=cdrom,rerror=stop", "errors of a CD-ROM drive are reported" },
	{ "-drive file=a,rerror=enospc", "'enospc' invalid read error action" },
	{ "-drive file=a,cache=unsafe,cache.direct=on", "cache.no-flush=on is there with neither" },
	{ "-drive file=a,if=none,id=d -device ide-cd,drive=d,werror=stop",
	  "Property 'ide-cd.werror': 'stop' is not there" },
	{ "-drive file=nbd:x:1", "Unknown protocol 'nbd'" },
	{ "-drive file=a,index=4", "index 0 to 3" },
	{ "-hda a -drive file=b,index=0", "drive with bus=0, unit=0 (index=0) exists" },
	{ "-drive file=a,id=x,if=none -drive file=a,id=x,if=none", "Duplicate ID 'x' for drive" },
	{ "-blockdev driver=raw,node-name=n,file=x", "node-name='x'" },
	{ "-blockdev driver=raw,node-name=n,file=n", "Unknown driver 'raw' below a format" },
	{ "-blockdev {\"driver\":[1]}", "Parameter 'driver' is none of" },
	{ "-blockdev {", "JSON parse error" },
	{ "-netdev user", "Parameter 'id' is missing" },
	{ "-netdev vde,id=n", "does not accept value 'vde'" },
	{ "-nic tap,vhost=on", "vhost=on is not there, only off" },
	{ "-nic stream,server=on", "Parameter 'addr.type' is missing" },
	{ "-nic stream,addr.type=vsock", "addr.type=vsock: inet with host and port" },
	{ "-nic stream,addr.type=unix,addr.path=/s,server=x", "Parameter 'server' expects 'on' or 'off'" },
	{ "-nic stream,addr.type=unix,addr.path=/s,addr.tight=off", "addr.tight=off is not there, only on" },
	{ "-nic user,ipv6=x", "Parameter 'ipv6' expects 'on' or 'off'" },
	{ "-nic user,smb=/tmp", "-nic user,smb=/tmp: smb: there is no file server here" },
	{ "-netdev user,id=n,host=1.2.3.4", "net0.host: '1.2.3.4' is not in the guest's network (10.0.2.0/24)" },
	{ "-netdev user,id=n,ipv4=on,ipv6-host=fec0::5", "net0.ipv6-host: there is no IPv6 here (ipv6=off)" },
	{ "-nic user,vlan=0", "Invalid parameter 'vlan'" },
	{ "-nic dgram", "one of 'local' and 'remote' is needed" },
	/* What no card has is looked at all the same. */
	{ "-netdev socket,id=n,udp=127.0.0.1:1", "-netdev socket,id=n,udp=127.0.0.1:1: net0.localaddr: udp needs" },
	{ "-netdev socket,id=n,listen=:1,localaddr=1.2.3.4", "net0.localaddr: it is for udp and mcast only" },
	{ "-netdev socket,id=n", "-netdev socket,id=n: net0.backend: one of listen, connect, mcast" },
	{ "-netdev stream,id=n,addr.type=unix,addr.path=/s,server=on,reconnect=3",
	  "net0.reconnect: only what connects" },
	{ "-netdev dgram,id=n,local.type=unix,local.path=/s",
	  "-netdev dgram,id=n,local.type=unix,local.path=/s: net0." },
	{ "-netdev tap,id=n,sndbuf=x", "-netdev tap,id=n,sndbuf=x: net0.sndbuf: 'x' is not a size" },
	{ "-nic user,id=u -object filter-dump,id=f,netdev=u,file=/d -object filter-dump,id=g,netdev=u,file=/e",
	  "-object filter-dump,id=g,netdev=u,file=/e: a second filter-dump of network 'u' is not there" },
	{ "-object filter-dump,id=f,netdev=u,file=/d,queue=rx", "'filter-dump.queue': 'rx' is not there, only all" },
	{ "-netdev {\"type\":\"user\",\"id\":\"n\",\"hostfwd\":[\"x\"]}", "Parameter 'hostfwd' is none of" },
	{ "-object filter-dump,id=f,netdev=u,file=/d", "'netdev' expects a network" },
	{ "-object filter-dump,id=f,netdev=u", "needs 'file' property" },
	{ "-netdev user,id=n,foo=1", "Invalid parameter 'foo'" },
	{ "-netdev user,id=n,foo=1 -device e1000,netdev=n", "Invalid parameter 'foo'" },
	{ "-netdev user,id=n,restrict=maybe", "net0.restrict" },
	{ "-netdev user,id=n,hostfwd=x", "net0.hostfwd: 'x' is not" },
	{ "-netdev user,id=n,guestfwd=x", "net0.guestfwd0: 'x' is not" },
	{ "-chardev null,id=c,foo=1", "Invalid parameter 'foo'" },
	{ "-chardev file,id=c", "Parameter 'path' is missing" },
	{ "-drive if=none,id=d,file=/nonexistent", "Could not open '/nonexistent': No such file" },
	{ "-blockdev driver=file,node-name=f,filename=/nonexistent", "Could not open '/nonexistent'" },
	{ "-incoming tcp:0:4444", "-incoming: not there: saved machines are restored by" },
	{ "-nic user,model=rtl8139", "Unsupported NIC model: rtl8139" },
	{ "-nic user,foo=1", "Invalid parameter 'foo'" },
	{ "-device virtio-net-pci,netdev=x", "can't find value 'x'" },
	{ "-net nic", "there is no '-net user' or another network with it" },
	{ "-serial foo", "could not connect to character backend 'foo'" },
	{ "-serial chardev:x", "chardev \"x\" not found" },
	{ "-chardev foo,id=a", "'foo' is not a valid char driver name" },
	{ "-chardev null", "no id specified" },
	{ "-chardev null,id=a -serial chardev:a -serial chardev:a", "chardev 'a' is in use" },
	{ "-chardev null,id=a,foo=1 -serial chardev:a", "Invalid parameter 'foo'" },
	{ "-global foo.bar=1", "global foo.bar has invalid class name" },
	{ "-global virtio-rng-pci.foo=1", "Property 'virtio-rng-pci.foo' not found" },
	{ "-global kvm-pit.lost_tick_policy=delay", "'delay' is not there" },
	{ "-object foo,id=a", "does not accept value 'foo'" },
	{ "-object rng-random", "Parameter 'id' is missing" },
	{ "-object rng-random,id=a,filename=/x", "'/x' is not there" },
	{ "-object memory-backend-ram,id=m", "can't create backend with size 0" },
	{ "-object memory-backend-epc,id=m", "does not accept value 'memory-backend-epc'" },
	{ "-object memory-backend-file,id=m,size=1G", "mem-path property not set" },
	{ "-object memory-backend-memfd,id=m,size=1G,hugetlb=on,hugetlbsize=1G", "'1G' is not there, only 0|2M" },
	{ "-object memory-backend-ram,id=m,size=1G,mem-path=/x", "Invalid parameter 'mem-path'" },
	{ "-machine memory-backend=m", "Memory backend 'm' not found" },
	{ "-m 64 -object memory-backend-ram,id=m,size=1G -machine memory-backend=m", "does not match the size" },
	{ "-mem-path /x -object memory-backend-memfd,id=m,size=1G -machine memory-backend=m", "on an object already" },
	{ "-accel thread=multi", "Parameter 'accel' is missing" },
	{ "-accel tcg -accel tcg,foo=1", "-accel tcg,foo=1: Invalid parameter 'foo'" },
	{ "-smp 4,clusters=2", "clusters not supported" },
	{ "-drive file=a,if=none,id=x -device ide-hd,drive=x,bus=ide.0,unit=2",
	  "Can't create IDE unit 2, bus supports only 2 units" },
	{ "-drive file=a,if=none,id=x -device ide-hd,drive=x,bus=ide.2", "Bus 'ide.2' not found" },
	{ "-drive file=a,bus=1 -drive file=b,bus=1 -drive file=c,bus=1", "both drives of IDE bus 1 are taken" },
	{ "-blockdev driver=raw,node-name=r,file.driver=file,file.filename=a -blockdev "
	  "driver=raw,node-name=r,file.driver=file,file.filename=a",
	  "Duplicate nodes with node-name='r'" },
	{ "-blockdev driver=bogus,node-name=x", "Parameter 'driver' does not accept value 'bogus'" },
	{ "-blockdev driver=raw,node-name=r,file=nope", "Cannot find device='nope' nor node-name='nope'" },
	{ "-nic user,id=a -nic user,id=a", "Duplicate ID 'a' for nic" },
	{ "-netdev user,id=a -nic user,id=a", "Duplicate ID 'a' for nic" },
	{ "-chardev null,id=c -device virtio-serial-pci,id=v -device virtserialport,bus=w.0,chardev=c",
	  "Bus 'w.0' not found" },
	{ "-drive file=a,aio=native", "aio=native was specified, but it requires cache.direct=on" },
	{ "-chardev null,id=1a", "Parameter 'id' expects an identifier" },
	{ "-chardev 'null,id=a b'", "Parameter 'id' expects an identifier" },
	{ "-device virtio-rng-pci,id=", "Parameter 'id' expects an identifier" },
	{ "-rtc base=bogus", "-rtc base=bogus: invalid datetime format" },
	{ "-cpu qemu64,foo", "Property 'qemu64-x86_64-cpu.foo' not found" },
	{ "-cpu qemu64,host-phys-bits=maybe", "Property 'qemu64-x86_64-cpu.host-phys-bits' expects 'on' or 'off'" },
	{ "-cpu qemu64,sse4.1=maybe", "Property 'qemu64-x86_64-cpu.sse4.1' expects 'on' or 'off'" },
	{ "-qmp unix:/q,server=on,foo=1", "-qmp unix:/q,server=on,foo=1: Invalid parameter 'foo'" },
	{ "-append x", "-append only allowed with -kernel option" },
	{ "-initrd x", "-initrd only allowed with -kernel option" },
	{ "-bios /nonexistent", "could not load PC BIOS '/nonexistent'" },
	{ "-boot x", "Invalid boot device 'x'" },
	{ "-boot once=dd", "Boot device 'd' was given twice" },
	{ "-action panic=foo", "Parameter 'panic' does not accept value 'foo'" },
	{ "-gdb foo", "gdbstub" },
	{ "-d in_asm", "unknown log item 'in_asm'" },
	{ "-smbios type=1,vendor=x", "Invalid parameter 'vendor'" },
	{ "-smbios type=42", "Don't know how to build fields for SMBIOS type 42" },
	{ "-smbios file=/x", "Must specify type=" },
	{ "-fw_cfg opt/a", "one of file= and string= are needed" },
	{ "-sandbox on,spawn=children", "invalid argument for spawn" },
	{ "-sandbox on,foo=deny", "Invalid parameter 'foo'" },
	{ "-fda x", "-fda: not there: there are no floppy disks" },
	{ "-vga cirrus", "unknown vga type: cirrus" },
	{ "-vga std -device VGA", "there is one by -device" },
	{ "-vnc :x", "a display is :N" },
	{ "-vnc :1,password=on", "-vnc :1,password=on: a password that a monitor sets is not there" },
	{ "-vnc :1,websocket=on", "-vnc :1,websocket=on: Invalid parameter 'websocket'" },
	{ "-vnc :1,password-secret=s", "tls-creds= and password-secret= go together" },
	{ "-object secret,id=s,file=/f -vnc :1,password-secret=s,tls-creds=s",
	  "Property 'tls-creds' can't find value 's' of type tls-creds-x509" },
	{ "-object secret,id=s,file=/f -object tls-creds-x509,id=t,dir=/d,endpoint=server -vnc "
	  ":1,password-secret=s,tls-creds=t",
	  "verify-peer=off are needed" },
	{ "-object tls-creds-x509,id=t,dir=/d,endpoint=server,verify-peer=on", "'on' is not there, only off" },
	{ "-object secret,id=s,data=x", "Invalid parameter 'data'" },
	{ "-display gtk", "does not accept value 'gtk'" },
	{ "-monitor foo", "could not connect to character backend 'foo'" },
	{ "-mon mode=control", "Parameter 'chardev' is missing" },
	{ "-monitor pty", "a monitor is at stdio, unix:PATH or tcp:HOST:PORT" },
	{ "-chardev socket,id=s,fd=5 -serial chardev:s", "a port has no fd=" },
	{ "-serial unix:/s,foo=1", "Invalid parameter 'foo'" },
	{ "-chardev socket,id=a,path=/x,port=1 -serial chardev:a", "one of path=, port= and fd= is needed" },
	{ "-nographic -chardev null,id=a -mon a,mode=foo", "Parameter 'mode' does not accept value 'foo'" },
};

static void what_is_absent_is_refused_by_name(void **state)
{
	for (size_t n = 0; n < sizeof(bad) / sizeof(bad[0]); n++) {
		struct line *l = parse(bad[n].line);

		if (!l->rc || !strstr(l->err.msg, bad[n].error))
			fail_msg("'%s': '%s', not '%s'", bad[n].line, l->rc ? l->err.msg : "", bad[n].error);
		config_free(l->c);
	}
}

/* Whoever reads a key later can tell by which option it came. */
static void errors_of_keys_name_the_option(void **state)
{
	struct line *l = parse("-uuid x -kernel /k -device isa-debug-exit,iobase=zz");
	struct err err;

	assert_int_equal(l->rc, 0);
	err_set(&err, "uuid: bad");
	config_tell_origin(l->c, &err);
	assert_string_equal(err.msg, "-uuid x: uuid: bad");
	err_set(&err, "isa-debug-exit.iobase: bad");
	config_tell_origin(l->c, &err);
	assert_string_equal(err.msg, "-device isa-debug-exit,iobase=zz: isa-debug-exit.iobase: bad");
	/* Also of what the user has not written. */
	config_free(l->c);
	l = parse("-netdev tap,id=n,fd=77 -device virtio-net-pci,netdev=n,addr=5 -kernel /k");
	assert_int_equal(l->rc, 0);
	err_set(&err, "net0: descriptor 77: bad");
	config_tell_origin(l->c, &err);
	assert_string_equal(err.msg, "-netdev tap,id=n,fd=77: net0: descriptor 77: bad");
	/* kvm-unit-tests looks for these words. */
	err_set(&err, "kernel: no such file");
	config_tell_origin(l->c, &err);
	assert_string_equal(err.msg, "could not load kernel '/k': kernel: no such file");
	config_free(l->c);
}

static void the_grammar_is_qemus(void **state)
{
	struct qopts o;
	struct err err;
	bool on;

	assert_int_equal(qopts_parse(&o, "x", "first,,1,a=b,,c,flag,nothing,e=,n=1,n=2", "implied", &err), 0);
	assert_string_equal(qopts_get(&o, "implied"), "first,1");
	assert_string_equal(qopts_get(&o, "a"), "b,c");
	assert_int_equal(qopts_bool(&o, "flag", false, &on, &err), 0);
	assert_true(on);
	assert_int_equal(qopts_bool(&o, "thing", true, &on, &err), 0);
	assert_false(on);
	assert_string_equal(qopts_get(&o, "e"), "");
	assert_string_equal(qopts_nth(&o, "n", 0), "1");
	assert_string_equal(qopts_get(&o, "n"), "2");
	assert_null(qopts_get(&o, "m"));
	assert_int_equal(qopts_all_read(&o, &err), 0);
	assert_int_equal(qopts_bool(&o, "a", true, &on, &err), -1);
	qopts_free(&o);
	/* Without an implied name the first word is a flag, too. */
	assert_int_equal(qopts_parse(&o, "x", "word", NULL, &err), 0);
	assert_string_equal(qopts_get(&o, "word"), "on");
	qopts_free(&o);
	assert_int_equal(qopts_parse(&o, "x", "a=1", "implied", &err), 0);
	assert_int_equal(qopts_all_read(&o, &err), -1);
	assert_string_equal(err.msg, "-x a=1: Invalid parameter 'a'");
	qopts_free(&o);
}

static void programs_are_known_by_their_names(void **state)
{
	assert_string_equal(qemu_program("/usr/bin/qemu-system-x86_64"), "qemu-system-x86_64");
	assert_string_equal(qemu_program("qemu-kvm"), "qemu-kvm");
	assert_null(qemu_program("/x/qemu-system-x86_64/vireo"));
	assert_null(qemu_program("qemu-system-i386"));
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(options_become_keys),
		cmocka_unit_test(what_is_absent_is_refused_by_name),
		cmocka_unit_test(errors_of_keys_name_the_option),
		cmocka_unit_test(the_grammar_is_qemus),
		cmocka_unit_test(programs_are_known_by_their_names),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
