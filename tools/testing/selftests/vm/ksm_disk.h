/* SPDX-License-Identifier: GPL-2.0 */
/*
 * Same-page merging selftests: an empty disk to read from with O_DIRECT, and
 * swap space on it or on zram.
 *
 * A disk is only taken if its first MiB is zero, and is left like that: the
 * one that KSM_SCRATCH_DISK names, else the first of /dev/vda to /dev/vdd.
 */
#ifndef KSM_DISK_H
#define KSM_DISK_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define KSM_DISK_START (1 << 20)

const char *ksm_scratch_disk(void);
int ksm_disk_load(const char *disk, size_t pages, size_t distinct, uint64_t seed);

enum ksm_swap_kind { KSM_SWAP_ZRAM, KSM_SWAP_DISK };

const char *ksm_swap_on(enum ksm_swap_kind kind);
int ksm_swap_off(const char *device);

int ksm_cgroup_enter(const char *name);
int ksm_cgroup_set(const char *name, const char *file, const char *text);
size_t ksm_cgroup_reclaim(const char *name, const void *area, size_t pages);
int ksm_cgroup_leave(const char *name);
const char *ksm_cgroup_swap_on(const char *name, enum ksm_swap_kind kind);

#endif /* KSM_DISK_H */
