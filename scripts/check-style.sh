#!/bin/bash
# SPDX-License-Identifier: GPL-2.0
#
# checkpatch --strict on every file and patch of ours, sparse and kernel-doc on mm/ksm/,
# an SPDX line in every file, shell scripts that parse.

. "$(dirname "$0")/lib.sh"
cd "$top" || exit 1

tree || exit 1

# Without a git directory checkpatch leaves out its SPDX check, which wants Python modules.
# MAINTAINERS of the tree doesn't know our files.
checkpatch=(env GIT_DIR=/nonexistent perl "$top/build/linux/scripts/checkpatch.pl" --strict
	"--root=$top/build/linux" --quiet --terse --no-summary --show-types
	--ignore=FILE_PATH_CHANGES,GIT_COMMIT_ID,NO_AUTHOR_SIGN_OFF)

# Kept out of userspace's way: what only a kernel has, and macros that make test functions, as those
# of the kselftest harness do.
userspace=(--ignore=VOLATILE,BIT_MACRO,AVOID_EXTERNS,PREFER_DEFINED_ATTRIBUTE_MACRO)
test_macros=(--ignore=COMPLEX_MACRO,MULTISTATEMENT_MACRO_USE_DO_WHILE,MACRO_ARG_REUSE,MACRO_WITH_FLOW_CONTROL)

# run_checkpatch ARGUMENTS: succeeds if there is nothing to say. It leaves a cache where it runs.
run_checkpatch() {
	local out
	out=$(cd build && "${checkpatch[@]}" "$@" 2>&1)
	[ -z "$out" ] && return
	echo "${out//$top\//}"
	return 1
}

clean_source() {
	case $1 in
	*/ksm_test.h)	run_checkpatch "${userspace[@]}" "${test_macros[@]}" --file "$top/$1" ;;
	tools/*)	run_checkpatch "${userspace[@]}" --file "$top/$1" ;;
	*)		run_checkpatch --file "$top/$1" ;;
	esac
}

clean_patch() { run_checkpatch --no-signoff "$top/$1"; }

all_have_spdx() {
	local file bad=0
	while read -r file; do
		[ -s "$file" ] || continue
		head -n 3 "$file" | grep -q 'SPDX-License-Identifier: ' || { echo "no SPDX line: $file"; bad=1; }
	done < <(list_files | grep -vE '^(README|MAINTAINERS|\.clang-format|\.editorconfig|patches/.*)$')
	return $bad
}

list_files() {
	if [ "$(git rev-parse --show-toplevel 2>/dev/null)" = "$top" ]; then
		git ls-files --cached --others --exclude-standard
	else
		find . -type f -not -path './build/*' -not -path './.git/*' -printf '%P\n'
	fi
}

scripts_parse() {
	local file bad=0
	for file in scripts/*.sh .ci/run tools/testing/*/*.sh tools/testing/selftests/vm/*.sh; do
		[ -f "$file" ] || continue
		bash -n "$file" || bad=1
	done
	return $bad
}

# No contexts: the base's page table helpers (pte_offset_map_lock, folio_walk_start and so on) take locks
# that sparse isn't told of, so it complains of their callers, here as all over mm/. Lockdep checks those.
sparse_clean() {
	scripts/kbuild.sh linux debug C=2 CF=-Wno-context mm/ksm/ || return 1
	! grep -E '(mm/ksm/|linux/ksm\.h|events/ksm\.h).*(warning|error):' build/log/kbuild-linux-debug.log
}

kernel_doc_clean() {
	local out
	out=$(cd build/linux && perl scripts/kernel-doc -none -Wall mm/ksm/*.[ch] include/linux/ksm.h 2>&1) || { echo "$out"; return 1; }
	echo "$out"
	[ -z "$out" ]
}

for file in $(list_files | grep -E '\.[ch]$'); do
	beside attempt "checkpatch: $file" clean_source "$file"
done
for file in patches/*.patch; do
	beside attempt "checkpatch: $file" clean_patch "$file"
done
wait
attempt "every file has its SPDX line" all_have_spdx
attempt "scripts parse" scripts_parse
attempt "kernel-doc is clean" kernel_doc_clean
attempt "sparse is clean" sparse_clean
