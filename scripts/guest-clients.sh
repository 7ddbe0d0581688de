#!/bin/bash
# SPDX-License-Identifier: GPL-2.0
#
# What `make check-clients` runs in its guest, with Debian's userland (scripts/check-clients.sh):
# one function for each client. The clients are Debian's, unmodified. What one of them says is
# compared with the kernel's files, or with what a workload of known contents has to give; what it
# does with its memory is judged from outside. Each comparison prints its numbers.
#
# Arguments name clients to run instead of all. Environment: SECONDS_LEFT, after which no client is
# begun.

ksm=/sys/kernel/mm/ksm
tmp=/tmp/clients
all='node-exporter atop stress-ng qemu ksmtuned criu bpftrace systemd'
client=
bad=0

say() { echo "# $client: $*"; }

# result STATUS NAME
result() {
	if [ "$1" = 0 ]; then
		echo "ok - clients: $client: $2"
	else
		echo "not ok - clients: $client: $2"
		bad=$((bad + 1))
	fi
	[ "$1" = 0 ]
}

# skip REASON [NAME]: the whole client, or one thing of it.
skip() { echo "ok - clients: $client${2:+: $2} # SKIP $1"; }

# compare NAME A OPERATOR B: two numbers, by an operator of test. What is no number is wrong.
compare() {
	local status=1

	say "$1: $2 $3 $4"
	if [[ $2 =~ ^-?[0-9]+$ && $4 =~ ^-?[0-9]+$ ]] && [ "$2" "$3" "$4" ]; then
		status=0
	fi
	result $status "$1"
}

# same NAME A B: two texts that are not empty.
same() {
	local status=1

	say "$1: $2 = $3"
	if [ -n "$2" ] && [ "$2" = "$3" ]; then
		status=0
	fi
	result $status "$1"
}

knob() { cat "$ksm/$1"; }

# merging PID: how many of its pages are mappings of KSM pages.
merging() { cat "/proc/$1/ksm_merging_pages" 2>/dev/null; }

# until_true SECONDS COMMAND ...
until_true() {
	local end=$((SECONDS + $1))
	shift

	until "$@"; do
		[ $SECONDS -lt $end ] || return 1
		sleep 0.3
	done
}

# knob_is NAME VALUE, at_least VALUE COMMAND ...: for until_true.
knob_is() { [ "$(knob "$1")" = "$2" ]; }
at_least() {
	local least=$1
	shift

	[ "$("$@")" -ge "$least" ]
}

# passes N: so many whole passes from now on, and the one that is under way.
passes() { until_true 120 at_least $(($(knob full_scans) + $1 + 1)) knob full_scans; }

# ksmd as after boot, with nothing merged.
reset_ksm() {
	echo 2 > $ksm/run
	echo 0 > $ksm/run
	echo 100 > $ksm/pages_to_scan
	echo 20 > $ksm/sleep_millisecs
}

# As fast as leaves something of the processors to the client.
run_fast() {
	echo 5000 > $ksm/pages_to_scan
	echo 10 > $ksm/sleep_millisecs
	echo 1 > $ksm/run
}

merged() { echo $(($(knob pages_shared) + $(knob pages_sharing) + $(knob ksm_zero_pages))); }
nothing_merged() { [ "$(merged)" = 0 ]; }

# ksmd finds out when it comes by.
expect_nothing_merged() {
	until_true 60 nothing_merged
	compare "nothing is merged after its end" "$(merged)" -eq 0
}

# finish PID: ends a process of ours and waits for it.
finish() {
	kill -9 "$1" 2>/dev/null
	{ wait "$1"; } 2>/dev/null
	until_true 30 test ! -d "/proc/$1"
}

# The victim is a process with 288 pages of known contents: 64 contents are there 4 times, and 32
# once. So there are 64 KSM pages with 192 more mappings, and 32 pages without an equal. It tells
# through a file that it is ready.
write_victim() {
	cat > $tmp/victim.py <<-'END'
		import mmap, random, signal, sys
		random.seed(1)
		contents = [random.randbytes(4096) for i in range(96)]
		area = mmap.mmap(-1, 288 * 4096, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)
		area.madvise(mmap.MADV_MERGEABLE)
		area.write(b"".join(contents[:64] * 4 + contents[64:]))
		open(sys.argv[1], "w").close()
		while True:
		    signal.pause()
	END
}

