#!/bin/bash
# SPDX-License-Identifier: GPL-2.0
#
# Makes or renews a benchmark tree:
#
#   bench-tree.sh mainline|linux
#
# build/bench-TREE is build/TREE with patches/bench on top, and what mainline needs of the series to
# run at all. Its files are hard links to those
# of build/TREE, except the patched ones, which are patched aside and only replaced when their
# content changed, so that build/TREE is never written to and little is compiled again.

set -euo pipefail

top=$(cd "$(dirname "$0")/.." && pwd)
tree=${1:?usage: bench-tree.sh mainline|linux}
src=$top/build/$tree
dst=$top/build/bench-$tree
stage=$dst.stage
patches=("$top"/patches/bench/*.patch)
[ "$tree" = linux ] || patches+=("$top"/patches/*-um-*.patch)

mapfile -t patched < <(sed -n 's,^+++ b/\([^[:space:]]*\).*,\1,p' "${patches[@]}" | sort -u)

rm -rf "$stage"
mkdir -p "$stage" "$dst"
for file in "${patched[@]}"; do
	mkdir -p "$stage/$(dirname "$file")"
	[ ! -f "$src/$file" ] || cp "$src/$file" "$stage/$file"
done
for patch in "${patches[@]}"; do
	patch -d "$stage" -p1 -s -F0 -f --no-backup-if-mismatch < "$patch" || {
		echo "bench-tree: ${patch##*/} does not apply to build/$tree" >&2
		exit 1
	}
done

rsync -a --delete --link-dest="$src" --exclude '/.out-*' \
	--exclude-from=<(printf '/%s\n' "${patched[@]}") "$src/" "$dst/"
for file in "${patched[@]}"; do
	cmp -s "$stage/$file" "$dst/$file" || {
		mkdir -p "$dst/$(dirname "$file")"
		mv -f "$stage/$file" "$dst/$file"
	}
done
rm -rf "$stage"
