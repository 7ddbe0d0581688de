// SPDX-License-Identifier: GPL-2.0
/*
 * Tests of mm/ksm/digest.c. Built for 4 KiB and for 64 KiB pages.
 *
 * A hash may collide: where a change has to change a digest, it is looked at under two seeds, and
 * both would have to collide for a false alarm.
 */
#include <stdlib.h>

#include "digest.h"
#include "ksm_test.h"

#define QUARTER		(PAGE_SIZE / KSM_SAMPLE_LINES)
#define LINES		(QUARTER / KSM_SAMPLE_LINE_SIZE)
#define FULL_LIMIT	BIT(KSM_KEY_FULL_BITS)

static u8 page[PAGE_SIZE] __aligned(64);

/* Every hash passes here, and a test may say what it is. */
static const u64 *forced_hash;

uint64_t __wrap_xxh64(const void *input, size_t length, uint64_t seed)
{
	return forced_hash ? *forced_hash : __real_xxh64(input, length, seed);
}

static u32 full_digest(const struct ksm_digest *digest)
{
	u32 check;

	return ksm_digest_full(digest, page, &check);
}

/* The whole range of the random bits of one line, while those of the other lines are arbitrary. */
static void lines_are_placed_well(void)
{
	unsigned int i, bits;

	for (i = 0; i < KSM_SAMPLE_LINES; i++) {
		for (bits = 0; bits < 1 << 16; bits++) {
			const u64 others = ksm_random() & ~(0xffffULL << 16 * i);
			struct ksm_digest digest;
			u32 line;

			ksm_digest_init(&digest, 0, others | (u64)bits << 16 * i);
			line = digest.line[i];
			EXPECT(line >= i * QUARTER, "line %u at %u", i, line);
			EXPECT(line + KSM_SAMPLE_LINE_SIZE <= (i + 1) * QUARTER,
			       "line %u at %u", i, line);
			EXPECT(line % 64 == 0, "line %u at %u", i, line);
			EXPECT(line != 0, "bits %#x", bits);
		}
	}
}

static void lines_are_chosen_evenly(void)
{
	unsigned int i, bits, n;

	for (i = 0; i < KSM_SAMPLE_LINES; i++) {
		unsigned int count[LINES] = {};
		unsigned int most = 0, least = ~0U;

		for (bits = 0; bits < 1 << 16; bits++) {
			struct ksm_digest digest;

			ksm_digest_init(&digest, 0, (u64)bits << 16 * i);
			count[(digest.line[i] - i * QUARTER) / KSM_SAMPLE_LINE_SIZE]++;
		}
		for (n = i ? 0 : 1; n < LINES; n++) {
			most = max(most, count[n]);
			least = min(least, count[n]);
		}
		EXPECT(least > 0 && most - least <= 1, "quarter %u: %u to %u times", i, least,
		       most);
	}
}

static void every_line_has_random_bits_of_its_own(void)
{
	unsigned int i, j, round;

	for (round = 0; round < 1000; round++) {
		const u64 lines = ksm_random();

		for (i = 0; i < KSM_SAMPLE_LINES; i++) {
			struct ksm_digest before, after;

			ksm_digest_init(&before, 0, lines);
			ksm_digest_init(&after, 0, lines ^ (ksm_random() & 0xffff) << 16 * i);
			for (j = 0; j < KSM_SAMPLE_LINES; j++)
				EXPECT(j == i || before.line[j] == after.line[j],
				       "bits of %u moved line %u", i, j);
		}
	}
}

static bool in_sampled_line(const struct ksm_digest *digest, u32 offset)
{
	unsigned int i;

	for (i = 0; i < KSM_SAMPLE_LINES; i++)
		if (offset >= digest->line[i] && offset < digest->line[i] + KSM_SAMPLE_LINE_SIZE)
			return true;
	return false;
}

static void flip(u32 offset, u8 mask)
{
	page[offset] ^= mask;
}

static void sample_sees_exactly_its_lines(void)
{
	struct ksm_digest digest[2];
	const u64 lines = ksm_random();
	u32 sample[2], offset;

	ksm_digest_init(&digest[0], ksm_random(), lines);
	ksm_digest_init(&digest[1], ksm_random(), lines);
	ksm_random_fill(page, PAGE_SIZE);
	sample[0] = ksm_digest_sample(&digest[0], page);
	sample[1] = ksm_digest_sample(&digest[1], page);
	for (offset = 0; offset < PAGE_SIZE; offset++) {
		const u8 mask = 1 << ksm_random_below(8);
		unsigned int changed;

		flip(offset, mask);
		changed = (ksm_digest_sample(&digest[0], page) != sample[0]) +
			  (ksm_digest_sample(&digest[1], page) != sample[1]);
		flip(offset, mask);
		if (in_sampled_line(&digest[0], offset))
			EXPECT(changed > 0, "byte %u is sampled", offset);
		else
			EXPECT(changed == 0, "byte %u is not sampled", offset);
	}
}

