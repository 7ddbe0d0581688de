#!/bin/bash
# SPDX-License-Identifier: GPL-2.0
#
# The memory of virtual machines merges: tools/testing/selftests/vm/kvm on a kernel with KVM, which
# runs its guests inside a guest of QEMU. The KVM of this machine, if it has one, is not used. Then
# once more with this machine's QEMU as the VMM in there, which boots a small Linux twice.
#
# Environment: KVM_TIMEOUT (1800), in seconds.

. "$(dirname "$0")/lib.sh"

root=$tests/kvm-root

tree && guest_programs && kernel "$TREE" kvm || exit 1

# What a guest needs for QEMU: the program with its libraries, its firmware, and a Linux to boot,
# which is the kernel that it has itself.
qemu_root() {
	local qemu dir=$root/qemu file

	rm -rf "$root"
	mkdir -p "$root/bin" "$dir"
	qemu=$(command -v qemu-system-x86_64) || return 1
	cp "$qemu" "$root/bin/" || return 1
	for file in $(ldd "$qemu" | grep -o '/[^ ]*'); do
		install -D "$file" "$root$file" || return 1
	done
	for file in bios-256k.bin kvmvapic.bin linuxboot_dma.bin; do
		cp "$(find /usr/share/seabios /usr/share/qemu -name "$file" | head -n 1)" "$dir/" || return 1
	done
	cp "$top/build/out/$TREE-kvm/arch/x86/boot/bzImage" "$dir/" &&
		mkdir "$root/inside" && cp "$tests/vm/ksm_inside" "$root/inside/init" &&
		(cd "$root/inside" && find . | cpio -o -H newc -R 0:0 --quiet) > "$dir/initramfs" &&
		rm -r "$root/inside"
}

# run NAME OPTIONS: in the guest; nothing on its console may be a complaint.
run() {
	local name=$1 status
	shift

	nested -l "$name" -t "${KVM_TIMEOUT:-1800}" "$@"
	status=$?
	[ $status != 125 ]
	result $? "${name#check-}: no complaint on the console"
	return $status
}

failed=0
run check-kvm -m 2048 -f "$tests/vm/ksm_kvm:/tests/ksm_kvm" -f "$tests/vm/run.sh:/tests/run.sh" \
	"$TREE-kvm" "KSM_TIME_FACTOR=10 $nested_cpus sh /tests/run.sh ksm_kvm" || failed=1
qemu_root || exit 1
run check-kvm-qemu -m 3072 -f "$root:/" -f "$tests/vm/qemu_pair.sh" "$TREE-kvm" \
	"$nested_cpus qemu_pair.sh /qemu" || failed=1
[ $failed = 0 ]
