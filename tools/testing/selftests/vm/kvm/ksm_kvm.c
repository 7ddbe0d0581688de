// SPDX-License-Identifier: GPL-2.0
/*
 * Same-page merging selftests: the memory of virtual machines is merged while
 * the guests run, and reclaimed, moved, copied and given up, and neither a guest
 * nor its VMM ever sees a byte that it should not.
 */
#define _GNU_SOURCE
#include <fcntl.h>
#include <pthread.h>
#include <sys/mman.h>

#include "ksm_disk.h"
#include "ksm_test.h"
#include "kvm_count.h"
#include "kvm_vmm.h"

#define OTHERS		2
#define VMS		(1 + OTHERS)
#define ALL_PAGES	(VMS * VMM_PAGES)
#define WRITE_MS	8000
#define CGROUP		"ksm_kvm_test"
#define NR_HUGEPAGES	"/proc/sys/vm/nr_hugepages"
#define PAGES_FILE	"/tmp/ksm_kvm_pages"
#define PART		(6 * VMM_CONTENTS)	/* pages of each kind of memory */
#define BITS		64

/* One VM is this process's, `vmm`. */
struct vms {
	struct ksm_child others[OTHERS];
	pthread_t writer;
	bool in_cgroup;
	char device[64];	/* that is swapped to, if any */
};

FIXTURE(kvm)
{
	struct vms vms;
};

static void expect_merged(struct __test_metadata *_metadata, struct vms *vms)
{
	EXPECT_EQ(VMM_CONTENTS, ksm_get("pages_shared"));
	EXPECT_EQ(ALL_PAGES - VMM_CONTENTS, ksm_get("pages_sharing"));
	EXPECT_EQ(VMM_CONTENTS, area_frames(vmm.vm.ram, VMM_PAGES));
	EXPECT_EQ(VMM_PAGES, vmm_merged(0));
	for (int i = 0; i < OTHERS; i++)
		EXPECT_EQ(VMM_PAGES, ksm_child_call(&vms->others[i], vmm_merged, 0));
}

static void expect_others_right(struct __test_metadata *_metadata, struct vms *vms)
{
	for (int i = 0; i < OTHERS; i++)
		EXPECT_EQ(0, ksm_child_call(&vms->others[i], vmm_wrong, 0));
}

static void expect_right(struct __test_metadata *_metadata, struct vms *vms)
{
	EXPECT_EQ(0, vmm_wrong(0));
	expect_others_right(_metadata, vms);
}

/* VMs with equal contents, all of them merged. */
FIXTURE_SETUP(kvm)
{
	if (!ksm_available())
		SKIP(return, "needs KSM and root");
	if (!kvm_available())
		SKIP(return, "no /dev/kvm");
	ASSERT_EQ(0, ksm_default_knobs());
	self->vms.in_cgroup = !ksm_cgroup_enter(CGROUP);
	for (int i = 0; i < OTHERS; i++) {
		ASSERT_EQ(0, ksm_child_start(&self->vms.others[i]));
		ASSERT_EQ(0, ksm_child_call(&self->vms.others[i], vmm_boot, 1 + i));
	}
	ASSERT_EQ(0, vmm_boot(0));
	ASSERT_EQ(0, ksm_passes(4));
	expect_merged(_metadata, &self->vms);
}

FIXTURE_TEARDOWN_PARENT(kvm)
{
	EXPECT_EQ(0, ksm_stop());
	EXPECT_LE(0, ksm_validate());
	EXPECT_EQ(0, ksm_unmerge());
	if (self->vms.device[0])
		EXPECT_EQ(0, ksm_swap_off(self->vms.device));
	ksm_cgroup_leave(CGROUP);
}

static void *writer(void *ms)
{
	return (void *)vmm_writes((long)ms);
}

/* All guests write until all_written(). */
static void all_write(struct __test_metadata *_metadata, struct vms *vms, long ms)
{
	ASSERT_EQ(0, ksm_set("sleep_millisecs", 0));
	ASSERT_EQ(0, ksm_start());
	for (int i = 0; i < OTHERS; i++)
		ASSERT_EQ(0, ksm_child_post(&vms->others[i], vmm_writes, ms));
	ASSERT_EQ(0, pthread_create(&vms->writer, NULL, writer, (void *)ms));
}

