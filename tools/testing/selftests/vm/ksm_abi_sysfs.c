// SPDX-License-Identifier: GPL-2.0
/*
 * Same-page merging selftests: the files in /sys/kernel/mm/ksm, their modes,
 * defaults, limits and errnos. A refused write has to leave every knob alone.
 */
#define _GNU_SOURCE
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>

#include "ksm_test.h"

#define MANY 12
#define ADVISED_PAGES 2048

struct file_spec {
	const char *file;
	bool optional;			/* depends on the kernel's config */
	const char *usual;		/* after boot; NULL: not checked */
	const char *good[MANY];		/* pairs: what is written, what is read */
	const char *bad[MANY];		/* all refused with EINVAL */
};

#define NOT_NUMBERS "\n", "junk", "-1", "1 2", "0x10", "7seven"
#define NOT_U32 NOT_NUMBERS, "4294967296", "99999999999999999999999"
#define NOT_BOOLS "\n", "junk", "-1", "2", " 1"

static const struct file_spec writable[] = {
	{ "run", false, "0",
	  { "1", "1", "1", "1", "2", "2", "2", "2", "0", "0" },
	  { NOT_U32, "3" } },
	{ "pages_to_scan", false, "100",
	  { "0", "0", "+1", "1", "4294967295", "4294967295", "100\n", "100" },
	  { NOT_U32 } },
	{ "sleep_millisecs", false, "20",
	  { "0", "0", "4294967295", "4294967295", "20\n", "20" },
	  { NOT_U32 } },
	{ "max_page_sharing", false, "256",
	  { "2", "2", "2147483647", "2147483647", "256\n", "256" },
	  { NOT_NUMBERS, "0", "1" } },
	{ "use_zero_pages", false, "0",
	  { "1", "1", "n", "0", "on", "1", "off", "0", "y", "1" },
	  { NOT_BOOLS } },
	{ "merge_across_nodes", true, "1",
	  { "0", "0", "1", "1" },
	  { NOT_NUMBERS, "2" } },
	{ "smart_scan", true, "1",
	  { "0", "0", "y", "1", "off", "0", "on", "1" },
	  { NOT_BOOLS } },
	{ "stable_node_chains_prune_millisecs", true, "2000",
	  { "0", "0", "4294967295", "4294967295", "2000", "2000" },
	  { NOT_U32 } },
	{ "advisor_mode", true, "none", { NULL },
	  { "\n", "junk", "0", "scan", "[none]", "none scan-time" } },
	{ "advisor_max_cpu", true, "70",
	  { "1", "1", "100", "100", "70", "70" },
	  { NOT_U32 } },
	{ "advisor_min_pages_to_scan", true, "500",
	  { "1", "1", "500", "500" },
	  { NOT_NUMBERS, "99999999999999999999999" } },
	{ "advisor_max_pages_to_scan", true, "30000",
	  { "40000", "40000", "30000", "30000" },
	  { NOT_NUMBERS, "99999999999999999999999" } },
	{ "advisor_target_scan_time", true, "200",
	  { "1", "1", "200", "200" },
	  { NOT_NUMBERS, "0", "99999999999999999999999" } },
};

static const struct {
	const char *file;
	bool optional;
} readable[] = {
	{ "pages_shared" }, { "pages_sharing" }, { "pages_unshared" },
	{ "pages_volatile" }, { "pages_scanned" }, { "full_scans" },
	{ "ksm_zero_pages" }, { "general_profit" },
	{ "pages_skipped", true }, { "stable_node_chains", true },
	{ "stable_node_dups", true },
};

#define NR(table) (sizeof(table) / sizeof((table)[0]))

/* All knobs in one text, to see that nothing changed. */
static void snapshot(char *all, size_t size)
{
	char text[KSM_TEXT_MAX];

	all[0] = '\0';
	for (size_t i = 0; i < NR(writable); i++) {
		if (ksm_read(writable[i].file, text, sizeof(text)))
			continue;
		strncat(all, writable[i].file, size - strlen(all) - 1);
		strncat(all, text, size - strlen(all) - 1);
	}
}

static mode_t mode_of(const char *file)
{
	struct stat st;
	char path[256];

	snprintf(path, sizeof(path), KSM_SYSFS "%s", file);
	return stat(path, &st) ? 0 : st.st_mode & 07777;
}

KSM_FIXTURE(sysfs)

