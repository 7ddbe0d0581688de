// SPDX-License-Identifier: GPL-2.0
/*
 * Same-page merging benchmark: what merging asks of the guests of KVM. For
 * scripts/bench-kvm.sh, which runs it on two kernels.
 *
 * VMs of several processes with equal pages, at various distances, merge while
 * their guests do not run. Counted are mmu_notifier ranges, flushes of guests'
 * TLBs, and the faults by which the guests get back what KVM dropped, when they
 * read all of their memory after that; then what passes cost that find nothing
 * new, with idle guests and with guests that read. A line for each case: names
 * and numbers.
 */
#define _GNU_SOURCE
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "kselftest.h"

#include "ksm_child.h"
#include "ksm_page.h"
#include "ksm_util.h"
#include "../kvm_count.h"
#include "../kvm_vm.h"

#define VMS		3
#define PAGES		2048
#define PASSES		4
#define STEADY_PASSES	3
#define OWN_CONTENTS	1000000		/* contents of one VM only begin here */
#define POLL_US		1000

static const struct bench_case {
	const char *name;
	size_t step;		/* every so many pages, one that all VMs have */
} cases[] = {
	{ "dense", 1 },
	{ "every_2nd", 2 },
	{ "every_16th", 16 },
};

static const struct bench_case *bench;
static struct ksm_child vmms[VMS];
static struct vm vm;			/* of a VMM */

/* Shared by all processes. */
static struct readers {
	volatile bool stop;
	volatile long rounds[VMS];
} *readers;

static long check(long ret, const char *what)
{
	if (ret >= 0)
		return ret;
	printf("failed: %s: %s\n", what, strerror(-ret));
	exit(1);
}

/* Calls of VMMs. */

static uint64_t content_of(size_t nr, size_t page)
{
	return page % bench->step ? OWN_CONTENTS * (nr + 1) + page : page;
}

/* A word of each page, as a guest has it that looks for a stamp. */
static long vmm_read(long unused)
{
	struct vm_pages all = vm_every(&vm, 0, 1);
	long wrong = vm_call(&vm, GUEST_CHECK_STAMP, &all);

	return wrong < 0 ? wrong : 0;
}

static long vmm_boot(long nr)
{
	void *ram = vm_ram_map(PAGES);
	long err = ram ? vm_new(&vm, ram, PAGES, GUEST_REFS_NR, content_seed()) : -ENOMEM;

	for (size_t i = 0; !err && i < PAGES; i++)
		content_fill(area_page(ram, i), content_seed(), content_of(nr, i));
	if (!err)
		err = vmm_read(0);
	return err ? err : area_mergeable(ram, PAGES);
}

static long vmm_wrong(long nr)
{
	long wrong = 0;

	for (size_t i = 0; i < PAGES; i++)
		wrong += !!content_wrong(area_page(vm.ram, i), content_seed(),
					 content_of(nr, i));
	return wrong;
}

static long vmm_read_on(long nr)
{
	long err = 0;

	while (!err && !readers->stop) {
		err = vmm_read(0);
		readers->rounds[nr]++;
	}
	return err;
}

/* The benchmark. */

static long all_vmms(ksm_child_fn fn, const char *what)
{
	long sum = 0;

	for (size_t i = 0; i < VMS; i++)
		sum += check(ksm_child_call(&vmms[i], fn, i), what);
	return sum;
}

static void print_counts(const char *when, struct kvm_counts *counts)
{
	check(kvm_count_since(counts), "counts");
	printf(" %s_ranges %lld %s_flushes %lld %s_faults %lld %s_exits %lld",
	       when, (long long)counts->ranges, when, (long long)counts->flushes,
	       when, (long long)counts->faults, when, (long long)counts->exits);
}

static void measure_merge(void)
{
	struct kvm_counts counts;

	check(kvm_count(&counts), "counts");
	check(ksm_passes(PASSES), "passes");
	printf("case %s merged %lld", bench->name,
	       (long long)(ksm_get("pages_shared") + ksm_get("pages_sharing")));
	print_counts("merge", &counts);
	check(kvm_count(&counts), "counts");
	all_vmms(vmm_read, "guests read");
	print_counts("after", &counts);
}

static void measure_idle(void)
{
	struct kvm_counts counts;

	check(kvm_count(&counts), "counts");
	check(ksm_step(STEADY_PASSES), "passes");
	print_counts("idle", &counts);
}

/* Until each guest has read all of its memory once more, from beginning to end. */
static void wait_for_readers(void)
{
	double end = ksm_now() + ksm_wait_seconds();

	for (size_t i = 0; i < VMS; i++) {
		long goal = readers->rounds[i] + 2;

		while (readers->rounds[i] < goal) {
			check(ksm_now() < end ? 0 : -ETIME, "guests read");
			usleep(POLL_US);
		}
	}
}

static void measure_busy(void)
{
	struct kvm_counts counts;

	readers->stop = false;
	for (size_t i = 0; i < VMS; i++)
		check(ksm_child_post(&vmms[i], vmm_read_on, i), "guests read");
	wait_for_readers();
	check(kvm_count(&counts), "counts");
	check(ksm_step(STEADY_PASSES), "passes");
	wait_for_readers();
	print_counts("busy", &counts);
	readers->stop = true;
	for (size_t i = 0; i < VMS; i++)
		check(ksm_child_result(&vmms[i]), "guests read");
}

static void measure(void)
{
	for (size_t i = 0; i < VMS; i++)
		check(ksm_child_start(&vmms[i]), "process");
	all_vmms(vmm_boot, "VM");
	measure_merge();
	measure_idle();
	measure_busy();
	printf(" passes %d wrong %ld\n", STEADY_PASSES, all_vmms(vmm_wrong, "contents"));
	for (size_t i = 0; i < VMS; i++)
		check(ksm_child_end(&vmms[i]), "process");
	check(ksm_unmerge(), "unmerge");
}

int main(void)
{
	setvbuf(stdout, NULL, _IOLBF, 0);
	check(ksm_available() && kvm_available() ? 0 : -ENODEV, "KSM and KVM");
	readers = mmap(NULL, sizeof(*readers), PROT_READ | PROT_WRITE,
		       MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	check(readers == MAP_FAILED ? -ENOMEM : 0, "memory");
	check(ksm_default_knobs(), "knobs");
	check(kvm_count_begin(), "trace");
	for (size_t i = 0; i < sizeof(cases) / sizeof(*cases); i++) {
		bench = &cases[i];
		measure();
	}
	return check(kvm_count_end(), "trace");
}
