#!/bin/bash
# SPDX-License-Identifier: GPL-2.0
#
# Makes the kernel trees under build/:
#
#   mktree.sh mainline [BASE]	build/mainline: the untouched base
#   mktree.sh linux [BASE]	build/linux: the base, our files, the patches
#
# BASE is an unpacked kernel tree; without it, Debian's linux-source package is
# unpacked. What differs from the base is put together in build/overlay first and
# then compared file by file with build/linux, so that only files whose content
# changed get a new time stamp and an incremental build compiles no more than it has to.
# build/linux.managed lists every path that differs from the base: a path that
# leaves the list is restored from build/mainline.

set -euo pipefail

top=$(cd "$(dirname "$0")/.." && pwd)
build=$top/build
which=${1:?usage: mktree.sh linux|mainline [BASE]}
base=${2:-${BASE:-}}
tarball=${TARBALL:-/usr/src/linux-source-6.12.tar.xz}

die() { echo "mktree: $*" >&2; exit 1; }
say() { echo "  TREE    $*"; }

# A line that changes whenever the base does.
base_identity() {
	if [ -n "$base" ]; then
		echo "dir $(cd "$base" && pwd)"
	else
		[ -r "$tarball" ] || die "no $tarball: run 'make deps' first"
		stat -L -c 'tarball %n %s %Y' "$tarball"
	fi
}

# fetch_base DIR: an own copy of the base, complete or not there at all.
fetch_base() {
	local dir=$1 want

	want=$(base_identity)
	if [ -d "$dir" ] && [ "$(cat "$dir.stamp" 2>/dev/null)" = "$want" ]; then
		return
	fi
	say "${dir#"$top"/} from ${base:-$tarball}"
	# Kernels built from the old base are of no use, and live inside it (scripts/kbuild.sh).
	rm -rf "$dir" "$dir.stamp" "$dir.managed" "$dir.tmp"
	mkdir -p "$dir.tmp"
	if [ -n "$base" ]; then
		[ -f "$base/Kbuild" ] && [ -f "$base/mm/Kconfig" ] ||
			die "$base is not a kernel tree"
		[ ! -e "$base/.config" ] || die "$base was built in: run 'make mrproper' there"
		rsync -a --exclude /.git --exclude '/.out-*' "$base/" "$dir.tmp/"
	else
		tar -xf "$tarball" --strip-components=1 -C "$dir.tmp"
	fi
	mv "$dir.tmp" "$dir"
	echo "$want" > "$dir.stamp"
}

# map_lines: the install map without comments.
map_lines() { sed -e 's/#.*//' -e '/^[[:space:]]*$/d' "$top/scripts/install.map"; }

# list_sources PATH: the files of this repository below PATH, without what builds leave behind.
list_sources() {
	# A copy that merely lies inside some git work tree is none itself.
	if [ "$(git -C "$top" rev-parse --show-toplevel 2>/dev/null)" = "$top" ]; then
		git -C "$top" ls-files --cached --others --exclude-standard -- "$1"
	else
		(cd "$top" && find "$1" -type f ! -name '*.o' ! -name '.*')
	fi
}

# Puts our files and the patched files of the base into build/overlay, and the names
# of removed files into build/overlay.removed.
make_overlay() {
	local overlay=$build/overlay removed=$build/overlay.removed from to file dest patch

	rm -rf "$overlay"
	mkdir -p "$overlay"
	: > "$removed"
	while read -r from to; do
		[ "$from" = - ] || continue
		(cd "$build/mainline" && compgen -G "$to" >> "$removed") || true
	done < <(map_lines)

	while read -r from to; do
		[ "$from" != - ] && [ -e "$top/$from" ] || continue
		while read -r file; do
			[ -f "$top/$file" ] || continue
			dest=$to
			[ "$file" = "$from" ] || dest=$to${file#"$from"}
			if [ -e "$build/mainline/$dest" ] && ! grep -qxF "$dest" "$removed" &&
			   ! cmp -s "$top/$file" "$build/mainline/$dest"; then
				die "$file would overwrite $dest of the base"
			fi
			install -D -m "$(stat -c %a "$top/$file")" "$top/$file" "$overlay/$dest"
		done < <(list_sources "$from")
	done < <(map_lines)

	for patch in "$top"/patches/[0-9]*.patch; do
		[ -f "$patch" ] || continue
		sed -n -e 's,^--- a/\([^\t ]*\).*,\1,p' -e 's,^+++ b/\([^\t ]*\).*,\1,p' "$patch" | sort -u |
		while read -r file; do
			[ ! -e "$overlay/$file" ] && [ -f "$build/mainline/$file" ] || continue
			mkdir -p "$overlay/$(dirname "$file")"
			cp -p "$build/mainline/$file" "$overlay/$file"
		done
		patch -d "$overlay" -p1 --fuzz=0 --no-backup-if-mismatch -s < "$patch" ||
			die "${patch##*/} does not apply"
		# A hunk found at an offset is as stale as one applied with fuzz, but harmless.
	done
}

# Brings over into build/linux what differs from it.
sync_overlay() {
	local tree=$build/linux managed=$build/linux.managed new=$build/linux.managed.new file changed=0

	{ (cd "$build/overlay" && find . -type f -printf '%P\n'); cat "$build/overlay.removed"; } |
		sort -u > "$new"
	touch "$managed"
	# The list covers old and new until the work is done, so that an interrupted run is repaired.
	sort -u "$new" "$managed" > "$managed.both"
	mv "$managed.both" "$managed"

	while read -r file; do
		if [ -f "$build/overlay/$file" ]; then
			put "$build/overlay/$file" "$tree/$file"
		elif grep -qxF "$file" "$new" || [ ! -e "$build/mainline/$file" ]; then
			drop "$tree/$file"
		else
			put "$build/mainline/$file" "$tree/$file"
		fi
	done < "$managed"
	mv "$new" "$managed"
	say "build/linux is ready: $(wc -l < "$managed") paths differ from the base, $changed brought over"
}

put() {
	if ! cmp -s "$1" "$2" || [ "$(stat -c %a "$1")" != "$(stat -c %a "$2")" ]; then
		install -D -m "$(stat -c %a "$1")" "$1" "$2"
		changed=$((changed + 1))
	fi
}

drop() {
	if [ -e "$1" ]; then
		rm -f "$1"
		rmdir -p --ignore-fail-on-non-empty "$(dirname "$1")"
		changed=$((changed + 1))
	fi
}

mkdir -p "$build"
exec 9> "$build/.tree.lock"
flock 9

case $which in
mainline)
	fetch_base "$build/mainline"
	say "build/mainline is ready"
	;;
linux)
	fetch_base "$build/mainline"
	fetch_base "$build/linux"
	make_overlay
	sync_overlay
	;;
*)
	die "unknown tree '$which'"
	;;
esac
