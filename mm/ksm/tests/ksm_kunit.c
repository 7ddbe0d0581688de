// SPDX-License-Identifier: GPL-2.0
/*
 * KUnit tests of KSM: what needs a kernel, but no process. The pure files are tested thoroughly by
 * tools/testing/ksm/; here they meet the kernel's own hash, mappings, slab, locks and lists.
 */
#include <kunit/test.h>
#include <linux/completion.h>
#include <linux/highmem.h>
#include <linux/kthread.h>
#include <linux/mm.h>
#include <linux/random.h>
#include <linux/slab.h>
#include <linux/xxhash.h>

#include "../span.h"

#define NR_THREADS	4
#define NR_LEAVES	64
#define NR_ROUNDS	400

static void random_digest(struct ksm_digest *digest)
{
	ksm_digest_init(digest, get_random_u64(), get_random_u64());
}

static void free_test_page(void *page)
{
	__free_page(page);
}

/* A page that needs a mapping to be looked at, where the architecture has such pages. */
static struct page *random_page(struct kunit *test)
{
	struct page *page = alloc_page(GFP_HIGHUSER);
	void *kaddr;

	KUNIT_ASSERT_NOT_NULL(test, page);
	KUNIT_ASSERT_EQ(test, kunit_add_action_or_reset(test, free_test_page, page), 0);
	kaddr = kmap_local_page(page);
	get_random_bytes(kaddr, PAGE_SIZE);
	kunmap_local(kaddr);
	return page;
}

/* The same hash by the interface for streams, fed in pieces that fit no block of it. */
static u64 streamed_hash(const u8 *data, size_t size, u64 seed)
{
	struct xxh64_state state;
	size_t at = 0;

	xxh64_reset(&state, seed);
	while (at < size) {
		const size_t piece = min_t(size_t, size - at, 1 + get_random_u32_below(77));

		xxh64_update(&state, data + at, piece);
		at += piece;
	}
	return xxh64_digest(&state);
}

static void full_digest_is_the_kernels_xxhash64(struct kunit *test)
{
	unsigned int round;

	for (round = 0; round < 16; round++) {
		struct page *page = random_page(test);
		struct ksm_digest digest;
		u32 full, check;
		void *kaddr;
		u64 hash;

		random_digest(&digest);
		kaddr = kmap_local_page(page);
		hash = streamed_hash(kaddr, PAGE_SIZE, digest.seed);
		full = ksm_digest_full(&digest, kaddr, &check);
		kunmap_local(kaddr);
		KUNIT_EXPECT_EQ(test, full, (u32)(hash >> 36) ?: 1);
		KUNIT_EXPECT_EQ(test, check, (u32)hash);
	}
}

static void sample_is_the_kernels_xxhash64_of_its_lines(struct kunit *test)
{
	unsigned int round, i;

	for (round = 0; round < 16; round++) {
		struct page *page = random_page(test);
		struct ksm_digest digest;
		u8 lines[256], *kaddr;

		random_digest(&digest);
		kaddr = kmap_local_page(page);
		for (i = 0; i < 4; i++)
			memcpy(lines + 64 * i, kaddr + digest.line[i], 64);
		KUNIT_EXPECT_EQ(test, ksm_digest_sample(&digest, kaddr),
				(u32)streamed_hash(lines, sizeof(lines), digest.seed));
		kunmap_local(kaddr);
	}
}

static void equal_pages_have_equal_digests(struct kunit *test)
{
	struct page *page[2] = { random_page(test), random_page(test) };
	struct ksm_content content[2];
	struct ksm_digest digest;
	u8 *kaddr[2];

	random_digest(&digest);
	copy_highpage(page[1], page[0]);
	kaddr[0] = kmap_local_page(page[0]);
	kaddr[1] = kmap_local_page(page[1]);
	content[0] = ksm_digest_content(&digest, kaddr[0]);
	content[1] = ksm_digest_content(&digest, kaddr[1]);
	kunmap_local(kaddr[1]);
	kunmap_local(kaddr[0]);
	KUNIT_EXPECT_TRUE(test, ksm_content_equal(content[0], content[1]));
}

