/* SPDX-License-Identifier: GPL-2.0 */
/*
 * Same-page merging selftests: the fixture that all programs share.
 *
 * Each test starts with nothing merged, ksmd stopped and the knobs of
 * ksm_default_knobs(). The teardown runs in the parent of the test's process,
 * so it happens however that one ends: it stops ksmd, has the kernel validate
 * its state, and unmerges. The knobs of before come back when the program
 * exits, again in the parent, even after a test that was killed by its timeout.
 */
#ifndef KSM_TEST_H
#define KSM_TEST_H

#include <errno.h>
#include <stdlib.h>
#include <unistd.h>

#include "kselftest_harness.h"

#include "ksm_child.h"
#include "ksm_page.h"
#include "ksm_util.h"

#define KSM_TEST_TIMEOUT 300

#define KSM_FIXTURE(name)						\
	FIXTURE(name)							\
	{								\
		uint64_t seed;						\
	};								\
	KSM_FIXTURE_STEPS(name)

/* For a fixture with variants, which have to be declared in between. */
#define KSM_FIXTURE_STEPS(name)						\
	FIXTURE_SETUP(name)						\
	{								\
		if (!ksm_available())					\
			SKIP(return, "needs KSM and root");		\
		self->seed = content_seed();				\
		ASSERT_EQ(0, ksm_default_knobs());			\
	}								\
	FIXTURE_TEARDOWN_PARENT(name)					\
	{								\
		int valid;						\
									\
		EXPECT_EQ(0, ksm_stop());				\
		valid = ksm_validate();					\
		if (valid == 1)						\
			ksft_print_msg("no validator in this kernel\n"); \
		else							\
			EXPECT_EQ(0, valid);				\
		EXPECT_EQ(0, ksm_unmerge());				\
	}

#define KSM_TEST(fixture, name)						\
	TEST_F_TIMEOUT(fixture, name, KSM_TEST_TIMEOUT)

static pid_t ksm_test_main_pid;

#define KSM_SETTINGS_MAX 8

static struct ksm_setting {
	const char *file;
	char text[KSM_TEXT_MAX];
} ksm_test_settings[KSM_SETTINGS_MAX];

static inline void ksm_test_restore(void)
{
	struct ksm_setting *setting = ksm_test_settings;

	if (getpid() != ksm_test_main_pid)
		return;
	if (ksm_restore_knobs())
		ksft_print_msg("a knob could not be restored\n");
	for (; setting < ksm_test_settings + KSM_SETTINGS_MAX; setting++) {
		if (setting->text[0] && ksm_file_write(setting->file, setting->text))
			ksft_print_msg("%s could not be restored\n", setting->file);
	}
}

/* Settings of the machine that the tests change. */
static inline void ksm_test_keep(const char *const *files, size_t nr)
{
	while (nr-- > 0) {
		struct ksm_setting *setting = &ksm_test_settings[nr];

		setting->file = files[nr];
		if (ksm_file_read(setting->file, setting->text, sizeof(setting->text)))
			setting->text[0] = '\0';
		ksm_keep_chosen(setting->text);
	}
}

static inline int ksm_test_main(int argc, char **argv)
{
	ksm_test_main_pid = getpid();
	setvbuf(stdout, NULL, _IOLBF, 0);
	if (ksm_available()) {
		ksm_save_knobs();
		atexit(ksm_test_restore);
	}
	return test_harness_run(argc, argv);
}

#define KSM_TEST_MAIN							\
	int main(int argc, char **argv)					\
	{								\
		return ksm_test_main(argc, argv);			\
	}

/* For tests that change settings beside KSM's own: these files come back, too. */
#define KSM_TEST_MAIN_KEEPING(...)					\
	int main(int argc, char **argv)					\
	{								\
		static const char *const files[] = { __VA_ARGS__ };	\
									\
		ksm_test_keep(files, ARRAY_SIZE(files));		\
		return ksm_test_main(argc, argv);			\
	}

#endif /* KSM_TEST_H */
