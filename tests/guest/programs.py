"""Small programs in C that tests need: built where they are used."""
import subprocess

# Runs in the guest: zeroout DEVICE OFFSET LENGTH [unmap]. Busybox has no command that asks a block device for zeroes.
# With "unmap" the kernel does not fall back to writing them.
ZEROOUT = r"""
#define _GNU_SOURCE
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>

int main(int argc, char **argv)
{
	int mode = FALLOC_FL_KEEP_SIZE | (argc == 5 ? FALLOC_FL_PUNCH_HOLE : FALLOC_FL_ZERO_RANGE);
	int fd = argc >= 4 ? open(argv[1], O_RDWR) : -1;

	if (fd < 0)
		return 2;
	if (!fallocate(fd, mode, strtoll(argv[2], NULL, 0), strtoll(argv[3], NULL, 0)))
		return 0;
	perror(argv[1]);
	return 1;
}
"""

# For LD_PRELOAD: a disk of the host that needs 30 ms for what `aio=threads` writes. A save at any moment then finds
# requests under way.
SLOWDISK = r"""
#define _GNU_SOURCE
#include <dlfcn.h>
#include <sys/types.h>
#include <sys/uio.h>
#include <unistd.h>

#define DELAY_US 30000

ssize_t pwritev(int fd, const struct iovec *iov, int n, off_t at)
{
	ssize_t (*next)(int, const struct iovec *, int, off_t);

	usleep(DELAY_US);
	*(void **)&next = dlsym(RTLD_NEXT, "pwritev");
	return next(fd, iov, n, at);
}

ssize_t pwritev64(int fd, const struct iovec *iov, int n, off_t at) __attribute__((alias("pwritev")));

int fdatasync(int fd)
{
	int (*next)(int);

	usleep(DELAY_US);
	*(void **)&next = dlsym(RTLD_NEXT, "fdatasync");
	return next(fd);
}
"""


def build(source, path, *options):
    subprocess.run(["cc", *options, "-o", path, "-x", "c", "-"], input=source, text=True, check=True)
    return str(path)
