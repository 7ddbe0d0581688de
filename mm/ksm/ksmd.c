// SPDX-License-Identifier: GPL-2.0
/*
 * The domain of this host, and ksmd, its scanner. Front layer.
 *
 * Locking: ksmd sleeps without any lock, and owns no slot then. Lifetime: everything here lasts
 * from boot on. Failure: without memory at boot there is no KSM. Tests: all of
 * tools/testing/selftests/vm/.
 */
#include <linux/freezer.h>
#include <linux/init.h>
#include <linux/kthread.h>
#include <linux/random.h>
#include <linux/slab.h>

#define CREATE_TRACE_POINTS
#include <trace/events/ksm.h>

#include "front.h"
#include "scan.h"

struct ksm_domain ksm_host = {
	.scan_sem = __RWSEM_INITIALIZER(ksm_host.scan_sem),
	.advisor_lock = __MUTEX_INITIALIZER(ksm_host.advisor_lock),
	.slot_lock = __SPIN_LOCK_UNLOCKED(ksm_host.slot_lock),
	.slots = LIST_HEAD_INIT(ksm_host.slots),
	.idle_lock = __SPIN_LOCK_UNLOCKED(ksm_host.idle_lock),
	.idle = LIST_HEAD_INIT(ksm_host.idle),
	.wait = __WAIT_QUEUE_HEAD_INITIALIZER(ksm_host.wait),
	.knobs = {
		.run = IS_ENABLED(CONFIG_SYSFS) ? KSM_RUN_STOP : KSM_RUN_MERGE,
		.pages_to_scan = KSM_PAGES_TO_SCAN,
		.sleep_millisecs = 20,
		.max_page_sharing = 256,
		.smart_scan = true,
		.chains_prune_millisecs = 2000,
		.advice = {
			.max_cpu = 70,
			.min_pages = 500,
			.max_pages = 30000,
			.target_secs = 200,
		},
		.merge_across_nodes = true,
	},
};

static bool ksmd_has_work(struct ksm_domain *domain)
{
	return READ_ONCE(domain->knobs.run) == KSM_RUN_MERGE && !READ_ONCE(domain->offline) &&
	       READ_ONCE(domain->knobs.pages_to_scan) && !list_empty(&domain->slots);
}

/* Sleep between two wake-ups; a new value of sleep_millisecs ends it at once. */
static void ksmd_nap(struct ksm_domain *domain)
{
	unsigned int msecs = READ_ONCE(domain->knobs.sleep_millisecs);

	if (msecs)
		wait_event_freezable_timeout(domain->wait, kthread_should_stop() ||
					     READ_ONCE(domain->knobs.sleep_millisecs) != msecs,
					     msecs_to_jiffies(msecs));
}

static int ksmd_main(void *data)
{
	struct ksm_scan *scan = data;
	struct ksm_domain *domain = scan->domain;

	set_freezable();
	set_user_nice(current, 5);
	while (!kthread_should_stop()) {
		if (ksmd_has_work(domain)) {
			ksm_scan_wakeup(scan, READ_ONCE(domain->knobs.pages_to_scan));
			ksmd_nap(domain);
			cond_resched();
		} else {
			wait_event_freezable(domain->wait,
					     ksmd_has_work(domain) || kthread_should_stop());
		}
		try_to_freeze();
	}
	return 0;
}

static void __init ksm_digest_setup(struct ksm_domain *domain)
{
	ksm_digest_init(&domain->digest, get_random_u64(), get_random_u64());
	domain->zero = ksm_digest_content(&domain->digest, page_address(ZERO_PAGE(0)));
	get_random_bytes(domain->salt, sizeof(domain->salt));
}

static int __init ksm_domain_setup(struct ksm_domain *domain)
{
	unsigned int bits = ksm_forest_bits(totalram_pages());
	struct ksm_bucket *buckets = kvmalloc_array(1UL << bits, sizeof(*buckets), GFP_KERNEL);

	if (!buckets)
		return -ENOMEM;
	ksm_forest_init(&domain->forest, buckets, bits);
	ksm_digest_setup(domain);
	hash_init(domain->slot_hash);
	return 0;
}

static int __init ksm_init(void)
{
	struct task_struct *ksmd;
	struct ksm_scan *scan;
	int err;

	err = ksm_slot_init();
	if (!err)
		err = ksm_stable_init();
	if (!err)
		err = ksm_link_init();
	if (!err)
		err = ksm_domain_setup(&ksm_host);
	if (err)
		return err;
	scan = ksm_scan_alloc(&ksm_host);
	if (!scan)
		return -ENOMEM;
	ksmd = kthread_run(ksmd_main, scan, "ksmd");
	if (IS_ERR(ksmd)) {
		pr_err("ksm: creating ksmd failed\n");
		return PTR_ERR(ksmd);
	}
	err = ksm_sysfs_init(&ksm_host);
	if (err) {
		pr_err("ksm: registering sysfs files failed\n");
		kthread_stop(ksmd);
		return err;
	}
	ksm_hotplug_init(&ksm_host);
	return 0;
}
subsys_initcall(ksm_init);
