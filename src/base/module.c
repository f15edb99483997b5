/* See module.h. */
#include "base/module.h"

#include <dlfcn.h>
#include <errno.h>
#include <limits.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "base/bytes.h"

void *module_symbol(const char *name, const char *symbol, struct err *err)
{
	/* Where it is from the program's directory. */
	static const char *const places[] = { "", MODULE_PATH "/" };
	char dir[PATH_MAX], path[PATH_MAX + 256];
	ssize_t len = readlink("/proc/self/exe", dir, sizeof(dir) - 1);
	void *found = NULL;

	if (len < 0) {
		err_errno(err, errno, "/proc/self/exe");
		return NULL;
	}
	dir[len] = 0;
	*strrchr(dir, '/') = 0;
	for (size_t n = 0; n < ARRAY_LEN(places); n++) {
		snprintf(path, sizeof(path), "%s/%s%s.so", dir, places[n], name);
		if (access(path, F_OK))
			continue;
		void *module = dlopen(path, RTLD_NOW | RTLD_LOCAL);

		found = module ? dlsym(module, symbol) : NULL;
		if (!found)
			err_set(err, "%s", dlerror());
		return found;
	}
	err_set(err, "%s.so is neither in %s nor in %s/%s", name, dir, dir, MODULE_PATH);
	return NULL;
}