static void all_written(struct __test_metadata *_metadata, struct vms *vms)
{
	long met = 0;
	void *wrong;

	ASSERT_EQ(0, pthread_join(vms->writer, &wrong));
	EXPECT_EQ(0, (long)wrong);
	for (int i = 0; i < OTHERS; i++) {
		EXPECT_EQ(0, ksm_child_result(&vms->others[i]));
		met += ksm_child_call(&vms->others[i], vmm_merged_rounds, 0);
	}
	met += vmm.merged_rounds;
	ksft_print_msg("%ld rounds in one VM; in all VMs %ld met merged pages\n",
		       vmm.rounds, met);
	EXPECT_LT(0, met);
	ASSERT_EQ(0, ksm_stop());
	expect_right(_metadata, vms);
}

/* Nothing is unmerged by reading, neither the guests' nor the VMMs'. */
KSM_TEST(kvm, merging_across_vms)
{
	for (int i = 0; i < VMM_CONTENTS; i++) {
		for (int other = 0; other < OTHERS; other++)
			EXPECT_EQ(vmm_frame(i), ksm_child_call(&self->vms.others[other],
							       vmm_frame, i));
	}
	expect_right(_metadata, &self->vms);
	expect_merged(_metadata, &self->vms);
}

/* After the first round the guest's page tables have the merged pages, read-only. */
KSM_TEST(kvm, a_guest_writes_for_itself_only)
{
	for (int round = 0; round < 3; round++) {
		struct vm_pages pages = vmm_stamps(round, 7, 4 * round);

		ASSERT_EQ(0, vm_call(&vmm.vm, GUEST_STAMP, &pages));
		EXPECT_EQ(0, vm_call(&vmm.vm, GUEST_CHECK_STAMP, &pages));
		EXPECT_EQ(pages.count, vm_wrong(&vmm.vm));
		EXPECT_EQ(0, vmm_pages_wrong(&pages));
		EXPECT_EQ(VMM_PAGES - pages.count, vmm_merged(0));
		EXPECT_EQ(VMM_CONTENTS + pages.count,
			  area_frames(vmm.vm.ram, VMM_PAGES));
		expect_others_right(_metadata, &self->vms);
		ASSERT_EQ(0, vm_call(&vmm.vm, GUEST_UNSTAMP, &pages));
		ASSERT_EQ(0, ksm_passes(4));
		expect_right(_metadata, &self->vms);
		expect_merged(_metadata, &self->vms);
	}
}

/* The guest's page tables must not lead to the merged page any more. */
KSM_TEST(kvm, a_vmm_writes_for_its_guest_only)
{
	for (int round = 0; round < 3; round++) {
		struct vm_pages pages = vmm_stamps(round, 5, 2048 + 4 * round);

		expect_right(_metadata, &self->vms);
		vmm_host_stamp(&pages);
		EXPECT_EQ(0, vm_call(&vmm.vm, GUEST_CHECK_STAMP, &pages));
		EXPECT_EQ(pages.count, vm_wrong(&vmm.vm));
		EXPECT_EQ(0, vmm_pages_wrong(&pages));
		expect_others_right(_metadata, &self->vms);
		vmm_host_unstamp(&pages);
		ASSERT_EQ(0, ksm_passes(4));
		expect_right(_metadata, &self->vms);
		expect_merged(_metadata, &self->vms);
	}
}

static void expect_zero_pages(struct __test_metadata *_metadata, struct vms *vms)
{
	EXPECT_EQ(ALL_PAGES, ksm_get("ksm_zero_pages"));
	EXPECT_EQ(0, ksm_get("pages_shared"));
	EXPECT_EQ(1, area_frames(vmm.vm.ram, VMM_PAGES));
	EXPECT_TRUE(page_is_zero_page(vmm.vm.ram));
}

