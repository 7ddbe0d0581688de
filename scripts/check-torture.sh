#!/bin/bash
# SPDX-License-Identifier: GPL-2.0
#
# Torture on the debug kernel: processes that write, fork, map and unmap while the knobs
# switch; every byte of every page is verified after each round.
#
# Environment: SECONDS_TO_RUN (60), FAULTS=1 to let allocations fail, SEED.

. "$(dirname "$0")/lib.sh"

seconds=${SECONDS_TO_RUN:-60}
tree && guest_programs && kernel "$TREE" debug || exit 1
faults=
[ -z "${FAULTS:-}" ] || faults="--faults"
"$top/scripts/vm.sh" -l "torture" -m 3072 -t $((seconds * 3 + 300)) -d 512M -d 512M \
	-n 2 -a "$(guest_clock) mem=2816M movablecore=1G" -f "$tests/vm:/tests" \
	"$TREE-debug" "/tests/ksm_torture --seconds $seconds $faults ${SEED:+--seed $SEED}"
status=$?
result $((status == 125)) "torture: no complaint on the console"
[ $status = 0 ]
