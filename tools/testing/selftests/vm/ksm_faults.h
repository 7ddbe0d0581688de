/* SPDX-License-Identifier: GPL-2.0 */
/*
 * Same-page merging selftests: failing allocations (failslab, fail_page_alloc)
 * in ksmd and in the process that writes the knobs, so in run=2 too. Not in
 * others: a fault of theirs that fails makes the kernel complain.
 */
#ifndef KSM_FAULTS_H
#define KSM_FAULTS_H

#include <stdbool.h>

struct ksm_fault {
	unsigned int percent;	/* of those that interval leaves */
	unsigned int interval;	/* only every so many allocations */
};

int ksm_faults_on(const struct ksm_fault *fault);
void ksm_faults_self(bool on);
unsigned int ksm_faults_off(void);

#endif /* KSM_FAULTS_H */
