// SPDX-License-Identifier: GPL-2.0
/*
 * Same-page merging selftests: merged pages go out to swap and come back, by
 * touch and by swapoff, with every byte and every counter.
 */
#define _GNU_SOURCE
#include <sys/mman.h>
#include <sys/swap.h>

#include "ksm_disk.h"
#include "ksm_test.h"

#define PAGES 240
#define DISTINCT 12
#define CGROUP "ksm_swap_test"
#define HUGE_PAGES "/proc/sys/vm/nr_hugepages"
#define LEFT_KIB 24576
#define MORE_MIB 256

FIXTURE(swap)
{
	uint64_t seed;
	char device[64];
};

FIXTURE_VARIANT(swap)
{
	enum ksm_swap_kind kind;
};

FIXTURE_VARIANT_ADD(swap, zram) { .kind = KSM_SWAP_ZRAM };
FIXTURE_VARIANT_ADD(swap, disk) { .kind = KSM_SWAP_DISK };

FIXTURE_SETUP(swap)
{
	const char *device;

	if (!ksm_available())
		SKIP(return, "needs KSM and root");
	ASSERT_EQ(0, ksm_default_knobs());
	self->seed = content_seed();
	device = ksm_cgroup_swap_on(CGROUP, variant->kind);
	if (!device)
		SKIP(return, "no memory cgroup, or no %s to swap to",
		     variant->kind == KSM_SWAP_ZRAM ? "zram" : "empty disk");
	snprintf(self->device, sizeof(self->device), "%s", device);
}

FIXTURE_TEARDOWN_PARENT(swap)
{
	EXPECT_EQ(0, ksm_stop());
	EXPECT_LE(0, ksm_validate());
	EXPECT_EQ(0, ksm_unmerge());
	EXPECT_EQ(0, ksm_swap_off(self->device));
	ksm_cgroup_leave(CGROUP);
}

static size_t swapped(void *area)
{
	return area_count(area, PAGES, PAGEMAP_SWAP);
}

/*
 * Reclaim from the cgroup until a good part of the area is out. MADV_PAGEOUT
 * leaves pages alone that are mapped more than once, reclaim does not.
 */
static size_t swap_out(void *area)
{
	double end = ksm_now() + 20;

	while (swapped(area) < PAGES / 2 && ksm_now() < end) {
		/* EAGAIN if less was reclaimed: that is judged by the result. */
		ksm_cgroup_set(CGROUP, "memory.reclaim", "4M");
		usleep(10000);
	}
	return swapped(area);
}

static void *merged(struct __test_metadata *_metadata, uint64_t seed)
{
	void *area = area_new(PAGES, DISTINCT, seed);

	ASSERT_NE(NULL, area);
	ASSERT_EQ(0, ksm_passes(4));
	ASSERT_EQ(DISTINCT, area_frames(area, PAGES));
	return area;
}

KSM_TEST(swap, merged_pages_go_out_and_come_back)
{
	void *area = merged(_metadata, self->seed);
	int64_t copies = vmstat_field("ksm_swpin_copy");

	ASSERT_LE(PAGES / 2, swap_out(area));
	EXPECT_EQ(0, area_wrong(area, PAGES, DISTINCT, self->seed));
	EXPECT_EQ(0, swapped(area));
	/* One of the sharers has the page back, or another one that fits; the rest got copies. */
	EXPECT_LE(copies + PAGES / 2 - 2 * DISTINCT, vmstat_field("ksm_swpin_copy"));
	ASSERT_EQ(0, ksm_passes(2));
	EXPECT_EQ(DISTINCT, area_frames(area, PAGES));
	EXPECT_EQ(PAGES, own_merging_pages());
	EXPECT_EQ(0, area_wrong(area, PAGES, DISTINCT, self->seed));
}

static long child_populate(long mib)
{
	void *at = mmap(NULL, mib << 20, PROT_READ | PROT_WRITE,
			MAP_PRIVATE | MAP_ANONYMOUS | MAP_POPULATE, -1, 0);

	return at == MAP_FAILED ? -errno : 0;
}

/* Nobody asks for these pages to go: there is no memory left, for others. */
KSM_TEST(swap, the_whole_machine_is_short_of_memory)
{
	struct ksm_child hog;
	char text[32];
	long mib = 0;
	void *area;

	/* Any kernel kills there as often as not, with swap space left. */
	if (meminfo_kib("HighTotal") > 0)
		SKIP(return, "there is high memory");
	area = merged(_metadata, self->seed);
	snprintf(text, sizeof(text), "%ld", (long)(meminfo_kib("MemAvailable") - LEFT_KIB) / 2048);
	ASSERT_EQ(0, ksm_child_start(&hog));
	ASSERT_EQ(0, ksm_file_write(HUGE_PAGES, text));
	while (swapped(area) < PAGES / 2 && mib++ < MORE_MIB)
		ASSERT_EQ(0, ksm_child_call(&hog, child_populate, 1));
	ksm_child_kill(&hog);
	ASSERT_EQ(0, ksm_file_write(HUGE_PAGES, "0"));
	ksft_print_msg("%ld MiB more\n", mib);
	EXPECT_GE(MORE_MIB, mib);
	EXPECT_EQ(0, area_wrong(area, PAGES, DISTINCT, self->seed));
	ASSERT_EQ(0, ksm_passes(8));
	EXPECT_EQ(DISTINCT, area_frames(area, PAGES));
	EXPECT_EQ(0, area_wrong(area, PAGES, DISTINCT, self->seed));
}

