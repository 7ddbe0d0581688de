// SPDX-License-Identifier: GPL-2.0
/*
 * Same-page merging selftests: a write to a merged page, by whatever means,
 * changes the page for its writer only.
 */
#define _GNU_SOURCE
#include <fcntl.h>
#include <signal.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/ptrace.h>
#include <sys/uio.h>
#include <sys/wait.h>

#include "ksm_test.h"

#define PAGES 12
#define TRACING "/sys/kernel/tracing/"

KSM_FIXTURE(cow)

/* PAGES equal pages, all of them one KSM page. */
static char *merged(struct __test_metadata *_metadata, uint64_t seed)
{
	char *area = area_new(PAGES, 1, seed);

	ASSERT_NE(NULL, area);
	ASSERT_EQ(0, ksm_passes(4));
	ASSERT_EQ(1, area_frames(area, PAGES));
	return area;
}

/* Only page @nr differs, in @bytes bytes, and has a frame of its own. */
static void expect_broken(struct __test_metadata *_metadata, char *area,
			  uint64_t seed, size_t nr, size_t bytes)
{
	for (size_t i = 0; i < PAGES; i++) {
		size_t wrong = content_wrong(area_page(area, i), seed, 0);

		EXPECT_EQ(i == nr ? bytes : 0, wrong) TH_LOG("page %zu", i);
	}
	EXPECT_EQ(1, area_sharing_with(area, PAGES, area_page(area, nr)));
	EXPECT_EQ(2, area_frames(area, PAGES));
	EXPECT_EQ(PAGES - 1, (size_t)area_smaps(area, "KSM") * 1024 / page_bytes());
}

KSM_TEST(cow, by_a_store)
{
	char *area = merged(_metadata, self->seed);

	area[5 * page_bytes() + 123] ^= 1;
	expect_broken(_metadata, area, self->seed, 5, 1);
}

KSM_TEST(cow, of_every_page_in_turn)
{
	char *area = merged(_metadata, self->seed);

	for (size_t i = 0; i < PAGES; i++)
		content_fill(area_page(area, i), self->seed, 10 + i);
	for (size_t i = 0; i < PAGES; i++)
		EXPECT_EQ(0, content_wrong(area_page(area, i), self->seed, 10 + i));
	EXPECT_EQ(PAGES, area_frames(area, PAGES));
}

KSM_TEST(cow, by_read_2_into_it)
{
	char *area = merged(_metadata, self->seed), byte;
	int fds[2];

	ASSERT_EQ(0, pipe(fds));
	byte = area[7 * page_bytes() + 9] ^ 1;
	ASSERT_EQ(1, write(fds[1], &byte, 1));
	ASSERT_EQ(1, read(fds[0], area + 7 * page_bytes() + 9, 1));
	expect_broken(_metadata, area, self->seed, 7, 1);
}

KSM_TEST(cow, by_proc_self_mem)
{
	char *area = merged(_metadata, self->seed), byte;
	int fd = open("/proc/self/mem", O_RDWR | O_CLOEXEC);
	off_t at = (uintptr_t)area + 3 * page_bytes();

	ASSERT_LE(0, fd);
	byte = area[3 * page_bytes()] ^ 1;
	ASSERT_EQ(1, pwrite(fd, &byte, 1, at));
	expect_broken(_metadata, area, self->seed, 3, 1);
}

/* The write goes through a read-only mapping, as a debugger's does. */
KSM_TEST(cow, by_proc_self_mem_into_read_only_memory)
{
	char *area = merged(_metadata, self->seed), byte;
	int fd = open("/proc/self/mem", O_RDWR | O_CLOEXEC);

	ASSERT_LE(0, fd);
	byte = area[0] ^ 1;
	ASSERT_EQ(0, mprotect(area, PAGES * page_bytes(), PROT_READ));
	ASSERT_EQ(1, pwrite(fd, &byte, 1, (uintptr_t)area));
	expect_broken(_metadata, area, self->seed, 0, 1);
}

KSM_TEST(cow, by_process_vm_writev)
{
	char *area = merged(_metadata, self->seed), bytes[8];
	struct iovec from = { bytes, sizeof(bytes) };
	struct iovec to = { area + 2 * page_bytes() - 4, sizeof(bytes) };

	for (size_t i = 0; i < sizeof(bytes); i++)
		bytes[i] = area[2 * page_bytes() - 4 + i] ^ 1;
	ASSERT_EQ(sizeof(bytes),
		  process_vm_writev(getpid(), &from, 1, &to, 1, 0));
	EXPECT_EQ(4, content_wrong(area_page(area, 1), self->seed, 0));
	EXPECT_EQ(4, content_wrong(area_page(area, 2), self->seed, 0));
	EXPECT_EQ(0, content_wrong(area, self->seed, 0));
	EXPECT_EQ(3, area_frames(area, PAGES));
}

