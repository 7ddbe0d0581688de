#!/bin/sh
# SPDX-License-Identifier: GPL-2.0
#
# Run the same-page merging selftests that tests.list names, in a guest or on
# a host that uses KSM for nothing else. Needs root and any POSIX shell.
#
#   run.sh [PROGRAM...]
#
# Environment: KSM_FRESH_BOOT=1 also checks the defaults after boot;
# KSM_TIME_FACTOR=N makes waits N times as long; KSM_SEED=N sets the contents;
# KSM_SECONDS=N begins no program after that time.
# Prints each program's TAP, then `N passed, N failed, N skipped`; the exit
# status is 1 if anything failed or nothing ran.

dir=$(cd "$(dirname "$0")" && pwd) || exit 1
log=$(mktemp /tmp/ksm-selftest.XXXXXX) || exit 1
trap 'rm -f "$log"' EXIT

passed=0 failed=0 skipped=0 broken=

if [ $# -eq 0 ]; then
	# shellcheck disable=SC2046
	set -- $(cat "$dir/tests.list")
fi

begin=$(date +%s)
for name in "$@"; do
	start=$(date +%s)
	if [ $((start - begin)) -ge "${KSM_SECONDS:-$((start - begin + 1))}" ]; then
		echo "ok - $name # SKIP no time left"
		skipped=$((skipped + 1))
		continue
	fi
	echo "# ---- $name"
	{ "$dir/$name" 2>&1; echo "exit status $?" >"$log.status"; } | tee "$log"
	status=$(sed 's/exit status //' "$log.status")
	rm -f "$log.status"
	ok=$(grep -c '^ok ' "$log")
	bad=$(grep -c '^not ok ' "$log")
	skip=$(grep -c '^ok .*# SKIP' "$log")
	planned=$(sed -n 's/^1\.\.\([0-9]*\)$/\1/p' "$log" | head -n 1)
	# A program that died before its last test did not pass that one.
	missing=$((${planned:-1} - ok - bad))
	[ "$missing" -gt 0 ] || missing=0
	[ "$status" -eq 0 ] || [ "$((bad + missing))" -gt 0 ] || missing=1
	passed=$((passed + ok - skip))
	skipped=$((skipped + skip))
	failed=$((failed + bad + missing))
	[ "$((bad + missing))" -eq 0 ] || broken="$broken $name"
	echo "# ---- $name: $((ok - skip)) passed, $((bad + missing)) failed," \
	     "$skip skipped, $(($(date +%s) - start)) s"
done

[ -z "$broken" ] || echo "# programs with failures:$broken"
echo "$passed passed, $failed failed, $skipped skipped"
[ "$failed" -eq 0 ] && [ "$passed" -gt 0 ]
