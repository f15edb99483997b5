/* The virtio devices that the configuration asks for. */
#include "vm/impl.h"

int vm_add_virtio(struct vm *vm, struct err *err)
{
	return 0;
}
