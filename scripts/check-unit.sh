#!/bin/bash
# SPDX-License-Identifier: GPL-2.0
#
# The pure layers, compiled for userspace with ASAN and UBSAN: tools/testing/ksm.

. "$(dirname "$0")/lib.sh"

tree || exit 1
make -s "-j$(nproc)" -C "$top/tools/testing/ksm" KTREE="$top/build/linux" OUTPUT="$tests/unit" check