KSM_TEST(kvm, zero_pages)
{
	struct vm_pages pages;

	ASSERT_EQ(0, ksm_set("use_zero_pages", 1));
	ASSERT_EQ(0, vmm_zero(0));
	for (int i = 0; i < OTHERS; i++)
		ASSERT_EQ(0, ksm_child_call(&self->vms.others[i], vmm_zero, 0));
	for (int round = 0; round < 2; round++) {
		ASSERT_EQ(0, ksm_passes(4));
		expect_zero_pages(_metadata, &self->vms);
		expect_right(_metadata, &self->vms);
		expect_zero_pages(_metadata, &self->vms);
		pages = vmm_stamps(round, 3, 40);
		ASSERT_EQ(0, vm_call(&vmm.vm, GUEST_STAMP, &pages));
		EXPECT_EQ(0, vm_call(&vmm.vm, GUEST_CHECK_STAMP, &pages));
		EXPECT_EQ(0, vmm_pages_wrong(&pages));
		EXPECT_EQ(1 + pages.count, area_frames(vmm.vm.ram, VMM_PAGES));
		expect_others_right(_metadata, &self->vms);
		ASSERT_EQ(0, vm_call(&vmm.vm, GUEST_UNSTAMP, &pages));
	}
	ASSERT_EQ(0, ksm_set("run", 2));
	EXPECT_EQ(0, ksm_get("ksm_zero_pages"));
	EXPECT_EQ(VMM_PAGES, area_frames(vmm.vm.ram, VMM_PAGES));
	expect_right(_metadata, &self->vms);
}

/* Guest memory that was huge, in the page tables of the guest as well. */
KSM_TEST(kvm, huge_pages_are_split)
{
	struct vm_pages pages = vmm_stamps(2, 9, 400);
	struct vm huge;
	void *ram;

	if (thp_bytes() != VMM_PAGES * page_bytes())
		SKIP(return, "no huge pages of 2 MiB");
	ram = thp_map(1);
	if (!ram)
		SKIP(return, "no huge page to be had");
	ASSERT_EQ(0, vm_new(&huge, ram, VMM_PAGES, VMM_CONTENTS, content_seed()));
	ASSERT_EQ(0, vm_fill(&huge));
	EXPECT_EQ(VMM_PAGES * page_bytes() >> 10, area_smaps(ram, "AnonHugePages"));
	ASSERT_EQ(0, area_mergeable(ram, VMM_PAGES));
	ASSERT_EQ(0, ksm_passes(6));
	EXPECT_EQ(0, area_smaps(ram, "AnonHugePages"));
	EXPECT_EQ(VMM_CONTENTS, ksm_get("pages_shared"));
	EXPECT_TRUE(pages_shared(ram, vmm.vm.ram));
	EXPECT_EQ(VMM_PAGES, area_ksm_pages(ram, VMM_PAGES));
	EXPECT_EQ(0, vm_wrong(&huge));
	ASSERT_EQ(0, vm_call(&huge, GUEST_STAMP, &pages));
	EXPECT_EQ(0, vm_call(&huge, GUEST_CHECK_STAMP, &pages));
	EXPECT_EQ(pages.count, vm_wrong(&huge));
	expect_right(_metadata, &self->vms);
	vm_free(&huge);
	ASSERT_EQ(0, munmap(ram, VMM_PAGES * page_bytes()));
	expect_right(_metadata, &self->vms);
}

/* Most VMMs that offer all their memory do it like this, before they have any. */
KSM_TEST(kvm, a_vmm_offers_all_its_memory)
{
	struct ksm_child vmm_child;

	ASSERT_EQ(0, ksm_child_start(&vmm_child));
	ASSERT_EQ(0, ksm_child_call(&vmm_child, vmm_boot_merge_any, 7));
	ASSERT_EQ(0, ksm_passes(4));
	EXPECT_EQ(VMM_PAGES, ksm_child_call(&vmm_child, vmm_merged, 0));
	EXPECT_EQ(vmm_frame(0), ksm_child_call(&vmm_child, vmm_frame, 0));
	EXPECT_EQ(0, ksm_child_call(&vmm_child, vmm_wrong, 0));
	ASSERT_EQ(0, ksm_start());
	EXPECT_EQ(0, ksm_child_call(&vmm_child, vmm_writes, WRITE_MS / 4));
	ASSERT_EQ(0, ksm_stop());
	expect_right(_metadata, &self->vms);
	EXPECT_EQ(0, ksm_child_end(&vmm_child));
	expect_right(_metadata, &self->vms);
}

