/* Running a vCPU under KVM. Private to cpu/kvm; the vCPU's thread unless said otherwise. */
#ifndef VIREO_CPU_KVM_VCPU_H
#define VIREO_CPU_KVM_VCPU_H

#include "cpu/kvm/kvm.h"

enum cpu_exit kvm_vcpu_run(struct vcpu *v);
/* Any thread: make kvm_vcpu_run() look at the events. */
void kvm_vcpu_poke(struct vcpu *v);
/* It cannot run any more: run() says why. vCPU thread or stopped. */
void kvm_vcpu_break(struct kvm_cpu *cpu, const struct err *why);
/* emulate.c: the interpreter executes the next instruction. False: run() ends, by `out`. vCPU thread. */
bool kvm_emulate(struct kvm_cpu *cpu, enum cpu_exit *out);
/* Let KVM complete the access of the last exit, so that the registers are final. vCPU thread or stopped. */
void kvm_vcpu_finish(struct kvm_cpu *cpu);

/* Whether a kick waits for its next HLT, which KVM keeps. The vCPU does not run, its state has been read. */
bool kvm_vcpu_has_kick(struct kvm_cpu *cpu);

#endif
