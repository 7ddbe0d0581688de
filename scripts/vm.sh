#!/bin/bash
# SPDX-License-Identifier: GPL-2.0
#
# Boots a kernel in QEMU (no KVM), runs one command in it, and judges the run:
#
#   vm.sh [options] KERNEL [--] COMMAND [ARGUMENT ...]
#
# KERNEL is TREE-CONFIG (build/out/TREE-CONFIG) or the path of a bzImage; user mode Linux is
# run as it is, and takes the options -f -i -m -a -t -l -k -s. COMMAND is run by the guest's
# shell, as root, with proc, sysfs, debugfs, tracefs, cgroup2, /tmp and /dev/shm mounted.
#
#   -f FILE[:DEST]   put a static program or file into the guest (/bin by default), or a
#                    directory's content into / (or DEST); may be given often
#   -i CPIO          a ready initramfs (scripts/initramfs.sh) instead
#   -m MIB           memory (2048)
#   -c CPUS          processors (2)
#   -n NODES         NUMA nodes of equal size (1)
#   -d SIZE|FILE     a disk, /dev/vda and so on: empty, of that size (such as 512M), or
#                    a raw image; writes to an image are dropped; may be given often
#   -a ARGS          more kernel arguments
#   -q ARGS          more QEMU arguments
#   -t SECONDS       time limit (300)
#   -l NAME          name of the logs in build/log/ (vm-KERNEL)
#   -k               stream kernel messages too, not just the command's output
#   -s               silent: only logs and complaints
#
# build/log/NAME.console gets the kernel's messages, build/log/NAME.out the command's
# output. The exit status is the command's; 124 when time ran out; 125 when the kernel complained on
# its console (those lines are printed, and what follows the first); 126 when the guest died.

set -euo pipefail

top=$(cd "$(dirname "$0")/.." && pwd)

# What a kernel says when something is wrong. Matched against kernel messages only.
complaints='WARNING:|BUG[: ]|KASAN|UBSAN|KFENCE|Oops|general protection|[Dd]ouble fault|invalid opcode'
complaints+='|Kernel panic|kernel BUG|Unable to handle|unable to handle|Bad page|bad page|Bad rss|bad pmd|bad pte'
complaints+='|possible circular|possible recursive|possible irq lock|inconsistent lock|suspicious RCU|locking correctness'
complaints+='|DEBUG_LOCKS_WARN_ON|bad unlock balance|held lock freed|lock held when returning|INFO: '
complaints+='|detected stalls|self-detected stall|starved for|blocked for more than|soft lockup|hard LOCKUP'
complaints+='|sleeping function|scheduling while atomic|Voluntary context switch|corruption|refcount_t:'
complaints+='|leaked|unreferenced object|page_table_check|nobody cared|workqueue lockup|segfault at .* in ksm'
# What a test asks it to say, in the same words: a page poisoned on purpose.
wanted='Memory failure: 0x[0-9a-f]+: Sending SIGBUS to ksm_poison:[0-9]+ due to hardware memory corruption'

die() { echo "vm: $*" >&2; exit 126; }

usage() { sed -n '/^#   vm.sh/,/^set/s/^# \{0,3\}//p' "$0" >&2; exit 126; }

files=() disks=() initrd= mem=2048 cpus=2 nodes=1 append= extra=() limit=300 name= console=0 silent=0
while getopts f:i:m:c:n:d:a:q:t:l:ks opt; do
	case $opt in
	f) files+=("$OPTARG") ;;
	i) initrd=$OPTARG ;;
	m) mem=$OPTARG ;;
	c) cpus=$OPTARG ;;
	n) nodes=$OPTARG ;;
	d) disks+=("$OPTARG") ;;
	a) append="$append $OPTARG" ;;
	q) read -ra words <<< "$OPTARG"; extra+=("${words[@]}") ;;
	t) limit=$OPTARG ;;
	l) name=$OPTARG ;;
	k) console=1 ;;
	s) silent=1 ;;
	*) usage ;;
	esac
