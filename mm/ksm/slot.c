// SPDX-License-Identifier: GPL-2.0
/*
 * Registered mms and their spans. State layer.
 *
 * Locking: slot_lock for registration and ownership; spans belong to the owner of the slot, who
 * also holds the mm's mmap_lock unless the mm exits. Claiming never waits.
 * Lifetime: a slot lives from the first madvise or prctl of an mm to the mm's exit. It holds
 * mm_count, never mm_users. An exiting mm tears its slot down itself, or leaves it to the owner,
 * who is at work and soon releases it; so nothing lingers while ksmd sleeps, and exit never waits
 * for a pass.
 * Failure: no memory for a slot: -ENOMEM; for a span: its pages are not tracked in this pass.
 * Tests: exit and stress tests in tools/testing/selftests/vm/.
 */
#include <linux/delay.h>
#include <linux/sched/mm.h>
#include <linux/slab.h>
#include <trace/events/ksm.h>

#include "slot.h"
#include "stable.h"
#include "unstable.h"

#define KSM_SPAN_GFP	(GFP_KERNEL | __GFP_NORETRY | __GFP_NOWARN)
#define KSM_CLEAR_BLOCKS	64	/* as many as ksm_slot_clear_part() forgets */

static struct kmem_cache *ksm_slot_cache;
static struct kmem_cache *ksm_span_caches[3];	/* 4, 8, 16 items */

/**
 * ksm_slot_init - create the caches of this file
 *
 * Return: 0 or -ENOMEM.
 */
int __init ksm_slot_init(void)
{
	static const char * const names[] = { "ksm_span_4", "ksm_span_8", "ksm_span_16" };
	unsigned int i;

	ksm_slot_cache = KMEM_CACHE(ksm_slot, 0);
	if (!ksm_slot_cache)
		return -ENOMEM;
	for (i = 0; i < ARRAY_SIZE(names); i++) {
		ksm_span_caches[i] =
			kmem_cache_create(names[i], ksm_span_size(4U << i), 16, 0, NULL);
		if (!ksm_span_caches[i])
			return -ENOMEM;
	}
	return 0;
}

static unsigned int ksm_span_class(unsigned int nr)
{
	return nr <= 4 ? 0 : nr <= 8 ? 1 : 2;
}

static long ksm_account(struct ksm_domain *domain, struct kmem_cache *cache, long n)
{
	const long bytes = n * (long)kmem_cache_size(cache);

	ksm_stat_add(&domain->stats, KSM_STAT_METADATA, bytes);
	return bytes;
}

static void ksm_account_span(struct ksm_slot *slot, struct kmem_cache *cache, long n)
{
	slot->nr_spans += n;
	WRITE_ONCE(slot->held, slot->held + ksm_account(slot->domain, cache, n));
}

/**
 * ksm_item_to - give an item another state, with all the counts
 * @span: its span
 * @pos: its position
 * @to: the new state
 *
 * Context: the owner of the slot; see ksm_item_move().
 */
void ksm_item_to(struct ksm_span *span, unsigned int pos, enum ksm_item_state to)
{
	enum ksm_item_state from = ksm_item_state(span, pos);
	struct mm_struct *mm = ksm_slot_mm(span->slot);

	VM_WARN_ON_ONCE(!span->slot->owner && !span->slot->exiting &&
			!rwsem_is_locked(&mm->mmap_lock));
	ksm_item_move(&span->slot->domain->stats, span, pos, to);
	if (from == KSM_ITEM_NONE && to != KSM_ITEM_NONE)
		WRITE_ONCE(mm->ksm_rmap_items, mm->ksm_rmap_items + 1);
	if (from != KSM_ITEM_NONE && to == KSM_ITEM_NONE)
		WRITE_ONCE(mm->ksm_rmap_items, mm->ksm_rmap_items - 1);
	if (from != KSM_ITEM_MERGED && to == KSM_ITEM_MERGED)
		WRITE_ONCE(mm->ksm_merging_pages, mm->ksm_merging_pages + 1);
	if (from == KSM_ITEM_MERGED && to != KSM_ITEM_MERGED)
		WRITE_ONCE(mm->ksm_merging_pages, mm->ksm_merging_pages - 1);
}

