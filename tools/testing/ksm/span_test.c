// SPDX-License-Identifier: GPL-2.0
/*
 * Tests of mm/ksm/span.[ch] and stats.h: layout, transitions against a model, all extents.
 */
#include <stdlib.h>

#include "span.h"
#include "ksm_test.h"

#define NR_STATES	4

static_assert((int)KSM_ITEM_NONE == (int)KSM_STAT_UNTRACKED);
static_assert((int)KSM_ITEM_SEEN == (int)KSM_STAT_SEEN);
static_assert((int)KSM_ITEM_UNSTABLE == (int)KSM_STAT_UNSTABLE);
static_assert((int)KSM_ITEM_MERGED == (int)KSM_STAT_MERGED);

static struct ksm_span *new_span(unsigned long block, unsigned int first, unsigned int nr)
{
	/* Exactly as many bytes as it says, so that ASAN sees what is beyond. */
	const size_t size = ksm_span_size(nr);
	struct ksm_span *span = malloc(size);

	EXPECT(span, "no memory");
	memset(span, 0, size);
	ksm_span_init(span, (struct ksm_slot *)0x1230, block, first, nr);
	return span;
}

static void init_makes_all_items_none(void)
{
	unsigned int first, nr, pos;

	for (first = 0; first < KSM_BLOCK_PAGES; first++) {
		for (nr = 1; first + nr <= KSM_BLOCK_PAGES; nr++) {
			struct ksm_span *span = new_span(77, first, nr);

			EXPECT(ksm_span_empty(span), "first %u, nr %u", first, nr);
			EXPECT_EQ((long)span->slot, 0x1230);
			EXPECT_EQ(span->block, 77);
			EXPECT_EQ(span->first, first);
			EXPECT_EQ(span->nr, nr);
			EXPECT_EQ(span->calm[0] | span->calm[1], 0);
			for (pos = 0; pos < nr; pos++) {
				EXPECT_EQ(ksm_item_state(span, pos), KSM_ITEM_NONE);
				EXPECT_EQ(ksm_item_age(span, pos), 0);
				EXPECT_EQ(ksm_item_key(span, pos), 0);
			}
			free(span);
		}
	}
}

/* A key or a stable node doesn't disturb it: both leave the position bits alone. */
static void expect_item_is_at(struct ksm_span *span, unsigned int pos, unsigned long vpn)
{
	struct ksm_item *item = &span->items[pos];

	EXPECT_EQ(ksm_item_pos(item), pos);
	EXPECT(ksm_item_span(item) == span, "position %u", pos);
	EXPECT_EQ(ksm_item_vpn(span, pos), vpn);
	EXPECT_EQ(ksm_item_address(span, pos), vpn << PAGE_SHIFT);
	EXPECT_EQ(ksm_item_pgoff(span, pos), vpn + span->delta);
}

static void items_lead_to_span_and_address(void)
{
	const u64 blocks = 1ULL << (64 - PAGE_SHIFT - KSM_BLOCK_SHIFT);
	unsigned int first, nr, pos;

	for (first = 0; first < KSM_BLOCK_PAGES; first++) {
		for (nr = 1; first + nr <= KSM_BLOCK_PAGES; nr++) {
			const unsigned long block = nr & 1 ? blocks - 1 : ksm_random() % blocks;
			struct ksm_span *span = new_span(block, first, nr);

			span->delta = ksm_random() >> 20;
			if (ksm_random_below(2))
				span->delta = -span->delta;
			for (pos = 0; pos < nr; pos++) {
				const unsigned long vpn = block * 16 + first + pos;

				expect_item_is_at(span, pos, vpn);
				ksm_item_set_key(span, pos, ksm_random() & ~KSM_KEY_POS_MASK);
				expect_item_is_at(span, pos, vpn);
			}
			free(span);
		}
	}
}

static void delta_gives_pgoff(void)
{
	struct ksm_span *span = new_span(0x1000, 4, 8);

	span->delta = 0;
	EXPECT_EQ(ksm_item_pgoff(span, 3), 0x10007);
	span->delta = 5;
	EXPECT_EQ(ksm_item_pgoff(span, 3), 0x1000c);
	span->delta = -0x10004UL;
	EXPECT_EQ(ksm_item_pgoff(span, 0), 0);
	EXPECT_EQ(ksm_item_pgoff(span, 7), 7);
	free(span);
}

static void key_and_stable_keep_the_position(void)
{
	struct ksm_span *span = new_span(1, 0, 16);
	u64 key[16] = {};
	unsigned int round, pos;

	for (round = 0; round < 1000; round++) {
		pos = ksm_random_below(16);
		key[pos] = ksm_random() & ~KSM_KEY_POS_MASK;
		ksm_item_set_key(span, pos, key[pos]);
		for (pos = 0; pos < 16; pos++) {
			EXPECT_EQ(ksm_item_key(span, pos), key[pos]);
			EXPECT_EQ(ksm_item_pos(&span->items[pos]), pos);
		}
	}
	for (pos = 0; pos < 16; pos++) {
		const unsigned long stable = ksm_random() & ~15UL;

		span->items[pos].link.stable = stable | pos;
		EXPECT_EQ((unsigned long)ksm_item_stable(span, pos), stable);
		EXPECT_EQ(ksm_item_pos(&span->items[pos]), pos);
	}
	free(span);
}