/* A balloon takes merged pages from a guest, and gives back others. */
KSM_TEST(kvm, pages_are_taken_from_a_guest)
{
	struct vm_pages pages = vm_every(&vmm.vm, 1, 3);
	uint32_t i;

	for (i = 1; i < VMM_PAGES; i += 3)
		ASSERT_EQ(0, madvise(area_page(vmm.vm.ram, i), page_bytes(),
				     MADV_DONTNEED));
	EXPECT_EQ(pages.count, vm_wrong(&vmm.vm));
	EXPECT_EQ(pages.count, vm_call(&vmm.vm, GUEST_CHECK, &pages));
	expect_others_right(_metadata, &self->vms);
	ASSERT_EQ(0, vm_call(&vmm.vm, GUEST_FILL, &pages));
	expect_right(_metadata, &self->vms);
	ASSERT_EQ(0, ksm_passes(4));
	expect_right(_metadata, &self->vms);
	expect_merged(_metadata, &self->vms);
}

static long swap_out(void)
{
	double end = ksm_now() + 20;

	while (vmm_swapped(0) < VMM_PAGES / 2 && ksm_now() < end) {
		/* EAGAIN if less was reclaimed: that is judged by the result. */
		ksm_cgroup_set(CGROUP, "memory.reclaim", "4M");
		usleep(10000);
	}
	return vmm_swapped(0);
}

KSM_TEST(kvm, guests_are_swapped_out_and_come_back)
{
	const char *device = self->vms.in_cgroup ? ksm_swap_on(KSM_SWAP_ZRAM) : NULL;

	if (!device)
		SKIP(return, "no memory cgroup, or no zram to swap to");
	snprintf(self->vms.device, sizeof(self->vms.device), "%s", device);
	for (int round = 0; round < 3; round++) {
		struct vm_pages pages = vmm_stamps(round, 2, 64);

		ASSERT_LE(VMM_PAGES / 2, swap_out());
		if (round == 0)
			expect_right(_metadata, &self->vms);
		/* Some of them come in by this. */
		ASSERT_EQ(0, vm_call(&vmm.vm, GUEST_STAMP, &pages));
		EXPECT_EQ(0, vmm_pages_wrong(&pages));
		EXPECT_EQ(pages.count, vm_wrong(&vmm.vm));
		if (round == 2)
			EXPECT_EQ(0, ksm_set("run", 2));
		expect_others_right(_metadata, &self->vms);
		ASSERT_EQ(0, vm_call(&vmm.vm, GUEST_UNSTAMP, &pages));
		ASSERT_EQ(0, ksm_passes(8));
		expect_right(_metadata, &self->vms);
		EXPECT_EQ(0, vmm_swapped(0));
		ASSERT_EQ(0, ksm_passes(8));
		expect_merged(_metadata, &self->vms);
	}
}

KSM_TEST(kvm, guests_are_swapped_out_while_they_write)
{
	const char *device = self->vms.in_cgroup ? ksm_swap_on(KSM_SWAP_ZRAM) : NULL;
	int64_t out = vmstat_field("pswpout");
	double end = ksm_now() + WRITE_MS / 1000.0;

	if (!device)
		SKIP(return, "no memory cgroup, or no zram to swap to");
	snprintf(self->vms.device, sizeof(self->vms.device), "%s", device);
	all_write(_metadata, &self->vms, WRITE_MS);
	while (ksm_now() < end) {
		ksm_cgroup_set(CGROUP, "memory.reclaim", "1M");
		usleep(50000);
	}
	all_written(_metadata, &self->vms);
	EXPECT_LT(out, vmstat_field("pswpout"));
	/* What is out comes back, as copies: ksmd leaves it alone till then. */
	expect_right(_metadata, &self->vms);
	ASSERT_EQ(0, ksm_passes(8));
	expect_right(_metadata, &self->vms);
	expect_merged(_metadata, &self->vms);
}

