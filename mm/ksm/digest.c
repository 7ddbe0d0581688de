// SPDX-License-Identifier: GPL-2.0
/*
 * Digests of page contents. Policy layer, pure: no locks, no allocation, cannot fail.
 * The seeds are secret and chosen at boot, so that nobody can prepare pages that collide or hide a
 * change from the sample. Tests: tools/testing/ksm/digest_test.c.
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
 *
 * Return: KSM_KEY_FULL_BITS bits, never 0.
 */
u32 ksm_digest_full(const struct ksm_digest *digest, const void *page)
{
	u32 full = xxh64(page, PAGE_SIZE, digest->seed) >> (64 - KSM_KEY_FULL_BITS);

	return full ?: 1;
}