static void ksm_span_free(struct ksm_span *span)
{
	struct kmem_cache *cache = ksm_span_caches[ksm_span_class(span->nr)];

	VM_WARN_ON_ONCE(!ksm_span_empty(span));
	ksm_account_span(span->slot, cache, -1);
	kmem_cache_free(cache, span);
}

/**
 * ksm_span_lookup - find the item of a page
 * @slot: owned
 * @vpn: page number
 * @pos: where to store its position
 *
 * Return: the span, or NULL.
 */
struct ksm_span *ksm_span_lookup(struct ksm_slot *slot, unsigned long vpn, unsigned int *pos)
{
	struct ksm_span *span = xa_load(&slot->spans, vpn >> KSM_BLOCK_SHIFT);
	const unsigned int page = vpn & (KSM_BLOCK_PAGES - 1);

	for (; span; span = span->next) {
		if (ksm_span_cover(span) >> page & 1) {
			*pos = page - span->first;
			return span;
		}
	}
	return NULL;
}

/**
 * ksm_span_add - make a span for pages of a block that have none
 * @slot: owned
 * @vma: where the pages are
 * @block: number of the block
 * @wanted: the pages; none of them is covered yet
 *
 * Only the gap between two existing spans that holds the first wanted page is served: call again
 * for the rest.
 *
 * Context: mmap_lock held; allocates, may sleep.
 * Return: the new span, or NULL for lack of memory.
 */
struct ksm_span *ksm_span_add(struct ksm_slot *slot, struct vm_area_struct *vma,
			      unsigned long block, u16 wanted)
{
	const unsigned long base = block << KSM_BLOCK_SHIFT;
	const unsigned long vma_first = vma->vm_start >> PAGE_SHIFT,
			    vma_end = vma->vm_end >> PAGE_SHIFT;
	unsigned int low = max(vma_first, base) - base;
	unsigned int high = min(vma_end, base + KSM_BLOCK_PAGES) - base;
	struct ksm_span *head = xa_load(&slot->spans, block), *prev = NULL, *span;
	unsigned int first, nr;

	mmap_assert_locked(vma->vm_mm);
	for (span = head; span && span->first <= __ffs(wanted); span = span->next)
		prev = span;
	if (prev)
		low = max(low, (unsigned int)prev->first + prev->nr);
	if (span)
		high = min(high, (unsigned int)span->first);
	if (!ksm_span_fit(wanted, low, high, &first, &nr))
		return NULL;

	span = kmem_cache_zalloc(ksm_span_caches[ksm_span_class(nr)], KSM_SPAN_GFP);
	if (!span)
		return NULL;
	ksm_span_init(span, slot, block, first, nr);
	if (prev) {
		span->next = prev->next;
		prev->next = span;
	} else {
		span->next = head;
		if (xa_err(xa_store(&slot->spans, block, span, KSM_SPAN_GFP))) {
			kmem_cache_free(ksm_span_caches[ksm_span_class(nr)], span);
			return NULL;
		}
	}
	ksm_account_span(slot, ksm_span_caches[ksm_span_class(nr)], 1);
	return span;
}

/**
 * ksm_span_clear - make items NONE, whatever they are
 * @span: the span
 * @cover: pages of its block to clear
 * @wait: wait for folio locks
 *
 * Context: the owner of the slot, no PTE or folio lock held.
 * Return: 0; or -EAGAIN when @wait is false and some item is still merged.
 */
int ksm_span_clear(struct ksm_span *span, u16 cover, bool wait)
{
	unsigned int pos;
	int err = 0;

	for (pos = 0; pos < span->nr; pos++) {
		if (!(cover >> (span->first + pos) & 1))
			continue;
		switch (ksm_item_state(span, pos)) {
		case KSM_ITEM_NONE:
			break;
		case KSM_ITEM_SEEN:
			ksm_item_to(span, pos, KSM_ITEM_NONE);
			break;
		case KSM_ITEM_UNSTABLE:
			ksm_unstable_erase(span, pos, KSM_ITEM_NONE);
			break;
		case KSM_ITEM_MERGED:
			if (ksm_item_unlink(span, pos, wait))
				err = -EAGAIN;
			break;
		}
	}
	return err;
}

