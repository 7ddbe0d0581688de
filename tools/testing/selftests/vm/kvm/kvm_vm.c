// SPDX-License-Identifier: GPL-2.0
/*
 * Same-page merging selftests: virtual machines on KVM's ioctls, with a
 * processor in flat protected mode. See kvm_vm.h.
 */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <linux/kvm.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <time.h>
#include <unistd.h>

#include "kselftest.h"

#include "ksm_page.h"
#include "ksm_util.h"
#include "kvm_vm.h"

#define KVM_DEVICE	"/dev/kvm"
#define RAM_ALIGN	(2UL << 20)
#define TSS_ADDR	0xfffbd000UL	/* Intel's want three pages where no memory is */
#define CR0_PE		1
#define CR0_ET		16

enum { SLOT_CODE, SLOT_BOX, SLOT_REFS, SLOT_RAM };

/* Pages of what is the VM's own. */
enum { OWN_CODE, OWN_BOX, OWN_REFS, OWN_PAGES = OWN_REFS + GUEST_REFS_NR };

bool kvm_available(void)
{
	int fd = open(KVM_DEVICE, O_RDWR | O_CLOEXEC);

	if (fd < 0)
		return false;
	close(fd);
	return true;
}

/*
 * Memory for a guest: anonymous, no huge pages, aligned as those of the guest
 * are, and as with other VMMs nothing that a child gets. NULL if there is none.
 */
