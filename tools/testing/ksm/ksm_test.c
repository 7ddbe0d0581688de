// SPDX-License-Identifier: GPL-2.0
/*
 * The harness of the unit tests: runs them, prints TAP. SEED in the environment repeats a run.
 */
#include <setjmp.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/random.h>

#include "ksm_test.h"

unsigned int ksm_warnings;

static u64 random_state;
static jmp_buf failed;

/* SplitMix64. */
u64 ksm_random(void)
{
	u64 z = random_state += 0x9e3779b97f4a7c15;

	z = (z ^ z >> 30) * 0xbf58476d1ce4e5b9;
	z = (z ^ z >> 27) * 0x94d049bb133111eb;
	return z ^ z >> 31;
}

u32 ksm_random_below(u32 limit)
{
	return (ksm_random() >> 32) * limit >> 32;
}

void ksm_random_fill(void *buffer, size_t size)
{
	u64 *word = buffer;
	size_t i;

	for (i = 0; i < size / sizeof(*word); i++)
		word[i] = ksm_random();
}

void ksm_test_fail(const char *file, int line, const char *format, ...)
{
	const char *base = strrchr(file, '/');
	va_list args;

	printf("# %s:%d: ", base ? base + 1 : file, line);
	va_start(args, format);
	vprintf(format, args);
	va_end(args);
	printf("\n");
	longjmp(failed, 1);
}

static u64 choose_seed(void)
{
	const char *given = getenv("SEED");
	u32 seed;

	if (given && *given)
		return strtoull(given, NULL, 0);
	if (getrandom(&seed, sizeof(seed), 0) != sizeof(seed)) {
		perror("getrandom");
		exit(2);
	}
	return seed;
}

static bool passes(const struct ksm_test *test)
{
	ksm_warnings = 0;
	if (setjmp(failed))
		return false;
	test->run();
	EXPECT(!ksm_warnings, "%u warnings", ksm_warnings);
	return true;
}

int ksm_test_main(const char *suite, const struct ksm_test *tests, unsigned int nr)
{
	const u64 seed = choose_seed();
	unsigned int i, bad = 0;

	/* A sanitizer ends the program: what was printed has to be out by then. */
	setvbuf(stdout, NULL, _IOLBF, 0);
	printf("1..%u\n# %s: SEED=%llu\n", nr, suite, (unsigned long long)seed);
	for (i = 0; i < nr; i++) {
		bool ok;

		random_state = seed + ((u64)i << 56);
		ok = passes(&tests[i]);
		bad += !ok;
		printf("%s %u - %s: %s\n", ok ? "ok" : "not ok", i + 1, suite, tests[i].name);
	}
	return bad ? 1 : 0;
}
