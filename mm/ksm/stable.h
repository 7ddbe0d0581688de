/* SPDX-License-Identifier: GPL-2.0 */
/* Stable nodes: one for each KSM page. Index layer. */
#ifndef _MM_KSM_STABLE_H
#define _MM_KSM_STABLE_H

#include "slot.h"

/**
 * struct ksm_stable - what stands behind a KSM page
 * @leaf: the key; and the link in the stable tree, while @place is KSM_STABLE_HEAD
 * @check: tells contents with the same key apart; constant once the node is in a tree
 * @pfn: of the page; written under its folio lock, read by the keyhole without
 * @items: who maps the page; under the folio lock, or the bucket lock once the node is stale
 * @orphans: mappings whose item left before they had an item of their own; under the folio lock
 * @nr_orphans: length of @orphans; same lock
 * @domain: constant
 * @nid: the node whose salt the key has; under the folio lock and the bucket lock
 * @nr_items: length of @items; same lock
 * @place: KSM_STABLE_*; under the bucket lock
 * @dups: the other nodes of this content, those with room first (of a head), or a link in that list
 *	(of a dup); under the bucket lock
 * @idle: in ksm_domain.idle while there are no items
 *
 * The node holds no reference to the folio; the folio's mapping points to the node (with both
 * PAGE_MAPPING_KSM bits), and only as long as it does is the node live. Once it does not, the
 * node is stale for ever. It is freed when stale and without items, or under the folio lock when
 * the folio has neither mappings nor items, after its mapping was set to PAGE_MAPPING_KSM alone.
 */
struct ksm_stable {
	struct ksm_leaf leaf;
	unsigned long pfn;
	struct hlist_head items;
	struct hlist_head orphans;
	struct ksm_domain *domain;
	int nid;
	unsigned int nr_items;
	u32 check;
	u16 place;
	u16 nr_orphans;
	struct list_head dups;
	struct list_head idle;
} __aligned(16);

#define KSM_STABLE_LOOSE	0U	/* in no tree: not yet, or found stale */
#define KSM_STABLE_HEAD		1U	/* in the tree */
#define KSM_STABLE_DUP		2U	/* behind a head */

/**
 * struct ksm_orphan - a possible mapping without an item
 * @node: link in ksm_stable.orphans
 * @anon_vma: a reference
 * @pgoff: where its VMAs may map the page
 */
struct ksm_orphan {
	struct hlist_node node;
	struct anon_vma *anon_vma;
	unsigned long pgoff;
};

/**
 * enum ksm_keyhole - what came of looking for a node's folio
 * @KSM_KEYHOLE_OK: a reference is held, and the node was live
 * @KSM_KEYHOLE_BUSY: the folio's references are frozen just now; nothing is known
 * @KSM_KEYHOLE_STALE: the node is stale
 */
enum ksm_keyhole {
	KSM_KEYHOLE_OK,
	KSM_KEYHOLE_BUSY,
	KSM_KEYHOLE_STALE,
};

/**
 * enum ksm_match - what the stable tree knows of a content
 * @KSM_MATCH_NONE: nothing
 * @KSM_MATCH_ROOM: a node that may get more mappings
 * @KSM_MATCH_FULL: nodes, but each has as many mappings as allowed
 * @KSM_MATCH_BUSY: a node whose folio can't be had just now
 * @KSM_MATCH_PEER: none, but an item of the unstable tree; never from the stable tree's functions
 */
enum ksm_match {
	KSM_MATCH_NONE,
	KSM_MATCH_ROOM,
	KSM_MATCH_FULL,
	KSM_MATCH_BUSY,
	KSM_MATCH_PEER,
};

#define KSM_PFN_NONE	ULONG_MAX	/* of a node that is new, or was found stale */

/* stable.c */
int ksm_stable_init(void);
struct ksm_stable *ksm_stable_alloc(struct ksm_domain *domain);
void ksm_stable_free(struct ksm_stable *stable);
void ksm_stable_attach_folio(struct ksm_stable *stable, struct folio *folio,
			     struct ksm_content content);
bool ksm_stable_owns(const struct ksm_stable *stable, const struct folio *folio);
struct ksm_stable *ksm_folio_stable(const struct folio *folio);
enum ksm_match ksm_stable_lookup(struct ksm_domain *domain, struct ksm_content content,
				 struct ksm_stable **stable, struct folio **folio);
enum ksm_match __ksm_stable_lookup(struct ksm_bucket *bucket, struct ksm_content content,
				   struct ksm_stable **stable, struct folio **folio);
struct ksm_content __ksm_stable_sole(struct ksm_bucket *bucket, u32 sample, struct folio **folio);
bool ksm_stable_has_room(const struct ksm_stable *stable, unsigned int nr);
bool ksm_stable_is_stale(struct ksm_stable *stable);
bool ksm_stable_swapped_to(struct ksm_stable *stable, swp_entry_t entry);
struct folio *ksm_stable_trylock(struct ksm_stable *stable);
bool ksm_stable_is_lone(struct ksm_stable *stable);
enum ksm_keyhole ksm_stable_peek(struct ksm_stable *stable, struct folio **folio);
bool ksm_stable_at_home(const struct ksm_stable *stable, const struct folio *folio);
void __ksm_stable_insert(struct ksm_bucket *bucket, struct ksm_stable *stable);
void __ksm_stable_erase(struct ksm_bucket *bucket, struct ksm_stable *stable);
void __ksm_stable_retire(struct ksm_bucket *bucket, struct ksm_stable *stable);

/* link.c */
int ksm_link_init(void);
void ksm_stable_free_orphans(struct ksm_stable *stable);
void ksm_item_link(struct ksm_span *span, unsigned int pos, struct ksm_stable *stable,
		   struct anon_vma *anon_vma, unsigned long pgoff);
bool ksm_stable_expect(struct ksm_stable *stable, struct anon_vma *anon_vma, unsigned long pgoff);
int ksm_item_unlink(struct ksm_span *span, unsigned int pos, bool wait);

/* sweep.c */
unsigned int ksm_stable_sweep(struct ksm_domain *domain, unsigned int nr);
void ksm_stable_follow_node(struct ksm_stable *stable);
void ksm_stable_drop_range(struct ksm_domain *domain, unsigned long start_pfn,
			   unsigned long end_pfn);

#endif /* _MM_KSM_STABLE_H */
