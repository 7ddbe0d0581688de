// SPDX-License-Identifier: GPL-2.0
/*
 * /sys/kernel/mm/ksm. Front layer.
 *
 * One table of settings, each with its limits, one of values; see Documentation/ABI/testing/
 * sysfs-kernel-mm-ksm. Locking: single words are read and written plainly; run and max_page_sharing
 * change under scan_sem for write. Failure: what is out of range is refused and changes nothing.
 * Tests: abi test in tools/testing/selftests/vm/.
 */
#include <linux/kobject.h>
#include <linux/mm.h>
#include <linux/oom.h>
#include <linux/sysfs.h>

#include "front.h"
#include "slot.h"
#include "stable.h"
#include "unmerge.h"

/**
 * struct ksm_attr - a file
 * @kattr: the kernel's part
 * @offset: of the setting in struct ksm_domain
 * @value: computes what a read-only file shows
 */
struct ksm_attr {
	struct kobj_attribute kattr;
	size_t offset;
	long (*value)(struct ksm_domain *domain);
};

static struct ksm_attr *ksm_attr(struct kobj_attribute *kattr)
{
	return container_of(kattr, struct ksm_attr, kattr);
}

static void *ksm_attr_setting(struct kobj_attribute *kattr)
{
	return (void *)&ksm_host + ksm_attr(kattr)->offset;
}

static ssize_t ksm_show_uint(struct kobject *kobj, struct kobj_attribute *kattr, char *buf)
{
	return sysfs_emit(buf, "%u\n", READ_ONCE(*(unsigned int *)ksm_attr_setting(kattr)));
}

static ssize_t ksm_store_uint(struct kobject *kobj, struct kobj_attribute *kattr, const char *buf,
			      size_t count)
{
	unsigned int value;

	if (kstrtouint(buf, 10, &value))
		return -EINVAL;
	WRITE_ONCE(*(unsigned int *)ksm_attr_setting(kattr), value);
	wake_up_interruptible(&ksm_host.wait);
	return count;
}

static ssize_t ksm_show_bool(struct kobject *kobj, struct kobj_attribute *kattr, char *buf)
{
	return sysfs_emit(buf, "%d\n", READ_ONCE(*(bool *)ksm_attr_setting(kattr)));
}

static ssize_t ksm_store_bool(struct kobject *kobj, struct kobj_attribute *kattr, const char *buf,
			      size_t count)
{
	bool value;

	if (kstrtobool(buf, &value))
		return -EINVAL;
	WRITE_ONCE(*(bool *)ksm_attr_setting(kattr), value);
	return count;
}

static ssize_t ksm_store_pages_to_scan(struct kobject *kobj, struct kobj_attribute *kattr,
				       const char *buf, size_t count)
{
	struct ksm_domain *domain = &ksm_host;
	ssize_t err = count;
	unsigned int value;

	if (kstrtouint(buf, 10, &value))
		return -EINVAL;
	mutex_lock(&domain->advisor_lock);
	if (domain->knobs.advisor)
		err = -EINVAL;
	else
		WRITE_ONCE(domain->knobs.pages_to_scan, value);
	mutex_unlock(&domain->advisor_lock);
	wake_up_interruptible(&domain->wait);
	return err;
}

static ssize_t ksm_show_advisor_mode(struct kobject *kobj, struct kobj_attribute *kattr, char *buf)
{
	return sysfs_emit(buf,
			  ksm_host.knobs.advisor ? "none [scan-time]\n" : "[none] scan-time\n");
}

static ssize_t ksm_store_advisor_mode(struct kobject *kobj, struct kobj_attribute *kattr,
				      const char *buf, size_t count)
{
	struct ksm_knobs *knobs = &ksm_host.knobs;
	bool advisor = sysfs_streq(buf, "scan-time");

	if (!advisor && !sysfs_streq(buf, "none"))
		return -EINVAL;
	mutex_lock(&ksm_host.advisor_lock);
	if (knobs->advisor != advisor) {
		knobs->advisor = advisor;
		WRITE_ONCE(knobs->pages_to_scan,
			   advisor ? max(knobs->advice.min_pages, 1U) : KSM_PAGES_TO_SCAN);
	}
	mutex_unlock(&ksm_host.advisor_lock);
	wake_up_interruptible(&ksm_host.wait);
	return count;
}