KSM_TEST(kvm, unmerging_while_guests_write)
{
	double end = ksm_now() + WRITE_MS / 1000.0;
	int rounds = 0;

	all_write(_metadata, &self->vms, WRITE_MS);
	for (; ksm_now() < end; rounds++) {
		ASSERT_EQ(0, ksm_wait_passes(3));
		ASSERT_EQ(0, ksm_set("run", 2));
		EXPECT_EQ(0, ksm_get("pages_shared"));
		EXPECT_EQ(0, vmm_merged(0));
		ASSERT_EQ(0, ksm_start());
		ASSERT_EQ(0, ksm_wait_passes(3));
		/* One VMM thinks better of it, twice. */
		ASSERT_EQ(0, madvise(vmm.vm.ram, VMM_PAGES * page_bytes(),
				     MADV_UNMERGEABLE));
		EXPECT_EQ(0, vmm_merged(0));
		ASSERT_EQ(0, area_mergeable(vmm.vm.ram, VMM_PAGES));
	}
	all_written(_metadata, &self->vms);
	ksft_print_msg("unmerged %d times\n", 2 * rounds);
	EXPECT_LT(0, rounds);
	ASSERT_EQ(0, ksm_passes(4));
	expect_right(_metadata, &self->vms);
	expect_merged(_metadata, &self->vms);
}

KSM_TEST(kvm, guests_move_between_nodes)
{
	double end;

	if (!two_nodes())
		SKIP(return, "one NUMA node only");
	for (int round = 0; round < 4; round++) {
		EXPECT_EQ(VMM_PAGES, area_move(vmm.vm.ram, VMM_PAGES, !(round % 2)));
		expect_right(_metadata, &self->vms);
		expect_merged(_metadata, &self->vms);
	}
	end = ksm_now() + WRITE_MS / 1000.0;
	all_write(_metadata, &self->vms, WRITE_MS);
	/* Some are held just now: then they don't move. */
	for (int round = 0; ksm_now() < end; round++)
		area_move(vmm.vm.ram, VMM_PAGES, round % 2);
	all_written(_metadata, &self->vms);
	ASSERT_EQ(0, ksm_passes(4));
	expect_merged(_metadata, &self->vms);
}

/* While it boots, or while its guest writes to pages that are merged again. */
KSM_TEST(kvm, a_vm_is_killed_while_its_pages_merge)
{
	ASSERT_EQ(0, ksm_set("sleep_millisecs", 0));
	ASSERT_EQ(0, ksm_start());
	for (int round = 0; round < 16; round++) {
		struct ksm_child victim;

		ASSERT_EQ(0, ksm_child_start(&victim));
		if (round % 2) {
			ASSERT_EQ(0, ksm_child_post(&victim, vmm_boot, 3));
		} else {
			ASSERT_EQ(0, ksm_child_call(&victim, vmm_boot, 3));
			ASSERT_EQ(0, ksm_child_post(&victim, vmm_writes, 60000));
		}
		usleep(20000 + round * 37000);
		ksm_child_kill(&victim);
		expect_right(_metadata, &self->vms);
	}
	ASSERT_EQ(0, ksm_passes(4));
	expect_right(_metadata, &self->vms);
	expect_merged(_metadata, &self->vms);
}

static size_t dirty_pages(const uint64_t *bitmap)
{
	size_t n = 0;

	for (size_t i = 0; i < VMM_PAGES / BITS; i++)
		n += __builtin_popcountll(bitmap[i]);
	return n;
}

/* A merged page that the guest reads is not dirty, one that it writes is. */
KSM_TEST(kvm, dirty_logging_of_merged_memory)
{
	uint64_t bitmap[VMM_PAGES / BITS];

	ASSERT_EQ(0, vm_log_dirty(&vmm.vm, true));
	ASSERT_EQ(0, vm_get_dirty(&vmm.vm, bitmap));
	for (int round = 0; round < 3; round++) {
		struct vm_pages pages = vmm_stamps(round, 11, 4 * round);

		expect_right(_metadata, &self->vms);
		ASSERT_EQ(0, vm_get_dirty(&vmm.vm, bitmap));
		EXPECT_EQ(0, dirty_pages(bitmap));
		ASSERT_EQ(0, vm_call(&vmm.vm, GUEST_STAMP, &pages));
		ASSERT_EQ(0, vm_get_dirty(&vmm.vm, bitmap));
		EXPECT_EQ(pages.count, dirty_pages(bitmap));
		for (size_t i = 0; i < VMM_PAGES; i++)
			EXPECT_EQ(vm_pages_have(&pages, i),
				  bitmap[i / BITS] >> i % BITS & 1);
		ASSERT_EQ(0, vm_call(&vmm.vm, GUEST_UNSTAMP, &pages));
		ASSERT_EQ(0, vm_get_dirty(&vmm.vm, bitmap));
		EXPECT_EQ(pages.count, dirty_pages(bitmap));
		/* Nor does merging make pages dirty. */
		ASSERT_EQ(0, ksm_passes(4));
		ASSERT_EQ(0, vm_get_dirty(&vmm.vm, bitmap));
		EXPECT_EQ(0, dirty_pages(bitmap));
		expect_merged(_metadata, &self->vms);
	}
	EXPECT_EQ(0, vm_log_dirty(&vmm.vm, false));
	expect_right(_metadata, &self->vms);
}

