// SPDX-License-Identifier: GPL-2.0
/*
 * Same-page merging selftests: a process with one VM, and what it does when
 * it is told so. See kvm_vmm.h.
 */
#define _GNU_SOURCE
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <unistd.h>

#include "ksm_page.h"
#include "ksm_util.h"
#include "kvm_vmm.h"

#define ID_SHIFT	28
#define PAUSE_US	40000

struct vmm vmm;

static long boot(long id, bool mergeable)
{
	void *ram = vm_ram_map(VMM_PAGES);
	long err;

	vmm = (struct vmm) { .id = id, .random = id };
	if (!ram)
		return -ENOMEM;
	err = vm_new(&vmm.vm, ram, VMM_PAGES, VMM_CONTENTS, content_seed());
	if (!err)
		err = vm_fill(&vmm.vm);
	if (!err && mergeable)
		err = area_mergeable(ram, VMM_PAGES);
	return err;
}

/* A new VM, whose memory the guest has filled, and that may be merged. */
long vmm_boot(long id)
{
	return boot(id, true);
}

/* All memory of the process may be merged. */
long vmm_boot_merge_any(long id)
{
	return prctl(PR_SET_MEMORY_MERGE, 1, 0, 0, 0) ? -errno : boot(id, false);
}

/* From now on all pages are zero. */
long vmm_zero(long unused)
{
	memset(vmm.vm.refs, 0, GUEST_REFS_NR * page_bytes());
	vmm.zeroes = true;
	return vm_fill(&vmm.vm);
}

static void expected(void *page, size_t nr)
{
	if (vmm.zeroes)
		memset(page, 0, page_bytes());
	else
		content_fill(page, content_seed(), nr % VMM_CONTENTS);
}

/* As the VMM sees them, when only the pages of @stamped, if any, have stamps. */
size_t vmm_pages_wrong(const struct vm_pages *stamped)
{
	char page[page_bytes()];
	size_t wrong = 0;

	for (size_t i = 0; i < VMM_PAGES; i++) {
		uint32_t stamp = stamped ? stamped->value + i : 0;

		expected(page, i);
		if (stamped && vm_pages_have(stamped, i))
			memcpy(page + stamped->at, &stamp, sizeof(stamp));
		wrong += !!memcmp(page, area_page(vmm.vm.ram, i), page_bytes());
	}
	return wrong;
}

/* As the guest sees them, and as the VMM does. */
long vmm_wrong(long unused)
{
	long wrong = vm_wrong(&vmm.vm);

	return wrong < 0 ? wrong : wrong + (long)vmm_pages_wrong(NULL);
}

long vmm_merged(long unused)
{
	return area_ksm_pages(vmm.vm.ram, VMM_PAGES);
}

long vmm_frame(long page)
{
	return page_pfn(area_page(vmm.vm.ram, page));
}

long vmm_swapped(long unused)
{
	return area_count(vmm.vm.ram, VMM_PAGES, PAGEMAP_SWAP);
}

/* A stamp that no page of any VM had before, for each @step-th page. */
struct vm_pages vmm_stamps(uint32_t first, uint32_t step, uint32_t at)
{
	struct vm_pages pages = vm_every(&vmm.vm, first, step);

	pages.at = at;
	pages.value = vmm.id << ID_SHIFT | vmm.stamps;
	vmm.stamps = (vmm.stamps + VMM_PAGES) % (1U << ID_SHIFT);
	return pages;
}

void vmm_host_stamp(const struct vm_pages *pages)
{
	for (size_t i = 0; i < VMM_PAGES; i++) {
		char *page = area_page(vmm.vm.ram, i);

		if (vm_pages_have(pages, i))
			*(volatile uint32_t *)(page + pages->at) = pages->value + i;
	}
}

void vmm_host_unstamp(const struct vm_pages *pages)
{
	uint32_t page[page_bytes() / sizeof(uint32_t)];

	for (size_t i = 0; i < VMM_PAGES; i++) {
		char *at = (char *)area_page(vmm.vm.ram, i) + pages->at;

		if (!vm_pages_have(pages, i))
			continue;
		expected(page, i);
		*(volatile uint32_t *)at = page[pages->at / sizeof(*page)];
	}
}

static unsigned int random_below(unsigned int n)
{
	return rand_r(&vmm.random) / 7 % n;
}

/* Either of the two writes the stamps and either takes them away; both check. */
static long write_round(void)
{
	bool host_stamps = !vmm.guest_only && !random_below(4);
	bool host_unstamps = !vmm.guest_only && random_below(2);
	struct vm *vm = &vmm.vm;
	struct vm_pages pages = vmm_stamps(random_below(8), 1 + random_below(8),
					   random_below(1024) * sizeof(uint32_t));
	long ret = 0, wrong;

	if (host_stamps)
		vmm_host_stamp(&pages);
	else
		ret = vm_call(vm, GUEST_STAMP, &pages);
	if (ret < 0)
		return ret;
	wrong = vm_call(vm, GUEST_CHECK_STAMP, &pages);
	if (wrong < 0)
		return wrong;
	/* Time to merge what got no stamp while others have one. */
	usleep(random_below(3) ? 0 : PAUSE_US);
	wrong += vmm_pages_wrong(&pages);
	ret = vm_call(vm, GUEST_CHECK_STAMP, &pages);
	if (ret < 0)
		return ret;
	wrong += ret;
	if (host_unstamps)
		vmm_host_unstamp(&pages);
	else
		ret = vm_call(vm, GUEST_UNSTAMP, &pages);
	return ret < 0 ? ret : wrong;
}

/*
 * Write to pages, see that each write is there and that there is nothing else,
 * and make the pages equal again, for so long.
 */
long vmm_writes(long ms)
{
	double end = ksm_now() + ms / 1000.0;
	long wrong = 0, ret;

	while (ksm_now() < end) {
		vmm.merged_rounds += vmm_merged(0) >= VMM_PAGES / 2;
		vmm.rounds++;
		ret = write_round();
		if (ret < 0)
			return ret;
		wrong += ret;
		ret = vmm_wrong(0);
		if (ret < 0)
			return ret;
		wrong += ret;
		usleep(random_below(3) * PAUSE_US);
	}
	return wrong;
}

long vmm_merged_rounds(long unused)
{
	return vmm.merged_rounds;
}
