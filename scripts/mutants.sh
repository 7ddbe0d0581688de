#!/bin/bash
# SPDX-License-Identifier: GPL-2.0
#
# Do the tests notice broken code? Every file in tools/testing/ksm/mutants/ is a small
# breakage of the code as a patch to this repository, with a line that says what it
# breaks, and optionally one that says which suites are to find it:
#
#   Breaks: the compare that decides a merge
#   Suites: unit vm-quick
#
#   mutants.sh [NAME ...]	(all by default; NAME is a file's name without .patch)
#
# One at a time is applied to a copy of the repository in build/mutants, with trees and
# output directories of its own, and the suites are run there until one fails, cheapest first.
# First of all the unbroken copy has to pass them. A mutant that survives,
# doesn't apply or doesn't compile is a failure: compilers must not be what catches it.

. "$(dirname "$0")/lib.sh"

copy=$top/build/mutants
mutants=$top/tools/testing/ksm/mutants
default_suites=${MUTANT_SUITES:-unit kunit vm}

tree || exit 1

# The repository as it is now, without what is in build/.
refresh() {
	mkdir -p "$copy/build"
	rsync -a --checksum --delete --exclude /build --exclude /.git "$top/" "$copy/"
	# A copy outside git lists its files by itself: see list_sources in mktree.sh.
	ln -sfn ../../mainline "$copy/build/mainline"
	cp "$top/build/mainline.stamp" "$copy/build/"
}

# run SUITES: prints the first failing test and returns 1, or returns 0.
run() {
	local suite log
	for suite in $1; do
		log=$logs/mutant-$suite.log
		if ! "$copy/scripts/check.sh" "$suite" < /dev/null > "$log" 2>&1; then
			failure=$(grep -m 1 '^not ok' "$log" || echo "$suite failed without a result")
			if grep -qE '^kbuild: .* failed after|(^|[ :])[Ee]rror:|\*\*\* ' "$log" && grep -q '0 passed' "$log"; then
				failure="does not compile: $failure"
				return 2
			fi
			caught_by=$suite
			return 1
		fi
	done
	return 0
}

refresh
if [ ! -d "$copy/build/linux" ]; then
	echo "  MUTANTS copying build/linux" >&2
	cp -a "$top/build/linux" "$top/build/linux.stamp" "$top/build/linux.managed" "$copy/build/"
fi

names=("$@")
if [ $# -eq 0 ]; then
	for file in "$mutants"/*.patch; do
		[ -f "$file" ] && names+=("$(basename "$file" .patch)")
	done
fi
[ ${#names[@]} -gt 0 ] || { echo "no mutants in ${mutants#"$top"/}"; exit 1; }

all_suites=$default_suites
for name in "${names[@]}"; do
	all_suites+=" $(sed -n 's/^Suites: *//p' "$mutants/$name.patch")"
done
all_suites=$(printf '%s\n' $all_suites | awk '!seen[$0]++' | tr '\n' ' ')
echo "unbroken: $all_suites"
failure= caught_by=
if ! run "$all_suites"; then
	echo "the unbroken code fails: $failure"
	exit 1
fi

caught=0 survived=0
for name in "${names[@]}"; do
	file=$mutants/$name.patch
	breaks=$(sed -n 's/^Breaks: *//p' "$file")
	suites=$(sed -n 's/^Suites: *//p' "$file")
	start=$SECONDS
	refresh
	failure= caught_by= status=0
	if ! patch -d "$copy" -p1 --fuzz=0 --no-backup-if-mismatch -s < "$file"; then
		failure="does not apply"
		status=2
	else
		run "${suites:-$default_suites}" || status=$?
	fi
	if [ $status = 1 ]; then
		caught=$((caught + 1))
		printf 'caught    %-28s %-45s by %s: %s (%d s)\n' "$name" "$breaks" "$caught_by" \
			"${failure#not ok }" $((SECONDS - start))
	else
		survived=$((survived + 1))
		printf 'SURVIVED  %-28s %-45s %s (%d s)\n' "$name" "$breaks" "$failure" $((SECONDS - start))
	fi
done
refresh
echo "$caught caught, $survived survived"
[ $survived = 0 ]