/* Copy what got dirty since the last time; how much that was. */
static size_t copy_dirty(struct __test_metadata *_metadata, char *to)
{
	uint64_t bitmap[VMM_PAGES / BITS];

	ASSERT_EQ(0, vm_get_dirty(&vmm.vm, bitmap));
	for (size_t i = 0; i < VMM_PAGES; i++) {
		if (bitmap[i / BITS] >> i % BITS & 1)
			memcpy(area_page(to, i), area_page(vmm.vm.ram, i),
			       page_bytes());
	}
	return dirty_pages(bitmap);
}

/* As in a live migration, and what has been copied is merged with what it was copied from. */
KSM_TEST(kvm, a_guest_is_copied_while_it_writes)
{
	const size_t bytes = VMM_PAGES * page_bytes();
	struct vm_pages last = vmm_stamps(3, 4, 12);
	double end = ksm_now() + WRITE_MS / 1000.0;
	char *ram = vm_ram_map(VMM_PAGES);
	size_t copied = 0;
	struct vm copy;

	ASSERT_NE(NULL, ram);
	ASSERT_EQ(0, vm_new(&copy, ram, VMM_PAGES, VMM_CONTENTS, content_seed()));
	ASSERT_EQ(0, area_mergeable(ram, VMM_PAGES));
	ASSERT_EQ(0, vm_log_dirty(&vmm.vm, true));
	vmm.guest_only = true;
	all_write(_metadata, &self->vms, WRITE_MS);
	memcpy(ram, vmm.vm.ram, bytes);
	while (ksm_now() < end) {
		copied += copy_dirty(_metadata, ram);
		usleep(50000);
	}
	all_written(_metadata, &self->vms);
	ASSERT_EQ(0, ksm_start());
	ASSERT_EQ(0, vm_call(&vmm.vm, GUEST_STAMP, &last));
	copied += copy_dirty(_metadata, ram);
	EXPECT_LT(last.count, copied);
	EXPECT_EQ(0, memcmp(ram, vmm.vm.ram, bytes));
	EXPECT_EQ(0, vm_call(&copy, GUEST_CHECK_STAMP, &last));
	EXPECT_EQ(last.count, vm_wrong(&copy));
	ASSERT_EQ(0, vm_call(&copy, GUEST_UNSTAMP, &last));
	EXPECT_EQ(0, vmm_pages_wrong(&last));
	ASSERT_EQ(0, vm_call(&vmm.vm, GUEST_UNSTAMP, &last));
	ASSERT_EQ(0, ksm_passes(4));
	EXPECT_EQ(0, vm_wrong(&copy));
	EXPECT_EQ(VMM_PAGES, area_sharing_with(ram, VMM_PAGES, ram) * VMM_CONTENTS);
	EXPECT_TRUE(pages_shared(ram, vmm.vm.ram));
	expect_right(_metadata, &self->vms);
	vm_free(&copy);
	ASSERT_EQ(0, munmap(ram, bytes));
}

/* No write is lost, none appears elsewhere. */
KSM_TEST(kvm, guests_write_while_ksmd_runs)
{
	all_write(_metadata, &self->vms, 2 * WRITE_MS);
	all_written(_metadata, &self->vms);
	ASSERT_EQ(0, ksm_passes(4));
	expect_right(_metadata, &self->vms);
	expect_merged(_metadata, &self->vms);
}

/* The kinds of memory of one guest, PART pages each, but the last two. */
enum { PART_LOCKED, PART_SHARED, PART_FILE, PART_PRIVATE, PART_PLAIN };

#define PLAIN_PAGES	(VMM_PAGES - PART_PLAIN * PART)
#define MIXED_PAGES	(2 * VMM_PAGES)

