#!/bin/busybox sh
# The guest's side of `scripts/bench engines`: programs of fixed work, each behind a mark on the serial line.
/bin/busybox mount -t devtmpfs none /dev
/bin/busybox --install -s /bin
export PATH=/bin:/sbin:/usr/bin:/usr/sbin

mark() { echo "mark:$1:"; }
zeros() { dd if=/dev/zero bs=1M count="$1" 2>/dev/null; }

mark awk # floating point, arrays, an interpreter's indirect calls
awk 'BEGIN { for (i = 0; i < 400000; i++) { s += i * 0.5; a[i % 1000] = s } print s }' >/dev/null
mark sha256 # integers in registers
zeros 64 | sha256sum >/dev/null
mark gzip # branches and tables
zeros 32 | gzip -c >/dev/null
mark sort # calls and comparisons
awk 'BEGIN { for (i = 0; i < 40000; i++) print (i * 7919) % 40009 }' | sort -n >/dev/null
mark fork # fork and exec
i=0
while [ $i -lt 200 ]; do
	/bin/busybox true
	i=$((i + 1))
done
mark shell # an interpreter of strings
i=0
while [ $i -lt 100000 ]; do i=$((i + 1)); done
mark pipe # system calls and context switches
zeros 16 | dd bs=4k 2>/dev/null | dd bs=4k of=/dev/null 2>/dev/null
mark end
/bin/busybox poweroff -f