static void key_with_position_bits_warns(void)
{
	struct ksm_span *span = new_span(1, 0, 4);

	ksm_item_set_key(span, 1, ksm_key(1, 1) | 2);
	EXPECT_EQ(ksm_warnings, 1);
	ksm_warnings = 0;
	free(span);
}

struct span_model {
	enum ksm_item_state state[KSM_BLOCK_PAGES];
	unsigned int age[KSM_BLOCK_PAGES];
	bool marked[KSM_BLOCK_PAGES][2];
	long count[NR_STATES];
};

static void compare(const struct ksm_stats *stats, const struct ksm_span *span,
		    const struct span_model *model)
{
	bool empty = true;
	unsigned int i;

	for (i = 0; i < span->nr; i++) {
		EXPECT_EQ(ksm_item_state(span, i), model->state[i]);
		EXPECT_EQ(ksm_item_age(span, i), model->age[i]);
		EXPECT_EQ(ksm_item_marked(span, i, KSM_MARK_CROWDED), model->marked[i][0]);
		EXPECT_EQ(ksm_item_marked(span, i, KSM_MARK_HIT), model->marked[i][1]);
		EXPECT_EQ(span->seen >> i & 1, model->state[i] == KSM_ITEM_SEEN);
		EXPECT_EQ(span->unstable >> i & 1, model->state[i] == KSM_ITEM_UNSTABLE);
		EXPECT_EQ(span->merged >> i & 1, model->state[i] == KSM_ITEM_MERGED);
		empty &= model->state[i] == KSM_ITEM_NONE;
	}
	EXPECT_EQ(ksm_span_empty(span), empty);
	for (i = 0; i < NR_KSM_STATS; i++)
		EXPECT_EQ(atomic_long_read(&stats->count[i]),
			  i > KSM_ITEM_NONE && i < NR_STATES ? model->count[i] : 0);
}

static void model_move(struct span_model *model, unsigned int pos, enum ksm_item_state to)
{
	if (model->state[pos] == KSM_ITEM_UNSTABLE)
		model->marked[pos][KSM_MARK_HIT] = false;
	model->count[model->state[pos]]--;
	model->count[to]++;
	model->state[pos] = to;
	if (to == KSM_ITEM_NONE) {
		model->marked[pos][KSM_MARK_CROWDED] = false;
		model->age[pos] = 0;
	}
}

static void moves_agree_with_model(void)
{
	unsigned int nr, step;

	for (nr = 1; nr <= KSM_BLOCK_PAGES; nr++) {
		struct ksm_span *span = new_span(9, 16 - nr, nr);
		struct ksm_stats stats = {};
		struct span_model model = {};

		for (step = 0; step < 5000; step++) {
			const unsigned int pos = ksm_random_below(nr), age = ksm_random_below(4);
			const enum ksm_item_state to = ksm_random_below(NR_STATES);
			const enum ksm_mark mark = ksm_random_below(2);

			switch (ksm_random_below(5)) {
			case 0:
				EXPECT_EQ(ksm_item_mark(span, pos, mark), model.marked[pos][mark]);
				model.marked[pos][mark] = true;
				break;
			case 1:
				ksm_item_unmark(span, pos, mark);
				model.marked[pos][mark] = false;
				break;
			case 2:
				ksm_item_set_age(span, pos, age);
				model.age[pos] = age;
				break;
			default:
				ksm_item_move(&stats, span, pos, to);
				model_move(&model, pos, to);
			}
			compare(&stats, span, &model);
			EXPECT_EQ(ksm_item_pos(&span->items[pos]), pos);
		}
		free(span);
	}
}

/* From every state to every state, with everything else that an item remembers set. */
static void moves_clear_ages_marks_and_calm(void)
{
	unsigned int pos, from, to;

	for (pos = 0; pos < 16; pos++) {
		for (from = 0; from < NR_STATES; from++) {
			for (to = 0; to < NR_STATES; to++) {
				struct ksm_span *span = new_span(9, 0, 16);
				struct ksm_stats stats = {};
				const unsigned long lost = to == KSM_ITEM_NONE;
				const unsigned long hit = from == KSM_ITEM_UNSTABLE;

				ksm_item_move(&stats, span, pos, from);
				span->marks = 0xffffffff;
				span->ages = 0xffffffff;
				span->calm[0] = 0xffff;
				span->calm[1] = 0xffff;
				ksm_item_move(&stats, span, pos, to);
				EXPECT_EQ(span->marks,
					  0xffffffff & ~(lost << pos) & ~(hit << (pos + 16)));
				EXPECT_EQ(span->ages, 0xffffffff & ~(3 * lost << 2 * pos));
				EXPECT_EQ(span->calm[0], 0xffff & ~(lost << pos));
				EXPECT_EQ(span->calm[1], 0xffff & ~(lost << pos));
				free(span);
			}
		}
	}
}