static void free_buckets(void *buckets)
{
	kvfree(buckets);
}

static void new_forest(struct kunit *test, struct ksm_forest *forest, unsigned int bits)
{
	struct ksm_bucket *buckets = kvmalloc_array(1UL << bits, sizeof(*buckets), GFP_KERNEL);

	KUNIT_ASSERT_NOT_NULL(test, buckets);
	KUNIT_ASSERT_EQ(test, kunit_add_action_or_reset(test, free_buckets, buckets), 0);
	memset(buckets, 0xa5, sizeof(*buckets) << bits);
	ksm_forest_init(forest, buckets, bits);
}

static void forest_of_this_machine_starts_empty(struct kunit *test)
{
	const unsigned int bits = ksm_forest_bits(totalram_pages());
	struct ksm_forest forest;
	unsigned long i, bad = 0;

	KUNIT_EXPECT_GE(test, totalram_pages() >> bits, bits > 4 ? 8UL : 0UL);
	new_forest(test, &forest, bits);
	for (i = 0; i < 1UL << bits; i++) {
		struct ksm_bucket *bucket = &forest.buckets[i];

		spin_lock(&bucket->lock);
		bad += !RB_EMPTY_ROOT(&bucket->stable) || !RB_EMPTY_ROOT(&bucket->unstable);
		spin_unlock(&bucket->lock);
	}
	KUNIT_EXPECT_EQ(test, bad, 0UL);
}

/**
 * struct forester - a thread that changes a forest which others change too
 * @forest: the forest of all threads
 * @leaves: its own leaves
 * @linked: which of them are in the forest
 * @errors: lookups that went wrong
 * @done: completed at the end
 */
struct forester {
	struct ksm_forest *forest;
	struct ksm_leaf leaves[NR_LEAVES];
	bool linked[NR_LEAVES];
	unsigned int errors;
	struct completion done;
};

static bool found_in(const struct rb_root *root, const struct ksm_leaf *wanted)
{
	struct ksm_leaf *leaf = ksm_leaf_lower_bound(root, wanted->key);

	while (leaf && leaf != wanted && ksm_leaf_key(leaf) == ksm_leaf_key(wanted))
		leaf = ksm_leaf_next(leaf);
	return leaf == wanted;
}

/* Insert a leaf that is out, erase one that is in; what was found before has to fit. */
static void toggle_leaf(struct forester *forester, unsigned int i)
{
	struct ksm_leaf *leaf = &forester->leaves[i];
	struct ksm_bucket *bucket;

	if (!forester->linked[i])
		leaf->key = ksm_key(get_random_u32_below(4) << 30, get_random_u32_below(3));
	bucket = ksm_forest_bucket(forester->forest, leaf->key);
	spin_lock(&bucket->lock);
	if (found_in(&bucket->unstable, leaf) != forester->linked[i])
		forester->errors++;
	if (forester->linked[i])
		rb_erase(&leaf->rb, &bucket->unstable);
	else
		ksm_leaf_insert(&bucket->unstable, leaf);
	spin_unlock(&bucket->lock);
	forester->linked[i] = !forester->linked[i];
}

static int forester_thread(void *data)
{
	struct forester *forester = data;
	unsigned int round, i;

	for (round = 0; round < NR_ROUNDS && !forester->errors; round++) {
		for (i = 0; i < NR_LEAVES && !forester->errors; i++)
			toggle_leaf(forester, get_random_u32_below(NR_LEAVES));
		/* Without preemption the threads would run one after the other. */
		schedule();
	}
	complete(&forester->done);
	return 0;
}

/* How many leaves there are, each in its bucket and in order. A broken tree may have no end. */
static unsigned int count_in_order(struct kunit *test, struct ksm_forest *forest)
{
	unsigned int nr = 0, wrong = 0;
	unsigned long i;

	for (i = 0; i < 1UL << forest->bits; i++) {
		struct ksm_bucket *bucket = &forest->buckets[i];
		struct ksm_leaf *leaf = ksm_leaf_lower_bound(&bucket->unstable, 0), *next;

		for (; leaf && nr <= NR_THREADS * NR_LEAVES; leaf = next, nr++) {
			next = ksm_leaf_next(leaf);
			wrong += ksm_forest_bucket(forest, leaf->key) != bucket;
			wrong += next && ksm_leaf_key(leaf) > ksm_leaf_key(next);
		}
	}
	KUNIT_EXPECT_EQ(test, wrong, 0);
	return nr;
}

