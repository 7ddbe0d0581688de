#!/bin/bash
# SPDX-License-Identifier: GPL-2.0
#
# Programs that use KSM, as Debian has them, on our kernel in QEMU: scripts/guest-clients.sh, with
# the userland that scripts/mkdebian.sh makes. Arguments name clients to run instead of all. What
# the guest says is in build/log/clients.out. TREE=mainline runs them on the base's kernel, to
# compare: the log is build/log/clients-mainline.out.
#
# Environment: CLIENTS_TIMEOUT (1800), in seconds.

. "$(dirname "$0")/lib.sh"

"$top/scripts/mkdebian.sh" >&2 || exit 1
tree && guest_programs && kernel "$TREE" clients || exit 1

# Debian's / becomes that of a mount namespace: CRIU wants to see where its processes have theirs.
cat > "$tests/enter-debian.sh" <<-'EOF'
	set -e
	ip link set lo up
	mount -t ext2 /dev/vda /mnt
	cp /tests/guest-clients.sh /mnt/root/
	for dir in proc sys dev tmp; do mount --move /$dir /mnt/$dir; done
	cd /mnt
	mount --move . /
	export PATH=/usr/sbin:/usr/bin:/sbin:/bin
	exec chroot . /bin/bash /root/guest-clients.sh "$@"
EOF

log=clients
[ "$TREE" = linux ] || log=clients-$TREE
"$top/scripts/vm.sh" -l "$log" -m 2048 -t "${CLIENTS_TIMEOUT:-1800}" -a "$(guest_clock)" \
	-d "$top/build/clients/debian.img" \
	-f "$top/scripts/guest-clients.sh:/tests/guest-clients.sh" \
	-f "$tests/enter-debian.sh:/tests/enter-debian.sh" "$TREE-clients" \
	"SECONDS_LEFT=$(seconds_left) unshare -m sh /tests/enter-debian.sh $*"
status=$?
result $((status == 125)) "clients: no complaint on the console"
[ $status = 0 ]
