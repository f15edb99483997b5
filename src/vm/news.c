/*
 * Events about what a guest may change as often as it likes: RTC_CHANGE and BALLOON_CHANGE. As in QEMU a client hears
 * of the last change, about once a second at most. Main loop thread but for what says otherwise.
 */
#include <errno.h>
#include <sys/epoll.h>
#include <sys/timerfd.h>
#include <unistd.h>

#include "dev/isa.h"
#include "virtio/devices.h"
#include "vm/impl.h"
#include "vm/qmp.h"

#define QUIET_S 1

enum { RTC = 1, BALLOON = 2 };

static void tell(struct vm *vm, unsigned what)
{
	uint64_t ram = vm->ram_low + vm->ram_high, given;

	if (what & RTC)
		qmp_event_data(vm->qmp, "RTC_CHANGE",
			       json_pack("{s:I,s:s}", "offset", (json_int_t)rtc146818_offset(vm->rtc), "qom-path",
					 "/machine/rtc"));
	if (what & BALLOON) {
		given = virtio_balloon_actual(vm->balloon);
		qmp_event_data(vm->qmp, "BALLOON_CHANGE",
			       json_pack("{s:I}", "actual", (json_int_t)(given < ram ? ram - given : 0)));
	}
}

static void look(void *opaque)
{
	struct vm *vm = opaque;
	struct vm_news *n = &vm->news;
	const struct itimerspec soon = { .it_value.tv_sec = QUIET_S };
	/* What was told just now waits for the timer. */
	unsigned what = atomic_fetch_and(&n->changed, n->quiet) & ~n->quiet;

	if (!what)
		return;
	if (!n->quiet)
		timerfd_settime(n->timer, 0, &soon, NULL);
	n->quiet |= what;
	tell(vm, what);
}

static void quiet_ends(void *opaque, int fd, uint32_t events)
{
	struct vm *vm = opaque;
	uint64_t expired;

	if (read(fd, &expired, sizeof(expired)) < 0)
		return;
	vm->news.quiet = 0;
	look(vm);
}

/* Any thread, with the device's lock. */
static void changed(struct vm *vm, unsigned what)
{
	if (!(atomic_fetch_or(&vm->news.changed, what) & what))
		loop_post(vm->loop, look, vm);
}

static void rtc_changed(void *opaque)
{
	changed(opaque, RTC);
}

static void balloon_changed(void *opaque)
{
	changed(opaque, BALLOON);
}

int vm_news_begin(struct vm *vm, struct err *err)
{
	struct vm_news *n = &vm->news;

	n->timer = timerfd_create(CLOCK_MONOTONIC, TFD_CLOEXEC | TFD_NONBLOCK);
	if (n->timer < 0)
		return err_errno(err, errno, "timerfd");
	n->watch = loop_fd_add(vm->loop, n->timer, EPOLLIN, quiet_ends, vm, err);
	if (!n->watch)
		return -1;
	rtc146818_on_change(vm->rtc, rtc_changed, vm);
	if (vm->balloon)
		virtio_balloon_on_change(vm->balloon, balloon_changed, vm);
	return 0;
}

void vm_news_end(struct vm *vm)
{
	loop_fd_del(vm->news.watch);
	if (vm->news.timer >= 0)
		close(vm->news.timer);
}
