/* What a kernel has to do with: system calls, switches, faults, processes, locks. */
#include "micro.h"

#include <pthread.h>
#include <sched.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

static uint64_t system_calls(uint64_t rounds)
{
	uint64_t failures = 0;

	for (uint64_t r = 0; r < rounds; r++) {
		failures += syscall(SYS_getppid) < 0;
		failures += syscall(SYS_lseek, -1, 0, 0) >= 0;
	}
	return mix(rounds, failures);
}

/* --- pipe: a byte goes to another process and back --- */

static uint64_t ping_pong(uint64_t rounds)
{
	int there[2], back[2], status;
	uint64_t sum = 0;
	uint8_t byte = 1;
	pid_t child;

	if (pipe(there) || pipe(back))
		give_up("pipe");
	child = fork();
	if (child < 0)
		give_up("fork");
	if (!child) {
		close(there[1]);
		while (read(there[0], &byte, 1) == 1) {
			byte = (uint8_t)(byte * 5 + 1);
			if (write(back[1], &byte, 1) != 1)
				_exit(1);
		}
		_exit(0);
	}
	for (uint64_t r = 0; r < rounds; r++) {
		if (write(there[1], &byte, 1) != 1 || read(back[0], &byte, 1) != 1)
			give_up("pipe");
		sum = mix(sum, byte);
	}
	close(there[1]);
	if (waitpid(child, &status, 0) != child || status)
		give_up("the other process");
	return sum;
}

/* --- faults: pages that are touched for the first time, and copied after a change of protection --- */

#define PAGES 2048

static uint64_t faults(uint64_t rounds)
{
	uint64_t sum = 0;

	for (uint64_t r = 0; r < rounds; r++) {
		uint8_t *area = mmap(NULL, PAGES * 4096, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);

		if (area == MAP_FAILED || madvise(area, PAGES * 4096, MADV_NOHUGEPAGE))
			give_up("mmap");
		for (int i = 0; i < PAGES; i += 2)
			sum += area[i * 4096 + 1];
		for (int i = 0; i < PAGES; i++)
			area[i * 4096] = (uint8_t)(i + r);
		for (int i = 0; i < PAGES; i += 3)
			sum = mix(sum, area[i * 4096]);
		munmap(area, PAGES * 4096);
	}
	return sum;
}

/* --- fork: processes that execute a program, which ends at once --- */

static uint64_t processes(uint64_t rounds)
{
	uint64_t sum = rounds;

	for (uint64_t r = 0; r < rounds; r++) {
		pid_t child = fork();
		int status;

		if (child < 0)
			give_up("fork");
		if (!child) {
			execl("/proc/self/exe", "micro", "--nothing", (char *)NULL);
			_exit(1);
		}
		if (waitpid(child, &status, 0) != child)
			give_up("waitpid");
		sum = mix(sum, (uint64_t)status);
	}
	return sum;
}

/* --- lock: two threads, one mutex and one counter --- */

static struct {
	pthread_mutex_t mutex;
	uint64_t plain;
	_Atomic uint64_t atomic;
} contest = { .mutex = PTHREAD_MUTEX_INITIALIZER };

static void *contestant(void *opaque)
{
	uint64_t rounds = *(uint64_t *)opaque, own = 0;

	for (uint64_t r = 0; r < rounds; r++) {
		pthread_mutex_lock(&contest.mutex);
		contest.plain++;
		pthread_mutex_unlock(&contest.mutex);
		for (int i = 0; i < 20; i++)
			own = mix(own, r);
		contest.atomic += 1 + (own == 0);
	}
	return NULL;
}

static uint64_t lock(uint64_t rounds)
{
	pthread_t threads[2];

	for (int i = 0; i < 2; i++)
		if (pthread_create(&threads[i], NULL, contestant, &rounds))
			give_up("pthread_create");
	for (int i = 0; i < 2; i++)
		pthread_join(threads[i], NULL);
	return mix(contest.plain, contest.atomic);
}

const struct micro system_cases[] = {
	{ "syscall", NULL, system_calls, 2000000 }, { "pipe", NULL, ping_pong, 50000 }, { "faults", NULL, faults, 100 },
	{ "fork", NULL, processes, 800 },	    { "lock", NULL, lock, 20000000 },	{ 0 },
};
