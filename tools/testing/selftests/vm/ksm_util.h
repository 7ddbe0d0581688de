/* SPDX-License-Identifier: GPL-2.0 */
/*
 * Same-page merging selftests: knobs, passes and the in-kernel validator.
 *
 * Every wait in here is bounded, by the seconds of KSM_WAIT_S times the
 * factor in the environment variable KSM_TIME_FACTOR (1 unless set). Functions
 * return 0 or a negative errno unless they say otherwise; none of them prints
 * a result, so that a test decides what counts as a failure.
 */
#ifndef KSM_UTIL_H
#define KSM_UTIL_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

#define KSM_SYSFS		"/sys/kernel/mm/ksm/"
#define KSM_WAIT_S		60
#define KSM_TEXT_MAX		128

#ifndef PR_SET_MEMORY_MERGE
#define PR_SET_MEMORY_MERGE	67
#define PR_GET_MEMORY_MERGE	68
#endif
#ifndef MADV_COLLAPSE
#define MADV_COLLAPSE		25
#endif
#ifndef MADV_PAGEOUT
#define MADV_PAGEOUT		21
#endif
#ifndef MADV_SOFT_OFFLINE
#define MADV_SOFT_OFFLINE	101
#endif
#ifndef MADV_POPULATE_WRITE
#define MADV_POPULATE_WRITE	23
#endif

/* ksm_get() of a file that can't be read: no counter has this value. */
#define KSM_NOTHING		INT64_MIN

bool ksm_available(void);
bool ksm_has(const char *file);
int ksm_read(const char *file, char *text, size_t size);
int64_t ksm_get(const char *file);
int ksm_write(const char *file, const char *text);
int ksm_set(const char *file, long value);
void ksm_keep_chosen(char *text);

void ksm_save_knobs(void);
const char *ksm_saved_knob(const char *file);
int ksm_restore_knobs(void);
int ksm_default_knobs(void);

int ksm_start(void);
int ksm_stop(void);
int ksm_unmerge(void);
int ksm_wait_passes(unsigned int passes);
int ksm_passes(unsigned int passes);
int ksm_step(unsigned int passes);
int ksm_wait_value(const char *file, int64_t value);
int ksm_wait_quiet(void);

int ksm_validate(void);
pid_t ksmd_pid(void);

double ksm_now(void);
unsigned int ksm_wait_seconds(void);
int ksm_file_read(const char *path, char *text, size_t size);
int ksm_file_write(const char *path, const char *text);
int64_t ksm_file_field(const char *path, const char *name);

#endif /* KSM_UTIL_H */
