/* SPDX-License-Identifier: GPL-2.0 */
/*
 * Same-page merging selftests: other processes that do as they are told.
 *
 * A child is a fork that waits for calls: ksm_child_call() has it run a
 * function of this same program and returns what that returned. A child
 * keeps its state in the program's static variables, which are its own. It
 * dies with its parent, so that a failed test leaves none behind.
 */
#ifndef KSM_CHILD_H
#define KSM_CHILD_H

#include <sys/types.h>

struct ksm_child {
	pid_t pid;
	int calls;		/* written by the parent */
	int results;		/* read by the parent */
};

typedef long (*ksm_child_fn)(long arg);

int ksm_child_start(struct ksm_child *child);
long ksm_child_call(struct ksm_child *child, ksm_child_fn fn, long arg);
int ksm_child_post(struct ksm_child *child, ksm_child_fn fn, long arg);
long ksm_child_result(struct ksm_child *child);
int ksm_child_end(struct ksm_child *child);
void ksm_child_kill(struct ksm_child *child);

/* What ksm_child_call() returns when the child did not answer in time. */
#define KSM_CHILD_LOST (-0x7fff0001L)

#endif /* KSM_CHILD_H */
