/*
 * A machine with one of every device, some of them on virtio-mmio with queues that run, as a guest's drivers would
 * have left them: what the tests of saved states take apart.
 */
#ifndef VIREO_TESTS_VM_FULL_H
#define VIREO_TESTS_VM_FULL_H

struct vm;

#define FULL_KEYS                                                                                                      \
	"memory=16 name=full serial0=null serial1=null cpus=2 rng=on rng.bus=mmio balloon=on balloon.bus=mmio "        \
	"console0=socket console0.bus=mmio agent=socket isa-debug-exit=on i8042=on pvpanic=on i6300esb=on "            \
	"cdrom0.path=none pc-testdev=on "                                                                              \
	"debugcon=null "                                                                                               \
	"debugcon.iobase=0x402 "                                                                                       \
	"disk0.bus=mmio disk0.queues=2 net0.backend=user net0.bus=mmio net1.backend=user disk1.queues=1"

/* Play the drivers of the virtio-mmio devices; the VM has not run yet. */
void full_drive(struct vm *vm);

#endif
