// SPDX-License-Identifier: GPL-2.0
/*
 * Tests of mm/ksm/forest.c: random operations against sorted arrays, with a validator of the trees.
 */
#include <stdlib.h>
#include <sys/mman.h>

#include "forest.h"
#include "ksm_test.h"

#define MODEL_ROOM	4096
#define RB_BLACK_BIT	1UL

/* What a tree has to contain, in its order. */
struct model {
	struct ksm_leaf *leaf[MODEL_ROOM];
	unsigned int nr;
};

static u64 sort_key(const struct ksm_leaf *leaf)
{
	return leaf->key >> KSM_KEY_POS_BITS;
}

/* The first place at or, if @behind, behind all that are equal. */
static unsigned int model_find(const struct model *model, u64 key, bool behind)
{
	unsigned int i;

	for (i = 0; i < model->nr; i++) {
		const u64 other = sort_key(model->leaf[i]), wanted = key >> KSM_KEY_POS_BITS;

		if (behind ? other > wanted : other >= wanted)
			break;
	}
	return i;
}

static struct ksm_leaf *model_at(const struct model *model, unsigned int i)
{
	return i < model->nr ? model->leaf[i] : NULL;
}

static void model_insert(struct model *model, struct ksm_leaf *leaf)
{
	unsigned int at = model_find(model, leaf->key, true);

	EXPECT(model->nr < MODEL_ROOM, "the model is full");
	memmove(&model->leaf[at + 1], &model->leaf[at], (model->nr - at) * sizeof(leaf));
	model->leaf[at] = leaf;
	model->nr++;
}

static struct ksm_leaf *model_erase(struct model *model, unsigned int at)
{
	struct ksm_leaf *leaf = model->leaf[at];

	model->nr--;
	memmove(&model->leaf[at], &model->leaf[at + 1], (model->nr - at) * sizeof(leaf));
	return leaf;
}

static bool is_black(const struct rb_node *node)
{
	return !node || node->__rb_parent_color & RB_BLACK_BIT;
}

/*
 * Check the links, colours, black heights and key order of a subtree, and that its keys lie in
 * [low, high]. Return the number of black nodes on each path down; count the nodes.
 */
static unsigned int validate(const struct rb_node *node, const struct rb_node *parent, u64 low,
			     u64 high, unsigned int *nr)
{
	unsigned int left, right;
	u64 key;

	if (!node)
		return 0;
	key = sort_key(rb_entry(node, struct ksm_leaf, rb));
	EXPECT(rb_parent(node) == parent, "parent of key %#llx", (unsigned long long)key);
	EXPECT(key >= low && key <= high, "key %#llx is out of order", (unsigned long long)key);
	EXPECT(is_black(node) || (parent && is_black(parent)), "red below red or at the root");
	left = validate(node->rb_left, node, low, key, nr);
	right = validate(node->rb_right, node, key, high, nr);
	EXPECT_EQ(left, right);
	(*nr)++;
	return left + is_black(node);
}

static void compare(const struct rb_root *root, const struct model *model)
{
	struct ksm_leaf *leaf;
	unsigned int nr = 0, i = 0;

	validate(root->rb_node, NULL, 0, ~0ULL, &nr);
	EXPECT_EQ(nr, model->nr);
	for (leaf = ksm_leaf_lower_bound(root, 0); leaf; leaf = ksm_leaf_next(leaf), i++)
		EXPECT(leaf == model_at(model, i), "leaf %u of %u differs", i, nr);
	EXPECT_EQ(i, model->nr);
}

static struct ksm_forest new_forest(unsigned int bits)
{
	const size_t size = sizeof(struct ksm_bucket) << bits;
	struct ksm_bucket *buckets = malloc(size);
	struct ksm_forest forest;

	EXPECT(buckets, "no memory");
	memset(buckets, 0xa5, size);
	ksm_forest_init(&forest, buckets, bits);
	return forest;
}

/* Few samples and full digests, so that equal keys are the rule, the extremes among them. */
static u64 random_key(void)
{
	static const u32 few[] = {
		0, 1, 0x0fffffff, 0x10000000, 0x7fffffff, 0x80000000, 0xfffffffe, 0xffffffff,
	};
	const u32 sample = ksm_random_below(2) ? few[ksm_random_below(ARRAY_SIZE(few))] :
						 (u32)ksm_random_below(64) << 26;

	return ksm_key(sample, ksm_random_below(3)) | ksm_random_below(16);
}