# start_victim: $victim is its PID. It has a session of its own, and no terminal.
start_victim() {
	rm -f $tmp/ready
	setsid python3 $tmp/victim.py $tmp/ready < /dev/null > $tmp/victim.out 2>&1 &
	victim=$!
	until_true 60 test -e $tmp/ready || { cat $tmp/victim.out; return 1; }
}

# Merges what the victim has, and leaves it so, as ksmd is stopped then.
freeze_victim() {
	start_victim && run_fast && passes 4
	echo 0 > $ksm/run
	compare "the workload's pages_shared" "$(knob pages_shared)" -eq 64
	compare "the workload's pages_sharing" "$(knob pages_sharing)" -eq 192
	# Mainline has them in neither tree when it skips them.
	compare "the workload's pages_unshared and pages_volatile" \
		$(($(knob pages_unshared) + $(knob pages_volatile))) -eq 32
}

# metric NAME [FACTOR]: a sample of node-exporter's, as an integer.
metric() {
	awk -v name="node_ksmd_$1" -v unit="${2:-1}" \
		'$1 == name { printf "%.0f\n", $2 * unit }' $tmp/metrics
}

scrape() {
	exec 3<> /dev/tcp/127.0.0.1/9100 || return
	printf 'GET /metrics HTTP/1.0\r\n\r\n' >&3
	tr -d '\r' <&3 > $tmp/metrics
	exec 3>&-
	grep -q '^node_scrape_collector_success' $tmp/metrics
} 2>/dev/null

client_node_exporter() {
	local exporter name

	freeze_victim
	prometheus-node-exporter --collector.disable-defaults --collector.ksmd \
		--web.listen-address=127.0.0.1:9100 > $tmp/exporter.log 2>&1 &
	exporter=$!
	until_true 60 scrape || tail -n 20 $tmp/exporter.log $tmp/metrics
	same "its collector succeeded" 1 \
		"$(sed -n 's/^node_scrape_collector_success{collector="ksmd"} //p' $tmp/metrics)"
	for name in merge_across_nodes pages_shared pages_sharing pages_to_scan pages_unshared \
	    pages_volatile run; do
		compare "node_ksmd_$name" "$(metric $name)" -eq "$(knob $name)"
	done
	compare "node_ksmd_full_scans_total" "$(metric full_scans_total)" -eq "$(knob full_scans)"
	compare "node_ksmd_sleep_seconds, as ms" "$(metric sleep_seconds 1000)" -eq \
		"$(knob sleep_millisecs)"

	finish "$victim"
	run_fast
	expect_nothing_merged
	until_true 10 scrape
	compare "node_ksmd_pages_shared without the workload" "$(metric pages_shared)" -eq 0
	compare "node_ksmd_run once ksmd runs" "$(metric run)" -eq 1
	finish $exporter
}

# mem_field N: of atop's raw line MEM, behind the 6 that all lines have, in the order of atop(1).
mem_field() { awk -v n="$1" '/^MEM/ { value = $(n + 6) } END { print value }' $tmp/atop; }

# It looks at the counters only while ksmd runs.
client_atop() {
	freeze_victim
	echo 1 > $ksm/run
	atop -P MEM 1 1 > $tmp/atop 2>&1
	say "$(grep '^MEM' $tmp/atop | tail -n 1)"
	compare "pages_sharing of its line MEM" "$(mem_field 17)" -eq 192
	compare "pages_shared of its line MEM" "$(mem_field 18)" -eq 64
	finish "$victim"
	run_fast
	expect_nothing_merged
	atop -P MEM 1 1 > $tmp/atop 2>&1
	compare "pages_sharing of its line MEM without the workload" "$(mem_field 17)" -eq 0
}

