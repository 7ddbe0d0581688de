// SPDX-License-Identifier: GPL-2.0
/*
 * Same-page merging selftests: other processes that do as they are told.
 * See ksm_child.h.
 */
#define _GNU_SOURCE
#include <errno.h>
#include <poll.h>
#include <signal.h>
#include <stdlib.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <unistd.h>

#include "ksm_child.h"
#include "ksm_util.h"

struct call {
	ksm_child_fn fn;
	long arg;
};

static void serve(int calls, int results)
{
	struct call call;
	long result;

	while (read(calls, &call, sizeof(call)) == sizeof(call) && call.fn) {
		result = call.fn(call.arg);
		if (write(results, &result, sizeof(result)) != sizeof(result))
			break;
	}
	_exit(0);
}

int ksm_child_start(struct ksm_child *child)
{
	pid_t parent = getpid();
	int calls[2], results[2];

	if (pipe(calls) || pipe(results))
		return -errno;
	child->pid = fork();
	if (child->pid < 0)
		return -errno;
	if (!child->pid) {
		prctl(PR_SET_PDEATHSIG, SIGKILL);
		if (getppid() != parent)
			_exit(1);
		close(calls[1]);
		close(results[0]);
		serve(calls[0], results[1]);
	}
	close(calls[0]);
	close(results[1]);
	child->calls = calls[1];
	child->results = results[0];
	return 0;
}

/* Start a call without waiting; ksm_child_result() takes its result. */
int ksm_child_post(struct ksm_child *child, ksm_child_fn fn, long arg)
{
	struct call call = { .fn = fn, .arg = arg };

	if (write(child->calls, &call, sizeof(call)) != sizeof(call))
		return -EPIPE;
	return 0;
}

long ksm_child_result(struct ksm_child *child)
{
	struct pollfd fd = { .fd = child->results, .events = POLLIN };
	long result;

	if (poll(&fd, 1, ksm_wait_seconds() * 1000) != 1)
		return KSM_CHILD_LOST;
	if (read(child->results, &result, sizeof(result)) != sizeof(result))
		return KSM_CHILD_LOST;
	return result;
}

long ksm_child_call(struct ksm_child *child, ksm_child_fn fn, long arg)
{
	if (ksm_child_post(child, fn, arg))
		return KSM_CHILD_LOST;
	return ksm_child_result(child);
}

static void forget(struct ksm_child *child)
{
	close(child->calls);
	close(child->results);
	child->pid = 0;
}

/* Let the child exit by itself; its exit status or a negative errno. */
int ksm_child_end(struct ksm_child *child)
{
	double end = ksm_now() + ksm_wait_seconds();
	int status = 0;
	pid_t pid;

	/* Later children hold copies of the pipe, so closing it says nothing. */
	if (ksm_child_post(child, NULL, 0))
		kill(child->pid, SIGKILL);
	while ((pid = waitpid(child->pid, &status, WNOHANG)) == 0) {
		if (ksm_now() > end) {
			ksm_child_kill(child);
			return -ETIME;
		}
		usleep(1000);
	}
	forget(child);
	if (pid < 0)
		return -ECHILD;
	return WIFEXITED(status) ? WEXITSTATUS(status) : -EINTR;
}

void ksm_child_kill(struct ksm_child *child)
{
	kill(child->pid, SIGKILL);
	waitpid(child->pid, NULL, 0);
	forget(child);
}
