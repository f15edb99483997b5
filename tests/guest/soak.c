/*
 * Runs in a guest: soak SECONDS MODULE.ko...: events of the kinds that a machine has all its life, as many as it can
 * take: timers, interrupts between processors, changes of page tables by threads that share them and by processes that
 * do not, modules that come and go. Whatever one of them sees wrong ends it all with a line and status 1. At the end
 * "soak: NAME COUNT" for each kind, and the sums of the kernel's own counts in /proc/interrupts.
 */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <linux/futex.h>
#include <linux/membarrier.h>
#include <pthread.h>
#include <sched.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#define PAGE   4096
#define PAGES  16
#define SECOND 1000000000ll

static int cpus;
static atomic_bool over;
static _Atomic int64_t latest; /* no processor's clock may be behind what another one has seen */

_Noreturn static void wrong(const char *what, long long is, long long should)
{
	printf("soak: WRONG: %s: %lld, not %lld (errno %d)\n", what, is, should, errno);
	fflush(stdout);
	_exit(1);
}

static void expect(const char *what, long long is, long long should)
{
	if (is != should)
		wrong(what, is, should);
}

static void stay_on(int cpu)
{
	cpu_set_t set;

	CPU_ZERO(&set);
	CPU_SET(cpu % cpus, &set);
	expect("sched_setaffinity", sched_setaffinity(0, sizeof(set), &set), 0);
}

static int64_t now(void)
{
	int64_t before = atomic_load(&latest), t;
	struct timespec ts;

	clock_gettime(CLOCK_MONOTONIC, &ts);
	t = ts.tv_sec * SECOND + ts.tv_nsec;
	if (t < before)
		wrong("the clock goes backwards", t, before);
	while (before < t && !atomic_compare_exchange_weak(&latest, &before, t))
		;
	return t;
}

/* --- what is done all the time; each gives how often --- */

static uint64_t timers(int n)
{
	uint64_t count = 0, random = 88172645463325252ull + (unsigned)n;

	stay_on(n);
	prctl(PR_SET_TIMERSLACK, 1);
	while (!atomic_load(&over)) {
		random ^= random << 13;
		random ^= random >> 7;
		random ^= random << 17;
		int64_t until = now() + 10000 + (int64_t)(random % 60000);
		struct timespec ts = { until / SECOND, until % SECOND };

		expect("clock_nanosleep", clock_nanosleep(CLOCK_MONOTONIC, TIMER_ABSTIME, &ts, NULL), 0);
		if (now() < until)
			wrong("a timer came early", now(), until);
		count++;
	}
	return count;
}

static _Atomic uint32_t ball;

static long futex(int op, uint32_t value, const struct timespec *most)
{
	return syscall(SYS_futex, &ball, op | FUTEX_PRIVATE_FLAG, value, most, NULL, 0);
}

/* Two threads on two processors wake each other: reschedule interrupts. One also calls all processors. */
static uint64_t ping_pong(int n)
{
	const struct timespec most = { 1, 0 };
	uint64_t count = 0;

	stay_on(n);
	while (!atomic_load(&over)) {
		uint32_t b = atomic_load(&ball);

		if ((b & 1) != (uint32_t)(n & 1)) {
			futex(FUTEX_WAIT, b, &most);
			continue;
		}
		atomic_store(&ball, b + 1);
		futex(FUTEX_WAKE, 1, NULL);
		if (n & 1 && !(b & 6))
			expect("membarrier", syscall(SYS_membarrier, MEMBARRIER_CMD_PRIVATE_EXPEDITED, 0, 0), 0);
		count++;
	}
	return count;
}

/* Pages that one thread replaces under the eyes of others: an old translation would show old contents. */
static struct {
	uint64_t *_Atomic page;
	_Atomic uint64_t stage; /* contents of the page are at least this */
} shared;