void *vm_ram_map(size_t pages)
{
	size_t bytes = pages * page_bytes();
	char *area = mmap(NULL, bytes + RAM_ALIGN, PROT_READ | PROT_WRITE,
			  MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	uintptr_t start = ((uintptr_t)area + RAM_ALIGN - 1) & ~(RAM_ALIGN - 1);

	if (area == MAP_FAILED)
		return NULL;
	if (start > (uintptr_t)area)
		munmap(area, start - (uintptr_t)area);
	munmap((void *)(start + bytes), (uintptr_t)area + RAM_ALIGN - start);
	/* EINVAL where the kernel knows no huge pages. */
	madvise((void *)start, bytes, MADV_NOHUGEPAGE);
	return madvise((void *)start, bytes, MADV_DONTFORK) ? NULL : (void *)start;
}

static int set_slot(struct vm *vm, uint32_t slot, uint64_t at, void *memory,
		    size_t pages, uint32_t flags)
{
	struct kvm_userspace_memory_region region = {
		.slot = slot,
		.flags = flags,
		.guest_phys_addr = at,
		.memory_size = pages * page_bytes(),
		.userspace_addr = (uintptr_t)memory,
	};

	return ioctl(vm->fd, KVM_SET_USER_MEMORY_REGION, &region) ? -errno : 0;
}

/* Fill and map all that the VM has beside the test's memory. */
static int load(struct vm *vm, uint64_t seed)
{
	size_t bytes = OWN_PAGES * page_bytes();
	int err;

	vm->own = mmap(NULL, bytes, PROT_READ | PROT_WRITE,
		       MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	if (vm->own == MAP_FAILED)
		return -ENOMEM;
	madvise(vm->own, bytes, MADV_DONTFORK);
	memcpy(vm->own, guest_code, guest_code_end - guest_code);
	vm->box = area_page(vm->own, OWN_BOX);
	vm->refs = area_page(vm->own, OWN_REFS);
	area_fill(vm->refs, GUEST_REFS_NR, GUEST_REFS_NR, seed);

	err = set_slot(vm, SLOT_CODE, GUEST_CODE, vm->own, 1, 0);
	if (!err)
		err = set_slot(vm, SLOT_BOX, GUEST_BOX, vm->box, 1, 0);
	if (!err)
		err = set_slot(vm, SLOT_REFS, GUEST_REFS, vm->refs, GUEST_REFS_NR, 0);
	if (!err)
		err = set_slot(vm, SLOT_RAM, GUEST_RAM, vm->ram, vm->pages, 0);
	return err;
}

/* Flat segments of 4 GiB, no paging: linear is physical. */
static int set_registers(struct vm *vm)
{
	struct kvm_segment code = {
		.limit = 0xffffffff, .selector = 8, .type = 11,
		.present = 1, .db = 1, .s = 1, .g = 1,
	};
	struct kvm_segment data = code;
	struct kvm_regs regs = { .rip = GUEST_CODE, .rflags = 2 };
	struct kvm_sregs sregs;

	if (ioctl(vm->cpu, KVM_GET_SREGS, &sregs))
		return -errno;
	data.selector = 16;
	data.type = 3;
	sregs.cs = code;
	sregs.ds = data;
	sregs.es = data;
	sregs.fs = data;
	sregs.gs = data;
	sregs.ss = data;
	sregs.cr0 = CR0_PE | CR0_ET;
	if (ioctl(vm->cpu, KVM_SET_SREGS, &sregs) || ioctl(vm->cpu, KVM_SET_REGS, &regs))
		return -errno;
	return 0;
}

static int add_cpu(struct vm *vm, int kvm)
{
	int bytes = ioctl(kvm, KVM_GET_VCPU_MMAP_SIZE, 0);

	if (bytes < 0)
		return -errno;
	/* AMD's don't need it. */
	ioctl(vm->fd, KVM_SET_TSS_ADDR, TSS_ADDR);
	vm->cpu = ioctl(vm->fd, KVM_CREATE_VCPU, 0);
	if (vm->cpu < 0)
		return -errno;
	vm->run_bytes = bytes;
	vm->run = mmap(NULL, bytes, PROT_READ | PROT_WRITE, MAP_SHARED, vm->cpu, 0);
	return vm->run == MAP_FAILED ? -errno : set_registers(vm);
}

/* A VM with the caller's memory, which nothing is done to yet. */
int vm_new(struct vm *vm, void *ram, size_t pages, size_t distinct, uint64_t seed)
{
	int kvm = open(KVM_DEVICE, O_RDWR | O_CLOEXEC), err;

	*vm = (struct vm) {
		.cpu = -1, .run = MAP_FAILED, .own = MAP_FAILED,
		.ram = ram, .pages = pages, .distinct = distinct,
	};
	if (kvm < 0)
		return -errno;
	vm->fd = ioctl(kvm, KVM_CREATE_VM, 0);
	err = vm->fd < 0 ? -errno : load(vm, seed);
	if (!err)
		err = add_cpu(vm, kvm);
	close(kvm);
	if (err)
		vm_free(vm);
	return err;
}

/* The memory stays the caller's. */
void vm_free(struct vm *vm)
{
	if (vm->run != MAP_FAILED)
		munmap(vm->run, vm->run_bytes);
	if (vm->own != MAP_FAILED)
		munmap(vm->own, OWN_PAGES * page_bytes());
	if (vm->cpu >= 0)
		close(vm->cpu);
	if (vm->fd >= 0)
		close(vm->fd);
}

/* All pages of a VM from @first in steps of @step. */
struct vm_pages vm_every(const struct vm *vm, uint32_t first, uint32_t step)
{
	return (struct vm_pages) {
		.first = first,
		.count = (vm->pages - first + step - 1) / step,
		.step = step,
	};
}

bool vm_pages_have(const struct vm_pages *pages, size_t page)
{
	return page >= pages->first && !((page - pages->first) % pages->step) &&
	       (page - pages->first) / pages->step < pages->count;
}

/* Where the guest is, which should have ended its call by now. */
static void report_guest(const struct vm *vm)
{
	const struct kvm_run *run = vm->run;
	struct kvm_regs regs = {};

	ioctl(vm->cpu, KVM_GET_REGS, &regs);
	ksft_print_msg("guest: exit %u at 0x%llx, page %llu, %llu more\n",
		       run->exit_reason, regs.rip, regs.rbx, regs.rbp);
	ksft_print_msg("guest: from 0x%llx to 0x%llx, %llu words, eax 0x%llx, flags 0x%llx\n",
		       regs.rsi, regs.rdi, regs.rcx, regs.rax, regs.rflags);
	ksft_print_msg("guest: its program is %s\n",
		       memcmp(vm->own, guest_code, guest_code_end - guest_code) ?
		       "damaged" : "as it was");
	ksft_print_msg("guest: call %u, pages %u, %u times %u, distinct %u, at %u\n",
		       vm->box->op, vm->box->first, vm->box->count, vm->box->step,
		       vm->box->distinct, vm->box->at);
	if (run->exit_reason == KVM_EXIT_MMIO)
		ksft_print_msg("guest: %s %u bytes at 0x%llx\n",
			       run->mmio.is_write ? "writes" : "reads", run->mmio.len,
			       run->mmio.phys_addr);
}

/* Of a signal that comes before KVM_RUN has begun, KVM_RUN would know nothing. */
static void too_late(int sig, siginfo_t *info, void *context)
{
	struct kvm_run *run = info->si_value.sival_ptr;

	run->immediate_exit = 1;
}

/* A signal to this thread when the guest has had too long. */
static int set_deadline(struct vm *vm, timer_t *timer)
{
	struct sigaction action = { .sa_sigaction = too_late, .sa_flags = SA_SIGINFO };
	struct itimerspec after = { .it_value.tv_sec = ksm_wait_seconds() / 10 };
	struct sigevent event = {
		.sigev_notify = SIGEV_THREAD_ID,
		.sigev_signo = SIGRTMIN,
		.sigev_value.sival_ptr = vm->run,
	};

	event._sigev_un._tid = gettid();
	vm->run->immediate_exit = 0;
	if (sigaction(SIGRTMIN, &action, NULL) ||
	    timer_create(CLOCK_MONOTONIC, &event, timer))
		return -errno;
	return timer_settime(*timer, 0, &after, NULL) ? -errno : 0;
}

/* Have the guest run until it leaves to this process, but not for ever. */
static int run(struct vm *vm)
{
	timer_t deadline;
	int err = set_deadline(vm, &deadline);

	if (err)
		return err;
	while (!err && ioctl(vm->cpu, KVM_RUN, 0)) {
		if (errno != EINTR)
			err = -errno;
		else if (vm->run->immediate_exit)
			err = -ETIME;
	}
	timer_delete(deadline);
	return err;
}

/* Let the guest do one call; what it counted. */
long vm_call(struct vm *vm, uint32_t op, const struct vm_pages *pages)
{
	int err;

	*vm->box = (struct guest_box) {
		.op = op,
		.first = pages->first,
		.count = pages->count,
		.step = pages->step,
		.distinct = vm->distinct,
		.at = pages->at,
		.value = pages->value,
	};
	err = run(vm);
	if (!err && (vm->run->exit_reason != KVM_EXIT_IO || vm->run->io.port != GUEST_PORT))
		err = -EIO;
	if (!err)
		return vm->box->result;
	report_guest(vm);
	return err;
}

long vm_fill(struct vm *vm)
{
	struct vm_pages all = vm_every(vm, 0, 1);

	return vm_call(vm, GUEST_FILL, &all);
}

long vm_wrong(struct vm *vm)
{
	struct vm_pages all = vm_every(vm, 0, 1);

	return vm_call(vm, GUEST_CHECK, &all);
}

int vm_log_dirty(struct vm *vm, bool on)
{
	return set_slot(vm, SLOT_RAM, GUEST_RAM, vm->ram, vm->pages,
			on ? KVM_MEM_LOG_DIRTY_PAGES : 0);
}

/* Which pages got dirty since the last time: a bit each, in whole words. */
int vm_get_dirty(struct vm *vm, uint64_t *bitmap)
{
	struct kvm_dirty_log log = { .slot = SLOT_RAM, .dirty_bitmap = bitmap };

	return ioctl(vm->fd, KVM_GET_DIRTY_LOG, &log) ? -errno : 0;
}
