#!/bin/bash
# SPDX-License-Identifier: GPL-2.0
#
# Builds a kernel, or a part of one, out of tree:
#
#   kbuild.sh TREE CONFIG [make arguments]
#
# TREE is linux or mainline (under build/), CONFIG a fragment configs/CONFIG.config.
# The result is in build/out/TREE-CONFIG/. Without arguments the kernel image is built
# (bzImage, or linux for ARCH=um); "config" only configures.
#
# A fragment is merged onto allnoconfig, after the fragments it names in its head:
#
#   # base: NAME			configs/NAME.config comes first
#   # arch: ARCH			instead of x86_64
#   # optional: SYMBOL ...	need not be honoured (say, because the tree has no such symbol)
#   # flags: KCFLAGS		for the compiler
#
# Every line of a fragment that the final configuration doesn't honour is an error.
#
# ccache is used so that all trees and clones share their objects: the output directory is
# TREE/.out-CONFIG (build/out/TREE-CONFIG is a link to it), because only for a
# subdirectory of the source does kbuild use relative paths, which are then the same everywhere.

set -euo pipefail

top=$(cd "$(dirname "$0")/.." && pwd)
tree=${1:?usage: kbuild.sh TREE CONFIG [make arguments]}
config=${2:?usage: kbuild.sh TREE CONFIG [make arguments]}
shift 2

src=$top/build/$tree
out=$src/.out-$config
log=$top/build/log/kbuild-$tree-$config.log

die() { echo "kbuild: $*" >&2; exit 1; }

[ -f "$src/Kbuild" ] || die "no build/$tree: run 'make tree' or 'make mainline' first"

# stack NAME: the fragments of NAME, base first.
stack() {
	local file=$top/configs/$1.config base

	[ -f "$file" ] || die "no configs/$1.config"
	base=$(sed -n 's/^# base: *//p' "$file")
	[ -z "$base" ] || stack "$base"
	echo "$file"
}

# header KEY: the values of a head line in all fragments of the stack.
header() { sed -n "s/^# $1: *//p" "${fragments[@]}"; }

# The last word of all fragments on each symbol.
merge() {
	awk '/^CONFIG_[A-Za-z0-9_]+=/ { name = $0; sub(/=.*/, "", name) }
	     /^# CONFIG_[A-Za-z0-9_]+ is not set$/ { name = $2 }
	     name != "" { if (!(name in line)) order[++n] = name; line[name] = $0; name = "" }
	     END { for (i = 1; i <= n; i++) print line[order[i]] }' "${fragments[@]}"
}

verify() {
	local line name optional bad=0

	optional=" $(header optional | tr '\n' ' ') "
	while read -r line; do
		name=${line#\# }
		name=${name%%[= ]*}
		case $line in
		'#'*)	! grep -q "^$name=" "$out/.config" || echo "$line" ;;
		*)	grep -qxF -- "$line" "$out/.config" || echo "$line" ;;
		esac
	done < "$out/fragment.new" > "$out/fragment.missed"

	while read -r line; do
		name=${line#\# }
		name=${name%%[= ]*}
		case $optional in
		*" $name "*) ;;
		*) echo "kbuild: $config: not honoured: $line" >&2; bad=1 ;;
		esac
	done < "$out/fragment.missed"
	[ $bad = 0 ] || exit 1
}

mapfile -t fragments < <(stack "$config")
[ ${#fragments[@]} -gt 0 ] || exit 1
arch=$(header arch | tail -n 1)
arch=${arch:-x86_64}
flags=$(header flags | tr '\n' ' ')

export CCACHE_DIR=${CCACHE_DIR:-$HOME/.cache/ccache}
export CCACHE_BASEDIR=$top CCACHE_NOHASHDIR=1 CCACHE_DEPEND=1
export CCACHE_SLOPPINESS=time_macros,include_file_mtime,include_file_ctime
export CCACHE_MAXSIZE=${CCACHE_MAXSIZE:-8G}
export KBUILD_BUILD_TIMESTAMP='Thu Jan  1 00:00:00 UTC 1970' KBUILD_BUILD_USER=ksm KBUILD_BUILD_HOST=build
cc=${CC:-gcc}
! command -v ccache >/dev/null || cc="ccache $cc"

jobs=${JOBS:-$(nproc)}
hostcc=gcc
! command -v ccache >/dev/null || hostcc="ccache gcc"
make=(make -C "$src" "O=$out" "ARCH=$arch" "CC=$cc" "HOSTCC=$hostcc" "-j$jobs" --no-print-directory)
[ -z "${flags// }" ] || make+=("KCFLAGS=$flags")

mkdir -p "$out" "$top/build/out" "$top/build/log"
ln -sfn "../$tree/.out-$config" "$top/build/out/$tree-$config"
exec 9> "$out/.kbuild.lock"
flock 9

# Not a second time for the same fragments and options: it takes seconds.
merge > "$out/fragment.new"
: > "$log"
if ! cmp -s "$out/fragment.new" "$out/fragment.config" || [ "$src/mm/Kconfig" -nt "$out/fragment.config" ] ||
   [ "$src/mm/ksm/Kconfig" -nt "$out/fragment.config" ]; then
	rm -f "$out/fragment.config"
	KCONFIG_ALLCONFIG=$out/fragment.new "${make[@]}" -s allnoconfig > "$log" 2>&1 || {
		tail -n 20 "$log" >&2
		die "configuration of $tree-$config failed"
	}
	verify
	mv "$out/fragment.new" "$out/fragment.config"
fi

case ${1:-} in
config)	exit 0 ;;
'')	case $arch in
	um) set -- linux ;;
	*) set -- bzImage ;;
	esac ;;
esac

# One line of progress every PROGRESS seconds: how many objects, and the last one.
progress() {
	while sleep "${PROGRESS:-20}" > /dev/null 2>&1; do
		printf '  %-7s %s-%s %4ds: %d steps, %s\n' KBUILD "$tree" "$config" \
			$((SECONDS - start)) "$(grep -c '^  [A-Z]' "$log" || true)" \
			"$(grep '^  [A-Z]' "$log" | tail -n 1 | awk '{ print $1, $NF }')"
	done
}

start=$SECONDS
progress >&2 9>&- &
ticker=$!
trap 'kill $ticker 2>/dev/null; wait $ticker 2>/dev/null || true' EXIT

status=0
run() { nice -n 5 "${make[@]}" "$@" >> "$log" 2>&1 < /dev/null 9>&-; }
if [ "$*" = bzImage ]; then
	# ccache, as set above, doesn't see that piggy.S includes the compressed vmlinux, and would give
	# back an object with an older kernel in it.
	run vmlinux && rm -f "$out/arch/x86/boot/compressed/piggy.o" &&
		CCACHE_DISABLE=1 run bzImage || status=$?
else
	run "$@" || status=$?
fi
grep -E '(warning:|error:|Error [0-9]|undefined reference|\*\*\*)' "$log" >&2 || true
if [ $status != 0 ]; then
	tail -n 30 "$log" >&2
	die "$tree-$config failed after $((SECONDS - start)) s, see ${log#"$top"/}"
fi
printf '  %-7s %s-%s: %s, %d s\n' KBUILD "$tree" "$config" "$*" $((SECONDS - start)) >&2
