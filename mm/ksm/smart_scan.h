/* SPDX-License-Identifier: GPL-2.0 */
/* When a page is visited under smart_scan=1. Policy layer, pure. */
#ifndef _MM_KSM_SMART_SCAN_H
#define _MM_KSM_SMART_SCAN_H

#include "span.h"

u16 ksm_span_due(const struct ksm_span *span, u32 pass);
void ksm_span_visited(struct ksm_span *span, u16 calm, u16 restless);
bool ksm_item_retry_due(const struct ksm_span *span, unsigned int pos, u32 pass);

#endif /* _MM_KSM_SMART_SCAN_H */
