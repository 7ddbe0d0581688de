// SPDX-License-Identifier: GPL-2.0
/*
 * Same-page merging selftests: counts of what VMs are troubled with, from a
 * tracepoint of KVM and its statistics in debugfs. See kvm_count.h.
 *
 * Of the trace the events are counted, not read: it has an instance of its
 * own, and what a full buffer has lost is a number, too.
 */
#define _GNU_SOURCE
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>

#include "ksm_util.h"
#include "kvm_count.h"

#define INSTANCE	"/sys/kernel/tracing/instances/ksm_kvm"
#define RANGE_EVENT	INSTANCE "/events/kvm/kvm_unmap_hva_range/enable"
#define KVM_STATS	"/sys/kernel/debug/kvm/"

int kvm_count_begin(void)
{
	if (mkdir(INSTANCE, 0700) && errno != EEXIST)
		return -errno;
	return ksm_file_write(RANGE_EVENT, "1");
}

int kvm_count_end(void)
{
	int err = ksm_file_write(RANGE_EVENT, "0");

	return rmdir(INSTANCE) ? -errno : err;
}

static int add_stat(const char *name, int64_t *sum)
{
	char path[128], text[KSM_TEXT_MAX];
	int err;

	snprintf(path, sizeof(path), KVM_STATS "%s", name);
	err = ksm_file_read(path, text, sizeof(text));
	if (err < 0)
		return err;
	*sum += strtoll(text, NULL, 10);
	return 0;
}

static int add_events(int cpu, int64_t *sum)
{
	static const char *const fields[] = {
		"entries", "overrun", "commit overrun", "dropped events",
	};
	char path[128];

	snprintf(path, sizeof(path), INSTANCE "/per_cpu/cpu%d/stats", cpu);
	for (size_t i = 0; i < sizeof(fields) / sizeof(*fields); i++) {
		int64_t value = ksm_file_field(path, fields[i]);

		if (value == KSM_NOTHING)
			return -EINVAL;
		*sum += value;
	}
	return 0;
}

int kvm_count(struct kvm_counts *counts)
{
	int cpus = sysconf(_SC_NPROCESSORS_ONLN), err = 0;

	*counts = (struct kvm_counts) {};
	for (int cpu = 0; !err && cpu < cpus; cpu++)
		err = add_events(cpu, &counts->ranges);
	if (!err)
		err = add_stat("remote_tlb_flush_requests", &counts->flushes);
	if (!err)
		err = add_stat("exits", &counts->exits);
	if (!err)
		err = add_stat("pf_taken", &counts->faults);
	return err;
}

/* What came since @counts were read, which is what they become. */
int kvm_count_since(struct kvm_counts *counts)
{
	struct kvm_counts now;
	int err = kvm_count(&now);

	if (err)
		return err;
	counts->ranges = now.ranges - counts->ranges;
	counts->flushes = now.flushes - counts->flushes;
	counts->exits = now.exits - counts->exits;
	counts->faults = now.faults - counts->faults;
	return 0;
}
