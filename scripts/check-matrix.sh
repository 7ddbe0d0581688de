#!/bin/bash
# SPDX-License-Identifier: GPL-2.0
#
# Other configurations: mm/ksm/ is compiled with W=1 and must give no warning that names a file of
# ours. Every file of the base that includes our header is compiled, too, without KSM, and with 32 bits
# and without memory failure. One processor and no nodes boot in user mode Linux (check-kunit.sh),
# 32 bits in QEMU (check-i386.sh).

. "$(dirname "$0")/lib.sh"

compile="noksm nosysfs nonuma nothp nosmp noswap preempt-rt i386"

tree || exit 1

# Objects of the files that include our header, without other architectures' and drivers'.
mapfile -t users < <(cd "$top/build/$TREE" &&
	grep -lE '#include <linux/ksm\.h>' -r mm fs kernel --include='*.c' | grep -v '^mm/ksm' | sed 's/c$/o/')
[ ${#users[@]} -gt 5 ] || { echo "# found no users of linux/ksm.h"; exit 1; }

# built_in CONFIG OBJECT: whether the object's line in its Makefile, if it depends on an option, is on.
# (make would compile it in any case if told to.)
built_in() {
	local dir=${2%/*} name=${2##*/} option
	option=$(sed -nE "s/^[a-z-]+-\\$\\((CONFIG_[A-Z0-9_]+)\\)[[:space:]]*[:+]?=.*\\b${name%.o}\\.o\\b.*/\\1/p" \
		"$top/build/$TREE/$dir/Makefile" | head -n 1)
	[ -z "$option" ] || grep -q "^$option=y" "$top/build/out/$TREE-$1/.config"
}

compiles() {
	local object config=$1 log=$top/build/log/kbuild-$TREE-$1.log what=(mm/ksm/)

	case $config in
	noksm)	what=() ;&
	i386)	"$top/scripts/kbuild.sh" "$TREE" "$config" config || return 1
		for object in "${users[@]}"; do
			! built_in "$config" "$object" || what+=("$object")
		done ;;
	esac
	"$top/scripts/kbuild.sh" "$TREE" "$config" W=1 "${what[@]}" || return 1
	! grep -E '(mm/ksm/|linux/ksm\.h|events/ksm\.h).*warning:' "$log"
}

for config in $compile; do
	attempt "matrix: $config compiles without warnings" compiles "$config"
done
