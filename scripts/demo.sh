#!/bin/bash
# SPDX-License-Identifier: GPL-2.0
#
# The demonstration behind `make demo`: boots a kernel in which several processes load
# real files, and lets ksmd find what they have in common.
#
# Environment:
#   FILES=DIR    the files to load (default: parts of the C library, Python, Perl and the
#                kernel's own sources)
#   DEMO_MIB=N   how much of them at most (24; each process loads it all)
#   DEMO_PROCS=N processes (4)
#   DEMO_TREE=T  linux (default), or mainline for comparison
#
# The exit status is non-zero if a byte differs or the kernel complains.

. "$(dirname "$0")/lib.sh"

mib=${DEMO_MIB:-24}
procs=${DEMO_PROCS:-4}
base=${DEMO_TREE:-linux}
files=${FILES:-}
stage=$(mktemp -d "${TMPDIR:-/tmp}/demo.XXXXXX") || exit 1
trap 'rm -rf "$stage"' EXIT
trap 'exit 130' INT TERM

die() { echo "demo: $*" >&2; exit 1; }

case $mib$procs in *[!0-9]*) die "DEMO_MIB and DEMO_PROCS are numbers" ;; esac
[ -z "$files" ] || [ -d "$files" ] || die "FILES=$files is not a directory"

# take DIR MIB: copy regular files below DIR, in order of their names, up to that size.
taken=0
take() {
	local dir=$1 left=$(($2 << 20)) size file

	[ -d "$dir" ] && [ "$left" -gt 0 ] || return 0
	mkdir -p "$stage/$taken"
	while IFS=' ' read -r size file; do
		[ "$size" -le "$left" ] || continue
		left=$((left - size))
		printf '%s\0' "$file"
	done < <(find -L "$dir" -xdev -type f -size +0 -printf '%s %P\n' 2>/dev/null |
			LC_ALL=C sort -k 2 | head -n 6000) |
		(cd "$dir" && cpio -p -d -0 -L --quiet "$stage/$taken" 2>/dev/null)
	taken=$((taken + 1))
}

tree "$base" && guest_programs || exit 1
kernel "$base" qemu || exit 1

if [ -n "$files" ]; then
	take "$files" "$mib"
else
	libc=$(dirname "$(ldd /bin/sh | sed -n 's/.*=> \(.*libc\.so[^ ]*\).*/\1/p')")
	mkdir -p "$stage/libc"
	cp -L "$libc"/libc.so.6 "$libc"/libm.so.6 "$libc"/libstdc++.so.6 "$stage/libc" 2>/dev/null
	for dir in /usr/lib/python3.*/ "$libc"/perl-base/ /usr/share/perl/5.*/; do
		take "$dir" $((mib / 5))
	done
	for dir in mm kernel fs; do
		take "$top/build/$base/$dir" $((mib / 10))
	done
fi
[ -n "$(find "$stage" -type f -print -quit)" ] || die "no files to load"
chmod -R u+rwX "$stage"

# What the processes hold, the archive they come from, and room for the kernel.
size=$(du -sm --apparent-size "$stage" | cut -f 1)
memory=$((512 + size * (procs + 4) * 12 / 10))
"$top/scripts/vm.sh" -l demo -m "$memory" -t 600 -a "$(guest_clock)" \
	-f "$tests/vm/ksm_demo" -f "$stage:/files" "$base-qemu" "ksm_demo --files /files --procs $procs"
status=$?
[ $status = 0 ] || echo "demo: failed ($status), see build/log/demo.console" >&2
exit $status
