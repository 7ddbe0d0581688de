// SPDX-License-Identifier: GPL-2.0
/*
 * The fate of one page. Engine layer.
 *
 * ksm_visit() sees a page during the walk and decides by digests what it is; pages for which it
 * knows a partner go to the worklist, partners that have to be looked at first go to the
 * revisits. Both are worked off by ksm_settle().
 *
 * Locking: runs under the PTE lock, takes a bucket lock. Lifetime: work holds a reference to its
 * slot, a revisit also to a page. Failure: where the lists are full, the page comes again with the
 * next pass, or the one after. Tests: merge and yield tests in tools/testing/selftests/vm/.
 */
#include <linux/highmem.h>

#include "scan.h"
#include "smart_scan.h"

#define KSM_COST_SAMPLE	1
#define KSM_COST_FULL	6

static u32 ksm_visit_full(struct ksm_scan *scan, const void *kaddr, u32 *check)
{
	scan->cost += KSM_COST_FULL;
	return ksm_digest_full(&scan->domain->digest, kaddr, check);
}

static void ksm_want_work(struct ksm_scan *scan, struct ksm_span *span, unsigned int pos,
			  struct ksm_content content, enum ksm_work_kind kind, struct page *page)
{
	if (scan->nr_work == ARRAY_SIZE(scan->work))
		return;
	ksm_slot_get(span->slot);
	scan->work[scan->nr_work++] = (struct ksm_work) {
		.slot = span->slot,
		.address = ksm_item_address(span, pos),
		.content = content,
		.kind = kind,
		.large = folio_test_large(page_folio(page)),
	};
}

/**
 * ksm_want_revisit - have an item looked at when the walk is at rest
 * @scan: the scanner
 * @span: the item's span
 * @pos: its position
 * @content: what its content should be
 * @peer: the page that hit it, or NULL
 *
 * Context: owner of the slot, or bucket lock held while the item is UNSTABLE.
 * Return: the entry in the list, or NULL if that is full.
 */
struct ksm_revisit *ksm_want_revisit(struct ksm_scan *scan, struct ksm_span *span,
				     unsigned int pos, struct ksm_content content,
				     struct page *peer)
{
	struct ksm_revisit *revisit;

	if (scan->nr_revisits == ARRAY_SIZE(scan->revisit))
		return NULL;
	revisit = &scan->revisit[scan->nr_revisits++];
	ksm_slot_get(span->slot);
	if (peer)
		get_page(peer);
	*revisit = (struct ksm_revisit) {
		.slot = span->slot,
		.address = ksm_item_address(span, pos),
		.content = content,
		.peer = peer,
	};
	return revisit;
}

/**
 * ksm_want_lone_revisit - have an item get its full digest, as it is alone no more
 * @scan: the scanner
 * @span: the item's span
 * @pos: its position
 *
 * Context: owner of the slot, or bucket lock held while the item is UNSTABLE.
 */
void ksm_want_lone_revisit(struct ksm_scan *scan, struct ksm_span *span, unsigned int pos)
{
	ksm_want_revisit(scan, span, pos, (struct ksm_content) {}, NULL);
}

/* The content that a page of zeroes has at the place of @page. */
static struct ksm_content ksm_zero_content(struct ksm_scan *scan, struct page *page)
{
	return ksm_content_salt(scan->domain->zero,
				ksm_node_salt(scan->domain, page_to_nid(page)));
}

static bool ksm_zero_wanted(struct ksm_scan *scan, struct ksm_span *span, struct page *page,
			    struct ksm_content content)
{
	return ksm_content_equal(content, ksm_zero_content(scan, page)) &&
	       READ_ONCE(scan->domain->knobs.use_zero_pages) &&
	       !mm_forbids_zeropage(ksm_slot_mm(span->slot));
}

/*
 * Look for a partner, and put the item in the tree if it is not there and has no KSM page to share.
 * An item with an unresolved match stays in the tree while it is tried again, so that others find
 * it. Each time it takes another one: an mm whose lock can't be had keeps its page unmerged, but
 * not others.
 */
