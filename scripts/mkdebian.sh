#!/bin/bash
# SPDX-License-Identifier: GPL-2.0
#
# Makes build/clients/debian.img: an ext2 file system for vm.sh -d with Debian's userland, for the
# guest of `make check-clients`. It has the clients and what they depend on, of the Debian that this
# machine's apt is set up for, from the same mirrors, and is made anew only when this script changes
# or those mirrors. debian.img.packages lists what is in it, with versions.
#
# Needs root, to unpack packages. mmdebstrap is installed if it is missing.

set -euo pipefail

# bpftrace compiles what it is given, with headers that have to be there.
packages="stress-ng prometheus-node-exporter ksmtuned qemu-system-x86 criu bpftrace linux-libc-dev
	atop systemd procps python3"

top=$(cd "$(dirname "$0")/.." && pwd)
image=$top/build/clients/debian.img

die() { echo "mkdebian: $*" >&2; exit 1; }

# Debian's own archives alone: others that this machine may use have nothing to do with it.
sources() {
	apt-get indextargets --format 'deb $(REPO_URI) $(RELEASE) $(COMPONENT)|$(ORIGIN)' \
		'Created-By: Packages' | sed -n 's/|Debian$//p' | sort -u
}

"$top/scripts/deps.sh" mmdebstrap
list=$(sources)
if [ -z "$list" ] && [ "$(id -u)" = 0 ]; then
	# Before its first update apt knows no archive's origin.
	apt-get update -qq < /dev/null
	list=$(sources)
fi
[ -n "$list" ] || die "apt knows of no archive of Debian"

want=$list$'\n'$(sha256sum < "$0")
if [ -f "$image" ] && [ "$(cat "$image.stamp" 2>/dev/null)" = "$want" ]; then
	exit 0
fi
[ "$(id -u)" = 0 ] || die "$image has to be made by root"

echo "  DEBIAN  ${image#"$top"/}"
rm -f "$image" "$image.stamp" "$image.packages"
mkdir -p "$(dirname "$image")"
work=$(mktemp -d "${TMPDIR:-/tmp}/mkdebian.XXXXXX")
trap 'rm -rf "$work"' EXIT
trap 'exit 130' INT TERM

mmdebstrap --quiet --mode=root --variant=apt --format=directory \
	--include="$(echo $packages | tr ' ' ,)" \
	--aptopt='APT::Install-Recommends "false"' \
	--dpkgopt='path-exclude=/usr/share/doc/*' --dpkgopt='path-exclude=/usr/share/man/*' \
	--dpkgopt='path-exclude=/usr/share/locale/*' \
	'' "$work/root" - <<< "$list" > "$work/log" 2>&1 || {
	tail -n 20 "$work/log" >&2
	die "mmdebstrap failed"
}
dpkg-query --admindir="$work/root/var/lib/dpkg" -W -f '${Package} ${Version}\n' > "$image.packages"

# A fifth and 64 MiB more than what is in it.
size=$(($(du -sm "$work/root" | cut -f 1) * 6 / 5 + 64))
rm -f "$image.tmp"
mke2fs -q -t ext2 -d "$work/root" "$image.tmp" "${size}M" > "$work/log" 2>&1 || {
	tail -n 20 "$work/log" >&2
	die "mke2fs failed"
}
mv "$image.tmp" "$image"
printf '%s\n' "$want" > "$image.stamp"
