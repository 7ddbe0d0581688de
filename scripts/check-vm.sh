#!/bin/bash
# SPDX-License-Identifier: GPL-2.0
#
# The kselftests of tools/testing/selftests/vm on the debug kernel in QEMU.
# Arguments name tests to run instead of all. Two guests share them, as a test waits for ksmd
# half of the time; the log and the console of the second are build/log/check-vm-2.*.

. "$(dirname "$0")/lib.sh"

tree && guest_programs && kernel "$TREE" "${VM_CONFIG:-debug}" || exit 1

# Time for one program at least, or there would be no result.
seconds=${CHECK_UNTIL:+$((CHECK_UNTIL - $(date +%s)))}
[ -z "$seconds" ] || [ "$seconds" -gt 10 ] || seconds=10

# Dealt like cards to and fro, 1 2 2 1, so that both have as much of the slow ones, which come first.
programs=("$@")
[ $# -gt 0 ] || mapfile -t programs < "$tests/vm/tests.list"
shares=('' '')
for ((i = 0; i < ${#programs[@]}; i++)); do
	shares[((i + 1) / 2 % 2)]+=" ${programs[i]}"
done

# guest NAME PROGRAMS: the status is that of vm.sh.
guest() {
	[ -n "$2" ] || return 0
	"$top/scripts/vm.sh" -l "$1" -m 3072 -t "${VM_TIMEOUT:-3600}" -d 1G -d 1G \
		-n 2 -a "$(guest_clock) mem=2816M movablecore=1G cma=64M" -f "$tests/vm:/tests" \
		"$TREE-${VM_CONFIG:-debug}" \
		"KSM_FRESH_BOOT=1 KSM_TIME_FACTOR=10 KSM_SECONDS=$seconds sh /tests/run.sh$2"
}

# What runs in the background would not notice that this is interrupted.
trap 'trap - INT TERM; kill 0' INT TERM
guest check-vm-2 "${shares[1]}" > "$logs/check-vm-2.log" 2>&1 &
guest check-vm "${shares[0]}"
status=($?)
wait $!
status+=($?)
cat "$logs/check-vm-2.log"
# The console's silence is a result of its own: tests pass on a kernel that complained, too.
[[ " ${status[*]} " != *' 125 '* ]]
result $? "vm: no complaint on the console"
[ "${status[*]}" = '0 0' ]