static enum ksm_match __ksm_find_partner(struct ksm_scan *scan, struct ksm_bucket *bucket,
					 struct ksm_span *span, unsigned int pos,
					 struct page *page, struct ksm_content content,
					 struct folio **folio)
{
	struct ksm_item *lone, *peer;
	struct ksm_stable *stable;
	enum ksm_match match;
	unsigned int turn;

	match = __ksm_stable_lookup(bucket, content, &stable, folio);
	if (match == KSM_MATCH_ROOM || match == KSM_MATCH_BUSY)
		return match;
	lone = __ksm_unstable_lone(bucket, ksm_key_sample(content.key));
	if (lone)
		ksm_want_lone_revisit(scan, ksm_item_span(lone), ksm_item_pos(lone));
	turn = ksm_item_age(span, pos) ? scan->pass >> KSM_AGE_MAX : 0;
	peer = __ksm_unstable_peer(bucket, content.key, &span->items[pos], turn);
	if (peer) {
		ksm_want_revisit(scan, ksm_item_span(peer), ksm_item_pos(peer), content, page);
		if (ksm_item_state(span, pos) == KSM_ITEM_SEEN)
			__ksm_unstable_insert(bucket, span, pos, content.key);
		return KSM_MATCH_PEER;
	}
	if (ksm_item_state(span, pos) == KSM_ITEM_SEEN)
		__ksm_unstable_insert(bucket, span, pos, content.key);
	ksm_item_unmark(span, pos, KSM_MARK_HIT);
	/* Where all KSM pages are full, there may be room one day. */
	ksm_item_set_age(span, pos, match == KSM_MATCH_FULL ? KSM_AGE_MAX : 0);
	return match;
}

/* The page's full digest is known, and others have its sample. */
static enum ksm_visit ksm_decide_crowded(struct ksm_scan *scan, struct ksm_span *span,
					 unsigned int pos, struct page *page,
					 struct ksm_content content)
{
	struct ksm_bucket *bucket = ksm_forest_bucket(&scan->domain->forest, content.key);
	const bool old = ksm_item_age(span, pos);
	struct folio *folio = NULL;
	enum ksm_match match;

	ksm_item_mark(span, pos, KSM_MARK_CROWDED);
	if (ksm_item_state(span, pos) == KSM_ITEM_SEEN)
		ksm_item_set_key(span, pos, content.key);
	if (ksm_zero_wanted(scan, span, page, content)) {
		ksm_want_work(scan, span, pos, content, KSM_WORK_ZERO, page);
		return old ? KSM_VISIT_CALM : KSM_VISIT_RESTLESS;
	}

	spin_lock(&bucket->lock);
	match = __ksm_find_partner(scan, bucket, span, pos, page, content, &folio);
	spin_unlock(&bucket->lock);

	if (match == KSM_MATCH_ROOM)
		folio_put(folio);
	if (match == KSM_MATCH_ROOM || match == KSM_MATCH_PEER) {
		ksm_want_work(scan, span, pos, content, KSM_WORK_ATTACH, page);
		/* As if it had failed: without its mm's lock, nobody can note that it did. */
		if (ksm_item_state(span, pos) == KSM_ITEM_UNSTABLE)
			ksm_item_set_age(span, pos, ksm_item_age(span, pos) + 1);
	}
	/* What failed before is not news, or else its page would never back off. */
	return match == KSM_MATCH_NONE || match == KSM_MATCH_FULL || old ? KSM_VISIT_CALM :
									   KSM_VISIT_RESTLESS;
}

/*
 * The page's sample is known, the full digest is not. If it is that of a single KSM page, the
 * compare tells as much as the digest would. Returns whether more has to be known.
 */
static bool ksm_decide_sample(struct ksm_scan *scan, struct ksm_span *span, unsigned int pos,
			      struct page *page, u64 key)
{
	struct ksm_bucket *bucket = ksm_forest_bucket(&scan->domain->forest, key);
	const u32 sample = ksm_key_sample(key);
	struct folio *folio = NULL;
	struct ksm_content sole;
	bool known = true;

