#!/bin/bash
# SPDX-License-Identifier: GPL-2.0
#
# A kernel of user mode Linux, which has one processor and no nodes: the KUnit tests of
# mm/ksm/tests, which run as it boots, and then some kselftests. The nested KTAP is flattened to
# one line a test case.

. "$(dirname "$0")/lib.sh"

selftests='ksm_abi_madvise ksm_abi_sysfs ksm_merge ksm_merge_zero ksm_cow ksm_unmerge'

tree && guest_programs && kernel "$TREE" kunit-uml || exit 1

"$top/scripts/vm.sh" -l kunit -m 512 -t 900 -a 'kunit.enable=1' -f "$tests/vm:/tests" \
	"$TREE-kunit-uml" "sh /tests/run.sh $selftests"
status=$?

# Cases are indented by four blanks, and by eight those of a parameterised case, which has
# a line of its own. A suite's line, not indented, only sums up.
awk '{ sub(/^\[ *[0-9.]+\] ?/, "") }
     /^    # Subtest: / { suite = $3 }
     /^    1\.\.[0-9]+$/ { planned += substr($1, 4) }
     /^    (not )?ok [0-9]+ / {
	status = $1 == "ok" ? "ok" : "not ok"
	sub(/^ *(not )?ok [0-9]+ (- )?/, "")
	print status " - " suite ": " $0
	next
     }
     /EXPECTATION FAILED|ASSERTION FAILED/ { shown = 6 }
     shown-- > 0 { print "# " $0 }
     END { print "1.." planned + 2 }' "$logs/kunit.console"

grep -qE '# Totals: pass:[1-9]|# .*: pass:[1-9]' "$logs/kunit.console"
result $? "kunit: tests ran"
result $((status == 125)) "kunit: no complaint on the console"
[ $status = 0 ]