/* A limit of the advisor, from @low to @high. */
static ssize_t ksm_store_advice(struct kobj_attribute *kattr, const char *buf, size_t count,
				unsigned int low, unsigned int high)
{
	unsigned int value;

	if (kstrtouint(buf, 10, &value) || value < low || value > high)
		return -EINVAL;
	mutex_lock(&ksm_host.advisor_lock);
	WRITE_ONCE(*(unsigned int *)ksm_attr_setting(kattr), value);
	mutex_unlock(&ksm_host.advisor_lock);
	return count;
}

static ssize_t ksm_store_max_cpu(struct kobject *kobj, struct kobj_attribute *kattr,
				 const char *buf, size_t count)
{
	return ksm_store_advice(kattr, buf, count, 0, 100);
}

static ssize_t ksm_store_min_pages(struct kobject *kobj, struct kobj_attribute *kattr,
				   const char *buf, size_t count)
{
	return ksm_store_advice(kattr, buf, count, 0, UINT_MAX);
}

static ssize_t ksm_store_positive(struct kobject *kobj, struct kobj_attribute *kattr,
				  const char *buf, size_t count)
{
	return ksm_store_advice(kattr, buf, count, 1, UINT_MAX);
}

/* Take scan_sem for write at a time when no memory is going offline. */
static void ksm_lock_settings(struct ksm_domain *domain)
{
	down_write(&domain->scan_sem);
	while (domain->offline) {
		up_write(&domain->scan_sem);
		wait_event(domain->wait, !READ_ONCE(domain->offline));
		down_write(&domain->scan_sem);
	}
}

static int ksm_set_run(struct ksm_domain *domain, unsigned int run)
{
	int err = 0;

	ksm_lock_settings(domain);
	if (domain->knobs.run != run) {
		WRITE_ONCE(domain->knobs.run, run);
		if (run == KSM_RUN_UNMERGE) {
			set_current_oom_origin();
			err = ksm_unmerge_all(domain);
			clear_current_oom_origin();
			if (err)
				WRITE_ONCE(domain->knobs.run, KSM_RUN_STOP);
			else
				WRITE_ONCE(domain->full_scans, 0);
		}
	}
	up_write(&domain->scan_sem);
	wake_up_interruptible(&domain->wait);
	return err;
}

static ssize_t ksm_store_run(struct kobject *kobj, struct kobj_attribute *kattr, const char *buf,
			     size_t count)
{
	unsigned int run;
	int err;

	if (kstrtouint(buf, 10, &run) || run > KSM_RUN_UNMERGE)
		return -EINVAL;
	err = ksm_set_run(&ksm_host, run);
	return err ?: count;
}

static int ksm_set_max_page_sharing(struct ksm_domain *domain, unsigned int value)
{
	int err = 0;

	ksm_lock_settings(domain);
	if (domain->knobs.max_page_sharing != value) {
		if (ksm_stat_read(&domain->stats, KSM_STAT_SHARED))
			err = -EBUSY;
		else
			WRITE_ONCE(domain->knobs.max_page_sharing, value);
	}
	up_write(&domain->scan_sem);
	return err;
}

static ssize_t ksm_store_max_page_sharing(struct kobject *kobj, struct kobj_attribute *kattr,
					  const char *buf, size_t count)
{
	int value, err;

	if (kstrtoint(buf, 10, &value) || value < 2)
		return -EINVAL;
	err = ksm_set_max_page_sharing(&ksm_host, value);
	return err ?: count;
}

