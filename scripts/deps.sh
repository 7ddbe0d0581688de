#!/bin/bash
# SPDX-License-Identifier: GPL-2.0
#
# Installs the Debian packages that building and testing need, those that are missing:
#
#   deps.sh [PACKAGE ...]	(these instead, for what only few need)
#
# Without root, prints the command that does it and fails.

set -euo pipefail

packages="linux-source-6.12 gcc gcc-multilib libc6-dev make bc bison flex libelf-dev libssl-dev libnuma-dev perl
	python3 xz-utils patch cpio rsync ccache busybox-static qemu-system-x86 sparse git"
[ $# = 0 ] || packages=$*

missing=()
for package in $packages; do
	state=$(dpkg-query -W -f '${db:Status-Status}' "$package" 2>/dev/null || true)
	[ "$state" = installed ] || missing+=("$package")
done
[ ${#missing[@]} -gt 0 ] || exit 0

if [ "$(id -u)" != 0 ]; then
	echo "These packages are missing; install them as root and try again:" >&2
	echo "    apt-get update && apt-get install -y --no-install-recommends ${missing[*]}" >&2
	exit 1
fi

echo "  DEPS    ${missing[*]}"
export DEBIAN_FRONTEND=noninteractive
apt-get update -qq < /dev/null
apt-get install -y -qq --no-install-recommends "${missing[@]}" < /dev/null > /dev/null
