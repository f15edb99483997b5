/* A build without neatvnc: see vnc.h. */
#include "display/vnc.h"

#include <stddef.h>

struct vnc *vnc_new(const struct vnc_config *c, struct err *err)
{
	err_set(err, "vnc: this vireo was built without neatvnc (Debian's libneatvnc-dev)");
	return NULL;
}

void vnc_free(struct vnc *v)
{
}