static uint64_t replace(int n)
{
	uint8_t *area = mmap(NULL, PAGES * PAGE, PROT_READ, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	uint64_t count = 0;

	if (area == MAP_FAILED)
		wrong("mmap", -1, 0);
	while (!atomic_load(&over)) {
		uint64_t *p = (uint64_t *)(area + count % PAGES * PAGE);
		uint64_t *fresh = mmap(NULL, PAGE, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);

		*fresh = ++count;
		if (count % 64 == 0)
			stay_on((int)(count / 64));
		expect("mprotect", mprotect(fresh, PAGE, PROT_READ), 0);
		if (mremap(fresh, PAGE, PAGE, MREMAP_MAYMOVE | MREMAP_FIXED, p) != p)
			wrong("mremap", -1, 0);
		atomic_store(&shared.page, p);
		atomic_store(&shared.stage, count);
	}
	return count + (uint64_t)(n & 0);
}

static uint64_t look(int n)
{
	uint64_t count = 0;

	stay_on(n);
	/* In what time the others leave. */
	expect("setpriority", setpriority(PRIO_PROCESS, (id_t)gettid(), 19), 0);
	while (!atomic_load(&over)) {
		uint64_t stage = atomic_load(&shared.stage);
		uint64_t *page = atomic_load(&shared.page);

		/* The page of this stage or of a later one. */
		if (stage && *(volatile uint64_t *)page < stage)
			wrong("a page that was replaced is still seen", (long long)*page, (long long)stage);
		if (++count % 256 == 0)
			sched_yield();
	}
	return count;
}

static void fill(uint8_t *area, uint8_t salt)
{
	for (int n = 0; n < PAGES; n++)
		memset(area + n * PAGE, salt + n, PAGE);
}

static void check(const uint8_t *area, uint8_t salt)
{
	for (int n = 0; n < PAGES; n++)
		for (int at = 0; at < PAGE; at += 512)
			expect("memory of a process", area[n * PAGE + at], (uint8_t)(salt + n));
}

/* Processes: each child changes its copy of the pages, the parent's stay. */
static uint64_t processes(int n)
{
	uint64_t count = 0;

	while (!atomic_load(&over)) {
		uint8_t *area = mmap(NULL, PAGES * PAGE, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
		int status;
		pid_t child;

		if (area == MAP_FAILED)
			wrong("mmap", -1, 0);
		fill(area, (uint8_t)count);
		child = fork();
		if (!child) {
			check(area, (uint8_t)count);
			fill(area, (uint8_t)(count + 100));
			check(area, (uint8_t)(count + 100));
			_exit(0);
		}
		expect("waitpid", waitpid(child, &status, 0), child);
		expect("a child's status", status, 0);
		check(area, (uint8_t)count++);
		expect("munmap", munmap(area, PAGES * PAGE), 0);
	}
	return count + (uint64_t)(n & 0);
}

static char **modules;

static uint64_t loads(int n)
{
	uint64_t count = 0;

	for (char **m = modules; *m && !atomic_load(&over); m = m[1] ? m + 1 : modules) {
		int fd = open(*m, O_RDONLY | O_CLOEXEC);
		char name[64];

		if (fd < 0)
			wrong(*m, fd, 0);
		expect(*m, syscall(SYS_finit_module, fd, "", 0), 0);
		close(fd);
		snprintf(name, sizeof(name), "%s", strrchr(*m, '/') + 1);
		*strchrnul(name, '.') = 0;
		for (char *c = name; *c; c++)
			*c = *c == '-' ? '_' : *c;
		expect(name, syscall(SYS_delete_module, name, 0), 0);
		count++;
	}
	return count + (uint64_t)(n & 0);
}

/* --- all of them --- */

static struct job {
	const char *name;
	uint64_t (*fn)(int n);
	int n;
	uint64_t count;
	pthread_t thread;
} jobs[64];
static int job_count;

static void add(const char *name, uint64_t (*fn)(int), int n)
{
	jobs[job_count++] = (struct job){ name, fn, n, 0, 0 };
}

static void *work(void *job)
{
	struct job *j = job;

	j->count = j->fn(j->n);
	return NULL;
}

/* What the kernel has counted: of each row of /proc/interrupts that is meant, the sum of all processors. */
static void interrupts(uint64_t sum[3])
{
	static const char *const rows[3] = { "LOC:", "RES:CAL:", "TLB:" };
	FILE *f = fopen("/proc/interrupts", "re");
	char line[1024], name[16];
	int at, len;

	if (!f)
		wrong("/proc/interrupts", -1, 0);
	while (fgets(line, sizeof(line), f)) {
		unsigned long long v;

		if (sscanf(line, " %15s%n", name, &at) != 1)
			continue;
		for (int r = 0; r < 3; r++)
			if (strstr(rows[r], name))
				for (int c = 0; c < cpus && sscanf(line + at, "%llu%n", &v, &len) == 1; c++, at += len)
					sum[r] += v;
	}
	fclose(f);
}

int main(int argc, char **argv)
{
	static const char *const counted[3] = { "timer-interrupts", "ipis", "shootdowns" };
	int seconds = argc > 1 ? atoi(argv[1]) : 0;
	uint64_t before[3] = { 0 }, after[3] = { 0 };
	int64_t begin;

	if (seconds < 1 || argc < 3)
		return 2;
	modules = argv + 2;
	cpus = (int)sysconf(_SC_NPROCESSORS_ONLN);
	syscall(SYS_membarrier, MEMBARRIER_CMD_REGISTER_PRIVATE_EXPEDITED, 0, 0);
	for (int n = 0; n < cpus && n < 16; n++) {
		add("timers", timers, n);
		add("looks", look, n);
	}
	add("wakes", ping_pong, 0);
	add("wakes", ping_pong, 1);
	add("remaps", replace, 0);
	add("forks", processes, 0);
	add("modules", loads, 0);
	interrupts(before);
	begin = now();
	for (int n = 0; n < job_count; n++)
		expect("pthread_create", pthread_create(&jobs[n].thread, NULL, work, &jobs[n]), 0);
	while (now() - begin < seconds * SECOND)
		usleep(50000);
	atomic_store(&over, true);
	atomic_fetch_add(&ball, 1);
	for (int n = 0; n < job_count; n++)
		pthread_join(jobs[n].thread, NULL);
	interrupts(after);
	for (int n = 0; n < job_count; n++) {
		if (!jobs[n].count)
			wrong(jobs[n].name, 0, 1);
		printf("soak: %s %llu\n", jobs[n].name, (unsigned long long)jobs[n].count);
	}
	for (int r = 0; r < 3; r++)
		printf("soak: %s %llu\n", counted[r], (unsigned long long)(after[r] - before[r]));
	printf("soak: seconds %.3f\n", (double)(now() - begin) / SECOND);
	return 0;
}