# stressor NAME LEAST ARGUMENTS: at least LEAST pages_sharing have to be seen meanwhile. Not as
# root, for whom the stressor madvise poisons pages, and dies of that with or without KSM.
stressor() {
	local name=$1 least=$2 most=0 now pid
	shift 2

	rm -rf $tmp/stress
	install -d -o nobody $tmp/stress
	reset_ksm
	run_fast
	setpriv --reuid=nobody --regid=nogroup --clear-groups stress-ng "$@" --verify --metrics \
		--temp-path $tmp/stress --yaml $tmp/stress/yaml > $tmp/stress.log 2>&1 &
	pid=$!
	while [ -d /proc/$pid ] && kill -0 $pid 2>/dev/null; do
		now=$(knob pages_sharing)
		[ "$now" -le $most ] || most=$now
		sleep 0.2
	done
	wait $pid
	compare "$name: exit status" $? -eq 0 || tail -n 20 $tmp/stress.log | sed 's/^/# /'
	compare "$name: lines that say that something failed" \
		"$(grep -cE ' (fail|error): ' $tmp/stress.log)" -eq 0
	compare "$name: operations" \
		"$(sed -n 's/^ *bogo-ops: *//p' $tmp/stress/yaml | head -n 1)" -gt 0
	compare "$name: the most pages_sharing meanwhile" $most -ge "$least"
	until_true 60 nothing_merged
	compare "$name: nothing is merged after its end" "$(merged)" -eq 0
}

client_stress_ng() {
	local reason='there is no check of it yet'

	stress-ng --help | grep -q -- ' --ksm' ||
		reason="stress-ng $(version stress-ng) has no such option"
	skip "$reason" --ksm
	stressor vm 1000 --vm 2 --vm-bytes 32m --vm-keep --vm-hang 2 --vm-method zero-one \
		--vm-madvise mergeable -t 20
	stressor madvise 1 --madvise 2 -t 15
}

# start_guest MIB MACHINE [OPTIONS]: QEMU with firmware, and nothing to boot; all memory is there
# from the beginning, and zero. $guest is its PID.
start_guest() {
	local mib=$1 machine=$2
	shift 2

	qemu-system-x86_64 -nodefaults -no-user-config -display none \
		-object "memory-backend-ram,id=ram,size=${mib}M,prealloc=on" -m "$mib" \
		-machine "pc,accel=tcg,memory-backend=ram,$machine" "$@" \
		< /dev/null > $tmp/qemu.log 2>&1 &
	guest=$!
	until_true 60 at_least $((mib * 1024)) rss $guest || sed 's/^/# /' $tmp/qemu.log
	compare "kB of memory of the guest with $machine" "$(rss $guest)" -ge $((mib * 1024))
}

rss() { awk '/^VmRSS:/ { n = $2 } END { print n + 0 }' "/proc/$1/status"; }

# QEMU asks for huge pages, and of those that are split the kernel drops zeros: nothing would be
# left to merge.
huge_pages() { echo "$1" > /sys/kernel/mm/transparent_hugepage/enabled; }

client_qemu() {
	local mib=64

	huge_pages never
	# The workload beside it merges, so there is something to do for ksmd.
	start_guest $mib mem-merge=off
	freeze_victim
	compare "ksm_merging_pages with mem-merge=off" "$(merging $guest)" -eq 0
	finish $guest
	finish "$victim"
	reset_ksm
	run_fast

	start_guest $mib mem-merge=on
	until_true 60 at_least $((mib * 250)) merging $guest
	echo 0 > $ksm/run
	compare "ksm_merging_pages with mem-merge=on" "$(merging $guest)" -ge $((mib * 250))
	compare "pages_shared and pages_sharing are its ksm_merging_pages" \
		$(($(knob pages_shared) + $(knob pages_sharing))) -eq "$(merging $guest)"
	compare "pages_shared, at most 256 mappings each" "$(knob pages_shared)" -le $((mib * 2))
	finish $guest
	echo 1 > $ksm/run
	expect_nothing_merged
	huge_pages madvise
}

# scan_rates: what ksmtuned set pages_to_scan to, one after the other.
scan_rates() { sed -n 's/.*KSMCTL start \([0-9]*\) .*/\1/p' $tmp/ksmtuned.log; }