#ifdef CONFIG_NUMA
static int ksm_set_merge_across_nodes(struct ksm_domain *domain, bool value)
{
	int err = 0;

	ksm_lock_settings(domain);
	if (domain->knobs.merge_across_nodes != value) {
		ksm_stable_sweep(domain, UINT_MAX);
		if (ksm_stat_read(&domain->stats, KSM_STAT_SHARED) || !list_empty(&domain->idle))
			err = -EBUSY;
		else
			WRITE_ONCE(domain->knobs.merge_across_nodes, value);
	}
	up_write(&domain->scan_sem);
	return err;
}

static ssize_t ksm_store_merge_across_nodes(struct kobject *kobj, struct kobj_attribute *kattr,
					    const char *buf, size_t count)
{
	unsigned int value;
	int err;

	if (kstrtouint(buf, 10, &value) || value > 1)
		return -EINVAL;
	err = ksm_set_merge_across_nodes(&ksm_host, value);
	return err ?: count;
}
#endif

static ssize_t ksm_show_value(struct kobject *kobj, struct kobj_attribute *kattr, char *buf)
{
	return sysfs_emit(buf, "%ld\n", ksm_attr(kattr)->value(&ksm_host));
}

static long ksm_stat_value(struct ksm_domain *domain, enum ksm_stat stat)
{
	return ksm_stat_read(&domain->stats, stat);
}

static long ksm_pages_shared(struct ksm_domain *domain)
{
	return ksm_stat_value(domain, KSM_STAT_SHARED);
}

static long ksm_pages_sharing(struct ksm_domain *domain)
{
	return max(ksm_stat_value(domain, KSM_STAT_MERGED) - ksm_pages_shared(domain), 0L);
}

static long ksm_pages_unshared(struct ksm_domain *domain)
{
	return ksm_stat_value(domain, KSM_STAT_UNSTABLE);
}

static long ksm_pages_volatile(struct ksm_domain *domain)
{
	return ksm_stat_value(domain, KSM_STAT_SEEN);
}

static long ksm_pages_scanned(struct ksm_domain *domain)
{
	return atomic_long_read(&domain->stats.count[KSM_STAT_SCANNED]);
}

static long ksm_pages_skipped(struct ksm_domain *domain)
{
	return atomic_long_read(&domain->stats.count[KSM_STAT_SKIPPED]);
}

static long ksm_full_scans(struct ksm_domain *domain)
{
	return READ_ONCE(domain->full_scans);
}

static long ksm_zero_pages_value(struct ksm_domain *domain)
{
	return max(atomic_long_read(&ksm_zero_pages), 0L);
}

static long ksm_general_profit(struct ksm_domain *domain)
{
	return (ksm_pages_sharing(domain) + ksm_zero_pages_value(domain)) * (long)PAGE_SIZE -
	       ksm_stat_value(domain, KSM_STAT_METADATA);
}

static long ksm_stable_node_chains(struct ksm_domain *domain)
{
	return ksm_stat_value(domain, KSM_STAT_CHAINS);
}

static long ksm_stable_node_dups(struct ksm_domain *domain)
{
	return ksm_stat_value(domain, KSM_STAT_DUPS);
}

#define KSM_SETTING(_file, _field, _show, _store)				\
	static struct ksm_attr ksm_attr_##_file = {				\
		.kattr = __ATTR(_file, 0644, _show, _store),			\
		.offset = offsetof(struct ksm_domain, knobs._field),		\
	}

#define KSM_VALUE(_file, _value)						\
	static struct ksm_attr ksm_attr_##_file = {				\
		.kattr = __ATTR(_file, 0444, ksm_show_value, NULL),		\
		.value = _value,						\
	}

