#!/bin/bash
# SPDX-License-Identifier: GPL-2.0
#
# `make bench`: mainline's KSM and ours, measured side by side on user mode Linux.
#
#   scripts/bench.sh [options]
#     --rows "NAME ..."   only these rows of the table (ROWS=)
#     --rounds N          rounds, 3 by default (ROUNDS=)
#     --list              the rows' names
#     --side SIDE         only mainline or ours, and print what each pass cost: for quick
#     --row NAME          looks during development, for instance
#                         scripts/bench.sh --side ours --row steady-1g
#     --no-build          take the kernels that are there
#     --perf FILE         with --side and --row: `perf record` the kernel's host process, booting
#                         and filling included; then `perf report -i FILE --dso linux`. By hand:
#                         `perf record -p PID` of the first `linux` process during the passes
#
# Both sides are built from the same base with configs/uml.config and patches/bench. The kernel
# memory of a UML is a file in TMPDIR (/dev/shm by default), 3 GiB at most. Results go to
# build/bench/: results.json, results.svg, table.txt.
#
# How it measures: patches/bench charges the host's CPU clock of the UML kernel thread to the
# guest's tasks; the workload (tools/testing/ksm/bench/kbench.c) steps ksmd one pass at a time and
# checks by full_scans that it was one. All kernel threads count, not ksmd alone. The holds of locks
# are timed by the same clock, on kernels with swap (configs/uml-locks.config, klocks.c).

set -euo pipefail

top=$(cd "$(dirname "$0")/.." && pwd)
out=$top/build/bench
sides="mainline ours"
build=1
args=()

while [ $# -gt 0 ]; do
	case $1 in
	--no-build) build=0 ;;
	--side)
		sides=$2
		args+=(--side "$2")
		shift ;;
	*) args+=("$1") ;;
	esac
	shift
done
[ -z "${ROWS:-}" ] || args+=(--rows "$ROWS")
[ -z "${ROUNDS:-}" ] || args+=(--rounds "$ROUNDS")

# kernel SIDE: builds both; the binaries are build/out/{mainline,linux}-uml{,-locks}/linux.
kernel() {
	local tree=$1 config
	[ "$tree" = mainline ] || tree=linux

	"$top/scripts/mktree.sh" "$tree"
	"$top/scripts/bench-tree.sh" "$tree"
	for config in uml uml-locks; do
		"$top/scripts/kbuild.sh" "bench-$tree" $config
		ln -sfn "../bench-$tree/.out-$config" "$top/build/out/$tree-$config"
	done
}

mkdir -p "$out/root/proc" "$out/root/sys" "$out/root/dev"
case " ${args[*]} " in
*' --list '*) build=0 ;;
esac
if [ $build = 1 ]; then
	for side in $sides; do
		kernel "$side"
	done
fi
make -s -C "$top/tools/testing/ksm/bench" OUTPUT="$out/root"

# One benchmark at a time; another one's result would be mixed in otherwise.
exec 9> "$out/.lock"
flock 9
exec python3 "$top/scripts/bench.py" "${args[@]}"
