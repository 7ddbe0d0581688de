// SPDX-License-Identifier: GPL-2.0
/*
 * Digests of page contents. Policy layer, pure: no locks, no allocation, cannot fail.
 * The seed and the sampled lines are secret and chosen at boot, so that nobody can hide a change
 * from the sample, or foretell where pages collide. xxHash is no cryptographic hash: pages that
 * collide under any seed can be made. They cost their owner a compare and then some merges, never
 * a byte. Tests: tools/testing/ksm/digest_test.c.
 */
#include "digest.h"

/**
 * ksm_digest_init - choose the sampled lines and the seed
 * @digest: to be filled
 * @seed: random bits, the seed of the hashes
 * @lines: random bits, 16 for the choice of each line
 */
void ksm_digest_init(struct ksm_digest *digest, u64 seed, u64 lines)
{
	const u32 quarter = PAGE_SIZE / KSM_SAMPLE_LINES;
	const u32 choices = quarter / KSM_SAMPLE_LINE_SIZE;
	u32 i;

	digest->seed = seed;
	digest->key_bits = ~0U >> (32 - KSM_KEY_FULL_BITS);
	for (i = 0; i < KSM_SAMPLE_LINES; i++) {
		u32 choice = (lines >> (16 * i)) & 0xffff;

		/* Line 0 holds headers, alike in many pages. */
		choice = i ? choice % choices : 1 + choice % (choices - 1);
		digest->line[i] = i * quarter + choice * KSM_SAMPLE_LINE_SIZE;
	}
}

/**
 * ksm_digest_sample - digest a few cache lines of a page
 * @digest: the parameters of this boot
 * @page: PAGE_SIZE bytes, may change meanwhile
 *
 * Return: 32 bits, any value.
 */
u32 ksm_digest_sample(const struct ksm_digest *digest, const void *page)
{
	u8 sample[KSM_SAMPLE_LINES * KSM_SAMPLE_LINE_SIZE];
	u32 i;

	for (i = 0; i < KSM_SAMPLE_LINES; i++)
		memcpy(sample + i * KSM_SAMPLE_LINE_SIZE, page + digest->line[i],
		       KSM_SAMPLE_LINE_SIZE);
	return xxh64(sample, sizeof(sample), digest->seed);
}

/**
 * ksm_digest_full - digest a whole page (xxHash64)
 * @digest: the parameters of this boot
 * @page: PAGE_SIZE bytes, may change meanwhile
 * @check: where to store 32 more bits of the digest
 *
 * Return: KSM_KEY_FULL_BITS bits, never 0.
 */
u32 ksm_digest_full(const struct ksm_digest *digest, const void *page, u32 *check)
{
	u64 hash = xxh64(page, PAGE_SIZE, digest->seed);
	u32 full = (hash >> (64 - KSM_KEY_FULL_BITS)) & digest->key_bits;

	*check = hash;
	return full ?: 1;
}

/**
 * ksm_digest_content - both digests of a page
 * @digest: the parameters of this boot
 * @page: PAGE_SIZE bytes, may change meanwhile
 *
 * Return: the content, for a scope without salt.
 */
struct ksm_content ksm_digest_content(const struct ksm_digest *digest, const void *page)
{
	struct ksm_content content;
	u32 full = ksm_digest_full(digest, page, &content.check);

	content.key = ksm_key(ksm_digest_sample(digest, page), full);
	return content;
}
