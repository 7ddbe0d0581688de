#!/bin/bash
# SPDX-License-Identifier: GPL-2.0
#
# The documents: every file of the repository or the tree that they name exists, every source file
# of mm/ksm is named in the design document, and the commands of the administrator's guide do what is
# said there: they are run as they are, in a guest.

. "$(dirname "$0")/lib.sh"
cd "$top" || exit 1

tree || exit 1

names_exist() {
	local name bad=0
	while read -r name; do
		[ -e "$name" ] || [ -e "build/linux/$name" ] || { echo "$1 names $name"; bad=1; }
	done < <(grep -oE '(^|[^A-Za-z0-9_./-])(mm|include|tools|scripts|Documentation|configs|patches|fs|kernel)/[A-Za-z0-9_./-]+[A-Za-z0-9_]' "$1" |
		sed 's/^[^A-Za-z]//' | sort -u)
	return $bad
}

design_complete() {
	local file bad=0
	for file in mm/ksm/*.c; do
		file=${file##*/}
		grep -qE "\\b(${file%.c}|$file)\\b" Documentation/vm/ksm-design.rst || { echo "not in ksm-design.rst: $file"; bad=1; }
	done
	return $bad
}

guide=Documentation/admin-guide/mm/ksm.rst

# The literal blocks of a document, as a script.
examples() {
	awk '/::$/ { wanted = 1; next }
	     /^\t/ && wanted { sub(/^\t/, ""); print; next }
	     /^[^\t]/ { wanted = 0 }' "$1"
}

examples_run() {
	local commands out=$logs/check-docs.out word

	commands=$(examples "$guide")
	# As many as there are: a block that is not found would be no example any more.
	[ "$(wc -l <<< "$commands")" = 5 ] || { echo "$commands"; return 1; }
	commands="set -e; $commands
		cd /sys/kernel/mm/ksm; grep . run pages_to_scan advisor_mode"
	"$top/scripts/vm.sh" -l check-docs "$TREE-debug" "$commands" || return 1
	for word in full_scans pages_shared pages_sharing pages_unshared pages_volatile general_profit; do
		grep -qE "^$word:-?[0-9]+$" "$out" || { echo "no $word"; return 1; }
	done
	grep -qx 'run:1' "$out" && grep -qx 'advisor_mode:none \[scan-time\]' "$out" &&
		grep -qx 'pages_to_scan:500' "$out"
}

for file in README MAINTAINERS Documentation/vm/*.rst; do
	[ -f "$file" ] || continue
	attempt "names in $file exist" names_exist "$file"
done
attempt "the design document names every source file" design_complete
kernel "$TREE" debug
attempt "the examples of $guide run" examples_run