static bool map_over(char *ram, size_t from, size_t pages, int flags, int fd)
{
	return mmap(area_page(ram, from), pages * page_bytes(), PROT_READ | PROT_WRITE,
		    MAP_FIXED | flags, fd, 0) != MAP_FAILED;
}

/* Files are read from, written to and merged as the private mapping of one is. */
static char *mixed_ram(struct __test_metadata *_metadata, uint64_t seed, int fd)
{
	char *ram = vm_ram_map(MIXED_PAGES), page[page_bytes()];

	ASSERT_NE(NULL, ram);
	for (size_t i = 0; i < PART; i++) {
		content_fill(page, seed, i % VMM_CONTENTS);
		ASSERT_EQ(sizeof(page), write(fd, page, sizeof(page)));
	}
	ASSERT_TRUE(map_over(ram, PART_SHARED * PART, PART,
			     MAP_SHARED | MAP_ANONYMOUS, -1));
	ASSERT_TRUE(map_over(ram, PART_FILE * PART, PART, MAP_SHARED, fd));
	ASSERT_TRUE(map_over(ram, PART_PRIVATE * PART, PART, MAP_PRIVATE, fd));
	ASSERT_EQ(0, mlock(ram, PART * page_bytes()));
	return ram;
}

/* What the guest writes of it: of the private mapping every second page. */
static void mixed_fill(struct __test_metadata *_metadata, struct vm *vm)
{
	struct vm_pages before = { .count = PART_PRIVATE * PART, .step = 1 };
	struct vm_pages private = {
		.first = PART_PRIVATE * PART, .count = PART / 2, .step = 2,
	};
	struct vm_pages behind = {
		.first = PART_PLAIN * PART, .count = PLAIN_PAGES + VMM_PAGES, .step = 1,
	};

	ASSERT_EQ(0, vm_call(vm, GUEST_FILL, &before));
	ASSERT_EQ(0, vm_call(vm, GUEST_FILL, &private));
	ASSERT_EQ(0, vm_call(vm, GUEST_FILL, &behind));
}

static void expect_mixed(struct __test_metadata *_metadata, struct vm *vm)
{
	static const size_t merged[] = { PART, 0, 0, PART / 2 };

	for (size_t i = 0; i < PART_PLAIN; i++) {
		EXPECT_EQ(merged[i], area_ksm_pages(area_page(vm->ram, i * PART), PART))
			TH_LOG("part %zu", i);
	}
	EXPECT_EQ(PLAIN_PAGES, area_ksm_pages(area_page(vm->ram, PART_PLAIN * PART),
					      PLAIN_PAGES));
	EXPECT_EQ(0, area_ksm_pages(area_page(vm->ram, VMM_PAGES), VMM_PAGES));
	EXPECT_TRUE(area_vmflag(vm->ram, "lo"));
	EXPECT_EQ(0, vm_wrong(vm));
	EXPECT_EQ(0, area_wrong(vm->ram, vm->pages, vm->distinct, content_seed()));
}

/*
 * Memory that is locked merges and stays locked. What is shared, a file's or of
 * hugetlbfs is left alone, and the rest merges.
 */
KSM_TEST(kvm, a_guest_with_memory_of_all_kinds)
{
	int fd = open(PAGES_FILE, O_RDWR | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);
	struct vm_pages pages;
	struct vm mixed;
	char *ram;

	ASSERT_LE(0, fd);
	unlink(PAGES_FILE);
	ram = mixed_ram(_metadata, content_seed(), fd);
	ksm_file_write(NR_HUGEPAGES, "2");
	if (!map_over(ram, VMM_PAGES, VMM_PAGES,
		      MAP_PRIVATE | MAP_ANONYMOUS | MAP_HUGETLB, -1))
		SKIP(return, "no huge page");
	ASSERT_EQ(0, vm_new(&mixed, ram, MIXED_PAGES, VMM_CONTENTS, content_seed()));
	mixed_fill(_metadata, &mixed);
	EXPECT_EQ(0, vm_wrong(&mixed));
	ASSERT_EQ(0, area_mergeable(ram, MIXED_PAGES));
	ASSERT_EQ(0, ksm_passes(4));
	EXPECT_EQ(VMM_CONTENTS, ksm_get("pages_shared"));
	expect_mixed(_metadata, &mixed);

	pages = vm_every(&mixed, 0, 2);
	pages.value = 5;
	ASSERT_EQ(0, vm_call(&mixed, GUEST_STAMP, &pages));
	EXPECT_EQ(0, vm_call(&mixed, GUEST_CHECK_STAMP, &pages));
	expect_right(_metadata, &self->vms);
	EXPECT_EQ(pages.count, vm_wrong(&mixed));
	ASSERT_EQ(0, vm_call(&mixed, GUEST_UNSTAMP, &pages));
	ASSERT_EQ(0, ksm_passes(4));
	expect_mixed(_metadata, &mixed);
	expect_right(_metadata, &self->vms);
	close(fd);
}

