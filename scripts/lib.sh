# SPDX-License-Identifier: GPL-2.0
#
# What the check scripts share; sourced, not run. The results of a suite are flat TAP
# lines on standard output (`ok - NAME`, `not ok - NAME`, `# SKIP` behind the name for what
# could not run); everything else goes to build/log or standard error.

set -uo pipefail

top=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
logs=$top/build/log
tests=$top/build/tests
# TREE=mainline runs a suite that needs a kernel against the base, to compare.
TREE=${TREE:-linux}
mkdir -p "$logs" "$tests"

# result STATUS NAME: one line of TAP.
result() {
	if [ "$1" = 0 ]; then
		echo "ok - $2"
	else
		echo "not ok - $2"
	fi
}

skip() { echo "ok - $1 # SKIP $2"; }

# attempt NAME COMMAND ...: the result is the command's status; its output is shown if it fails.
attempt() {
	local name=$1 file status=0
	shift

	file=$logs/attempt-$(printf '%s' "$name" | tr -c 'A-Za-z0-9_.-' _).log
	"$@" > "$file" 2>&1 < /dev/null || status=$?
	# In one piece, as others may run beside this.
	echo "$({ [ $status = 0 ] || tail -n "${ATTEMPT_LINES:-40}" "$file" | sed 's/^/# /'; result $status "$name"; })"
	return $status
}

# beside COMMAND ...: runs it beside others, one for each processor at a time; wait for all with `wait`.
beside() {
	while [ "$(jobs -pr | wc -l)" -ge "$(nproc)" ]; do wait -n; done
	"$@" &
}

# seconds_left: until CHECK_UNTIL, if that is set; time for one program at least, or there would be
# no result.
seconds_left() {
	local seconds=${CHECK_UNTIL:+$((CHECK_UNTIL - $(date +%s)))}

	[ -z "$seconds" ] || [ "$seconds" -gt 10 ] || seconds=10
	echo "$seconds"
}

# kernel TREE CONFIG [ARGUMENTS]: builds it, with progress on standard error.
kernel() { "$top/scripts/kbuild.sh" "$@" >&2; }

# The tree, with whatever changed in the repository.
tree() { "$top/scripts/mktree.sh" "$TREE" >&2; }

# Kernel arguments for a guest's clock, once its programs are built. QEMU's time stamp counter is this
# machine's, whose speed a guest of TCG mostly fails to find out; what is left then are ticks, too
# coarse to measure ksmd's CPU by, and lost when this machine is busy.
guest_clock() {
	local khz

	khz=$("$tests/vm/ksm_demo" --tsc-khz) && echo "tsc_early_khz=$khz tsc=reliable"
}

# The programs of tools/testing/selftests/vm, in build/tests/vm.
guest_programs() {
	make -s "-j$(nproc)" -C "$top/tools/testing/selftests/vm" OUTPUT="$tests/vm" KTREE="$top/build/$TREE" >&2
}

# kunit_cases CONSOLE SUITE: the cases of nested KTAP, and that there were any. They are indented by
# four blanks, and by eight those of a parameterised case, which has a line of its own. A suite's
# line, not indented, only sums up. One result of the suite is planned besides: the console's silence.
kunit_cases() {
	awk '{ sub(/^\[ *[0-9.]+\] ?/, "") }
	     /^    # Subtest: / { suite = $3 }
	     /^    1\.\.[0-9]+$/ { planned += substr($1, 4) }
	     /^    (not )?ok [0-9]+ / {
		status = $1 == "ok" ? "ok" : "not ok"
		sub(/^ *(not )?ok [0-9]+ (- )?/, "")
		print status " - " suite ": " $0
		next
	     }
	     /EXPECTATION FAILED|ASSERTION FAILED/ { shown = 6 }
	     shown-- > 0 { print "# " $0 }
	     END { print "1.." planned + 2 }' "$1"
	grep -qE '# Totals: pass:[1-9]|# .*: pass:[1-9]' "$1"
	result $? "$2: tests ran"
}

# nested OPTIONS KERNEL COMMAND: as vm.sh, for a guest that has guests itself, by AMD's nested pages
# as QEMU's TCG has them. Put $nested_cpus before whatever runs VMs in there.
#
# It keeps them off processor 0. In QEMU 7.2 any processor that loads an FPU state (FLDENV, FRSTOR,
# FXRSTOR, XRSTOR: each switch of tasks) also clears a flag of processor 0, for the old FERR#, by
# `env->hflags2 &= ~HF2_IGNNE_MASK` in cpu_clear_ignne(), which is not atomic. What processor 0
# writes to hflags2 meanwhile is lost, such as that VMRUN turned nested paging on, or that #VMEXIT
# turned it off. Then a guest runs in memory of the kernel that runs it, or that kernel's own next
# page walk makes a second #VMEXIT, which saves its registers as those of its guest.
nested_cpus='taskset 6'
nested() {
	# Of two -cpu, QEMU takes the second.
	"$top/scripts/vm.sh" -c 3 -n 2 -q "-cpu EPYC,+svm,+npt" -a "$(guest_clock)" "$@"
}
