/*
 * Runs in the guest: zeroout DEVICE OFFSET LENGTH [unmap]. Busybox has no command that asks a block device for zeroes.
 * With "unmap" the kernel does not fall back to writing them.
 */
#include <fcntl.h>
#include <linux/falloc.h>
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
