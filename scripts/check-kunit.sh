#!/bin/bash
# SPDX-License-Identifier: GPL-2.0
#
# A kernel of user mode Linux, which has one processor and no nodes: the KUnit tests of
# mm/ksm/tests, which run as it boots, and then some kselftests.

. "$(dirname "$0")/lib.sh"

selftests='ksm_abi_madvise ksm_abi_sysfs ksm_merge ksm_merge_zero ksm_cow ksm_unmerge'

tree && guest_programs && kernel "$TREE" kunit-uml || exit 1

"$top/scripts/vm.sh" -l kunit -m 512 -t 900 -a 'kunit.enable=1' -f "$tests/vm:/tests" \
	"$TREE-kunit-uml" "sh /tests/run.sh $selftests"
status=$?

kunit_cases "$logs/kunit.console" kunit
result $((status == 125)) "kunit: no complaint on the console"
[ $status = 0 ]
