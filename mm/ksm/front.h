/* SPDX-License-Identifier: GPL-2.0 */
/* Entry points of the front layer's files, called at boot. */
#ifndef _MM_KSM_FRONT_H
#define _MM_KSM_FRONT_H

#include "domain.h"

#ifdef CONFIG_SYSFS
int ksm_sysfs_init(struct ksm_domain *domain);
#else
static inline int ksm_sysfs_init(struct ksm_domain *domain)
{
	return 0;
}
#endif

#ifdef CONFIG_MEMORY_HOTREMOVE
void ksm_hotplug_init(struct ksm_domain *domain);
#else
static inline void ksm_hotplug_init(struct ksm_domain *domain)
{
}
#endif

#endif /* _MM_KSM_FRONT_H */