# ksmtuned looks for the memory of processes whose command line is that of a guest of KVM, which
# there is none here. This one's name is enough for it.
client_ksmtuned() {
	local total sleep daemon

	total=$(awk '/^MemTotal:/ { print $2 }' /proc/meminfo)
	sleep=$((10 * 16 * 1024 * 1024 / total))
	# Nine tenths: what 256 MiB of guest exceed, but not without it.
	cat > /etc/ksmtuned.conf <<-END
		KSM_MONITOR_INTERVAL=2
		KSM_THRES_COEF=90
		LOGFILE=$tmp/ksmtuned.log
		DEBUG=1
	END
	rm -f $tmp/ksmtuned.log

	ksmctl start
	compare "run after ksmctl start" "$(knob run)" -eq 1
	ksmctl stop
	compare "run after ksmctl stop" "$(knob run)" -eq 0

	huge_pages never
	# It has to stop ksmd again, as no guest is there.
	echo 1 > $ksm/run
	ksmtuned > $tmp/ksmtuned.out 2>&1
	daemon=$(cat /var/run/ksmtune.pid)
	until_true 30 knob_is run 0
	compare "run without a guest" "$(knob run)" -eq 0

	start_guest 256 mem-merge=on -name guest=not-enable-kvm
	until_true 30 knob_is run 1
	compare "run with a guest" "$(knob run)" -eq 1
	compare "sleep_millisecs" "$(knob sleep_millisecs)" -eq $sleep
	until_true 120 at_least 60000 merging $guest
	compare "ksm_merging_pages of the guest" "$(merging $guest)" -ge 60000
	# Neither between two adjustments nor in the middle of one.
	kill -STOP "$daemon"
	compare "pages_to_scan is what it says it set" "$(knob pages_to_scan)" -eq \
		"$(scan_rates | tail -n 1)"
	compare "pages_to_scan was boosted" "$(scan_rates | sort -n | tail -n 1)" -ge 300
	kill -CONT "$daemon"
	finish $guest
	until_true 30 knob_is run 0
	compare "run when the guest has gone" "$(knob run)" -eq 0
	kill -9 "$daemon"
	say "$(grep -c KSMCTL $tmp/ksmtuned.log) adjustments, the last: $(tail -n 1 $tmp/ksmtuned.log)"
	run_fast
	expect_nothing_merged
	huge_pages madvise
}

# mergeable_area PID: the start and the length, in pages, of each area whose VmFlags have mg.
mergeable_area() {
	local line start= size=

	while read -r line; do
		case $line in
		VmFlags:*' mg'*) echo $((0x${start%-*} / 4096)) $((size / 4)) ;;
		Size:*) read -r _ size _ <<< "$line" ;;
		[0-9a-f]*-[0-9a-f]*' '*) read -r start _ <<< "$line" ;;
		esac
	done < <(cat "/proc/$1/smaps" 2>/dev/null)
}

# digest PID: of what is in its mergeable area.
digest() {
	local start pages

	read -r start pages < <(mergeable_area "$1")
	dd if="/proc/$1/mem" bs=4096 skip="$start" count="$pages" status=none | sha256sum |
		cut -d ' ' -f 1
}

client_criu() {
	local area before saved=$tmp/criu

	mkdir -p $saved
	freeze_victim
	compare "ksm_merging_pages before the dump" "$(merging "$victim")" -eq 256
	area=$(mergeable_area "$victim")
	before=$(digest "$victim")

	criu dump -t "$victim" -D $saved -v4 -o dump.log > $tmp/criu.out 2>&1
	compare "dump: exit status" $? -eq 0 || {
		grep -a Error $saved/dump.log | head -n 20 | sed 's/^/# /'
		cat $tmp/criu.out
		finish "$victim"
		return
	}
	{ wait "$victim"; } 2>/dev/null
	[ -d "/proc/$victim" ]
	compare "the process has gone after the dump" $? -ne 0
	run_fast
	until_true 60 nothing_merged
	compare "nothing is merged after the dump" "$(merged)" -eq 0

	echo 0 > $ksm/run
	criu restore -d -D $saved -v4 -o restore.log > $tmp/criu.out 2>&1
	compare "restore: exit status" $? -eq 0 || {
		grep -a Error $saved/restore.log | head -n 20 | sed 's/^/# /'
		cat $tmp/criu.out
	}
	same "the mergeable area (page, pages)" "$(mergeable_area "$victim")" "$area"
	same "its contents" "$(digest "$victim")" "$before"
	compare "ksm_merging_pages of what was restored" "$(merging "$victim")" -eq 0

	run_fast
	passes 4
	compare "ksm_merging_pages of what was restored, later" "$(merging "$victim")" -eq 256
	compare "pages_shared of what was restored" "$(knob pages_shared)" -eq 64
	same "its contents, once merged" "$(digest "$victim")" "$before"
	finish "$victim"
	expect_nothing_merged
}