KSM_TEST(swap, pages_are_written_while_they_are_out)
{
	void *area = merged(_metadata, self->seed);

	ASSERT_LE(PAGES / 2, swap_out(area));
	for (size_t i = 0; i < PAGES; i += 2)
		content_fill(area_page(area, i), self->seed + 1, i);
	for (size_t i = 0; i < PAGES; i++) {
		uint64_t seed = i % 2 ? self->seed : self->seed + 1;

		EXPECT_EQ(0, content_wrong(area_page(area, i), seed,
					   i % 2 ? i % DISTINCT : i));
	}
}

KSM_TEST(swap, unmerging_pages_that_are_out)
{
	void *area = merged(_metadata, self->seed);

	ASSERT_LE(PAGES / 2, swap_out(area));
	ASSERT_EQ(0, ksm_set("run", 2));
	EXPECT_EQ(0, ksm_get("pages_shared"));
	EXPECT_EQ(0, area_wrong(area, PAGES, DISTINCT, self->seed));
	EXPECT_EQ(0, own_merging_pages());
}

KSM_TEST(swap, swapoff_brings_them_back)
{
	void *area = merged(_metadata, self->seed);
	const char *device;

	ASSERT_LE(PAGES / 2, swap_out(area));
	EXPECT_EQ(0, ksm_swap_off(self->device));
	EXPECT_EQ(0, swapped(area));
	EXPECT_EQ(0, area_wrong(area, PAGES, DISTINCT, self->seed));
	ASSERT_EQ(0, ksm_passes(8));
	EXPECT_EQ(DISTINCT, area_frames(area, PAGES));
	/* The teardown switches it off again. */
	device = ksm_swap_on(variant->kind);
	ASSERT_NE(NULL, device);
}

static long switch_off(long device)
{
	return swapoff((const char *)device) ? -errno : 0;
}

/* Both bring the pages in, each in its own way. */
KSM_TEST(swap, swapoff_while_unmerging)
{
	void *area = merged(_metadata, self->seed);
	struct ksm_child child;

	ASSERT_EQ(0, ksm_child_start(&child));
	for (int round = 0; round < 3; round++) {
		ASSERT_LE(PAGES / 2, swap_out(area));
		ASSERT_EQ(0, ksm_child_post(&child, switch_off, (long)self->device));
		EXPECT_EQ(0, ksm_set("run", 2));
		EXPECT_EQ(0, ksm_child_result(&child));
		EXPECT_EQ(0, ksm_get("pages_shared"));
		EXPECT_EQ(0, area_ksm_pages(area, PAGES));
		EXPECT_EQ(0, swapped(area));
		EXPECT_EQ(0, area_wrong(area, PAGES, DISTINCT, self->seed));
		ASSERT_EQ(0, swapon(self->device, 0));
		ASSERT_EQ(0, ksm_passes(4));
		ASSERT_EQ(DISTINCT, area_frames(area, PAGES));
	}
	EXPECT_EQ(0, ksm_child_end(&child));
}

static void *forked_area;

static long forked_wrong(long seed)
{
	return area_wrong(forked_area, PAGES, DISTINCT, seed);
}

KSM_TEST(swap, two_processes_share_what_is_out)
{
	struct ksm_child child;

	forked_area = merged(_metadata, self->seed);
	ASSERT_EQ(0, ksm_child_start(&child));
	ASSERT_EQ(0, ksm_passes(3));
	ASSERT_LE(PAGES / 2, swap_out(forked_area));
	EXPECT_EQ(0, ksm_child_call(&child, forked_wrong, self->seed));
	area_fill(forked_area, PAGES / 2, DISTINCT, self->seed + 1);
	EXPECT_EQ(0, ksm_child_call(&child, forked_wrong, self->seed));
	ASSERT_EQ(0, ksm_passes(4));
	EXPECT_EQ(0, ksm_child_call(&child, forked_wrong, self->seed));
	EXPECT_EQ(0, ksm_child_end(&child));
	EXPECT_EQ(0, area_wrong(forked_area, PAGES / 2, DISTINCT, self->seed + 1));
}

/* Not merged pages go out too; ksmd brings none of them in to look at them. */
KSM_TEST(swap, ksmd_leaves_swapped_pages_alone)
{
	void *area = area_new(PAGES, PAGES, self->seed);
	size_t out;

	ASSERT_NE(NULL, area);
	ASSERT_EQ(0, ksm_passes(3));
	out = swap_out(area);
	ASSERT_LE(PAGES / 2, out);
	ASSERT_EQ(0, ksm_passes(4));
	EXPECT_LE(out, swapped(area));
	EXPECT_EQ(0, area_wrong(area, PAGES, PAGES, self->seed));
}

KSM_TEST_MAIN_KEEPING(HUGE_PAGES)