KSM_TEST(cow, by_a_debugger_of_a_forked_process)
{
	char *area = merged(_metadata, self->seed);
	char *at = area + 4 * page_bytes() + 64;
	int status = 0;
	long word;
	pid_t pid = fork();

	if (!pid) {
		prctl(PR_SET_PDEATHSIG, SIGKILL);
		ptrace(PTRACE_TRACEME, 0, NULL, NULL);
		raise(SIGSTOP);
		_exit(content_wrong(area_page(area, 4), self->seed, 0) == 1 ? 7 : 8);
	}
	ASSERT_LT(0, pid);
	ASSERT_EQ(pid, waitpid(pid, &status, 0));
	ASSERT_TRUE(WIFSTOPPED(status));
	word = ptrace(PTRACE_PEEKDATA, pid, at, NULL);
	EXPECT_EQ(0, ptrace(PTRACE_POKEDATA, pid, at, (void *)(word ^ 0x100)));
	EXPECT_EQ(0, ptrace(PTRACE_DETACH, pid, NULL, NULL));
	ASSERT_EQ(pid, waitpid(pid, &status, 0));
	EXPECT_TRUE(WIFEXITED(status));
	EXPECT_EQ(7, WEXITSTATUS(status));
	EXPECT_EQ(0, area_wrong(area, PAGES, 1, self->seed));
	EXPECT_EQ(1, area_frames(area, PAGES));
}

static char *forked_area;

static long forked_write(long page)
{
	forked_area[page * page_bytes()] ^= 1;
	return area_frames(forked_area, PAGES);
}

static long forked_wrong(long seed)
{
	return area_wrong(forked_area, PAGES, 1, seed);
}

KSM_TEST(cow, after_fork)
{
	struct ksm_child child;

	forked_area = merged(_metadata, self->seed);
	ASSERT_EQ(0, ksm_child_start(&child));
	EXPECT_EQ(0, ksm_child_call(&child, forked_wrong, self->seed));
	EXPECT_EQ(2, ksm_child_call(&child, forked_write, 1));
	EXPECT_EQ(0, area_wrong(forked_area, PAGES, 1, self->seed));
	forked_area[2 * page_bytes()] ^= 1;
	EXPECT_EQ(1, ksm_child_call(&child, forked_wrong, self->seed));
	expect_broken(_metadata, forked_area, self->seed, 2, 1);
	EXPECT_EQ(0, ksm_child_end(&child));
	expect_broken(_metadata, forked_area, self->seed, 2, 1);
}

KSM_TEST(cow, after_mprotect_back_and_forth)
{
	char *area = merged(_metadata, self->seed);
	size_t bytes = PAGES * page_bytes();

	ASSERT_EQ(0, mprotect(area, bytes, PROT_NONE));
	ASSERT_EQ(0, mprotect(area, bytes, PROT_READ));
	EXPECT_EQ(1, area_frames(area, PAGES));
	ASSERT_EQ(0, mprotect(area, bytes, PROT_READ | PROT_WRITE));
	EXPECT_EQ(1, area_frames(area, PAGES));
	area[9 * page_bytes()] ^= 1;
	expect_broken(_metadata, area, self->seed, 9, 1);
}

static void refused(int sig)
{
	_exit(42);
}

/* A store into read-only merged memory is still refused. */
KSM_TEST(cow, read_only_memory_stays_read_only)
{
	char *area = merged(_metadata, self->seed);
	int status;
	pid_t pid;

	ASSERT_EQ(0, mprotect(area, PAGES * page_bytes(), PROT_READ));
	pid = fork();
	if (!pid) {
		signal(SIGSEGV, refused);
		*(volatile char *)area = 1;
		_exit(0);
	}
	ASSERT_EQ(pid, waitpid(pid, &status, 0));
	EXPECT_TRUE(WIFEXITED(status) && WEXITSTATUS(status) == 42);
	EXPECT_EQ(0, area_wrong(area, PAGES, 1, self->seed));
}

/* Many stores from two processes while ksmd merges again and again. */
KSM_TEST(cow, stores_while_ksmd_runs)
{
	double end;
	char *area = area_new(PAGES, 1, self->seed);
	int64_t goal, bad = 0;
	unsigned long round = 0;

	ASSERT_NE(NULL, area);
	ASSERT_EQ(0, ksm_set("sleep_millisecs", 0));
	ASSERT_EQ(0, ksm_start());
	goal = ksm_get("full_scans") + 100;
	end = ksm_now() + ksm_wait_seconds();
	while (ksm_get("full_scans") < goal && ksm_now() < end) {
		size_t nr = round++ % PAGES;
		char *at = area_page(area, nr);

		content_fill(at, self->seed, round % 3);
		bad += content_wrong(at, self->seed, round % 3);
		content_fill(at, self->seed, 0);
		usleep(500);
		bad += content_wrong(at, self->seed, 0);
	}
	EXPECT_LE(goal, ksm_get("full_scans"));
	EXPECT_EQ(0, bad);
	EXPECT_EQ(0, area_wrong(area, PAGES, 1, self->seed));
}

/* Wait for the end of the pass that is under way, or for some time. */
static void next_pass(void)
{
	int64_t scans = ksm_get("full_scans");
	double end = ksm_now() + 1;

	while (ksm_get("full_scans") == scans && ksm_now() < end)
		usleep(200);
}