static void threads_share_a_forest_by_its_locks(struct kunit *test)
{
	unsigned int i, j, started, linked = 0;
	struct forester *foresters;
	struct ksm_forest forest;

	foresters = kunit_kcalloc(test, NR_THREADS, sizeof(*foresters), GFP_KERNEL);
	KUNIT_ASSERT_NOT_NULL(test, foresters);
	new_forest(test, &forest, 1);
	for (started = 0; started < NR_THREADS; started++) {
		struct forester *forester = &foresters[started];

		forester->forest = &forest;
		init_completion(&forester->done);
		if (IS_ERR(kthread_run(forester_thread, forester, "ksm_kunit/%u", started)))
			break;
	}
	/* They end by themselves; until then their memory can't go. */
	for (i = 0; i < started; i++)
		wait_for_completion(&foresters[i].done);
	KUNIT_EXPECT_EQ(test, started, NR_THREADS);
	for (i = 0; i < started; i++) {
		KUNIT_EXPECT_EQ(test, foresters[i].errors, 0);
		for (j = 0; j < NR_LEAVES; j++)
			linked += foresters[i].linked[j];
	}
	KUNIT_EXPECT_EQ(test, count_in_order(test, &forest), linked);
}

static struct ksm_span *new_span(struct kunit *test, unsigned int first, unsigned int nr)
{
	struct ksm_span *span = kunit_kzalloc(test, ksm_span_size(nr), GFP_KERNEL);

	KUNIT_ASSERT_NOT_NULL(test, span);
	ksm_span_init(span, NULL, 0x1234, first, nr);
	return span;
}

static void spans_from_slab_are_aligned_and_small(struct kunit *test)
{
	unsigned int nr, pos;

	for (nr = 1; nr <= KSM_BLOCK_PAGES; nr++) {
		struct ksm_span *span = new_span(test, KSM_BLOCK_PAGES - nr, nr);

		KUNIT_EXPECT_TRUE(test, IS_ALIGNED((unsigned long)span->items, 16));
		for (pos = 0; pos < nr; pos++) {
			KUNIT_EXPECT_EQ(test, ksm_item_pos(&span->items[pos]), pos);
			KUNIT_EXPECT_PTR_EQ(test, ksm_item_span(&span->items[pos]), span);
			KUNIT_EXPECT_EQ(test, ksm_item_address(span, pos),
					(0x12350UL - nr + pos) << PAGE_SHIFT);
		}
	}
	KUNIT_EXPECT_LE(test, ksm_span_size(16), 36UL * 16);
}

/* Where lookups start: from a leaf of a tree back to the page that it stands for. */
static struct ksm_item *item_of(struct ksm_leaf *leaf)
{
	return container_of(leaf, struct ksm_item, leaf);
}

static void expect_counts(struct kunit *test, const struct ksm_stats *stats, unsigned int seen,
			  unsigned int unstable, unsigned int merged)
{
	KUNIT_EXPECT_EQ(test, ksm_stat_read(stats, KSM_STAT_SEEN), seen);
	KUNIT_EXPECT_EQ(test, ksm_stat_read(stats, KSM_STAT_UNSTABLE), unstable);
	KUNIT_EXPECT_EQ(test, ksm_stat_read(stats, KSM_STAT_MERGED), merged);
}