static void ages_are_kept_apart_and_end_at_3(void)
{
	struct ksm_span *span = new_span(9, 0, 16);
	unsigned int age[16] = {}, round, pos;

	for (round = 0; round < 2000; round++) {
		const unsigned int to = ksm_random_below(6);

		pos = ksm_random_below(16);
		ksm_item_set_age(span, pos, to);
		age[pos] = to > 3 ? 3 : to;
		for (pos = 0; pos < 16; pos++)
			EXPECT_EQ(ksm_item_age(span, pos), age[pos]);
	}
	free(span);
}

static void cover_has_a_bit_per_page(void)
{
	unsigned int first, nr, page;

	for (first = 0; first < KSM_BLOCK_PAGES; first++) {
		for (nr = 1; first + nr <= KSM_BLOCK_PAGES; nr++) {
			struct ksm_span *span = new_span(9, first, nr);

			for (page = 0; page < KSM_BLOCK_PAGES; page++)
				EXPECT_EQ(ksm_span_cover(span) >> page & 1,
					  page >= first && page < first + nr);
			free(span);
		}
	}
}

static bool is_wanted(u16 wanted, unsigned int low, unsigned int high, unsigned int page)
{
	return page >= low && page < high && wanted >> page & 1;
}

/* The words of ksm_span_fit()'s description, tried out one run after the other. */
static bool slow_fit(u16 wanted, unsigned int low, unsigned int high, unsigned int *first,
		     unsigned int *end)
{
	unsigned int size, start, page, inside, all = 0;

	for (page = 0; page < 16; page++)
		all += is_wanted(wanted, low, high, page);
	for (size = 4; all && size <= 16; size *= 2) {
		for (start = 0; start < 16; start += size) {
			for (inside = 0, page = start; page < start + size; page++)
				inside += is_wanted(wanted, low, high, page);
			if (inside < all)
				continue;
			*first = start < low ? low : start;
			*end = start + size > high ? high : start + size;
			return true;
		}
	}
	return false;
}

static void fit_is_the_smallest_aligned_run(void)
{
	unsigned int wanted, low, high;

	for (low = 0; low <= 16; low++) {
		for (high = low; high <= 16; high++) {
			for (wanted = 0; wanted < 1 << 16; wanted++) {
				unsigned int first = 99, nr = 99, slow_first = 99, end = 0;
				const bool slow = slow_fit(wanted, low, high, &slow_first, &end);

				if (ksm_span_fit(wanted, low, high, &first, &nr) == slow &&
				    (!slow || (first == slow_first && first + nr == end)))
					continue;
				EXPECT(false, "wanted %#x in [%u, %u): %u at %u, not %u to %u",
				       wanted, low, high, nr, first, slow_first, end);
			}
		}
	}
}

static void spans_are_small(void)
{
	unsigned int nr;

	EXPECT(ksm_span_size(16) <= 36 * 16, "%zu bytes", ksm_span_size(16));
	EXPECT(ksm_span_size(4) <= 192, "%zu bytes", ksm_span_size(4));
	for (nr = 1; nr <= 16; nr++) {
		struct ksm_span *span = new_span(9, 0, nr);

		EXPECT_EQ(ksm_span_size(nr), (char *)&span->items[nr] - (char *)span);
		EXPECT_EQ(offsetof(struct ksm_span, items) % sizeof(struct ksm_item), 0);
		free(span);
	}
}

static void counters_read_as_0_when_below(void)
{
	struct ksm_stats stats = {};
	int stat;

	for (stat = 0; stat < NR_KSM_STATS; stat++) {
		ksm_stat_add(&stats, stat, -3);
		EXPECT_EQ(ksm_stat_read(&stats, stat), 0);
		ksm_stat_add(&stats, stat, 5);
		EXPECT_EQ(ksm_stat_read(&stats, stat), 2);
	}
}

static const struct ksm_test tests[] = {
	{ "init makes all items NONE, of any first page and size", init_makes_all_items_none },
	{ "an item leads to span, page number, address, pgoff", items_lead_to_span_and_address },
	{ "pgoff is page number plus delta, which may be negative", delta_gives_pgoff },
	{ "keys and stable nodes leave the position alone", key_and_stable_keep_the_position },
	{ "a key with position bits warns", key_with_position_bits_warns },
	{ "states and counters agree with a model", moves_agree_with_model },
	{ "an item that is NONE has no age and no mark, one out of the tree no hit",
	  moves_clear_ages_marks_and_calm },
	{ "ages of items are kept apart and end at 3", ages_are_kept_apart_and_end_at_3 },
	{ "cover has a bit for each page", cover_has_a_bit_per_page },
	{ "fit is the smallest aligned run within the limits", fit_is_the_smallest_aligned_run },
	{ "a full span takes at most 36 bytes a page, a smallest one 192", spans_are_small },
	{ "a counter below 0 reads as 0 and is not lost", counters_read_as_0_when_below },
};

int main(void)
{
	return ksm_test_main("span", tests, ARRAY_SIZE(tests));
}
