/* SPDX-License-Identifier: GPL-2.0 */
/* The unstable tree: contents of pages that are not merged, as hints. Index layer. */
#ifndef _MM_KSM_UNSTABLE_H
#define _MM_KSM_UNSTABLE_H

#include "span.h"

#define KSM_PEERS	4	/* of those with a key, how many are looked at */

void __ksm_unstable_insert(struct ksm_bucket *bucket, struct ksm_span *span, unsigned int pos,
			   u64 key);
void ksm_unstable_insert(struct ksm_span *span, unsigned int pos, u64 key);
void ksm_unstable_erase(struct ksm_span *span, unsigned int pos, enum ksm_item_state to);
void ksm_unstable_requeue(struct ksm_span *span, unsigned int pos);
bool __ksm_sample_known(struct ksm_bucket *bucket, u32 sample);
void __ksm_unstable_tell(struct ksm_bucket *bucket, u64 key);
struct ksm_item *__ksm_unstable_lone(struct ksm_bucket *bucket, u32 sample);
struct ksm_item *__ksm_unstable_peer(struct ksm_bucket *bucket, u64 key,
				     const struct ksm_item *self, unsigned int turn);

#endif /* _MM_KSM_UNSTABLE_H */
