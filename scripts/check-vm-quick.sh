#!/bin/bash
# SPDX-License-Identifier: GPL-2.0
#
# All kselftests on the small kernel without debugging: the second half of make check-quick.

. "$(dirname "$0")/lib.sh"

VM_CONFIG=qemu VM_TIMEOUT=${VM_TIMEOUT:-400} exec "$top/scripts/check-vm.sh" "$@"