static void sample_knows_which_line_is_which(void)
{
	struct ksm_digest digest[2];
	const u64 lines = ksm_random();
	u8 copy[PAGE_SIZE];
	u32 i, changed = 0;

	ksm_random_fill(page, PAGE_SIZE);
	memcpy(copy, page, PAGE_SIZE);
	for (i = 0; i < 2; i++)
		ksm_digest_init(&digest[i], ksm_random(), lines);
	memcpy(copy + digest[0].line[1], page + digest[0].line[2], KSM_SAMPLE_LINE_SIZE);
	memcpy(copy + digest[0].line[2], page + digest[0].line[1], KSM_SAMPLE_LINE_SIZE);
	for (i = 0; i < 2; i++)
		changed += ksm_digest_sample(&digest[i], page) !=
			   ksm_digest_sample(&digest[i], copy);
	EXPECT(changed > 0, "two sampled lines were exchanged");
}

static void full_depends_on_every_byte(void)
{
	const u32 step = PAGE_SIZE / 4096;
	struct ksm_digest digest[2];
	u32 full[2], offset, i;

	ksm_random_fill(page, PAGE_SIZE);
	for (i = 0; i < 2; i++) {
		ksm_digest_init(&digest[i], ksm_random(), ksm_random());
		full[i] = full_digest(&digest[i]);
	}
	for (offset = 0; offset < PAGE_SIZE; offset += step) {
		const u32 at = offset + ksm_random_below(step);
		const u8 mask = 1 << ksm_random_below(8);
		unsigned int changed = 0;

		flip(at, mask);
		for (i = 0; i < 2; i++)
			changed += full_digest(&digest[i]) != full[i];
		flip(at, mask);
		EXPECT(changed > 0, "byte %u, mask %#x", at, mask);
	}
	for (i = 0; i < 2; i++)
		EXPECT_EQ(full_digest(&digest[i]), full[i]);
}

static void full_is_never_0(void)
{
	struct ksm_digest digest;
	unsigned int bit;
	u64 hash = 0;

	ksm_digest_init(&digest, 0, 0);
	forced_hash = &hash;
	for (bit = 0; bit < 64; bit++) {
		hash = (1ULL << bit) - 1;
		EXPECT(full_digest(&digest) != 0, "hash %#llx", (unsigned long long)hash);
	}
	forced_hash = NULL;
}

static void full_fits_its_bits_and_uses_them(void)
{
	struct ksm_digest digest;
	u32 any = 0, all = ~0U, round;

	ksm_digest_init(&digest, ksm_random(), ksm_random());
	for (round = 0; round < 256; round++) {
		u32 full;

		ksm_random_fill(page, PAGE_SIZE);
		full = full_digest(&digest);
		EXPECT(full < FULL_LIMIT, "%#x", full);
		any |= full;
		all &= full;
	}
	EXPECT_EQ(any, FULL_LIMIT - 1);
	EXPECT_EQ(all, 0);
}

static void key_and_check_share_no_bits(void)
{
	struct ksm_digest digest;
	unsigned int bit;
	u32 full, check;
	u64 hash;

	ksm_digest_init(&digest, 0, 0);
	forced_hash = &hash;
	for (bit = 0; bit < 64; bit++) {
		hash = 1ULL << bit | 1ULL << 63;
		full = ksm_digest_full(&digest, page, &check);
		EXPECT_EQ(check, bit < 32 ? 1U << bit : 0);
		EXPECT_EQ(full, 1U << 27 | (bit < 36 ? 0 : 1U << (bit - 36)));
	}
	forced_hash = NULL;
}

static void fewer_key_bits_leave_the_rest(void)
{
	struct ksm_digest digest, weak;
	u32 full, check, weak_full, weak_check, round;

	ksm_digest_init(&digest, ksm_random(), ksm_random());
	for (round = 0; round < 256; round++) {
		ksm_random_fill(page, PAGE_SIZE);
		weak = digest;
		weak.key_bits = ksm_random_below(FULL_LIMIT);
		full = ksm_digest_full(&digest, page, &check);
		weak_full = ksm_digest_full(&weak, page, &weak_check);
		EXPECT_EQ(weak_full, full & weak.key_bits ? full & weak.key_bits : 1);
		EXPECT_EQ(weak_check, check);
	}
	weak.key_bits = 0;
	EXPECT_EQ(full_digest(&weak), 1);
}

static void content_is_both_digests(void)
{
	const u32 salt = ksm_random();
	struct ksm_content content, salted;
	struct ksm_digest digest;
	u32 full, check;

	ksm_digest_init(&digest, ksm_random(), ksm_random());
	ksm_random_fill(page, PAGE_SIZE);
	content = ksm_digest_content(&digest, page);
	full = ksm_digest_full(&digest, page, &check);
	EXPECT_EQ(ksm_key_sample(content.key), ksm_digest_sample(&digest, page));
	EXPECT_EQ(ksm_key_full(content.key), full);
	EXPECT_EQ(content.check, check);
	EXPECT(ksm_content_equal(content, content), "a content differs from itself");

	salted = ksm_content_salt(content, salt);
	EXPECT_EQ(ksm_key_sample(salted.key), ksm_digest_sample(&digest, page) ^ salt);
	EXPECT_EQ(ksm_key_full(salted.key), full);
	EXPECT_EQ(salted.check, check);
	salted = content;
	salted.check ^= 1U << ksm_random_below(32);
	EXPECT(!ksm_content_equal(content, salted), "another check");
	salted = content;
	salted.key ^= 1ULL << (4 + ksm_random_below(60));
	EXPECT(!ksm_content_equal(content, salted), "another key");
}