done
shift $((OPTIND - 1))
[ $# -ge 2 ] || usage
kernel=$1
shift
[ "$1" != -- ] || shift
[ $# -ge 1 ] || usage

name=${name:-vm-${kernel##*/}}
image=$kernel
uml=$top/build/out/$kernel/linux
if [ -x "$uml" ]; then
	[ "$nodes ${#disks[@]} ${#extra[@]}" = '1 0 0' ] || die "$kernel: user mode Linux takes no -n -d -q"
elif [ ! -f "$image" ]; then
	image=$top/build/out/$kernel/arch/x86/boot/bzImage
fi
[ -f "$image" ] || [ -x "$uml" ] || die "no kernel $kernel: build it with scripts/kbuild.sh"

logs=$top/build/log
mkdir -p "$logs"
work=$(mktemp -d "${TMPDIR:-/tmp}/vm.XXXXXX")
guest_pid=
cleanup() {
	[ -z "$guest_pid" ] || kill "$guest_pid" 2>/dev/null || true
	rm -rf "$work"
}
trap cleanup EXIT
trap 'exit 130' INT TERM

if [ -z "$initrd" ]; then
	initrd=$work/base.cpio
	"$top/scripts/initramfs.sh" "$initrd" "${files[@]}"
elif [ ${#files[@]} -gt 0 ]; then
	die "-i and -f exclude each other"
fi

# The command travels in a second archive: the kernel unpacks several in a row.
nonce="vm-$$-$RANDOM$RANDOM"
mkdir -p "$work/cmd/vm"
printf '%s\n' "$*" > "$work/cmd/vm/command"
printf '%s' "$nonce" > "$work/cmd/vm/nonce"
(cd "$work/cmd" && find vm | cpio -o -H newc -R 0:0 --quiet) > "$work/cmd.cpio"
cat "$initrd" "$work/cmd.cpio" > "$work/initrd"

# The kernel has no ACPI: it finds processors in the MP table, which lists sockets only,
# and has NUMA nodes of its own making.
[ "$nodes" = 1 ] || append=" numa=fake=$nodes$append"

qemu=(qemu-system-x86_64 -accel tcg,thread=multi -cpu max -m "$mem"
	-smp "$cpus,sockets=$cpus,cores=1,threads=1"
	-nodefaults -no-user-config -display none -monitor none -no-reboot
	-chardev "file,id=console,path=$logs/$name.console"
	-chardev "file,id=out,path=$logs/$name.out"
	-serial chardev:console -serial chardev:out
	-kernel "$image" -initrd "$work/initrd"
	-append "console=ttyS0 panic=-1 random.trust_cpu=on$append")

for ((i = 0; i < ${#disks[@]}; i++)); do
	disk=${disks[i]}
	if [ ! -f "$disk" ]; then
		truncate -s "$disk" "$work/disk$i"
		disk=$work/disk$i
	fi
	qemu+=(-drive "file=$disk,format=raw,if=none,id=disk$i,cache=unsafe,snapshot=on"
		-device "virtio-blk-pci,drive=disk$i")
done
qemu+=("${extra[@]}")

: > "$logs/$name.console"
: > "$logs/$name.out"
start=$SECONDS
tails=()
if [ -x "$uml" ]; then
	# Of the serial line only the end of a pipe can be polled, not a file.
	mkfifo "$work/line"
	timeout $((limit + 10)) cat "$work/line" >> "$logs/$name.out" &
	tails+=($!)
	read -ra words <<< "$append"
	# See scripts/bench.py for the reasons of the first two.
	GLIBC_TUNABLES=glibc.pthread.rseq=0 timeout --kill-after=5 "$limit" setarch -R \
		"$uml" "mem=${mem}M" "initrd=$work/initrd" con=null con0=null,fd:2 \
		ssl=null ssl1=null,fd:3 earlyprintk stderr=1 panic=-1 "${words[@]}" \
		< /dev/null > "$logs/$name.console" 2>&1 3> "$work/line" &
else
	timeout --kill-after=5 "$limit" "${qemu[@]}" < /dev/null > "$work/qemu.err" 2>&1 &
fi
guest_pid=$!

# tail ends by itself when the guest does.
if [ $silent = 0 ]; then
	tail -n +1 -s 0.2 -f --pid=$guest_pid "$logs/$name.out" 2>/dev/null |
		grep --line-buffered -v -F "$nonce" &
	tails+=($!)
fi
if [ $console = 1 ]; then
	tail -n +1 -s 0.2 -f --pid=$guest_pid "$logs/$name.console" 2>/dev/null | tr -d '\r' &
	tails+=($!)
fi

guest_status=0
wait "$guest_pid" || guest_status=$?
guest_pid=
for pid in "${tails[@]}"; do wait "$pid" || true; done

sed -i 's/\r//g' "$logs/$name.console"
result=$(sed -n "s/^$nonce exit \([0-9]*\).*/\1/p" "$logs/$name.out" | tail -n 1)
sed -i "/^$nonce exit/d" "$logs/$name.out"

if grep -aE '^(<[0-9]+>)?\[ *[0-9]+\.[0-9]+\]' "$logs/$name.console" | grep -avE "$wanted" |
		grep -aE "$complaints" > "$work/bad"; then
	echo "vm: the kernel complained (build/log/$name.console):" >&2
	head -n 40 "$work/bad" | sed 's/^/    /' >&2
	echo "vm: from the first of them on:" >&2
	head -n 1 "$work/bad" > "$work/first"
	grep -a -F -x -m 1 -A 40 -f "$work/first" "$logs/$name.console" | sed 's/^/    /' >&2
	exit 125
fi
if [ "$guest_status" = 124 ] || [ "$guest_status" = 137 ]; then
	echo "vm: no end after $limit s; the last of build/log/$name.console:" >&2
	tail -n 15 "$logs/$name.console" | sed 's/^/    /' >&2
	exit 124
fi
if [ -z "$result" ]; then
	echo "vm: the guest died (status: $guest_status); the last of build/log/$name.console:" >&2
	[ -x "$uml" ] || cat "$work/qemu.err" >&2
	tail -n 15 "$logs/$name.console" | sed 's/^/    /' >&2
	exit 126
fi
[ $silent = 1 ] || echo "vm: exit status $result after $((SECONDS - start)) s" >&2
exit "$result"