/*
 * Pages become equal, and once ksmd has seen that and is about to merge them,
 * each is written to. What falls between its looks at a PTE must not be lost.
 */
KSM_TEST(cow, stores_into_pages_that_are_being_merged)
{
	const size_t pages = 512, words = page_bytes() / sizeof(uint64_t);
	uint64_t *area = area_new(pages, 1, self->seed), value = 1;
	size_t lost = 0, rounds = 0, i;
	double end = ksm_now() + 8;

	ASSERT_NE(NULL, area);
	ASSERT_EQ(0, ksm_set("sleep_millisecs", 0));
	ASSERT_EQ(0, ksm_start());
	for (; ksm_now() < end || rounds < 5; rounds++, value += pages) {
		next_pass();
		next_pass();
		/* From the end, as ksmd comes from the start: somewhere they meet. */
		for (i = pages; i-- > 0; )
			*(volatile uint64_t *)&area[i * words + 5] = value + i;
		for (i = 0; i < pages; i++)
			lost += *(volatile uint64_t *)&area[i * words + 5] != value + i;
		usleep(1000);
		for (i = 0; i < pages; i++) {
			lost += area[i * words + 5] != value + i;
			content_fill(&area[i * words], self->seed, 0);
		}
	}
	ksft_print_msg("%zu rounds\n", rounds);
	EXPECT_EQ(0, lost);
	EXPECT_EQ(0, area_wrong(area, pages, 1, self->seed));
}

static void *private_text(int fd, size_t pages)
{
	void *text = mmap(NULL, pages * page_bytes(), PROT_READ | PROT_WRITE | PROT_EXEC,
			  MAP_PRIVATE, fd, 0);

	return text == MAP_FAILED ? NULL : text;
}

/* A breakpoint goes to the mappings of its file, and nowhere else. */
KSM_TEST(cow, by_a_probe)
{
	static const char file[] = "/tmp/ksm_probed";
	const size_t bytes = PAGES * page_bytes(), at = 3 * page_bytes() + 64;
	int fd = open(file, O_RDWR | O_CREAT | O_TRUNC, 0755);
	char *text[2], *bystander, *code = malloc(bytes), probe[128];

	ASSERT_LE(0, fd);
	ASSERT_NE(NULL, code);
	memset(code, 0x90, bytes);
	ASSERT_EQ((ssize_t)bytes, write(fd, code, bytes));
	bystander = area_map(PAGES);
	ASSERT_NE(NULL, bystander);
	memcpy(bystander, code, bytes);
	ASSERT_EQ(0, area_mergeable(bystander, PAGES));
	for (int i = 0; i < 2; i++) {
		text[i] = private_text(fd, PAGES);
		ASSERT_NE(NULL, text[i]);
		memcpy(text[i], code, bytes);
		ASSERT_EQ(0, mprotect(text[i], bytes, PROT_READ | PROT_EXEC));
		ASSERT_EQ(0, area_mergeable(text[i], PAGES));
	}
	ASSERT_EQ(0, ksm_passes(4));
	ASSERT_TRUE(pages_shared(text[0], bystander));
	ASSERT_TRUE(pages_shared(text[1], bystander));

	snprintf(probe, sizeof(probe), "p:ksm/probe %s:0x%zx", file, at);
	if (access(TRACING "uprobe_events", F_OK))
		SKIP(return, "no probes of user memory");
	/* That of an earlier run that failed. */
	ksm_file_write(TRACING "events/ksm/probe/enable", "0");
	ksm_file_write(TRACING "uprobe_events", "-:ksm/probe");
	ASSERT_EQ(0, ksm_file_write(TRACING "uprobe_events", probe));
	ASSERT_EQ(0, ksm_file_write(TRACING "events/ksm/probe/enable", "1"));
	for (int i = 0; i < 2; i++) {
		EXPECT_EQ((char)0xcc, text[i][at]);
		EXPECT_FALSE(pages_shared(text[i] + at, bystander + at));
		code[at] = 0xcc;
		EXPECT_EQ(0, memcmp(text[i], code, bytes));
		code[at] = 0x90;
	}
	EXPECT_EQ(0, memcmp(bystander, code, bytes));
	EXPECT_EQ(0, ksm_passes(4));
	EXPECT_EQ(0, memcmp(bystander, code, bytes));
	EXPECT_EQ(0, ksm_file_write(TRACING "events/ksm/probe/enable", "0"));
	EXPECT_EQ(0, ksm_file_write(TRACING "uprobe_events", "-:ksm/probe"));
	EXPECT_EQ(0, memcmp(text[0], code, bytes));
	EXPECT_EQ(0, memcmp(text[1], code, bytes));
	EXPECT_EQ(0, ksm_passes(4));
	EXPECT_EQ(0, memcmp(bystander, code, bytes));
	EXPECT_EQ(0, memcmp(text[0], code, bytes));
	unlink(file);
	close(fd);
}

KSM_TEST_MAIN