KSM_TEST(sysfs, every_file_is_there_with_its_mode)
{
	for (size_t i = 0; i < NR(writable); i++) {
		if (writable[i].optional && !ksm_has(writable[i].file))
			continue;
		EXPECT_EQ(0644, mode_of(writable[i].file))
			TH_LOG("mode of %s", writable[i].file);
	}
	for (size_t i = 0; i < NR(readable); i++) {
		if (readable[i].optional && !ksm_has(readable[i].file))
			continue;
		EXPECT_EQ(0444, mode_of(readable[i].file))
			TH_LOG("mode of %s", readable[i].file);
	}
}

KSM_TEST(sysfs, defaults_after_boot)
{
	if (!getenv("KSM_FRESH_BOOT"))
		SKIP(return, "KSM_FRESH_BOOT is not set: knobs may have been set");
	for (size_t i = 0; i < NR(writable); i++) {
		const char *saved = ksm_saved_knob(writable[i].file);

		if (!saved && writable[i].optional)
			continue;
		ASSERT_NE(NULL, saved);
		EXPECT_STREQ(writable[i].usual, saved)
			TH_LOG("default of %s", writable[i].file);
	}
}

KSM_TEST(sysfs, good_values_are_taken_and_read_back)
{
	char text[KSM_TEXT_MAX], want[KSM_TEXT_MAX];

	for (size_t i = 0; i < NR(writable); i++) {
		const struct file_spec *spec = &writable[i];

		if (spec->optional && !ksm_has(spec->file))
			continue;
		for (size_t j = 0; spec->good[j]; j += 2) {
			EXPECT_EQ(0, ksm_write(spec->file, spec->good[j]))
				TH_LOG("%s < %s", spec->file, spec->good[j]);
			ASSERT_EQ(0, ksm_read(spec->file, text, sizeof(text)));
			snprintf(want, sizeof(want), "%s\n", spec->good[j + 1]);
			EXPECT_STREQ(want, text) TH_LOG("%s", spec->file);
		}
	}
}

KSM_TEST(sysfs, bad_values_are_refused_and_change_nothing)
{
	char before[2048], after[2048];

	for (size_t i = 0; i < NR(writable); i++) {
		const struct file_spec *spec = &writable[i];

		if (spec->optional && !ksm_has(spec->file))
			continue;
		for (size_t j = 0; j < MANY && spec->bad[j]; j++) {
			snapshot(before, sizeof(before));
			EXPECT_EQ(-EINVAL, ksm_write(spec->file, spec->bad[j]))
				TH_LOG("%s < '%s'", spec->file, spec->bad[j]);
			snapshot(after, sizeof(after));
			EXPECT_STREQ(before, after);
			ksm_default_knobs();
		}
	}
}

/* As many bytes as are said, in one write: how many were taken, or the error. */
static ssize_t write_bytes(const char *file, const char *bytes, size_t n)
{
	char path[256];
	ssize_t ret;
	int fd;

	snprintf(path, sizeof(path), KSM_SYSFS "%s", file);
	fd = open(path, O_WRONLY | O_CLOEXEC);
	if (fd < 0)
		return -errno;
	ret = write(fd, bytes, n);
	if (ret < 0)
		ret = -errno;
	close(fd);
	return ret;
}

/* Nothing, a NUL, more than a page, and what stands behind a NUL. */
KSM_TEST(sysfs, writes_of_any_length)
{
	char before[2048], after[2048], text[KSM_TEXT_MAX], long_text[4097];

	memset(long_text, '9', sizeof(long_text));
	for (size_t i = 0; i < NR(writable); i++) {
		const struct file_spec *spec = &writable[i];

		if (spec->optional && !ksm_has(spec->file))
			continue;
		snapshot(before, sizeof(before));
		EXPECT_EQ(0, write_bytes(spec->file, "", 0));
		EXPECT_EQ(-EINVAL, write_bytes(spec->file, "\0", 1));
		EXPECT_EQ(-EINVAL, write_bytes(spec->file, "\0001", 2));
		EXPECT_EQ(-EINVAL, write_bytes(spec->file, long_text, sizeof(long_text)));
		snapshot(after, sizeof(after));
		EXPECT_STREQ(before, after) TH_LOG("%s", spec->file);
		if (!spec->good[0])
			continue;
		snprintf(text, sizeof(text), "%s%cjunk", spec->good[0], 0);
		EXPECT_EQ(strlen(spec->good[0]) + 5,
			  write_bytes(spec->file, text, strlen(spec->good[0]) + 5));
		ASSERT_EQ(0, ksm_read(spec->file, text, sizeof(text)));
		EXPECT_EQ(0, strncmp(text, spec->good[1], strlen(spec->good[1])));
		ksm_default_knobs();
	}
}