KSM_SETTING(run, run, ksm_show_uint, ksm_store_run);
KSM_SETTING(pages_to_scan, pages_to_scan, ksm_show_uint, ksm_store_pages_to_scan);
KSM_SETTING(sleep_millisecs, sleep_millisecs, ksm_show_uint, ksm_store_uint);
KSM_SETTING(max_page_sharing, max_page_sharing, ksm_show_uint, ksm_store_max_page_sharing);
#ifdef CONFIG_NUMA
KSM_SETTING(merge_across_nodes, merge_across_nodes, ksm_show_bool, ksm_store_merge_across_nodes);
#endif
KSM_SETTING(use_zero_pages, use_zero_pages, ksm_show_bool, ksm_store_bool);
KSM_SETTING(smart_scan, smart_scan, ksm_show_bool, ksm_store_bool);
KSM_SETTING(stable_node_chains_prune_millisecs, chains_prune_millisecs, ksm_show_uint,
	    ksm_store_uint);
KSM_SETTING(advisor_mode, advisor, ksm_show_advisor_mode, ksm_store_advisor_mode);
KSM_SETTING(advisor_max_cpu, advice.max_cpu, ksm_show_uint, ksm_store_max_cpu);
KSM_SETTING(advisor_min_pages_to_scan, advice.min_pages, ksm_show_uint, ksm_store_min_pages);
KSM_SETTING(advisor_max_pages_to_scan, advice.max_pages, ksm_show_uint, ksm_store_positive);
KSM_SETTING(advisor_target_scan_time, advice.target_secs, ksm_show_uint, ksm_store_positive);
KSM_VALUE(pages_shared, ksm_pages_shared);
KSM_VALUE(pages_sharing, ksm_pages_sharing);
KSM_VALUE(pages_unshared, ksm_pages_unshared);
KSM_VALUE(pages_volatile, ksm_pages_volatile);
KSM_VALUE(pages_scanned, ksm_pages_scanned);
KSM_VALUE(pages_skipped, ksm_pages_skipped);
KSM_VALUE(full_scans, ksm_full_scans);
KSM_VALUE(ksm_zero_pages, ksm_zero_pages_value);
KSM_VALUE(general_profit, ksm_general_profit);
KSM_VALUE(stable_node_chains, ksm_stable_node_chains);
KSM_VALUE(stable_node_dups, ksm_stable_node_dups);

static struct attribute *ksm_attrs[] = {
	&ksm_attr_run.kattr.attr,
	&ksm_attr_pages_to_scan.kattr.attr,
	&ksm_attr_sleep_millisecs.kattr.attr,
	&ksm_attr_max_page_sharing.kattr.attr,
#ifdef CONFIG_NUMA
	&ksm_attr_merge_across_nodes.kattr.attr,
#endif
	&ksm_attr_use_zero_pages.kattr.attr,
	&ksm_attr_smart_scan.kattr.attr,
	&ksm_attr_stable_node_chains_prune_millisecs.kattr.attr,
	&ksm_attr_advisor_mode.kattr.attr,
	&ksm_attr_advisor_max_cpu.kattr.attr,
	&ksm_attr_advisor_min_pages_to_scan.kattr.attr,
	&ksm_attr_advisor_max_pages_to_scan.kattr.attr,
	&ksm_attr_advisor_target_scan_time.kattr.attr,
	&ksm_attr_pages_shared.kattr.attr,
	&ksm_attr_pages_sharing.kattr.attr,
	&ksm_attr_pages_unshared.kattr.attr,
	&ksm_attr_pages_volatile.kattr.attr,
	&ksm_attr_pages_scanned.kattr.attr,
	&ksm_attr_pages_skipped.kattr.attr,
	&ksm_attr_full_scans.kattr.attr,
	&ksm_attr_ksm_zero_pages.kattr.attr,
	&ksm_attr_general_profit.kattr.attr,
	&ksm_attr_stable_node_chains.kattr.attr,
	&ksm_attr_stable_node_dups.kattr.attr,
	NULL,
};

static const struct attribute_group ksm_attr_group = {
	.name = "ksm",
	.attrs = ksm_attrs,
};

/**
 * ksm_sysfs_init - create the files
 * @domain: the host's
 *
 * Return: 0 or -errno.
 */
int __init ksm_sysfs_init(struct ksm_domain *domain)
{
	return sysfs_create_group(mm_kobj, &ksm_attr_group);
}
