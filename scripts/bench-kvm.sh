#!/bin/bash
# SPDX-License-Identifier: GPL-2.0
#
# `make bench-kvm`: what merging asks of KVM and its guests, mainline's KSM and ours side by side.
# Both kernels have configs/kvm.config and run tools/testing/selftests/vm/kvm/bench in QEMU, as
# `make check-kvm` does. These are counts, not times, so one run is enough, on a busy machine too.
#
# The table goes to build/bench/kvm.txt, too. Its columns, for each page that merged:
#
#   ranges	mmu_notifier ranges that KVM was told of
#   flushes	of the guest's TLB entries
#   faults	exits by which guests that read all of their memory later get back what KVM dropped
#
# Then the same for each pass that finds nothing new. The exit status is 1 if there are no numbers,
# if a page was wrong, or if ours cost a clean guest anything.

. "$(dirname "$0")/lib.sh"

out=$top/build/bench
mkdir -p "$out"

for TREE in mainline linux; do
	tree && kernel $TREE kvm || exit 1
done
guest_programs || exit 1

for TREE in mainline linux; do
	nested -s -l "bench-kvm-$TREE" -m 2048 -t "${KVM_TIMEOUT:-900}" \
		-f "$tests/vm/ksm_kvm_bench" "$TREE-kvm" \
		"KSM_TIME_FACTOR=10 $nested_cpus ksm_kvm_bench" || {
		grep '^failed' "$logs/bench-kvm-$TREE.out" >&2
		exit 1
	}
	sed -n "s/^case /$TREE case /p" "$logs/bench-kvm-$TREE.out"
done > "$out/kvm.numbers"

awk '
function per(side, name, what, of) { return n[side, name, what] / n[side, name, of] }

function ratio(name) {
	return per("mainline", name, "merge_ranges", "merged") / \
		per("linux", name, "merge_ranges", "merged")
}

# Three columns of each side.
function row(name, columns, of,    i, part) {
	printf "%-12s %7d ", name, n["linux", name, "merged"]
	split(columns, part, " ")
	for (i = 1; i <= 3; i++)
		printf " %8.3f", per("mainline", name, part[i], of)
	printf "  "
	for (i = 1; i <= 3; i++)
		printf " %8.3f", per("linux", name, part[i], of)
}

function heading(title, columns) {
	printf "\n%s\n%-12s %7s  %26s   %26s\n", title, "", "pages", "mainline", "ours"
	split(columns, c, " ")
	printf "%-12s %7s  %8s %8s %8s   %8s %8s %8s", "", "merged", c[1], c[2], c[3], c[1], c[2], c[3]
}

{
	if (!seen[$3]++)
		names[++cases] = $3
	for (i = 4; i < NF; i += 2)
		n[$1, $3, $i] = $(i + 1)
}

END {
	heading("for each page that merged", "ranges flushes faults")
	print "   ranges of mainline"
	for (i = 1; i <= cases; i++) {
		row(names[i], "merge_ranges merge_flushes after_faults", "merged")
		printf "   1/%.1f\n", ratio(names[i])
	}

	heading("for each pass over idle guests", "ranges flushes exits")
	print ""
	for (i = 1; i <= cases; i++) {
		row(names[i], "idle_ranges idle_flushes idle_exits", "passes")
		print ""
	}

	heading("for each pass over guests that read all the time", "ranges flushes faults")
	print ""
	for (i = 1; i <= cases; i++) {
		row(names[i], "busy_ranges busy_flushes busy_faults", "passes")
		print ""
	}

	for (i = 1; i <= cases; i++) {
		bad += n["linux", names[i], "wrong"]
		split("idle_ranges idle_flushes idle_exits busy_ranges busy_flushes busy_faults", c, " ")
		for (j = 1; j <= 6; j++)
			costs += n["linux", names[i], c[j]]
	}
	printf "\ndense: 1/%.1f of the ranges of mainline; the goal is 1/20: %s\n",
		ratio("dense"), (ratio("dense") >= 20 ? "reached" : "missed")
	printf "clean guests: %s\n", (costs ? "not left alone" : "left alone")
	exit cases == 0 || bad || costs
}' "$out/kvm.numbers" | tee "$out/kvm.txt"
[ "${PIPESTATUS[0]}" = 0 ]