/* Each piece is a value of its own, as in all files of sysfs. */
KSM_TEST(sysfs, a_value_in_two_pieces)
{
	int fd = open(KSM_SYSFS "pages_to_scan", O_WRONLY | O_CLOEXEC);

	ASSERT_LE(0, fd);
	EXPECT_EQ(2, write(fd, "12", 2));
	EXPECT_EQ(12, ksm_get("pages_to_scan"));
	EXPECT_EQ(1, write(fd, "3", 1));
	EXPECT_EQ(3, ksm_get("pages_to_scan"));
	EXPECT_EQ(-1, write(fd, "x", 1));
	EXPECT_EQ(EINVAL, errno);
	EXPECT_EQ(3, ksm_get("pages_to_scan"));
	close(fd);
}

/* What does not fit into an int: refused, by one errno or the other. */
KSM_TEST(sysfs, overflowing_values_are_refused_and_change_nothing)
{
	static const char * const files[] = {
		"run", "pages_to_scan", "sleep_millisecs", "max_page_sharing",
		"merge_across_nodes", "stable_node_chains_prune_millisecs",
	};
	char before[2048], after[2048];

	for (size_t i = 0; i < NR(files); i++) {
		if (!ksm_has(files[i]))
			continue;
		snapshot(before, sizeof(before));
		EXPECT_GT(0, ksm_write(files[i], "340282366920938463463374607431"));
		EXPECT_GT(0, ksm_write(files[i], "-99999999999999999999999"));
		EXPECT_GT(0, ksm_write(files[i], "18446744073709551617"));
		snapshot(after, sizeof(after));
		EXPECT_STREQ(before, after) TH_LOG("%s", files[i]);
	}
}

KSM_TEST(sysfs, counters_are_one_number_and_cannot_be_written)
{
	char path[256];

	for (size_t i = 0; i < NR(readable); i++) {
		if (readable[i].optional && !ksm_has(readable[i].file))
			continue;
		EXPECT_NE(KSM_NOTHING, ksm_get(readable[i].file))
			TH_LOG("%s", readable[i].file);
		snprintf(path, sizeof(path), KSM_SYSFS "%s", readable[i].file);
		EXPECT_EQ(-EACCES, ksm_file_write(path, "1"))
			TH_LOG("%s", readable[i].file);
	}
}

KSM_TEST(sysfs, run_2_zeroes_full_scans)
{
	ASSERT_NE(NULL, area_new(16, 8, self->seed));
	ASSERT_EQ(0, ksm_passes(2));
	EXPECT_LE(2, ksm_get("full_scans"));
	ASSERT_EQ(0, ksm_set("run", 2));
	EXPECT_EQ(0, ksm_get("full_scans"));
	EXPECT_EQ(2, ksm_get("run"));
}

KSM_TEST(sysfs, max_page_sharing_is_busy_while_pages_are_shared)
{
	void *area = area_new(16, 8, self->seed);

	ASSERT_NE(NULL, area);
	ASSERT_EQ(0, ksm_passes(4));
	ASSERT_LT(0, ksm_get("pages_shared"));
	EXPECT_EQ(-EBUSY, ksm_set("max_page_sharing", 100));
	EXPECT_EQ(256, ksm_get("max_page_sharing"));
	EXPECT_EQ(0, ksm_set("max_page_sharing", 256));
	EXPECT_EQ(-EINVAL, ksm_set("max_page_sharing", 1));
	if (ksm_has("merge_across_nodes")) {
		EXPECT_EQ(-EBUSY, ksm_set("merge_across_nodes", 0));
		EXPECT_EQ(1, ksm_get("merge_across_nodes"));
		EXPECT_EQ(0, ksm_set("merge_across_nodes", 1));
	}
	ASSERT_EQ(0, ksm_set("run", 2));
	EXPECT_EQ(0, ksm_set("max_page_sharing", 100));
	EXPECT_EQ(100, ksm_get("max_page_sharing"));
}

