#!/bin/bash
# SPDX-License-Identifier: GPL-2.0
#
# Runs test suites and adds up their results:
#
#   check.sh [SUITE ...]	(by default those of `make check`, what tells most first)
#   check.sh all		(those, and what takes longer)
#
# A suite is scripts/check-SUITE.sh, and prints flat TAP. Counted are the lines `ok` and
# `not ok`; a skipped test is neither passed nor failed. A suite that fails without saying
# which test did, runs fewer tests than it planned, or has no result at all counts as one
# failure. The last line is `N passed, N failed`; the exit status is 0 only if nothing failed and
# something passed.
#
# Environment: CHECK_SECONDS, after which no suite and no program of the vm suite is begun any
# more, for machines that are given a limited time; what was left out counts as skipped.

. "$(dirname "$0")/lib.sh"

suites=("$@")
[ $# -gt 0 ] && [ "$*" != all ] || suites=(unit docs vm torture style kunit i386 matrix)
[ "$*" != all ] || suites+=(base-tests clients kvm)

passed=0 failed=0 skipped=0
summary=()
begin=$SECONDS
export CHECK_UNTIL=${CHECK_SECONDS:+$(($(date +%s) + CHECK_SECONDS))}

for suite in "${suites[@]}"; do
	script=$top/scripts/check-$suite.sh
	log=$logs/check-$suite.log
	start=$SECONDS
	status=0
	echo "==== $suite"
	if [ -n "$CHECK_UNTIL" ] && [ "$(date +%s)" -ge "$CHECK_UNTIL" ]; then
		skip "$suite" 'no time left' | tee "$log"
		skipped=$((skipped + 1))
		continue
	fi
	if [ -x "$script" ]; then
		"$script" < /dev/null 2>&1 | tee "$log" || status=$?
	else
		echo "no suite '$suite'" | tee "$log"
		status=1
	fi

	skip=$(grep -cE '^ok .*# SKIP' "$log")
	ok=$(($(grep -cE '^ok ' "$log") - skip))
	bad=$(grep -cE '^not ok ' "$log")
	planned=$(awk '/^1\.\.[0-9]+$/ { n += substr($0, 4) } END { print n + 0 }' "$log")
	if [ "$planned" -gt $((ok + bad + skip)) ]; then
		echo "not ok - $suite: $planned tests planned, only $((ok + bad + skip)) ended"
		bad=$((bad + 1))
	elif [ $status != 0 ] && [ "$bad" = 0 ]; then
		echo "not ok - $suite: exit status $status"
		bad=1
	elif [ $((ok + bad)) = 0 ]; then
		echo "not ok - $suite: no test ran"
		bad=1
	fi
	passed=$((passed + ok))
	failed=$((failed + bad))
	skipped=$((skipped + skip))
	summary+=("$(printf '%-10s %5d passed %5d failed %5d skipped %6d s' \
		"$suite" "$ok" "$bad" "$skip" $((SECONDS - start)))")
done

echo "===="
printf '%s\n' "${summary[@]}"
if [ $skipped -gt 0 ]; then
	for suite in "${suites[@]}"; do
		grep -hE "^ok .*# SKIP" "$logs/check-$suite.log" || true
	done
fi
echo "$((SECONDS - begin)) s in all"
echo "$passed passed, $failed failed"
[ $failed = 0 ] && [ $passed -gt 0 ]
