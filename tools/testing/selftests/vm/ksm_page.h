/* SPDX-License-Identifier: GPL-2.0 */
/*
 * Same-page merging selftests: areas with known contents (the oracle), and
 * what the kernel says of a page (pagemap, kpageflags, smaps).
 *
 * A content is named by (seed, id): the same pair is the same bytes anywhere,
 * so any process can check any page without a copy of it.
 */
#ifndef KSM_PAGE_H
#define KSM_PAGE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

#define PAGEMAP_SOFT_DIRTY	(1ULL << 55)
#define PAGEMAP_UFFD_WP		(1ULL << 57)
#define PAGEMAP_SWAP		(1ULL << 62)
#define PAGEMAP_PRESENT		(1ULL << 63)
#define PAGEMAP_PFN		((1ULL << 55) - 1)

#define KPF_ANON_BIT		12
#define KPF_COMPOUND_HEAD_BIT	15
#define KPF_COMPOUND_TAIL_BIT	16
#define KPF_KSM_BIT		21
#define KPF_THP_BIT		22
#define KPF_ZERO_PAGE_BIT	24

size_t page_bytes(void);
uint64_t content_seed(void);
void content_fill(void *page, uint64_t seed, uint64_t id);
size_t content_wrong(const void *page, uint64_t seed, uint64_t id);

/* Page i of an area gets the content id i % distinct. */
void *area_map(size_t pages);
void *area_new(size_t pages, size_t distinct, uint64_t seed);
void area_fill(void *area, size_t pages, size_t distinct, uint64_t seed);
size_t area_wrong(const void *area, size_t pages, size_t distinct, uint64_t seed);
void *area_page(void *area, size_t index);
int area_mergeable(void *area, size_t pages);
void *area_lookalikes(uint64_t seed);

/* References to all pages of an area from a pipe: their folios stay, in the swap cache as well. */
int area_hold(void *area, size_t pages, int fds[2]);
int area_let_go(size_t pages, int fds[2]);

uint64_t page_pagemap(const void *addr);
uint64_t *area_pagemap(const void *area, size_t pages);
uint64_t page_pfn(const void *addr);
uint64_t page_flags(uint64_t pfn);
bool page_is_zero_page(const void *addr);
bool pages_shared(const void *a, const void *b);
size_t area_sharing_with(const void *area, size_t pages, const void *page);
size_t area_frames(const void *area, size_t pages);
size_t area_count(const void *area, size_t pages, uint64_t pagemap_bit);
size_t area_ksm_pages(const void *area, size_t pages);

int64_t area_smaps(const void *addr, const char *field);
bool area_vmflag(const void *addr, const char *flag);
int64_t own_stat(const char *field);
int64_t own_merging_pages(void);
int64_t vmstat_field(const char *field);
int64_t meminfo_kib(const char *field);
int64_t settled(const char *field, int64_t want);

bool two_nodes(void);
int page_node(const void *addr);
int page_move(void *addr, int node);
size_t area_on_node(const void *area, size_t pages, int node);
size_t area_move(void *area, size_t pages, int node);

int area_uffd_wp(void *area, size_t pages);

size_t thp_bytes(void);
void *thp_map(size_t huge_pages);

#endif /* KSM_PAGE_H */
