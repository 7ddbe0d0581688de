#!/bin/bash
# SPDX-License-Identifier: GPL-2.0
#
# The documents: every file of the repository or the tree that they name exists, and
# every source file of mm/ksm is named in the design document.

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

for file in README MAINTAINERS Documentation/vm/*.rst; do
	[ -f "$file" ] || continue
	attempt "names in $file exist" names_exist "$file"
done
attempt "the design document names every source file" design_complete
