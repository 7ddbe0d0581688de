#!/bin/bash
# SPDX-License-Identifier: GPL-2.0
#
# Builds an initramfs for scripts/vm.sh:
#
#   initramfs.sh OUT [FILE[:DEST] | DIR[:DEST]] ...
#
# It holds busybox with all its applets, scripts/guest-init.sh as /init, and what is
# named: a file goes to /bin (or to DEST, an absolute path in the guest), what a directory
# holds goes to / (or below DEST). Programs have to be static.
#
# Environment: BUSYBOX, one for another architecture.

set -euo pipefail

out=${1:?usage: initramfs.sh OUT [FILE[:DEST]] ...}
shift
top=$(cd "$(dirname "$0")/.." && pwd)
own=$(command -v busybox) || { echo "initramfs: no busybox" >&2; exit 1; }

root=$(mktemp -d "${TMPDIR:-/tmp}/initramfs.XXXXXX")
trap 'rm -rf "$root"' EXIT

mkdir -p "$root"/{bin,dev,etc,proc,root,sys,tmp,mnt,vm}
install -m 755 "${BUSYBOX:-$own}" "$root/bin/busybox"
for applet in $("$own" --list); do
	[ "$applet" = busybox ] || ln -s busybox "$root/bin/$applet"
done
ln -s bin "$root/sbin"
mkdir "$root/usr"
ln -s ../bin "$root/usr/bin"
ln -s ../bin "$root/usr/sbin"
install -m 755 "$top/scripts/guest-init.sh" "$root/init"
echo 'root:x:0:0:root:/root:/bin/sh' > "$root/etc/passwd"
echo 'nobody:x:65534:65534:nobody:/:/bin/false' >> "$root/etc/passwd"

for arg in "$@"; do
	from=${arg%%:*}
	to=
	[ "$from" = "$arg" ] || to=${arg#*:}
	if [ -d "$from" ]; then
		mkdir -p "$root/${to#/}"
		cp -a "$from/." "$root/${to#/}/"
	else
		to=${to:-/bin/${from##*/}}
		# An applet's link must not be written through.
		rm -f "$root/$to"
		install -D -m "$(stat -L -c %a "$from")" "$from" "$root/$to"
	fi
done

mkdir -p "$(dirname "$out")"
(cd "$root" && find . | LC_ALL=C sort | cpio -o -H newc -R 0:0 --quiet) > "$out.tmp"
mv "$out.tmp" "$out"
