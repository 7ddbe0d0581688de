#!/bin/bash
# SPDX-License-Identifier: GPL-2.0
#
# The kselftests of tools/testing/selftests/vm on the debug kernel in QEMU.
# Arguments name tests to run instead of all. There are several guests, each with logs of
# its own in build/log:
#
#   check-vm          two nodes with movable memory
#   check-vm-offline  with blocks of memory that can go offline, all of them
#   check-vm-small    for what takes all memory, or saves it
#   check-vm-contig   with a contiguous memory area, which others would take for free memory
#   check-vm-hotplug  with memory that comes and goes

. "$(dirname "$0")/lib.sh"

config=${VM_CONFIG:-debug}
tree && guest_programs && kernel "$TREE" "$config" || exit 1

status=()

# guest NAME PROGRAMS OPTION ...: the options are those of vm.sh; the status is kept. A caller's $begin
# is run in the guest before the programs.
begin=
guest() {
	local name=$1 programs=$2
	shift 2

	[ -n "$programs" ] || return 0
	"$top/scripts/vm.sh" -l "$name" -t "${VM_TIMEOUT:-3600}" -d 1G -d 1G -a "$(guest_clock)" \
		-f "$tests/vm:/tests" "$@" "$TREE-$config" \
		"$begin KSM_FRESH_BOOT=1 KSM_TIME_FACTOR=10 KSM_SECONDS=$(seconds_left) sh /tests/run.sh $programs"
	status+=($?)
}

# Nothing of the kernel's lies in it, and no hole: a page that moves may go anywhere, but not there.
# It comes online when everything else is in its place, so that there is little else to be moved.
guest_with_empty_memory() {
	local memory='-m 1024,maxmem=2048M -object memory-backend-ram,id=memory,size=512M'
	local begin='for state in /sys/devices/system/memory/memory*/state; do
		read -r now < $state; [ $now = online ] || echo online_movable > $state; done;'

	memory+=' -device virtio-mem-pci,memdev=memory,requested-size=512M'
	guest check-vm-offline "$1" -q "$memory" -a memhp_default_state=offline
}

# All movable memory is plugged, so that it is used first. The guest asks for it by a serial line.
guest_with_hotplug() {
	local sockets plug

	[ -n "$1" ] || return 0
	sockets=$(mktemp -d "${TMPDIR:-/tmp}/hotplug.XXXXXX")
	plug="-m 1024,maxmem=3072M -object memory-backend-ram,id=memory,size=1G"
	plug+=" -device virtio-mem-pci,id=plug,memdev=memory"
	plug+=" -qmp unix:$sockets/qmp,server=on,wait=off -serial unix:$sockets/line,server=on,wait=off"
	"$top/scripts/hotplug.py" "$sockets/qmp" "$sockets/line" plug &
	guest check-vm-hotplug "$1" -q "$plug" -a memhp_default_state=online_movable
	wait
	rm -rf "$sockets"
}

programs=("$@")
[ $# -gt 0 ] || mapfile -t programs < "$tests/vm/tests.list"
others='' small='' contig='' hotplug='' offline=''
for program in "${programs[@]}"; do
	case $program in
	ksm_swap | ksm_system | ksm_reg_memory)	small+=" $program" ;;
	ksm_contig)				contig+=" $program" ;;
	ksm_offline)				offline+=" $program" ;;
	ksm_reg_hotplug)			hotplug+=" $program" ;;
	*)					others+=" $program" ;;
	esac
done

# What is small runs beside the large one, which leaves processors idle half of the time.
background() {
	guest check-vm-small "$small" -m 640 -n 2
	guest check-vm-contig "$contig" -m 1024 -n 2 -a cma=64M
	guest_with_empty_memory "$offline"
	guest_with_hotplug "$hotplug"
	echo "0 ${status[*]}" > "$logs/check-vm-background.status"
}

rm -f "$logs/check-vm-background.status"
background > "$logs/check-vm-background.log" 2>&1 &
guest check-vm "$others" -m 3072 -n 2 -a 'mem=2816M movablecore=1G'
wait
cat "$logs/check-vm-background.log"
read -ra more < "$logs/check-vm-background.status" || more=(1)
status+=("${more[@]}")
# The console's silence is a result of its own: tests pass on a kernel that complained, too.
[[ " ${status[*]} " != *' 125 '* ]]
result $? "vm: no complaint on the console"
[[ ! "${status[*]}" =~ [1-9] ]]
