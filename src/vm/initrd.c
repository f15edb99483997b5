/* The slow part of checking an initrd runs beside the starting guest, which takes far longer to get to it. */
#include <signal.h>

#include "base/log.h"
#include "vm/impl.h"

static void refuse(void *opaque)
{
	struct vm *vm = opaque;

	log_line(LOG_ERROR, "boot", "%s", vm->initrd.err.msg);
	vm_quit(vm, 1, "host-error");
}

static void *check(void *opaque)
{
	struct vm *vm = opaque;

	if (initrd_check_rest(vm->initrd.check, &vm->initrd.cancel, &vm->initrd.err))
		loop_post(vm->loop, refuse, vm);
	return NULL;
}

int vm_check_initrd(struct vm *vm, struct initrd_check *k, struct err *err)
{
	sigset_t all, old;
	int rc;

	if (!k || vm->initrd.check) {
		initrd_check_free(k);
		return 0;
	}
	vm->initrd.check = k;
	/* Signals are the main thread's. */
	sigfillset(&all);
	pthread_sigmask(SIG_SETMASK, &all, &old);
	rc = pthread_create(&vm->initrd.thread, NULL, check, vm);
	pthread_sigmask(SIG_SETMASK, &old, NULL);
	if (rc)
		return err_set(err, "cannot start a thread");
	vm->initrd.started = true;
	return 0;
}

void vm_check_initrd_end(struct vm *vm)
{
	atomic_store(&vm->initrd.cancel, true);
	if (vm->initrd.started)
		pthread_join(vm->initrd.thread, NULL);
	initrd_check_free(vm->initrd.check);
}
