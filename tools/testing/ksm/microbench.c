// SPDX-License-Identifier: GPL-2.0
/*
 * What the pure files cost: nanoseconds of the digests of pages in the cache and in memory, and of
 * insertions and lookups in forests of 1 Ki to 4 Mi leaves. Not a test; locks are not taken.
 */
#include <stdio.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <time.h>
#include <unistd.h>

#include "forest.h"

#define MIB		(1024 * 1024UL)
#define MIN_COLD	(256 * MIB)
#define MAX_COLD	(2048 * MIB)
#define HOT_ROUNDS	200000
#define MIN_OPERATIONS	1000000UL

unsigned int ksm_warnings;

/* Not static, so that no result is computed in vain. */
u64 sink;
static u64 state = 1;

/* SplitMix64; the figures should not depend on a seed. */
static u64 next_random(void)
{
	u64 z = state += 0x9e3779b97f4a7c15;

	z = (z ^ z >> 30) * 0xbf58476d1ce4e5b9;
	z = (z ^ z >> 27) * 0x94d049bb133111eb;
	return z ^ z >> 31;
}

/* CPU time, so that a busy machine distorts little. */
static double now(void)
{
	struct timespec ts;

	clock_gettime(CLOCK_THREAD_CPUTIME_ID, &ts);
	return ts.tv_sec * 1e9 + ts.tv_nsec;
}

static void *map(size_t size)
{
	void *memory = mmap(NULL, size, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);

	if (memory == MAP_FAILED) {
		perror("mmap");
		exit(1);
	}
	return memory;
}

static void shuffle(u32 *order, size_t nr)
{
	size_t i;

	for (i = 0; i < nr; i++)
		order[i] = i;
	for (i = nr - 1; i > 0; i--) {
		const size_t j = next_random() % (i + 1);
		const u32 swapped = order[i];

		order[i] = order[j];
		order[j] = swapped;
	}
}

typedef u32 (*digest_fn)(const struct ksm_digest *digest, const void *page);

static u32 full_digest(const struct ksm_digest *digest, const void *page)
{
	u32 check;

	return ksm_digest_full(digest, page, &check) ^ check;
}

static double time_digest(digest_fn fn, const struct ksm_digest *digest, const u8 *pages,
			  const u32 *order, size_t nr, size_t rounds)
{
	const double start = now();
	u64 sum = 0;
	size_t i;

	for (i = 0; i < rounds; i++)
		sum += fn(digest, pages + (size_t)order[i % nr] * PAGE_SIZE);
	sink += sum;
	return (now() - start) / rounds;
}

static void bench_digests(void)
{
	const long cache = sysconf(_SC_LEVEL3_CACHE_SIZE);
	const size_t wanted = cache > 0 ? 4 * (size_t)cache : MIN_COLD;
	const size_t size = min(max(wanted, MIN_COLD), MAX_COLD), nr = size / PAGE_SIZE;
	u32 *order = map(nr * sizeof(*order));
	u64 *memory = map(size);
	struct ksm_digest digest;
	size_t i;

	for (i = 0; i < size / sizeof(*memory); i++)
		memory[i] = i * 0x9e3779b97f4a7c15;
	shuffle(order, nr);
	ksm_digest_init(&digest, next_random(), next_random());

	printf("digests, ns a page of %lu bytes (cold: %zu MiB in random order, LLC %ld MiB)\n",
	       PAGE_SIZE, size / MIB, cache / (long)MIB);
	printf("%-10s %10s %10s\n", "", "hot", "cold");
	printf("%-10s %10.1f %10.1f\n", "sample",
	       time_digest(ksm_digest_sample, &digest, (u8 *)memory, order, 1, HOT_ROUNDS * 10),
	       time_digest(ksm_digest_sample, &digest, (u8 *)memory, order, nr, nr));
	printf("%-10s %10.1f %10.1f\n", "full",
	       time_digest(full_digest, &digest, (u8 *)memory, order, 1, HOT_ROUNDS),
	       time_digest(full_digest, &digest, (u8 *)memory, order, nr, nr));
	munmap(memory, size);
	munmap(order, nr * sizeof(*order));
}

static struct rb_root *root_of(const struct ksm_forest *forest, u64 key)
{
	return &ksm_forest_bucket(forest, key)->unstable;
}

static void bench_forest(unsigned long nr, unsigned int bits)
{
	const unsigned long rounds = max(MIN_OPERATIONS / nr, 1UL);
	struct ksm_leaf *leaves = map(nr * sizeof(*leaves));
	struct ksm_bucket *buckets = map(sizeof(*buckets) << bits);
	u32 *order = map(nr * sizeof(*order));
	double insert = 0, lookup = 0, start;
	struct ksm_forest forest;
	unsigned long i, round;
	u64 sum = 0;

	shuffle(order, nr);
	for (i = 0; i < nr; i++)
		leaves[i].key = next_random() & ~KSM_KEY_POS_MASK;
	for (round = 0; round < rounds; round++) {
		ksm_forest_init(&forest, buckets, bits);
		start = now();
		for (i = 0; i < nr; i++)
			ksm_leaf_insert(root_of(&forest, leaves[i].key), &leaves[i]);
		insert += now() - start;
		start = now();
		for (i = 0; i < nr; i++) {
			const u64 key = leaves[order[i]].key;

			sum += ksm_leaf_lower_bound(root_of(&forest, key), key)->key;
		}
		lookup += now() - start;
	}
	sink += sum;
	printf("%10lu %10lu %10.1f %10.1f\n", nr, 1UL << bits, insert / rounds / nr,
	       lookup / rounds / nr);
	munmap(order, nr * sizeof(*order));
	munmap(buckets, sizeof(*buckets) << bits);
	munmap(leaves, nr * sizeof(*leaves));
}

int main(void)
{
	unsigned long nr;

	setvbuf(stdout, NULL, _IOLBF, 0);
	bench_digests();
	printf("\nforests, ns an operation\n%10s %10s %10s %10s\n", "leaves", "buckets", "insert",
	       "lookup");
	for (nr = 1 << 10; nr <= 1 << 22; nr *= 4)
		bench_forest(nr, ksm_forest_bits(nr));
	printf("the same in 2 trees\n");
	for (nr = 1 << 10; nr <= 1 << 22; nr *= 4)
		bench_forest(nr, 1);
	return 0;
}
