/* SPDX-License-Identifier: GPL-2.0 */
/* The scan context: what one scanner has in hand. Engine layer. */
#ifndef _MM_KSM_SCAN_H
#define _MM_KSM_SCAN_H

#include "slot.h"
#include "stable.h"
#include "unstable.h"

#define KSM_WINDOW_PAGES	64U
#define KSM_HOLD_PAGES		512U
#define KSM_HOLD_WORK		64U	/* settle while the pages are in the cache */
#define KSM_BATCH_PAGES		16U
/*
 * A visited page may revisit a lone item and a peer, and the lone item one more. Where keys collide
 * there may be more; those that find no room are left to a later pass.
 */
#define KSM_REVISITS		(3 * KSM_HOLD_PAGES)

/**
 * enum ksm_work_kind - what is to be done with a page
 * @KSM_WORK_ATTACH: map the KSM page of the same content
 * @KSM_WORK_ZERO: map the zero page
 * @KSM_WORK_PROMOTE: make it a KSM page
 */
enum ksm_work_kind {
	KSM_WORK_ATTACH,
	KSM_WORK_ZERO,
	KSM_WORK_PROMOTE,
};

/**
 * enum ksm_outcome - what came of it
 * @KSM_OUTCOME_PENDING: not tried yet, or not for some passing reason
 * @KSM_OUTCOME_MERGED: done
 * @KSM_OUTCOME_CHANGED: the page is not there any more, or was written to
 * @KSM_OUTCOME_PINNED: somebody holds references to the page
 * @KSM_OUTCOME_DIFFERS: the contents differ in spite of equal digests
 * @KSM_OUTCOME_FULL: the KSM pages of this content have as many mappings as allowed
 */
enum ksm_outcome {
	KSM_OUTCOME_PENDING,
	KSM_OUTCOME_MERGED,
	KSM_OUTCOME_CHANGED,
	KSM_OUTCOME_PINNED,
	KSM_OUTCOME_DIFFERS,
	KSM_OUTCOME_FULL,
};

/**
 * struct ksm_work - a page for which a partner is known
 * @slot: its mm; a reference
 * @address: of the page
 * @content: its content
 * @kind: what to do
 * @outcome: what came of it
 * @large: it was part of a large folio
 */
struct ksm_work {
	struct ksm_slot *slot;
	unsigned long address;
	struct ksm_content content;
	enum ksm_work_kind kind : 8;
	enum ksm_outcome outcome : 8;
	bool large;
};

/**
 * struct ksm_revisit - an item, maybe of another mm, that has to be looked at
 * @slot: its mm; a reference
 * @address: its page
 * @content: what its content should be, for the match with @peer
 * @peer: a page that seems to be equal; a reference. NULL: the item is no longer alone with its
 *	sample
 * @tries: how many others with the same key were looked at for @peer in vain
 * @first: the first of these, to notice that they come round; not to be followed
 */
struct ksm_revisit {
	struct ksm_slot *slot;
	unsigned long address;
	struct ksm_content content;
	struct page *peer;
	unsigned int tries;
	const struct ksm_item *first;
};

/**
 * struct ksm_window - up to 64 consecutive pages of a VMA under one page table
 * @vma: the VMA
 * @start: address of the first page
 * @nr: number of pages
 * @ptep: their PTEs while mapped and locked, or NULL for a huge PMD
 * @huge: the first page, for a huge PMD; NULL if that is the huge zero page
 * @merged: some of their items are MERGED
 * @span: the span of each page that has one
 * @page: those to visit
 * @covered: pages that have a span
 * @visit: pages to visit
 * @dirty: pages whose PTE is dirty
 * @due: pages that this pass visits, unless they are merged
 * @scanned: pages visited
 * @restless: pages that changed, matched or wait
 * @detach: merged items whose PTE maps something else
 * @moved: merged items whose page has migrated to another NUMA node
 */
struct ksm_window {
	struct vm_area_struct *vma;
	unsigned long start;
	unsigned int nr;
	pte_t *ptep;
	struct page *huge;
	bool merged;
	struct ksm_span *span[KSM_WINDOW_PAGES];
	struct page *page[KSM_WINDOW_PAGES];
	u64 covered;
	u64 visit;
	u64 dirty;
	u64 due;
	u64 scanned;
	u64 restless;
	u64 detach;
	u64 moved;
};

/**
 * struct ksm_candidate - a page on its way through a batch
 * @work: where it comes from
 * @span: its span
 * @pos: its position in it
 * @pte: what its PTE was; when write-protected, what it is now
 * @page: the page; a reference
 * @stable: the node to attach to, or a new one to promote with; NULL for the zero page
 * @target: the page to map instead, referenced unless the zero page; NULL for a promotion
 * @exclusive: the page was this mm's alone
 * @locked: the page's folio is locked
 * @target_locked: the target's folio is locked, by this candidate
 * @live: still to be merged
 * @replaced: the PTE maps the target
 */