KSM_TEST(sysfs, writing_sleep_millisecs_wakes_a_sleeping_ksmd)
{
	double end = ksm_now() + ksm_wait_seconds();
	long sleep = 1000000;
	int64_t before;

	ASSERT_NE(NULL, area_new(16, 8, self->seed));
	ASSERT_EQ(0, ksm_set("sleep_millisecs", sleep));
	ASSERT_EQ(0, ksm_start());
	/* A pass over 16 pages fits into one wake-up, or two. */
	for (int i = 0; i < 4; i++) {
		before = ksm_get("full_scans");
		while (ksm_get("full_scans") == before && ksm_now() < end) {
			ASSERT_EQ(0, ksm_set("sleep_millisecs", ++sleep));
			usleep(10000);
		}
		EXPECT_LT(before, ksm_get("full_scans"));
	}
}

KSM_TEST(sysfs, pages_to_scan_0_scans_nothing)
{
	int64_t before;

	ASSERT_NE(NULL, area_new(16, 8, self->seed));
	ASSERT_EQ(0, ksm_set("pages_to_scan", 0));
	ASSERT_EQ(0, ksm_start());
	usleep(50000);
	before = ksm_get("pages_scanned");
	usleep(200000);
	EXPECT_EQ(before, ksm_get("pages_scanned"));
	EXPECT_EQ(0, ksm_get("pages_shared"));
	ASSERT_EQ(0, ksm_set("pages_to_scan", 1000));
	EXPECT_EQ(0, ksm_wait_passes(4));
	EXPECT_EQ(8, ksm_get("pages_shared"));
}

KSM_TEST(sysfs, advisor_owns_pages_to_scan)
{
	char text[KSM_TEXT_MAX];

	if (!ksm_has("advisor_mode"))
		SKIP(return, "no advisor");
	ASSERT_EQ(0, ksm_write("advisor_mode", "scan-time"));
	ASSERT_EQ(0, ksm_read("advisor_mode", text, sizeof(text)));
	EXPECT_STREQ("none [scan-time]\n", text);
	EXPECT_EQ(ksm_get("advisor_min_pages_to_scan"), ksm_get("pages_to_scan"));
	EXPECT_EQ(-EINVAL, ksm_set("pages_to_scan", 1234));
	ASSERT_EQ(0, ksm_write("advisor_mode", "none"));
	ASSERT_EQ(0, ksm_read("advisor_mode", text, sizeof(text)));
	EXPECT_STREQ("[none] scan-time\n", text);
	EXPECT_EQ(100, ksm_get("pages_to_scan"));
	EXPECT_EQ(0, ksm_set("pages_to_scan", 1234));
}

/* Seconds that a pass takes, on average of a few. */
static double pass_seconds(void)
{
	double start;

	/* To the end of a pass, and then to that of the third behind it. */
	if (ksm_wait_passes(0))
		return -1;
	start = ksm_now();
	return ksm_wait_passes(2) ? -1 : (ksm_now() - start) / 3;
}

KSM_TEST(sysfs, advisor_meets_its_target)
{
	if (!ksm_has("advisor_mode"))
		SKIP(return, "no advisor");
	ASSERT_EQ(0, ksm_set("sleep_millisecs", 20));
	ASSERT_EQ(0, ksm_set("advisor_min_pages_to_scan", 10));
	ASSERT_EQ(0, ksm_set("advisor_target_scan_time", 1));
	ASSERT_EQ(0, ksm_write("advisor_mode", "scan-time"));
	ASSERT_EQ(0, ksm_start());
	/* At first, and after the load has doubled. */
	for (int round = 0; round < 2; round++) {
		double seconds;

		ASSERT_NE(NULL, area_new(ADVISED_PAGES, ADVISED_PAGES, self->seed + round));
		ASSERT_EQ(0, ksm_wait_passes(10));
		seconds = pass_seconds();
		ksft_print_msg("%ld pages each time, %.2f s\n",
			       (long)ksm_get("pages_to_scan"), seconds);
		EXPECT_LT(0.7, seconds);
		EXPECT_GT(1.5, seconds);
	}
}

KSM_TEST(sysfs, advisor_limits_are_refused_when_out_of_range)
{
	if (!ksm_has("advisor_mode"))
		SKIP(return, "no advisor");
	EXPECT_EQ(-EINVAL, ksm_set("advisor_max_cpu", 101));
	EXPECT_EQ(-EINVAL, ksm_write("advisor_max_cpu", "4294967297"));
	EXPECT_EQ(-EINVAL, ksm_set("advisor_max_pages_to_scan", 0));
}

KSM_TEST_MAIN