/**
 * ksm_block_prune - take the spans of a block that are empty out of it and free them
 * @slot: owned, or mmap_lock held for write
 * @block: number of the block
 */
void ksm_block_prune(struct ksm_slot *slot, unsigned long block)
{
	struct ksm_span *head = xa_load(&slot->spans, block), *first = head;
	struct ksm_span *span, *next, **link;

	link = &first;
	for (span = head; span; span = next) {
		next = span->next;
		if (ksm_span_empty(span)) {
			*link = next;
			ksm_span_free(span);
		} else {
			link = &span->next;
		}
	}
	if (!first)
		xa_erase(&slot->spans, block);
	else if (first != head)
		xa_store(&slot->spans, block, first, GFP_NOWAIT);
}

/**
 * ksm_slot_clear_range - forget a range of pages
 * @slot: owned, or mmap_lock held for write
 * @start: first address
 * @end: end address; 0 and ULONG_MAX for all
 * @wait: wait for folio locks
 *
 * Context: may sleep; no PTE or folio lock held.
 * Return: 0; or -EAGAIN when @wait is false and some item is still merged.
 */
int ksm_slot_clear_range(struct ksm_slot *slot, unsigned long start, unsigned long end, bool wait)
{
	const unsigned long first = start >> PAGE_SHIFT, last = (end - 1) >> PAGE_SHIFT;
	struct ksm_span *head, *span;
	unsigned long block;
	int err = 0;

	xa_for_each_range(&slot->spans, block, head, first >> KSM_BLOCK_SHIFT,
			  last >> KSM_BLOCK_SHIFT) {
		const unsigned long base = block << KSM_BLOCK_SHIFT;
		u16 cover = U16_MAX;

		if (base < first)
			cover &= U16_MAX << (first - base);
		if (base + KSM_BLOCK_PAGES - 1 > last)
			cover &= U16_MAX >> (base + KSM_BLOCK_PAGES - 1 - last);
		for (span = head; span; span = span->next) {
			if (ksm_span_clear(span, cover, wait))
				err = -EAGAIN;
		}
		ksm_block_prune(slot, block);
		cond_resched();
	}
	return err;
}

/**
 * ksm_slot_clear_part - forget the first pages of a range, not more than takes a moment
 * @slot: owned, or mmap_lock held for write
 * @start: first address
 * @end: end address; ULONG_MAX for all
 *
 * Context: may sleep; no PTE or folio lock held; waits for folio locks.
 * Return: the end of what is forgotten, @end when that is all.
 */
unsigned long ksm_slot_clear_part(struct ksm_slot *slot, unsigned long start, unsigned long end)
{
	const unsigned int shift = PAGE_SHIFT + KSM_BLOCK_SHIFT;
	struct ksm_span *head;
	unsigned long block;
	unsigned int nr = 0;

	if (start == end)
		return end;
	xa_for_each_range(&slot->spans, block, head, start >> shift, (end - 1) >> shift) {
		if (++nr > KSM_CLEAR_BLOCKS) {
			end = block << shift;
			break;
		}
	}
	ksm_slot_clear_range(slot, start, end, true);
	return end;
}

/**
 * ksm_slot_sweep - forget the spans that a pass did not meet
 * @slot: owned
 * @pass: number of the pass that has just walked the whole mm
 *
 * Stops after a while when others wait for mmap_lock; the next pass begins anew.
 *
 * Context: mmap_lock held, may sleep.
 */