struct ksm_candidate {
	struct ksm_work *work;
	struct ksm_span *span;
	unsigned int pos;
	pte_t pte;
	struct page *page;
	struct ksm_stable *stable;
	struct page *target;
	bool exclusive;
	bool locked;
	bool target_locked;
	bool live;
	bool replaced;
};

/**
 * struct ksm_batch - pages of one VMA and page table that are merged together
 * @vma: the VMA
 * @start: first address
 * @end: end address
 * @nr: number of candidates
 * @candidate: the candidates, by address
 */
struct ksm_batch {
	struct vm_area_struct *vma;
	unsigned long start;
	unsigned long end;
	unsigned int nr;
	struct ksm_candidate candidate[KSM_BATCH_PAGES];
};

/**
 * struct ksm_scan - a scanner
 * @domain: what it scans
 * @pass: number of the pass, from 1
 * @passing: a pass is under way
 * @began: when the pass began
 * @cpu_began: the scanner's processor time then, in nanoseconds
 * @swept: when idle stable nodes were looked for last, in jiffies
 * @news: this pass has met pages that the next one may want to merge
 * @slot: the mm in hand, owned
 * @budget: pages left to visit in this wake-up
 * @hold: page table slots left to look at before mmap_lock is dropped
 * @cost: work done under the PTE lock, see ksm_visit()
 * @nr_work: length of @work
 * @work: pages to attach, when all revisits are done
 * @nr_promotes: length of @promote
 * @promote: pages to promote, all of the mm of a revisit
 * @nr_promoted: length of @promoted
 * @promoted: pages that became KSM pages, to see whether anybody came to share them; slots
 *	referenced
 * @nr_revisits: length of @revisit
 * @revisit: items to look at
 * @window: the pages in hand
 * @batch: the pages being merged
 */
struct ksm_scan {
	struct ksm_domain *domain;
	u32 pass;
	bool passing;
	ktime_t began;
	u64 cpu_began;
	unsigned long swept;
	bool news;
	struct ksm_slot *slot;
	unsigned int budget;
	int hold;
	unsigned int cost;
	unsigned int nr_work;
	struct ksm_work work[2 * KSM_HOLD_PAGES];
	unsigned int nr_promotes;
	struct ksm_work promote[KSM_REVISITS];
	unsigned int nr_promoted;
	struct ksm_work promoted[KSM_REVISITS];
	unsigned int nr_revisits;
	struct ksm_revisit revisit[KSM_REVISITS];
	struct ksm_window window;
	struct ksm_batch batch;
};

/* scan.c */
struct ksm_scan *ksm_scan_alloc(struct ksm_domain *domain);
void ksm_scan_wakeup(struct ksm_scan *scan, unsigned int nr_pages);

/* candidate.c */

/**
 * enum ksm_visit - what a visit to a page found
 * @KSM_VISIT_CALM: it is as before, and alone
 * @KSM_VISIT_RESTLESS: it is new, has changed, or has a match
 */
enum ksm_visit {
	KSM_VISIT_CALM,
	KSM_VISIT_RESTLESS,
};

enum ksm_visit ksm_visit(struct ksm_scan *scan, struct ksm_span *span, unsigned int pos,
			 struct page *page);
struct ksm_revisit *ksm_want_revisit(struct ksm_scan *scan, struct ksm_span *span,
				     unsigned int pos, struct ksm_content content,
				     struct page *peer);
void ksm_want_lone_revisit(struct ksm_scan *scan, struct ksm_span *span, unsigned int pos);

/* settle.c */
void ksm_settle(struct ksm_scan *scan);
void ksm_note_promoted(struct ksm_scan *scan, struct ksm_span *span, unsigned int pos);

/* window.c */
void ksm_window_scan(struct ksm_scan *scan, struct vm_area_struct *vma, pmd_t *pmd,
		     unsigned long start, unsigned int nr);

/* merge.c */
bool ksm_vma_scannable(struct vm_area_struct *vma);
bool ksm_page_mergeable(struct page *page, bool dirty);
bool ksm_page_pinned(struct page *page);
void ksm_batch_run(struct ksm_scan *scan, struct ksm_batch *batch);

/* work.c */
void ksm_merge(struct ksm_scan *scan, struct ksm_slot *slot, struct ksm_work *work,
	       unsigned int nr);

#endif /* _MM_KSM_SCAN_H */
