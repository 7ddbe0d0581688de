// SPDX-License-Identifier: GPL-2.0
/*
 * Tests of mm/ksm/advisor.c: a scanner is simulated that works and sleeps in turn, over memories of
 * 256 MiB to 16 GiB, and asks for advice after each pass.
 */
#include "advisor.h"
#include "ksm_test.h"

#define MIB		(1ULL << 20)
#define GIB		(1ULL << 30)
#define NS_PER_PAGE	100ULL
#define NAP_MS		20ULL
#define LEARNING	10	/* passes */

/* A pass over @pages pages, @chunk a wake-up: how long it takes, and its processor time. */
static void simulate(u64 pages, u64 ns_per_page, unsigned int chunk, u64 *pass_ms, u64 *cpu_ms)
{
	u64 wakeups = (pages + chunk - 1) / chunk;

	*cpu_ms = pages * ns_per_page / 1000000;
	*pass_ms = wakeups * NAP_MS + *cpu_ms;
}

static unsigned int learn(const struct ksm_advice *advice, u64 pages, u64 ns_per_page,
			  unsigned int chunk)
{
	u64 pass_ms, cpu_ms;
	unsigned int i;

	for (i = 0; i < LEARNING; i++) {
		simulate(pages, ns_per_page, chunk, &pass_ms, &cpu_ms);
		chunk = ksm_advise(advice, chunk, pass_ms, cpu_ms);
		EXPECT(chunk >= 1 && chunk <= advice->max_pages, "%u", chunk);
		EXPECT(chunk >= advice->min_pages || advice->min_pages > advice->max_pages,
		       "%u below %u", chunk, advice->min_pages);
	}
	return chunk;
}

static void expect_on_target(const struct ksm_advice *advice, u64 pages, unsigned int chunk)
{
	u64 pass_ms, cpu_ms, target_ms = advice->target_secs * 1000ULL;

	simulate(pages, NS_PER_PAGE, chunk, &pass_ms, &cpu_ms);
	if (chunk == advice->min_pages)
		EXPECT(pass_ms <= target_ms * 11 / 10, "%lu MiB: %lu ms", pages / 256, pass_ms);
	else if (chunk == advice->max_pages)
		EXPECT(pass_ms >= target_ms * 9 / 10, "%lu MiB: %lu ms", pages / 256, pass_ms);
	else
		EXPECT(pass_ms >= target_ms * 9 / 10 && pass_ms <= target_ms * 11 / 10,
		       "%lu MiB: %lu ms with %u pages", pages / 256, pass_ms, chunk);
}

static void passes_take_the_target_time(void)
{
	static const unsigned int targets[] = { 1, 20, 200, 3600 };
	struct ksm_advice advice = { .max_cpu = 70, .min_pages = 500, .max_pages = 30000 };
	unsigned int i, chunk;
	u64 bytes;

	for (i = 0; i < ARRAY_SIZE(targets); i++) {
		advice.target_secs = targets[i];
		for (bytes = 256 * MIB; bytes <= 16 * GIB; bytes *= 2) {
			chunk = learn(&advice, bytes / PAGE_SIZE, NS_PER_PAGE, 500);
			expect_on_target(&advice, bytes / PAGE_SIZE, chunk);
			chunk = learn(&advice, 2 * bytes / PAGE_SIZE, NS_PER_PAGE, chunk);
			expect_on_target(&advice, 2 * bytes / PAGE_SIZE, chunk);
		}
	}
}

static void the_processor_limit_is_kept(void)
{
	struct ksm_advice advice = { .min_pages = 1, .max_pages = 1000000, .target_secs = 1 };
	const u64 pages = 4 * GIB / PAGE_SIZE;
	u64 pass_ms, cpu_ms;
	unsigned int chunk;

	for (advice.max_cpu = 5; advice.max_cpu <= 95; advice.max_cpu += 5) {
		chunk = learn(&advice, pages, 5000, 500);
		simulate(pages, 5000, chunk, &pass_ms, &cpu_ms);
		EXPECT(cpu_ms * 100 <= pass_ms * (advice.max_cpu + 1), "%u percent of %u",
		       (unsigned int)(cpu_ms * 100 / pass_ms), advice.max_cpu);
	}
}

static void advice_is_never_out_of_limits(void)
{
	unsigned int i;

	for (i = 0; i < 1000000; i++) {
		struct ksm_advice advice = {
			.max_cpu = ksm_random_below(101),
			.min_pages = ksm_random() >> ksm_random_below(33),
			.max_pages = 1 + ksm_random_below(U32_MAX >> ksm_random_below(32)),
			.target_secs = 1 + ksm_random_below(U32_MAX >> ksm_random_below(32)),
		};
		unsigned int pages = ksm_random() >> ksm_random_below(33);
		u64 pass_ms = ksm_random() >> ksm_random_below(64);
		u64 cpu_ms = ksm_random() >> ksm_random_below(64);
		unsigned int chosen = ksm_advise(&advice, pages, pass_ms, cpu_ms);

		EXPECT(chosen >= 1 && chosen <= advice.max_pages, "%u of %u", chosen,
		       advice.max_pages);
		EXPECT(chosen >= min(advice.min_pages, advice.max_pages), "%u below %u", chosen,
		       advice.min_pages);
	}
}

static const struct ksm_test tests[] = {
	{ "after 10 passes a pass takes the target time, also when memory doubles",
	  passes_take_the_target_time },
	{ "the processor limit is kept", the_processor_limit_is_kept },
	{ "advice is never out of limits, whatever was measured", advice_is_never_out_of_limits },
};

int main(void)
{
	return ksm_test_main("advisor", tests, ARRAY_SIZE(tests));
}