void ksm_slot_sweep(struct ksm_slot *slot, u32 pass)
{
	struct ksm_span *head, *span;
	unsigned long block;
	unsigned int nr = 0;

	mmap_assert_locked(ksm_slot_mm(slot));
	xa_for_each(&slot->spans, block, head) {
		for (span = head; span; span = span->next) {
			if (span->pass != pass)
				ksm_span_clear(span, U16_MAX, false);
		}
		ksm_block_prune(slot, block);
		if (!(++nr & 511) && ksm_mm_wanted(ksm_slot_mm(slot)))
			return;
		cond_resched();
	}
}

/**
 * ksm_slot_enter - register an mm
 * @domain: where
 * @mm: with users
 *
 * Context: may sleep; mmap_lock may be held.
 * Return: 0, also when it is registered already, or -ENOMEM.
 */
int ksm_slot_enter(struct ksm_domain *domain, struct mm_struct *mm)
{
	struct ksm_slot *slot;
	bool entered = false;

	if (test_bit(MMF_VM_MERGEABLE, &mm->flags) || !atomic_read(&mm->mm_users))
		return 0;
	slot = mm_slot_alloc(ksm_slot_cache);
	if (!slot)
		return -ENOMEM;
	slot->domain = domain;
	refcount_set(&slot->refs, 1);
	xa_init(&slot->spans);

	spin_lock(&domain->slot_lock);
	if (!test_and_set_bit(MMF_VM_MERGEABLE, &mm->flags)) {
		mmgrab(mm);
		mm_slot_insert(domain->slot_hash, mm, (&slot->mm_slot));
		list_add_tail(&slot->mm_slot.mm_node, &domain->slots);
		entered = true;
	}
	spin_unlock(&domain->slot_lock);

	if (!entered) {
		mm_slot_free(ksm_slot_cache, slot);
		return 0;
	}
	ksm_account(domain, ksm_slot_cache, 1);
	trace_ksm_enter(mm);
	if (wq_has_sleeper(&domain->wait))
		wake_up_interruptible(&domain->wait);
	return 0;
}

/**
 * ksm_slot_held - what is held to keep track of an mm's pages
 * @domain: where it is registered, if at all
 * @mm: the mm
 *
 * Return: bytes; 0 when nothing is known of any of its pages.
 */
unsigned long ksm_slot_held(struct ksm_domain *domain, struct mm_struct *mm)
{
	struct mm_slot *mm_slot;
	unsigned long held = 0;

	spin_lock(&domain->slot_lock);
	mm_slot = mm_slot_lookup(domain->slot_hash, mm);
	if (mm_slot)
		held = READ_ONCE(mm_slot_entry(mm_slot, struct ksm_slot, mm_slot)->held);
	spin_unlock(&domain->slot_lock);
	return held;
}

/**
 * ksm_slot_get - take a reference, so that the slot may be claimed later
 * @slot: registered, owned, or with an item in a tree whose lock is held
 */
void ksm_slot_get(struct ksm_slot *slot)
{
	refcount_inc(&slot->refs);
}

/**
 * ksm_slot_put - drop a reference
 * @slot: the slot; freed with its last reference
 */
void ksm_slot_put(struct ksm_slot *slot)
{
	if (refcount_dec_and_test(&slot->refs))
		mm_slot_free(ksm_slot_cache, slot);
}

/* The slot is off hash and list, and ours. The mm may be going away, but is still referenced. */
static void ksm_slot_teardown(struct ksm_slot *slot)
{
	struct mm_struct *mm = ksm_slot_mm(slot);

	ksm_slot_clear_range(slot, 0, ULONG_MAX, true);
	VM_WARN_ON_ONCE(!xa_empty(&slot->spans));
	ksm_account(slot->domain, ksm_slot_cache, -1);
	trace_ksm_exit(mm);
	mmdrop(mm);
	atomic_dec(&slot->domain->nr_exiting);
	ksm_slot_put(slot);
}

/*
 * An owner may be inside the mm, even about to break COW: it has to leave before the page tables
 * go. It holds mmap_lock for one hold at most, and sees at the next that the mm is gone.
 * Don't queue for the lock: if the owner waits for memory, the OOM reaper has to get it, too.
 */
