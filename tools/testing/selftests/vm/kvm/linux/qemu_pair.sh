#!/bin/sh
# SPDX-License-Identifier: GPL-2.0
#
# Same-page merging selftests: QEMU as the VMM. Two VMs boot the same small Linux, with
# `-accel kvm -machine mem-merge=on`, their memory is merged and unmerged, and both go on working.
# ksm_inside.c is what runs in them.
#
#   qemu_pair.sh DIR [PAGES]
#
# DIR holds bzImage and initramfs of that Linux, and QEMU's firmware. Prints TAP.
# Environment: WAIT_SECONDS (300), for each wait.

dir=${1:?usage: qemu_pair.sh DIR [PAGES]}
pages=${2:-4096}
limit=${WAIT_SECONDS:-300}
ksm=/sys/kernel/mm/ksm
guests="1 2"
tests=0 failed=0

# As the outer kernel was told: here it is even harder to find out.
clock=$(tr ' ' '\n' < /proc/cmdline | grep '^tsc' | tr '\n' ' ')

result() {
	tests=$((tests + 1))
	if [ "$1" = 0 ]; then
		echo "ok $tests kvm_qemu.$2"
	else
		failed=$((failed + 1))
		echo "not ok $tests kvm_qemu.$2"
	fi
}

value() { cat $ksm/"$1"; }
say() { echo "# $*"; }

begin_guest() {
	qemu-system-x86_64 -L "$dir" -machine pc,mem-merge=on -accel kvm -m 64 -nodefaults \
		-no-user-config -display none -monitor none -no-reboot -serial "file:/tmp/guest$1" \
		-kernel "$dir/bzImage" -initrd "$dir/initramfs" \
		-append "console=ttyS0 quiet panic=-1 random.trust_cpu=on $clock -- $1 $pages" \
		> "/tmp/qemu$1" 2>&1 < /dev/null &
	echo $! > "/tmp/pid$1"
}

round() { sed -n 's/^inside '"$1"': round \([0-9]*\), .*/\1/p' "/tmp/guest$1" | tail -n 1; }
wrong() { sed -n 's/^inside '"$1"': round .*, \([0-9]*\) wrong.*/\1/p' "/tmp/guest$1" | tail -n 1; }

# wait_for COMMAND ...: until it succeeds; fails after $limit seconds.
wait_for() {
	end=$(($(date +%s) + limit))
	until "$@"; do
		[ "$(date +%s)" -lt $end ] || return 1
		sleep 1
	done
}

loaded() { grep -qs "^inside $1: loaded $pages pages" "/tmp/guest$1"; }
round_after() { [ "$(round "$1" || echo 0)" -ge "$2" ] 2> /dev/null; }

# So many contents, each of them found twice or more: pages of zeroes are one only.
contents_shared() { [ "$(value pages_shared)" -ge "$1" ] && [ "$(value pages_sharing)" -ge "$1" ]; }

# Each guest has begun and ended a round since, and no page was wrong in any.
guests_work() {
	status=0
	for id in $guests; do
		from=$(round "$id")
		wait_for round_after "$id" $((${from:-0} + 2)) || status=1
		say "guest $id: round $(round "$id") after round ${from:-none}, $(wrong "$id") wrong"
		[ "$(wrong "$id")" = 0 ] || status=1
	done
	return $status
}

numbers() {
	say "$1: pages_shared $(value pages_shared) pages_sharing $(value pages_sharing)" \
		"pages_unshared $(value pages_unshared) MemAvailable" \
		"$(sed -n 's/MemAvailable: *//p' /proc/meminfo)"
}

echo "1..6"
echo 2 > $ksm/run
echo 10 > $ksm/sleep_millisecs
echo 2000 > $ksm/pages_to_scan
for id in $guests; do
	begin_guest "$id"
done

status=0
for id in $guests; do
	wait_for loaded "$id" || status=1
done
result $status two_guests_boot
guests_work
result $? they_work_before_anything_is_merged
numbers "before"

# The pages that a guest has loaded are all different, and are the same in the other guest. The
# rest, such as their kernels, comes on top; missing is what is being written to, a 64th part.
goal=$((pages - pages / 16))
echo 1 > $ksm/run
wait_for contents_shared $goal
status=$?
numbers "merged"
say "wanted: $goal; full_scans $(value full_scans)"
result $status pages_of_two_guests_are_shared
guests_work
result $? they_work_while_merged
numbers "still merged"

echo 2 > $ksm/run
[ "$(value pages_shared) $(value pages_sharing)" = "0 0" ]
result $? run_2_unmerges_all
guests_work
result $? they_work_unmerged
numbers "unmerged"

for id in $guests; do
	[ -d "/proc/$(cat "/tmp/pid$id")" ] || say "guest $id: QEMU has ended"
	[ $failed = 0 ] || {
		sed "s/^/# qemu$id: /" "/tmp/qemu$id" | tail -n 20
		tail -n 20 "/tmp/guest$id" | sed "s/^/# guest$id: /"
	}
	kill "$(cat "/tmp/pid$id")"
done
wait
echo 0 > $ksm/run
[ $failed = 0 ]