	if (sample == ksm_key_sample(ksm_zero_content(scan, page).key))
		return true;
	spin_lock(&bucket->lock);
	sole = __ksm_stable_sole(bucket, sample, &folio);
	if (!sole.key) {
		known = __ksm_sample_known(bucket, sample);
		if (!known)
			__ksm_unstable_insert(bucket, span, pos, key);
	}
	spin_unlock(&bucket->lock);
	if (sole.key) {
		folio_put(folio);
		ksm_want_work(scan, span, pos, sole, KSM_WORK_ATTACH, page);
		return false;
	}
	return known;
}

/* The item is SEEN, and its page was equal at two visits. */
static enum ksm_visit ksm_decide(struct ksm_scan *scan, struct ksm_span *span, unsigned int pos,
				 struct page *page, const void *kaddr, struct ksm_content content)
{
	const bool old = ksm_item_age(span, pos);
	u32 full;

	if (!ksm_key_full(content.key)) {
		if (!ksm_decide_sample(scan, span, pos, page, content.key))
			return old || ksm_item_state(span, pos) == KSM_ITEM_UNSTABLE ?
				KSM_VISIT_CALM : KSM_VISIT_RESTLESS;
		full = ksm_visit_full(scan, kaddr, &content.check);
		content.key = ksm_key(ksm_key_sample(content.key), full);
	}
	return ksm_decide_crowded(scan, span, pos, page, content);
}

static enum ksm_visit ksm_visit_mapped(struct ksm_scan *scan, struct ksm_span *span,
				       unsigned int pos, struct page *page, const void *kaddr)
{
	enum ksm_item_state state = ksm_item_state(span, pos);
	u64 old = ksm_item_key(span, pos);
	struct ksm_content content = {};
	u32 sample = ksm_digest_sample(&scan->domain->digest, kaddr), full = 0;

	scan->cost += KSM_COST_SAMPLE;
	sample ^= ksm_node_salt(scan->domain, page_to_nid(page));
	if (state != KSM_ITEM_NONE && sample == ksm_key_sample(old) &&
	    ksm_item_marked(span, pos, KSM_MARK_CROWDED))
		full = ksm_visit_full(scan, kaddr, &content.check);
	content.key = ksm_key(sample, full);

	if (state == KSM_ITEM_NONE || sample != ksm_key_sample(old) ||
	    (ksm_key_full(old) && full != ksm_key_full(old))) {
		if (state == KSM_ITEM_UNSTABLE)
			ksm_unstable_erase(span, pos, KSM_ITEM_SEEN);
		else if (state == KSM_ITEM_NONE)
			ksm_item_to(span, pos, KSM_ITEM_SEEN);
		if (!full)
			ksm_item_unmark(span, pos, KSM_MARK_CROWDED);
		if (state != KSM_ITEM_NONE)
			ksm_item_set_age(span, pos, 0);
		ksm_item_set_key(span, pos, content.key);
		return KSM_VISIT_RESTLESS;
	}
	if (state == KSM_ITEM_SEEN && ksm_item_age(span, pos) &&
	    !ksm_item_retry_due(span, pos, scan->pass))
		return KSM_VISIT_CALM;
	if (state == KSM_ITEM_UNSTABLE) {
		bool zero = !ksm_item_age(span, pos) && ksm_zero_wanted(scan, span, page, content);

		if (old == content.key && !zero && !ksm_item_retry_due(span, pos, scan->pass))
			return KSM_VISIT_CALM;
		if (old != content.key || zero || !full)
			ksm_unstable_erase(span, pos, KSM_ITEM_SEEN);
	}
	return ksm_decide(scan, span, pos, page, kaddr, content);
}

/**
 * ksm_visit - look at an anonymous page that is not merged
 * @scan: the scanner; its @cost grows by about 100 ns a unit
 * @span: the page's span
 * @pos: its position
 * @page: the page, mapped there
 *
 * Context: PTE lock held, so the page stays; owner of the slot.
 * Return: whether there was news.
 */
enum ksm_visit ksm_visit(struct ksm_scan *scan, struct ksm_span *span, unsigned int pos,
			 struct page *page)
{
	const void *kaddr = kmap_local_page(page);
	enum ksm_visit visit = ksm_visit_mapped(scan, span, pos, page, kaddr);

	kunmap_local(kaddr);
	return visit;
}