static void one_operation(struct rb_root *root, struct model *model, unsigned int growth)
{
	struct ksm_leaf *leaf;
	unsigned int at;
	u64 key;

	switch (ksm_random_below(4)) {
	case 0:
		key = random_key();
		at = model_find(model, key, false);
		EXPECT(ksm_leaf_lower_bound(root, key) == model_at(model, at),
		       "lower bound of %#llx", (unsigned long long)key);
		break;
	case 1:
		if (!model->nr)
			break;
		at = ksm_random_below(model->nr);
		EXPECT(ksm_leaf_next(model->leaf[at]) == model_at(model, at + 1), "behind %u", at);
		break;
	default:
		if (ksm_random_below(100) < growth) {
			leaf = malloc(sizeof(*leaf));
			EXPECT(leaf, "no memory");
			memset(leaf, 0xa5, sizeof(*leaf));
			leaf->key = random_key();
			ksm_leaf_insert(root, leaf);
			model_insert(model, leaf);
		} else if (model->nr) {
			leaf = model_erase(model, ksm_random_below(model->nr));
			rb_erase(&leaf->rb, root);
			free(leaf);
		}
	}
}

static void empty_tree(struct rb_root *root, struct model *model)
{
	while (model->nr) {
		struct ksm_leaf *leaf = model_erase(model, ksm_random_below(model->nr));

		rb_erase(&leaf->rb, root);
		free(leaf);
		if (model->nr % 64 == 0)
			compare(root, model);
	}
	EXPECT(!root->rb_node, "not empty");
}

static void tree_agrees_with_model(void)
{
	static struct model model;
	struct rb_root root = RB_ROOT;
	unsigned int step;

	model.nr = 0;
	for (step = 0; step < 60000; step++) {
		one_operation(&root, &model, step / 5000 % 2 ? 35 : 70);
		if (step % 100 == 0)
			compare(&root, &model);
	}
	empty_tree(&root, &model);
}

static void buckets_agree_with_models(void)
{
	const unsigned int bits = 6;
	struct ksm_forest forest = new_forest(bits);
	struct model *models = calloc(2U << bits, sizeof(*models));
	unsigned int step, i;

	EXPECT(models, "no memory");
	for (step = 0; step < 40000; step++) {
		struct ksm_leaf *leaf = malloc(sizeof(*leaf));
		struct ksm_bucket *bucket;
		struct rb_root *root;
		struct model *model;

		EXPECT(leaf, "no memory");
		leaf->key = random_key();
		bucket = ksm_forest_bucket(&forest, leaf->key);
		i = 2 * (leaf->key >> (64 - bits)) + ksm_random_below(2);
		root = i & 1 ? &bucket->stable : &bucket->unstable;
		model = &models[i];
		if (model->nr > 200) {
			free(leaf);
			leaf = model_erase(model, ksm_random_below(model->nr));
			rb_erase(&leaf->rb, root);
			free(leaf);
		} else {
			ksm_leaf_insert(root, leaf);
			model_insert(model, leaf);
		}
		if (step % 100 == 0)
			compare(root, model);
	}
	for (i = 0; i < 2U << bits; i++) {
		struct ksm_bucket *bucket = &forest.buckets[i / 2];
		struct rb_root *root = i & 1 ? &bucket->stable : &bucket->unstable;

		compare(root, &models[i]);
		empty_tree(root, &models[i]);
	}
	free(models);
	free(forest.buckets);
}

static void equal_keys_keep_their_order(void)
{
	static struct ksm_leaf leaves[1000];
	struct rb_root root = RB_ROOT;
	const u64 key = ksm_key(0x12345678, 9);
	struct ksm_leaf below = { .key = ksm_key(0x12345678, 8) | 15 };
	struct ksm_leaf above = { .key = ksm_key(0x12345678, 10) };
	struct ksm_leaf *leaf;
	unsigned int i;

	ksm_leaf_insert(&root, &above);
	ksm_leaf_insert(&root, &below);
	for (i = 0; i < ARRAY_SIZE(leaves); i++) {
		leaves[i].key = key | ksm_random_below(16);
		ksm_leaf_insert(&root, &leaves[i]);
	}
	leaf = ksm_leaf_lower_bound(&root, key | 15);
	for (i = 0; i < ARRAY_SIZE(leaves); i++, leaf = ksm_leaf_next(leaf))
		EXPECT(leaf == &leaves[i], "leaf %u", i);
	EXPECT(leaf == &above, "the next key follows");
	EXPECT(!ksm_leaf_next(leaf), "the last one has no next");
	EXPECT(ksm_leaf_lower_bound(&root, 0) == &below, "the first key");
}

