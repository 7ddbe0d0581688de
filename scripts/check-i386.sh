#!/bin/bash
# SPDX-License-Identifier: GPL-2.0
#
# A kernel of 32 bits with high memory, booted in QEMU: the KUnit tests of mm/ksm/tests, and then the
# kselftests, compiled for 32 bits. Arguments name programs to run instead of all.

. "$(dirname "$0")/lib.sh"

# Nothing of these runs without nodes, memory that goes offline or is unplugged, memory failure and CMA.
without='ksm_nodes ksm_offline ksm_poison ksm_contig ksm_reg_hotplug'

# Debian's busybox for i386. Read with lists of its own, so that the machine needs no second
# architecture for it.
busybox=$top/build/i386/bin/busybox
fetch_busybox() {
	local dir=$top/build/i386 apt

	mkdir -p "$dir/lists/partial"
	apt=(apt-get -o APT::Architectures::=i386 -o "Dir::State::lists=$dir/lists" -o APT::Sandbox::User=root)
	# Not every index needs to be there, only the package.
	(cd "$dir" && { "${apt[@]}" update || true; } && "${apt[@]}" download busybox-static:i386) || return 1
	dpkg-deb -x "$dir"/busybox-static_*_i386.deb "$dir"
}

tree && kernel "$TREE" i386 || exit 1
make -s "-j$(nproc)" -C "$top/tools/testing/selftests/vm" OUTPUT="$tests/vm32" KTREE="$top/build/$TREE" \
	CC='gcc -m32' EXTRA_CFLAGS=-Wno-pointer-to-int-cast >&2 || exit 1
[ -x "$busybox" ] || fetch_busybox > "$logs/i386-busybox.log" 2>&1 || {
	tail -n 5 "$logs/i386-busybox.log"
	exit 1
}

programs=("$@")
[ $# -gt 0 ] || mapfile -t programs < <(grep -vwF "$(tr ' ' '\n' <<< "$without")" "$tests/vm32/tests.list")

BUSYBOX=$busybox "$top/scripts/vm.sh" -l check-i386 -m 2048 -t "${VM_TIMEOUT:-3600}" -d 1G -d 1G \
	-a "$(guest_clock) kunit.enable=1" -f "$tests/vm32:/tests" "$TREE-i386" \
	"KSM_FRESH_BOOT=1 KSM_TIME_FACTOR=10 KSM_SECONDS=$(seconds_left) sh /tests/run.sh ${programs[*]}"
status=$?
[ $status != 125 ]
result $? "i386: no complaint on the console"
kunit_cases "$logs/check-i386.console" i386
[ $status = 0 ]
