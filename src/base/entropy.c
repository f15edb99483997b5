/* Random numbers from the host's kernel. */
#include "base/entropy.h"

#include <errno.h>
#include <stdint.h>
#include <sys/random.h>

bool entropy_get(void *buf, size_t len)
{
	uint8_t *at = buf;

	while (len) {
		ssize_t n = getrandom(at, len, GRND_NONBLOCK);

		if (n < 0 && errno == EINTR)
			continue;
		if (n <= 0)
			return false;
		at += n;
		len -= (size_t)n;
	}
	return true;
}