/* The item's storage changes sides twice, and it must know its place all the time. */
static void items_live_through_tree_and_list(struct kunit *test)
{
	struct ksm_span *span = new_span(test, 0, KSM_BLOCK_PAGES);
	void *stable = kunit_kzalloc(test, 64, GFP_KERNEL);
	struct ksm_stats stats = {};
	struct hlist_head items = {};
	struct ksm_forest forest;
	struct ksm_bucket *bucket;
	const u64 key = ksm_key(0xdeadbeef, 0xabcdef);
	struct ksm_leaf *leaf;
	struct ksm_link *link;
	unsigned int pos, n = 0, wrong = 0;

	KUNIT_ASSERT_NOT_NULL(test, stable);
	new_forest(test, &forest, 4);
	bucket = ksm_forest_bucket(&forest, key);

	for (pos = 0; pos < KSM_BLOCK_PAGES; pos++) {
		ksm_item_set_key(span, pos, key);
		ksm_item_move(&stats, span, pos, KSM_ITEM_SEEN);
	}
	expect_counts(test, &stats, 16, 0, 0);

	spin_lock(&bucket->lock);
	for (pos = 0; pos < KSM_BLOCK_PAGES; pos++) {
		ksm_leaf_insert(&bucket->unstable, &span->items[pos].leaf);
		ksm_item_move(&stats, span, pos, KSM_ITEM_UNSTABLE);
	}
	leaf = ksm_leaf_lower_bound(&bucket->unstable, key);
	for (; leaf && n < KSM_BLOCK_PAGES; leaf = ksm_leaf_next(leaf), n++)
		wrong += ksm_item_span(item_of(leaf)) != span || ksm_item_pos(item_of(leaf)) != n;
	spin_unlock(&bucket->lock);
	/* An expectation that isn't met allocates, so none stands under a lock. */
	KUNIT_EXPECT_NULL(test, leaf);
	KUNIT_EXPECT_EQ(test, n, KSM_BLOCK_PAGES);
	KUNIT_EXPECT_EQ(test, wrong, 0);
	expect_counts(test, &stats, 0, 16, 0);

	spin_lock(&bucket->lock);
	for (pos = 0; pos < KSM_BLOCK_PAGES; pos++) {
		rb_erase(&span->items[pos].leaf.rb, &bucket->unstable);
		span->items[pos].link.stable = (unsigned long)stable | pos;
		hlist_add_head(&span->items[pos].link.node, &items);
		ksm_item_move(&stats, span, pos, KSM_ITEM_MERGED);
	}
	spin_unlock(&bucket->lock);
	KUNIT_EXPECT_TRUE(test, RB_EMPTY_ROOT(&bucket->unstable));
	expect_counts(test, &stats, 0, 0, 16);

	n = KSM_BLOCK_PAGES;
	hlist_for_each_entry(link, &items, node) {
		struct ksm_item *item = container_of(link, struct ksm_item, link);

		n--;
		KUNIT_EXPECT_EQ(test, ksm_item_pos(item), n);
		KUNIT_EXPECT_PTR_EQ(test, ksm_item_span(item), span);
		KUNIT_EXPECT_PTR_EQ(test, (void *)ksm_item_stable(span, n), stable);
	}
	KUNIT_EXPECT_EQ(test, n, 0);

	for (pos = 0; pos < KSM_BLOCK_PAGES; pos++) {
		hlist_del(&span->items[pos].link.node);
		ksm_item_move(&stats, span, pos, KSM_ITEM_NONE);
	}
	KUNIT_EXPECT_TRUE(test, hlist_empty(&items));
	KUNIT_EXPECT_TRUE(test, ksm_span_empty(span));
	expect_counts(test, &stats, 0, 0, 0);
}

static struct kunit_case ksm_test_cases[] = {
	KUNIT_CASE(full_digest_is_the_kernels_xxhash64),
	KUNIT_CASE(sample_is_the_kernels_xxhash64_of_its_lines),
	KUNIT_CASE(equal_pages_have_equal_digests),
	KUNIT_CASE(forest_of_this_machine_starts_empty),
	KUNIT_CASE(threads_share_a_forest_by_its_locks),
	KUNIT_CASE(spans_from_slab_are_aligned_and_small),
	KUNIT_CASE(items_live_through_tree_and_list),
	{}
};

static struct kunit_suite ksm_test_suite = {
	.name = "ksm",
	.test_cases = ksm_test_cases,
};

kunit_test_suite(ksm_test_suite);