static void ksm_slot_wait_for_owner(struct mm_struct *mm)
{
	unsigned long us = 20;

	while (!down_write_trylock(&mm->mmap_lock)) {
		usleep_range(us, 2 * us);
		us = min(2 * us, 1000UL);
	}
	up_write(&mm->mmap_lock);
}

/**
 * ksm_slot_exit - unregister an mm
 * @domain: where it is registered, if at all
 * @mm: without users, or never used by anybody
 *
 * Context: may sleep; mmap_lock is not held by the caller.
 */
void ksm_slot_exit(struct ksm_domain *domain, struct mm_struct *mm)
{
	struct mm_slot *mm_slot;
	struct ksm_slot *slot = NULL;
	bool owned = false;

	might_lock(&mm->mmap_lock);
	spin_lock(&domain->slot_lock);
	mm_slot = mm_slot_lookup(domain->slot_hash, mm);
	if (mm_slot) {
		slot = mm_slot_entry(mm_slot, struct ksm_slot, mm_slot);
		hash_del(&mm_slot->hash);
		list_del(&mm_slot->mm_node);
		clear_bit(MMF_VM_MERGEABLE, &mm->flags);
		slot->exiting = true;
		atomic_inc(&domain->nr_exiting);
		owned = slot->owner;
	}
	spin_unlock(&domain->slot_lock);
	if (owned)
		ksm_slot_wait_for_owner(mm);
	else if (slot)
		ksm_slot_teardown(slot);
}

static bool __ksm_slot_claim(struct ksm_slot *slot, void *owner)
{
	lockdep_assert_held(&slot->domain->slot_lock);
	if (slot->owner || slot->exiting)
		return false;
	slot->owner = owner;
	return true;
}

/**
 * ksm_slot_claim - become the owner of a slot
 * @slot: referenced
 * @owner: who
 *
 * Return: false when it has an owner or its mm exits.
 */
bool ksm_slot_claim(struct ksm_slot *slot, void *owner)
{
	bool claimed;

	spin_lock(&slot->domain->slot_lock);
	claimed = __ksm_slot_claim(slot, owner);
	spin_unlock(&slot->domain->slot_lock);
	return claimed;
}

/**
 * ksm_slot_release - give a slot back
 * @slot: owned by the caller, who holds no lock
 *
 * Context: tears the slot down when its mm has exited meanwhile; may sleep.
 */
void ksm_slot_release(struct ksm_slot *slot)
{
	bool exiting;

	spin_lock(&slot->domain->slot_lock);
	exiting = slot->exiting;
	if (!exiting)
		slot->owner = NULL;
	spin_unlock(&slot->domain->slot_lock);
	if (exiting)
		ksm_slot_teardown(slot);
}

/**
 * ksm_slot_finish - note that a pass is through with an mm
 * @slot: owned
 * @stamp: number of the pass
 */
void ksm_slot_finish(struct ksm_slot *slot, u32 stamp)
{
	spin_lock(&slot->domain->slot_lock);
	slot->stamp = stamp;
	slot->cursor = 0;
	slot->nr_met = 0;
	if (!slot->exiting)
		list_move_tail(&slot->mm_slot.mm_node, &slot->domain->slots);
	spin_unlock(&slot->domain->slot_lock);
}

/**
 * ksm_slot_next - claim the next mm of a pass
 * @domain: the domain
 * @stamp: number of the pass
 * @owner: who wants it
 * @newcomers: also those that came since the pass began, which stand behind the finished ones
 *
 * Return: the slot, or NULL when the pass is through with all of them.
 */
struct ksm_slot *ksm_slot_next(struct ksm_domain *domain, u32 stamp, void *owner, bool newcomers)
{
	struct ksm_slot *slot, *found = NULL;

	spin_lock(&domain->slot_lock);
	list_for_each_entry(slot, &domain->slots, mm_slot.mm_node) {
		if (slot->stamp == stamp) {
			if (!newcomers)
				break;
			continue;
		}
		if (__ksm_slot_claim(slot, owner)) {
			found = slot;
			break;
		}
	}
	spin_unlock(&domain->slot_lock);
	return found;
}