static void expect_no_costs(struct __test_metadata *_metadata, struct kvm_counts *counts)
{
	ASSERT_EQ(0, kvm_count_since(counts));
	EXPECT_EQ(0, counts->ranges);
	EXPECT_EQ(0, counts->flushes);
	EXPECT_EQ(0, counts->faults);
}

/*
 * Where nothing is new, a pass has KVM drop nothing and no guest leave. Of the
 * pages some are merged, some are alone and all have been read by the guests.
 */
KSM_TEST(kvm, clean_guests_cost_nothing)
{
	struct vm_pages pages = vmm_stamps(1, 3, 16);
	struct kvm_counts counts;

	ASSERT_EQ(0, kvm_count_begin());
	/* What it does cost to merge must be seen, too. */
	ASSERT_EQ(0, vm_call(&vmm.vm, GUEST_STAMP, &pages));
	ASSERT_EQ(0, vm_call(&vmm.vm, GUEST_UNSTAMP, &pages));
	ASSERT_EQ(0, kvm_count(&counts));
	ASSERT_EQ(0, ksm_passes(4));
	expect_right(_metadata, &self->vms);
	ASSERT_EQ(0, kvm_count_since(&counts));
	EXPECT_LT(0, counts.ranges);
	EXPECT_LT(0, counts.flushes);
	EXPECT_LE(pages.count, counts.faults);
	EXPECT_LE(counts.faults, counts.exits);

	ASSERT_EQ(0, vm_call(&vmm.vm, GUEST_STAMP, &pages));
	ASSERT_EQ(0, ksm_passes(4));
	EXPECT_EQ(pages.count, vm_wrong(&vmm.vm));
	expect_others_right(_metadata, &self->vms);
	EXPECT_EQ(ALL_PAGES - VMM_CONTENTS - pages.count, ksm_get("pages_sharing"));
	ASSERT_EQ(0, kvm_count(&counts));
	ASSERT_EQ(0, ksm_step(3));
	expect_no_costs(_metadata, &counts);
	EXPECT_EQ(0, counts.exits);
	ASSERT_EQ(0, kvm_count(&counts));
	EXPECT_EQ(pages.count, vm_wrong(&vmm.vm));
	expect_others_right(_metadata, &self->vms);
	expect_no_costs(_metadata, &counts);
	EXPECT_EQ(0, kvm_count_end());
}

/* A batch is one range where pages lie side by side: many of them are not one each. */
KSM_TEST(kvm, pages_of_a_guest_merge_in_few_ranges)
{
	struct kvm_counts counts;

	ASSERT_EQ(0, kvm_count_begin());
	ASSERT_EQ(0, ksm_unmerge());
	/* Only what a guest has mapped has to be flushed. */
	expect_right(_metadata, &self->vms);
	ASSERT_EQ(0, kvm_count(&counts));
	ASSERT_EQ(0, ksm_passes(4));
	expect_merged(_metadata, &self->vms);
	ASSERT_EQ(0, kvm_count_since(&counts));
	ksft_print_msg("%lld ranges, %lld flushes for %d pages\n", (long long)counts.ranges,
		       (long long)counts.flushes, ALL_PAGES);
	EXPECT_LT(0, counts.ranges);
	EXPECT_LT(0, counts.flushes);
	/* A range and a flush for 12 pages at least; mainline has 20 ranges for them. */
	EXPECT_GE(ALL_PAGES / 12, counts.ranges);
	EXPECT_GE(ALL_PAGES / 12, counts.flushes);
	EXPECT_EQ(0, kvm_count_end());
}

KSM_TEST_MAIN_KEEPING(NR_HUGEPAGES)
