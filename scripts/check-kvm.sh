#!/bin/bash
# SPDX-License-Identifier: GPL-2.0
#
# The memory of virtual machines merges: tools/testing/selftests/vm/kvm on a kernel with KVM, which
# runs its guests inside a guest of QEMU, by AMD's nested pages as QEMU's TCG has them. The KVM
# of this machine, if it has one, is not used.
#
# Environment: KVM_TIMEOUT (1800), in seconds.

. "$(dirname "$0")/lib.sh"

tree && guest_programs && kernel "$TREE" kvm || exit 1

# Of two -cpu, QEMU takes the second.
"$top/scripts/vm.sh" -l check-kvm -m 2048 -t "${KVM_TIMEOUT:-1800}" -n 2 -q "-cpu EPYC,+svm,+npt" \
	-a "$(guest_clock)" -f "$tests/vm/ksm_kvm:/tests/ksm_kvm" -f "$tests/vm/run.sh:/tests/run.sh" \
	"$TREE-kvm" "KSM_TIME_FACTOR=10 sh /tests/run.sh ksm_kvm"
status=$?
[ $status != 125 ]
result $? "kvm: no complaint on the console"
[ $status = 0 ]
