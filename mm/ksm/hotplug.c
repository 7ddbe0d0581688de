// SPDX-License-Identifier: GPL-2.0
/*
 * Memory hot-remove. Front layer.
 *
 * From GOING_OFFLINE to the end ksmd is parked and run can't be written, so no page of the block is
 * merged anew. Migration moves the KSM pages away, their nodes follow. When the block is offline,
 * what still names one of its pages is forgotten before the struct pages vanish.
 *
 * Locking: scan_sem for write, in each callback but not between them, so that nothing waits with
 * it held.
 * Failure: none. Tests: ksm_offline, ksm_reg_hotplug in tools/testing/selftests/vm/.
 */
#include <linux/memory.h>

#include "front.h"
#include "stable.h"

static void ksm_set_offline(struct ksm_domain *domain, bool offline)
{
	down_write(&domain->scan_sem);
	WRITE_ONCE(domain->offline, offline);
	up_write(&domain->scan_sem);
	if (!offline)
		wake_up_all(&domain->wait);
}

static int ksm_memory_callback(struct notifier_block *self, unsigned long action, void *arg)
{
	struct ksm_domain *domain = &ksm_host;
	struct memory_notify *notify = arg;

	switch (action) {
	case MEM_GOING_OFFLINE:
		ksm_set_offline(domain, true);
		break;
	case MEM_OFFLINE:
		down_write(&domain->scan_sem);
		ksm_stable_drop_range(domain, notify->start_pfn,
				      notify->start_pfn + notify->nr_pages);
		up_write(&domain->scan_sem);
		fallthrough;
	case MEM_CANCEL_OFFLINE:
		ksm_set_offline(domain, false);
		break;
	}
	return NOTIFY_OK;
}

/**
 * ksm_hotplug_init - follow memory going offline
 * @domain: the domain
 */
void __init ksm_hotplug_init(struct ksm_domain *domain)
{
	hotplug_memory_notifier(ksm_memory_callback, KSM_CALLBACK_PRI);
}
