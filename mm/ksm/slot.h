/* SPDX-License-Identifier: GPL-2.0 */
/* Registered mms and their spans. State layer. */
#ifndef _MM_KSM_SLOT_H
#define _MM_KSM_SLOT_H

#include <linux/refcount.h>
#include <linux/xarray.h>

#include "../mm_slot.h"
#include "domain.h"
#include "span.h"

/**
 * struct ksm_slot - a registered mm
 * @mm_slot: link to hash and list, and the mm, referenced (mm_count) until the slot is torn down
 * @domain: constant
 * @refs: one for being registered, one for each revisit that names the slot
 * @owner: the only one to look at the spans: a scanner, run=2, the validator
 * @exiting: no longer on hash and list, nobody may claim it; an owner tears it down on release
 * @stamp: the last pass that finished with this mm; those not finished stand first in the list
 * @cursor: address at which the pass goes on
 * @nr_spans: number of spans
 * @nr_met: how many of them the current pass has met
 * @held: bytes that the spans take; written by whoever may change @spans
 * @spans: first span of each block, by block number. Changed by the owner under mmap_lock, by
 *	holders of mmap_lock for write, and by the owner of an exiting mm
 */
struct ksm_slot {
	struct mm_slot mm_slot;
	struct ksm_domain *domain;
	refcount_t refs;
	void *owner;
	bool exiting;
	u32 stamp;
	unsigned long cursor;
	unsigned long nr_spans;
	unsigned long nr_met;
	unsigned long held;
	struct xarray spans;
};

static inline struct mm_struct *ksm_slot_mm(const struct ksm_slot *slot)
{
	return slot->mm_slot.mm;
}

/* The mm has no users, or was given up by fork or the OOM reaper: leave it alone. */
static inline bool ksm_mm_gone(struct mm_struct *mm)
{
	return !atomic_read(&mm->mm_users) || test_bit(MMF_UNSTABLE, &mm->flags);
}

/* Others wait for mmap_lock, or the mm is gone and its exit waits: whoever holds it leaves soon. */
static inline bool ksm_mm_wanted(struct mm_struct *mm)
{
	return mmap_lock_is_contended(mm) || ksm_mm_gone(mm);
}

int ksm_slot_init(void);
int ksm_slot_enter(struct ksm_domain *domain, struct mm_struct *mm);
unsigned long ksm_slot_held(struct ksm_domain *domain, struct mm_struct *mm);
void ksm_slot_exit(struct ksm_domain *domain, struct mm_struct *mm);
struct ksm_slot *ksm_slot_next(struct ksm_domain *domain, u32 stamp, void *owner, bool newcomers);
bool ksm_slot_claim(struct ksm_slot *slot, void *owner);
void ksm_slot_release(struct ksm_slot *slot);
void ksm_slot_finish(struct ksm_slot *slot, u32 stamp);
void ksm_slot_get(struct ksm_slot *slot);
void ksm_slot_put(struct ksm_slot *slot);

struct ksm_span *ksm_span_lookup(struct ksm_slot *slot, unsigned long vpn, unsigned int *pos);
struct ksm_span *ksm_span_add(struct ksm_slot *slot, struct vm_area_struct *vma,
			      unsigned long block, u16 wanted);
void ksm_block_prune(struct ksm_slot *slot, unsigned long block);
int ksm_span_clear(struct ksm_span *span, u16 cover, bool wait);
int ksm_slot_clear_range(struct ksm_slot *slot, unsigned long start, unsigned long end, bool wait);
unsigned long ksm_slot_clear_part(struct ksm_slot *slot, unsigned long start, unsigned long end);
void ksm_slot_sweep(struct ksm_slot *slot, u32 pass);
void ksm_item_to(struct ksm_span *span, unsigned int pos, enum ksm_item_state to);

#endif /* _MM_KSM_SLOT_H */