# traced NAME: a count of bpftrace's, 0 if it has none.
traced() { awk -v name="@$1:" '$1 == name { n = $2 } END { print n + 0 }' $tmp/bpftrace.out; }

# interrupt PID: until it ends, as bpftrace forgets a signal that comes while it does not wait.
interrupt() {
	local count

	for ((count = 0; count < 60; count++)); do
		kill -INT "$1" 2>/dev/null
		until_true 1 test ! -e "/proc/$1/exe" && return
	done
	kill -9 "$1"
}

client_bpftrace() {
	local tracer passes

	cat > $tmp/ksm.bt <<-'END'
		BEGIN { printf("attached\n"); }
		tracepoint:ksm:ksm_start_scan { @start = count(); }
		tracepoint:ksm:ksm_stop_scan { @stop = count(); }
		tracepoint:ksm:ksm_enter { @enter = count(); }
		tracepoint:ksm:ksm_exit { @exit = count(); }
		tracepoint:ksm:ksm_merge_one_page { @one[args->err] = count(); }
		tracepoint:ksm:ksm_merge_with_ksm_page { @with[args->err] = count(); }
	END
	bpftrace -B line -I /usr/include/x86_64-linux-gnu $tmp/ksm.bt \
		> $tmp/bpftrace.out 2> $tmp/bpftrace.err &
	tracer=$!
	until_true 120 grep -qs attached $tmp/bpftrace.out || cat $tmp/bpftrace.err
	freeze_victim
	passes=$(knob full_scans)
	# The end of it has to be seen, too.
	finish "$victim"
	interrupt $tracer
	wait $tracer
	compare "exit status" $? -eq 0
	sed 's/^/# /' $tmp/bpftrace.out

	compare "ksm_stop_scan is full_scans" "$(traced stop)" -eq "$passes"
	compare "ksm_start_scan, one more if a pass is under way" "$(traced start)" -ge "$passes"
	compare "ksm_enter: the workload" "$(traced enter)" -eq 1
	compare "ksm_exit: the workload" "$(traced exit)" -eq 1
	# The base has one for each mapping of a KSM page, the first as well, and the other one for each
	# of the zero page.
	compare "ksm_merge_with_ksm_page: the workload's pages_shared and pages_sharing" \
		"$(traced 'with[0]')" -eq 256
	compare "ksm_merge_one_page: no page merged with the zero page" "$(traced 'one[0]')" -eq 0
	run_fast
	expect_nothing_merged
}

version() { dpkg-query -W -f '${Version}' "$1"; }

# 254 and 255 call prctl(PR_SET_MEMORY_MERGE) with anything in the arguments that have to be 0, so
# that every kernel refuses, and a service with MemoryKSM= does not start.
client_systemd() {
	local number

	number=$(version systemd)
	if dpkg --compare-versions "$number" lt 254; then
		skip "systemd $number has no MemoryKSM=, which came with 254"
	elif dpkg --compare-versions "$number" lt 256; then
		skip "systemd $number sets MemoryKSM= so that every kernel refuses; mended in 256"
	else
		skip "systemd $number has MemoryKSM=, and there is no check of it yet"
	fi
}

[ -e /dev/fd ] || ln -s /proc/self/fd /dev/fd
cd / && rm -rf $tmp && mkdir -p $tmp && write_victim || exit 1
[ $# -gt 0 ] || set -- $all
for client in "$@"; do
	if [ $SECONDS -ge "${SECONDS_LEFT:-999999}" ]; then
		skip 'no time left'
		continue
	fi
	start=$SECONDS
	reset_ksm
	"client_${client//-/_}"
	say "$((SECONDS - start)) s"
done
reset_ksm
client=all
if [ -e /sys/kernel/debug/ksm/validate ]; then
	echo 1 > /sys/kernel/debug/ksm/validate
	compare "the kernel's own validation (status)" $? -eq 0
fi
[ $bad = 0 ]
