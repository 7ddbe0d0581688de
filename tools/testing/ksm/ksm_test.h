/* SPDX-License-Identifier: GPL-2.0 */
/*
 * A small test harness: TAP, seeded random numbers, tests that end at the first surprise.
 */
#ifndef _TESTING_KSM_TEST_H
#define _TESTING_KSM_TEST_H

#include "ksm_shim.h"

/**
 * struct ksm_test - one test
 * @name: the behaviour that it proves
 * @run: returns if it is so, else leaves through EXPECT()
 */
struct ksm_test {
	const char *name;
	void (*run)(void);
};

int ksm_test_main(const char *suite, const struct ksm_test *tests, unsigned int nr);
__noreturn __printf(3, 4)
void ksm_test_fail(const char *file, int line, const char *format, ...);

/* Random numbers of the running test: they depend on the seed and the test's number only. */
u64 ksm_random(void);
u32 ksm_random_below(u32 limit);
void ksm_random_fill(void *buffer, size_t size);

/* For programs linked with --wrap=xxh64: they define the second, which may call the first. */
uint64_t __real_xxh64(const void *input, size_t length, uint64_t seed);
uint64_t __wrap_xxh64(const void *input, size_t length, uint64_t seed);

#define EXPECT(cond, format, ...)							\
	do {										\
		if (!(cond))								\
			ksm_test_fail(__FILE__, __LINE__, "expected %s: " format,	\
				      #cond, ##__VA_ARGS__);				\
	} while (0)

#define EXPECT_EQ(left, right)								\
	do {										\
		const long long __left = (long long)(left);				\
		const long long __right = (long long)(right);				\
											\
		if (__left != __right)							\
			ksm_test_fail(__FILE__, __LINE__, "%s is %#llx, but %s is %#llx",	\
				      #left, __left, #right, __right);			\
	} while (0)

#endif /* _TESTING_KSM_TEST_H */
