#!/bin/bash
# SPDX-License-Identifier: GPL-2.0
#
# The kselftests of tools/testing/selftests/vm on the debug kernel in QEMU.
# Arguments name tests to run instead of all.

. "$(dirname "$0")/lib.sh"

tree && guest_programs && kernel "$TREE" "${VM_CONFIG:-debug}" || exit 1
# Time for one program at least, or there would be no result.
seconds=${CHECK_UNTIL:+$((CHECK_UNTIL - $(date +%s)))}
[ -z "$seconds" ] || [ "$seconds" -gt 10 ] || seconds=10
"$top/scripts/vm.sh" -l "check-vm" -m 3072 -t "${VM_TIMEOUT:-3600}" -d 1G -d 1G \
	-n 2 -a "$(guest_clock) mem=2816M movablecore=1G" -f "$tests/vm:/tests" \
	"$TREE-${VM_CONFIG:-debug}" "KSM_FRESH_BOOT=1 KSM_TIME_FACTOR=10 KSM_SECONDS=$seconds sh /tests/run.sh $*"
status=$?
# The console's silence is a result of its own: tests pass on a kernel that complained, too.
result $((status == 125)) "vm: no complaint on the console"
[ $status = 0 ]
