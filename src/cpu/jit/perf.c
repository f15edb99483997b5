/* See perf.h. The formats are those of tools/perf/Documentation/{jit-interface,jitdump-specification}.txt in Linux. */
#include "cpu/jit/perf.h"

#include <elf.h>
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

#include "base/log.h"
#include "base/now.h"

/* A guest that changes its code all the time must not fill the disk. */
#define BYTES_MAX (1ull << 30)

struct jit_perf {
	enum jit_perf_kind kind;
	FILE *f; /* NULL: no more is written */
	uint64_t written, index;
	void *marker; /* by this mapping perf finds the dump */
	char path[64];
};

struct dump_header {
	uint32_t magic, version, total_size, elf_mach, pad, pid;
	uint64_t timestamp, flags;
};
#define DUMP_MAGIC   0x4a695444u
#define DUMP_VERSION 1u

struct dump_record {
	uint32_t id, total_size;
	uint64_t timestamp;
};
#define DUMP_LOAD  0u
#define DUMP_CLOSE 3u

struct dump_load {
	uint32_t pid, tid;
	uint64_t vma, code_addr, code_size, code_index;
};

/* perf record -k mono */
static void put(struct jit_perf *p, const void *bytes, size_t len)
{
	if (p->f && fwrite(bytes, 1, len, p->f) != len) {
		log_line(LOG_WARN, "jit", "%s: %s; it ends here", p->path, strerror(errno));
		fclose(p->f);
		p->f = NULL;
	}
	p->written += len;
}

static int begin_dump(struct jit_perf *p, struct err *err)
{
	const struct dump_header h = { DUMP_MAGIC, DUMP_VERSION,       sizeof(h),	   EM_X86_64,
				       0,	   (uint32_t)getpid(), (uint64_t)now_ns(), 0 };
	long page = sysconf(_SC_PAGESIZE);

	put(p, &h, sizeof(h));
	if (p->f)
		fflush(p->f);
	p->marker = p->f ? mmap(NULL, (size_t)page, PROT_READ | PROT_EXEC, MAP_PRIVATE, fileno(p->f), 0) : MAP_FAILED;
	return p->marker != MAP_FAILED ? 0 : err_set(err, "jit.perf: %s: %s", p->path, strerror(errno));
}

struct jit_perf *jit_perf_new(enum jit_perf_kind kind, struct err *err)
{
	struct jit_perf *p = calloc(1, sizeof(*p));
	int fd;

	if (!p) {
		err_set(err, "out of memory");
		return NULL;
	}
	p->kind = kind;
	p->marker = MAP_FAILED;
	/* Where perf looks for them. What is there is another process's, which had our number. */
	snprintf(p->path, sizeof(p->path), kind == JIT_PERF_MAP ? "/tmp/perf-%d.map" : "jit-%d.dump", (int)getpid());
	unlink(p->path);
	fd = open(p->path, O_RDWR | O_CREAT | O_EXCL | O_CLOEXEC, 0600);
	p->f = fd < 0 ? NULL : fdopen(fd, "w");
	if (!p->f) {
		err_set(err, "jit.perf: %s: %s", p->path, strerror(errno));
		if (fd >= 0)
			close(fd);
		jit_perf_free(p);
		return NULL;
	}
	if (kind == JIT_PERF_DUMP && begin_dump(p, err)) {
		jit_perf_free(p);
		return NULL;
	}
	log_line(LOG_INFO, "jit", "perf finds translated code in %s", p->path);
	return p;
}

void jit_perf_free(struct jit_perf *p)
{
	const struct dump_record end = { DUMP_CLOSE, sizeof(end), (uint64_t)now_ns() };

	if (!p)
		return;
	if (p->kind == JIT_PERF_DUMP)
		put(p, &end, sizeof(end));
	if (p->marker != MAP_FAILED)
		munmap(p->marker, (size_t)sysconf(_SC_PAGESIZE));
	if (p->f)
		fclose(p->f);
	free(p);
}

static void put_map(struct jit_perf *p, uintptr_t code, size_t len, const char *name)
{
	char line[160];
	int n = snprintf(line, sizeof(line), "%" PRIxPTR " %zx %s\n", code, len, name);

	put(p, line, (size_t)n);
}

static void put_dump(struct jit_perf *p, uintptr_t code, size_t len, const char *name)
{
	size_t name_len = strlen(name) + 1;
	struct dump_load l = { (uint32_t)getpid(), (uint32_t)syscall(SYS_gettid), code, code, len, p->index++ };
	struct dump_record r = { DUMP_LOAD, (uint32_t)(sizeof(r) + sizeof(l) + name_len + len), (uint64_t)now_ns() };

	put(p, &r, sizeof(r));
	put(p, &l, sizeof(l));
	put(p, name, name_len);
	put(p, (const void *)code, len);
}

void jit_perf_named(struct jit_perf *p, uintptr_t code, size_t len, const char *name)
{
	if (!p || !p->f)
		return;
	if (p->written > BYTES_MAX) {
		log_line(LOG_WARN, "jit", "%s: it is as large as it may become, and ends here", p->path);
		fclose(p->f);
		p->f = NULL;
		return;
	}
	if (p->kind == JIT_PERF_MAP)
		put_map(p, code, len, name);
	else
		put_dump(p, code, len, name);
	/* Whoever looks while the guest runs sees what there is. */
	if (p->f)
		fflush(p->f);
}

void jit_perf_block(struct jit_perf *p, uintptr_t code, size_t len, uint64_t rip)
{
	char name[40];

	if (!p)
		return;
	snprintf(name, sizeof(name), "guest_%016" PRIx64, rip);
	jit_perf_named(p, code, len, name);
}