static void seed_changes_both_digests(void)
{
	const u64 lines = ksm_random(), seed = ksm_random();
	unsigned int bit;

	ksm_random_fill(page, PAGE_SIZE);
	for (bit = 0; bit < 63; bit++) {
		struct ksm_digest digest[3];
		u32 sample[3], full[3], i;

		for (i = 0; i < 3; i++) {
			ksm_digest_init(&digest[i], seed ^ (u64)i << bit, lines);
			sample[i] = ksm_digest_sample(&digest[i], page);
			full[i] = full_digest(&digest[i]);
		}
		EXPECT(sample[0] != sample[1] || sample[0] != sample[2], "seed bit %u", bit);
		EXPECT(full[0] != full[1] || full[0] != full[2], "seed bit %u", bit);
	}
}

static void digests_do_not_write(void)
{
	struct ksm_digest digest;
	u8 copy[PAGE_SIZE];

	ksm_random_fill(page, PAGE_SIZE);
	memcpy(copy, page, PAGE_SIZE);
	ksm_digest_init(&digest, ksm_random(), ksm_random());
	ksm_digest_sample(&digest, page);
	full_digest(&digest);
	EXPECT(!memcmp(copy, page, PAGE_SIZE), "the page changed");
}

/* The values are xxHash's published ones. */
static void borrowed_hash_is_xxhash64(void)
{
	EXPECT_EQ(xxh64("", 0, 0), 0xef46db3751d8e999ULL);
	EXPECT_EQ(xxh64("a", 1, 0), 0xd24ec4f1a98c6e5bULL);
	EXPECT_EQ(xxh64("abc", 3, 0), 0x44bc2cf5ad770999ULL);
}

static void key_gives_back_its_parts(void)
{
	unsigned int round;

	for (round = 0; round < 100000; round++) {
		const u32 sample = round & 1 ? ksm_random() : -(round >> 1 & 1);
		const u32 extreme = round & 8 ? FULL_LIMIT - 1 : 0;
		const u32 full = round & 4 ? ksm_random_below(FULL_LIMIT) : extreme;
		const u64 key = ksm_key(sample, full), pos = ksm_random_below(16);

		EXPECT_EQ(ksm_key_sample(key), sample);
		EXPECT_EQ(ksm_key_full(key), full);
		EXPECT_EQ(key & KSM_KEY_POS_MASK, 0);
		EXPECT_EQ(ksm_key_sample(key | pos), sample);
		EXPECT_EQ(ksm_key_full(key | pos), full);
	}
}

static void keys_sort_by_sample_then_full(void)
{
	unsigned int round;

	for (round = 0; round < 100000; round++) {
		const u32 sample[2] = { ksm_random_below(4) << 30, ksm_random_below(4) << 30 };
		const u32 full[2] = { ksm_random_below(FULL_LIMIT), ksm_random_below(FULL_LIMIT) };
		const bool less = sample[0] < sample[1] ||
				  (sample[0] == sample[1] && full[0] < full[1]);

		EXPECT_EQ(ksm_key(sample[0], full[0]) < ksm_key(sample[1], full[1]), less);
	}
	EXPECT(ksm_key(7, 0) < ksm_key(7, 1), "alone with its sample comes first");
}

static const struct ksm_test tests[] = {
	{ "sampled lines are aligned, one in each quarter, never line 0", lines_are_placed_well },
	{ "every line but line 0 is as likely as any other", lines_are_chosen_evenly },
	{ "a line is chosen by its own random bits", every_line_has_random_bits_of_its_own },
	{ "the sample changes if and only if a sampled line does", sample_sees_exactly_its_lines },
	{ "the sample depends on the order of its lines", sample_knows_which_line_is_which },
	{ "the full digest depends on every byte", full_depends_on_every_byte },
	{ "the full digest is never 0", full_is_never_0 },
	{ "the full digest has 28 bits and all of them vary", full_fits_its_bits_and_uses_them },
	{ "key and check are different bits of the full digest", key_and_check_share_no_bits },
	{ "a key of fewer bits leaves the check as it is", fewer_key_bits_leave_the_rest },
	{ "a content has both digests, and a salt changes the sample", content_is_both_digests },
	{ "every bit of the seed changes both digests", seed_changes_both_digests },
	{ "digesting writes nothing to the page", digests_do_not_write },
	{ "the hash is xxHash64", borrowed_hash_is_xxhash64 },
	{ "a key gives back both digests whatever the position", key_gives_back_its_parts },
	{ "keys sort by sample, then by full digest", keys_sort_by_sample_then_full },
};

int main(void)
{
	return ksm_test_main(PAGE_SHIFT == 12 ? "digest" : "digest of 64k pages", tests,
			     ARRAY_SIZE(tests));
}
