/*
 * Copies to and from memory that somebody else may write at the same time: a guest's. What arrives may be torn, and
 * the caller checks its own copy. The thread sanitizer, which cannot know that, does not look at them. Any thread.
 */
#ifndef VIREO_BASE_SHARED_H
#define VIREO_BASE_SHARED_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#if defined(__has_feature)
#if __has_feature(thread_sanitizer)
#define SHARED_UNSEEN
#endif
#endif

/*
 * Order that goes through code of which the compiler knows nothing: what was written before shared_sent(p) is there
 * after shared_arrived(p). Something else has to see to that; only the thread sanitizer is told.
 */
#if defined(SHARED_UNSEEN)
void __tsan_acquire(void *at);
void __tsan_release(void *at);
#define shared_sent(p)	  __tsan_release((void *)(uintptr_t)(p))
#define shared_arrived(p) __tsan_acquire((void *)(uintptr_t)(p))
#else
#define shared_sent(p)	  ((void)(p))
#define shared_arrived(p) ((void)(p))
#endif

#if defined(SHARED_UNSEEN)
/* Byte by byte: the sanitizer watches the library's functions too. */
__attribute__((no_sanitize("thread"), noinline, unused)) static void *shared_move(void *to, const void *from,
										  size_t len)
{
	volatile uint8_t *t = to;
	const volatile uint8_t *f = from;

	for (size_t n = 0; n < len; n++)
		t[t <= f ? n : len - 1 - n] = f[t <= f ? n : len - 1 - n];
	return to;
}

__attribute__((no_sanitize("thread"), noinline, unused)) static void *shared_fill(void *to, uint8_t byte, size_t len)
{
	for (size_t n = 0; n < len; n++)
		((volatile uint8_t *)to)[n] = byte;
	return to;
}

__attribute__((no_sanitize("thread"), noinline, unused)) static bool shared_equal(const void *a, const void *b,
										  size_t len)
{
	size_t n = 0;

	while (n < len && ((const volatile uint8_t *)a)[n] == ((const volatile uint8_t *)b)[n])
		n++;
	return n == len;
}
#else
static inline void *shared_move(void *to, const void *from, size_t len)
{
	return memmove(to, from, len);
}

static inline void *shared_fill(void *to, uint8_t byte, size_t len)
{
	return memset(to, byte, len);
}

static inline bool shared_equal(const void *a, const void *b, size_t len)
{
	return !memcmp(a, b, len);
}
#endif

/* The two do not overlap. */
static inline void *shared_copy(void *to, const void *from, size_t len)
{
#if defined(SHARED_UNSEEN)
	return shared_move(to, from, len);
#else
	return memcpy(to, from, len);
#endif
}

#endif
