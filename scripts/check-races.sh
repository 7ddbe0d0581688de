#!/bin/bash
# SPDX-License-Identifier: GPL-2.0
#
# Torture on a kernel with KCSAN. A report is ours if one of the two functions that it names is.
# Those of other code are counted only: the base has some.
#
# Environment: SECONDS_TO_RUN (60), SEED.

. "$(dirname "$0")/lib.sh"

seconds=${SECONDS_TO_RUN:-60}
tree && guest_programs && kernel "$TREE" races || exit 1
"$top/scripts/vm.sh" -l "races" -m 3072 -t $((seconds * 3 + 600)) -d 512M -d 512M \
	-n 2 -a "$(guest_clock) mem=2816M movablecore=1G" -f "$tests/vm:/tests" \
	"$TREE-races" "/tests/ksm_torture --seconds $seconds ${SEED:+--seed $SEED}; status=\$?
		cat /sys/kernel/debug/kcsan; exit \$status"
status=$?

console=$logs/races.console
ours=$logs/races.functions
nm "$top/build/out/$TREE-races"/mm/ksm/*.o | awk '$2 ~ /^[tT]$/ { print $3 }' | sort -u > "$ours"
reports() { grep -a 'BUG: KCSAN: ' "$console" | sed 's/.*BUG: KCSAN: //' | tr -d '\r'; }
others() { grep -aE 'WARNING:|BUG[: ]|Oops|INFO: |Kernel panic' "$console" | grep -av 'BUG: KCSAN: '; }

reports | grep -wFf "$ours" | sort | uniq -c | sed 's/^/# /'
echo "# $(reports | wc -l) reports in all, of which $(reports | grep -cwFf "$ours") name one of our" \
     "$(wc -l < "$ours") functions"
awk '/^setup_watchpoints: / { watched = $2 } END { exit !(watched > 0) }' "$logs/races.out"
result $? "races: KCSAN looks for them"
grep -q '^ok 1 torture' "$logs/races.out" && { [ $status = 0 ] || [ $status = 125 ]; }
result $? "races: every byte is right"
! others | grep -q .
result $? "races: no other complaint on the console"
! reports | grep -qwFf "$ours"
result $? "races: no data race in our functions"