static void lookup_ends_behind_the_last(void)
{
	struct rb_root root = RB_ROOT;
	struct ksm_leaf leaf = { .key = ksm_key(5, 5) | 7 };

	EXPECT(!ksm_leaf_lower_bound(&root, 0), "an empty tree");
	ksm_leaf_insert(&root, &leaf);
	EXPECT(ksm_leaf_lower_bound(&root, ksm_key(5, 5)) == &leaf, "its key");
	EXPECT(ksm_leaf_lower_bound(&root, ksm_key(5, 5) | 15) == &leaf, "position bits count");
	EXPECT(ksm_leaf_lower_bound(&root, ksm_key(4, 9)) == &leaf, "a smaller key");
	EXPECT(!ksm_leaf_lower_bound(&root, ksm_key(5, 6)), "a greater key");
	EXPECT(!ksm_leaf_lower_bound(&root, ~0ULL), "the greatest key");
	EXPECT_EQ(leaf.key, ksm_key(5, 5) | 7);
}

static void init_empties_every_bucket(void)
{
	unsigned int bits;
	unsigned long i;

	for (bits = 1; bits <= 12; bits++) {
		struct ksm_forest forest = new_forest(bits);

		EXPECT_EQ(forest.bits, bits);
		for (i = 0; i < 1UL << bits; i++) {
			struct ksm_bucket *bucket = &forest.buckets[i];

			EXPECT(!bucket->stable.rb_node, "bucket %lu", i);
			EXPECT(!bucket->unstable.rb_node, "bucket %lu", i);
			EXPECT(!pthread_mutex_trylock(&bucket->lock), "bucket %lu", i);
			pthread_mutex_unlock(&bucket->lock);
		}
		free(forest.buckets);
	}
}

static void bits_suit_memory(void)
{
	static const struct {
		unsigned long pages;
		unsigned int bits;
	} known[] = {
		{ 0, 4 }, { 1, 4 }, { 15, 4 }, { 16, 4 }, { 127, 4 }, { 128, 4 }, { 255, 4 },
		{ 256, 5 }, { 1 << 18, 15 }, { (1 << 27) - 1, 23 }, { 1 << 27, 24 },
		{ 1 << 28, 24 }, { 1UL << 40, 24 }, { ~0UL, 24 },
	};
	unsigned int i, before = 0;
	unsigned long pages;

	for (i = 0; i < ARRAY_SIZE(known); i++)
		EXPECT(ksm_forest_bits(known[i].pages) == known[i].bits, "%lu pages: %u bits",
		       known[i].pages, ksm_forest_bits(known[i].pages));
	for (pages = 0; pages < 1UL << 40; pages += 1 + pages / 64) {
		const unsigned int bits = ksm_forest_bits(pages);

		EXPECT(bits >= 4 && bits <= 24 && bits >= before, "%lu pages: %u bits",
		       pages, bits);
		if (bits > 4 && bits < 24)
			EXPECT(pages >> bits >= 8 && pages >> bits < 16, "%lu pages: %u bits",
			       pages, bits);
		before = bits;
	}
}

static void a_sample_has_one_bucket(void)
{
	const size_t size = sizeof(struct ksm_bucket) << 24;
	struct ksm_forest forest;
	unsigned int round;

	forest.buckets = mmap(NULL, size, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE,
			      -1, 0);
	EXPECT(forest.buckets != MAP_FAILED, "mmap");
	for (forest.bits = 1; forest.bits <= 24; forest.bits++) {
		for (round = 0; round < 10000; round++) {
			const u32 sample = round ? ksm_random() : ~0U, full = ksm_random() >> 36;
			const u64 low = ksm_key(sample, 0), any = ksm_key(sample, full) | 15;
			const struct ksm_bucket *bucket = ksm_forest_bucket(&forest, low);

			EXPECT_EQ(bucket - forest.buckets, sample >> (32 - forest.bits));
			EXPECT(ksm_forest_bucket(&forest, any) == bucket, "sample %#x", sample);
		}
	}
	munmap(forest.buckets, size);
}

static const struct ksm_test tests[] = {
	{ "a tree does what a sorted array does and stays red-black", tree_agrees_with_model },
	{ "both trees of each of many buckets do so too", buckets_agree_with_models },
	{ "equal keys keep the order of insertion", equal_keys_keep_their_order },
	{ "lookup ignores positions and ends behind the last key", lookup_ends_behind_the_last },
	{ "init makes every bucket empty and unlocked", init_empties_every_bucket },
	{ "8 to 16 pages a bucket, from 16 to 16 Mi buckets", bits_suit_memory },
	{ "a sample has one bucket, a bucket as many samples as any", a_sample_has_one_bucket },
};

int main(void)
{
	return ksm_test_main("forest", tests, ARRAY_SIZE(tests));
}
