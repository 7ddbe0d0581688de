#!/bin/bash
# SPDX-License-Identifier: GPL-2.0
#
# The kselftests of tools/testing/selftests/vm on the debug kernel in QEMU.
# Arguments name tests to run instead of all. ksm_contig gets a guest of its own, with a contiguous
# memory area, which others would take for free memory: its log and console are
# build/log/check-vm-contig.*.

. "$(dirname "$0")/lib.sh"

tree && guest_programs && kernel "$TREE" "${VM_CONFIG:-debug}" || exit 1

# guest NAME KERNEL-ARGUMENTS PROGRAM ...: the status is that of vm.sh.
guest() {
	local name=$1 arguments=$2
	shift 2

	[ $# -gt 0 ] || return 0
	"$top/scripts/vm.sh" -l "$name" -m 3072 -t "${VM_TIMEOUT:-3600}" -d 1G -d 1G \
		-n 2 -a "$(guest_clock) mem=2816M movablecore=1G$arguments" -f "$tests/vm:/tests" \
		"$TREE-${VM_CONFIG:-debug}" \
		"KSM_FRESH_BOOT=1 KSM_TIME_FACTOR=10 KSM_SECONDS=$(seconds_left) sh /tests/run.sh $*"
}

programs=("$@")
[ $# -gt 0 ] || mapfile -t programs < "$tests/vm/tests.list"
contig=() others=()
for program in "${programs[@]}"; do
	case $program in
	ksm_contig) contig+=("$program") ;;
	*) others+=("$program") ;;
	esac
done

guest check-vm '' "${others[@]}"
status=($?)
guest check-vm-contig ' cma=64M' "${contig[@]}"
status+=($?)
# The console's silence is a result of its own: tests pass on a kernel that complained, too.
[[ " ${status[*]} " != *' 125 '* ]]
result $? "vm: no complaint on the console"
[ "${status[*]}" = '0 0' ]
