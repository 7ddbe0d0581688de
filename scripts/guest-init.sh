#!/bin/sh
# SPDX-License-Identifier: GPL-2.0
#
# The first process in the guests of scripts/vm.sh: mounts what tests need, runs
# /vm/command with its output on the second serial line (the console, on the first,
# carries kernel messages only), reports the exit status and ends the guest.

PATH=/bin
HOME=/root
export PATH HOME
umask 022

mount -t devtmpfs dev /dev
mkdir -p /dev/pts /dev/shm
mount -t proc proc /proc
mount -t sysfs sys /sys 2>/dev/null
mount -t devpts devpts /dev/pts 2>/dev/null
mount -t tmpfs tmpfs /dev/shm
mount -t tmpfs tmpfs /tmp
mount -t debugfs debug /sys/kernel/debug 2>/dev/null
mount -t tracefs trace /sys/kernel/tracing 2>/dev/null
mount -t cgroup2 cgroup /sys/fs/cgroup 2>/dev/null
# The first cpuset patches the page allocator's code, and so does the end of the last one. QEMU's
# TCG may then run a stale int3 on the other CPU: so there is one all the time.
echo +cpuset > /sys/fs/cgroup/cgroup.subtree_control 2>/dev/null
mkdir /sys/fs/cgroup/stays 2>/dev/null
ulimit -c 0

out=/dev/ttyS1
stty -F $out raw -echo 2>/dev/null

setsid sh /vm/command < /dev/null > $out 2>&1
status=$?

# The last complaints of the kernel have to come out: those of delayed work too.
sync
sleep 1
printf '\n%s exit %d\n' "$(cat /vm/nonce)" $status > $out
stty -F $out cooked 2>/dev/null
# QEMU runs with -no-reboot; to power off would take ACPI. User mode Linux would begin again.
grep -q 'User Mode Linux' /proc/cpuinfo && poweroff -f
reboot -f
