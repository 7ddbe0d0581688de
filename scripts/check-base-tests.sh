#!/bin/bash
# SPDX-License-Identifier: GPL-2.0
#
# The base's own selftests (tools/testing/selftests/mm) that use KSM, or what KSM changes, on the
# debug kernel in QEMU; unmodified, but linked statically, as guests have no libraries. Their TAP is
# made flat, a line for each of their tests. Some that know nothing of KSM run a second time with
# PR_SET_MEMORY_MERGE and a busy ksmd, which none of them may notice.
#
# Arguments name programs to run instead of all. What the guest says is in build/log/base-tests.out.
# TREE=mainline runs them on the base's kernel: then nothing is excused, and the log is
# build/log/base-tests-mainline.out.

. "$(dirname "$0")/lib.sh"

source=$top/build/mainline/tools/testing/selftests/mm
programs=$tests/base
objects=$tests/base.obj

# Tests that fail, on our kernel, for reasons that are not ours: [NAME]='what was seen on the base's
# kernel, and why'. They count as skipped, and that one of them passes is said.
declare -A known=(
)

# What runs: KIND|SECONDS|NAME|COMMAND. KIND says how a program's TAP tells which test a line is of:
#
#   one		there is one line only, and NAME says more than it
#   heading	by a comment before it, and the line tells how it ended
#   message	by the line, below a comment if there is one
#   status	there is no TAP, but an exit status
jobs=()
job() { jobs+=("$1|$2|$3|$4"); }

# ksm_tests gives up after two minutes, which this guest may need. -d shows the counters.
ksm_tests() { job one 900 "ksm_tests $1" "./ksm_tests $1 -d -l 600"; }

list_jobs() {
	local options program name

	while read -r options; do
		ksm_tests "$options"
	done < <(sed -n 's,^CATEGORY="ksm.*" run_test \./ksm_tests ,,p' "$source/run_vmtests.sh")
	[ ${#jobs[@]} -gt 0 ] || { echo "# run_vmtests.sh: no ksm_tests in it" >&2; return 1; }

	# The other options of its usage: as many pages as a KSM page may have mappings, one more
	# and many more; read-only areas; prctl() instead of madvise().
	for options in '-M -p 256' '-M -p 257' '-M -p 1000' '-M -p 10 -a r' '-D -s 20' '-C' \
	    '-M -p 10 -t 1' '-U -t 1' '-Z -p 10 -z 0 -t 1' '-Z -p 10 -z 1 -t 1' '-N -m 1 -t 1' \
	    '-N -m 0 -t 1' '-H -s 20 -t 1' '-P -s 20 -t 1' '-D -s 20 -t 1' '-C -t 1'; do
		ksm_tests "$options"
	done

	job heading 1200 ksm_functional_tests ./ksm_functional_tests
	# What its test_prctl_fork_exec means to run, and does not if its argv happens not to end.
	job status 300 'ksm_functional_tests ksm_fork_exec_child' \
		'./merging ./ksm_functional_tests ksm_fork_exec_child'

	for program in heading:mkdirty one:mrelease_test message:madv_populate heading:cow \
	    message:pagemap_ioctl; do
		name=${program#*:}
		job "${program%:*}" 1200 "$name" "./$name"
		# The last two compare what two looks at a page table say, and give up if that is not
		# the same: as when ksmd splits a huge page, whose PTEs are migration entries meanwhile.
		case $name in
		cow | pagemap_ioctl) ;;
		*) job "${program%:*}" 1200 "$name while merging" "./merging ./$name" ;;
		esac
	done
}

# The flags are those of the Makefile there. `make headers` is not needed: tools/include has a copy
# of all headers that are newer than Debian's.
compile() {
	local name=$1 libraries=(-lrt -lpthread -lm)

	[ "$name" != ksm_tests ] || libraries=(-lnuma "${libraries[@]}")
	# Relative names, as pagemap_ioctl makes files beside __FILE__.
	cd "$source" && ${CC:-gcc} -O2 -U_FORTIFY_SOURCE -D_GNU_SOURCE= -no-pie -static -s \
		-I "$objects" -I ../../../.. -isystem ../../../include/uapi \
		"$name.c" vm_util.c thp_settings.c "${libraries[@]}" -o "$programs/$name"
}

compile_merging() {
	cat > "$objects/merging.c" <<-'EOF'
		#include <sys/prctl.h>
		#include <stdio.h>
		#include <unistd.h>
		#include <linux/prctl.h>

		int main(int argc, char **argv)
		{
			if (prctl(PR_SET_MEMORY_MERGE, 1, 0, 0, 0))
				perror("PR_SET_MEMORY_MERGE");
			else if (argc > 1)
				execv(argv[1], argv + 1);
			return 125;
		}
	EOF
	${CC:-gcc} -O2 -static -s -isystem "$source/../../../include/uapi" "$objects/merging.c" \
		-o "$programs/merging"
}

# What the guest runs. Its lines that begin with @@ are for flatten().
write_guest_script() {
	cat > "$programs/run.sh" <<-'EOF'
		cd /tests || exit 1
		ksm=/sys/kernel/mm/ksm
		for knob in sleep_millisecs pages_to_scan merge_across_nodes use_zero_pages; do
			[ ! -e $ksm/$knob ] || echo "$knob $(cat $ksm/$knob)"
		done > /tmp/knobs

		# What a test leaves behind must not change the next one.
		restore() {
			echo 2 > $ksm/run
			while read -r knob value; do echo $value > $ksm/$knob; done < /tmp/knobs
			echo 0 > $ksm/run
		}

		cow_breaks() { sed -n 's/^cow_ksm //p' /proc/vmstat; }

		# Swapped pages and huge ones are a part of several tests.
		mkswap /dev/vda > /dev/null && swapon /dev/vda
		echo 8 > /proc/sys/vm/nr_hugepages

		begin=$(date +%s)
		while IFS='|' read -r kind limit name command; do
			if [ $(($(date +%s) - begin)) -ge "${SECONDS_LEFT:-999999}" ]; then
				echo "@@ late $name"
				continue
			fi
			restore
			case $command in
			./merging*)
				echo 0 > $ksm/sleep_millisecs
				echo 1 > $ksm/run
				;;
			esac
			start=$(date +%s)
			broken=$(cow_breaks)
			echo "@@ begin $kind $name"
			timeout -s KILL $limit $command < /dev/null 2>&1
			# Not every last line has an end.
			printf '\n@@ end %d' $?
			echo " $(($(date +%s) - start)) $(($(cow_breaks) - broken))"
		done < jobs
		restore
	EOF
}

# flatten: the guest's output in, flat TAP out. Fails if a test did.
flatten() {
	awk -v known_list="$objects/known" -v expected="${#jobs[@]}" '
	BEGIN {
		while ((getline line < known_list) > 0) {
			split(line, part, "\t")
			known[part[1]] = part[2]
		}
	}
	/^@@ begin / {
		kind = $3
		job = substr($0, index($0, kind) + length(kind) + 1)
		count = 0
		next
	}
	/^@@ end / { finish($3, $4, $5); next }
	/^@@ late / { print "ok - " substr($0, 9) " # SKIP no time left"; ended++; next }
	job == "" || $0 == "" { next }
	{
		# Some results have no newline, and what comes next is behind them.
		while (match($0, /.(# \[RUN\] |Bail out! )/)) {
			lines[++count] = substr($0, 1, RSTART)
			$0 = substr($0, RSTART + 1)
		}
		lines[++count] = $0
	}
	END {
		if (job != "")
			finish("none", 0, 0)
		if (ended < expected) {
			print "not ok - base-tests: " expected - ended " programs did not begin"
			bad++
		}
		exit bad > 0
	}

	function is_heading(line) {
		return kind != "one" && planned &&
			(line ~ /^# \[RUN\] / || job ~ /^mkdirty/ && line ~ /^# \[INFO\] /)
	}

	# A child that should have become another program, and could not, goes on as the test that
	# it was forked from, to the very end; then its parent goes on. Here it leaves no trace.
	function drop_children(    i, j, k, last, dropped) {
		for (i = 1; i <= count; i++)
			if (lines[i] ~ /^# Totals:/)
				last = i
		for (i = 1; i < last; i++) {
			if (lines[i] !~ /^# Totals:/)
				continue
			for (j = i - 1; j > 0; j--)
				if (lines[j] ~ /^# \[RUN\] / && lines[j + 1] ~ /^# \[RUN\] /)
					break
			for (k = j + 1; j > 0 && k <= i; k++)
				dropped[k] = 1
		}
		for (i = j = 1; i <= count; i++)
			if (!(i in dropped))
				lines[j++] = lines[i]
		count = j - 1
	}

	function finish(status, seconds, broken,    i, line) {
		planned = results = failures = headings = comments = 0
		heading = why = ""
		split("", heading_results)
		drop_children()
		for (i = 1; i <= count; i++) {
			line = lines[i]
			if (line ~ /^1\.\.[0-9]+$/) {
				planned = substr(line, 4)
			} else if (line ~ /^1\.\.0 # SKIP/) {
				why = substr(line, 13)
			} else if (is_heading(line)) {
				heading = line
				sub(/^# \[[A-Z]+\] /, "", heading)
				heading_name[++headings] = heading
				comments = 0
			} else if (line ~ /^(not )?ok [0-9]+/) {
				take(line, status)
			} else if (line !~ /^(TAP version|# Totals:|# Planned)/) {
				comment[++comments] = line
			}
		}

		if (kind == "status")
			report(status == 0, job, "")
		else if (kind == "one" && !results && status != 4)
			report(0, job, "")
		else if (!planned && !results && (status == 0 || status == 4))
			report(1, job, why == "" ? "it ran no test" : why)
		else if (kind != "one")
			judge_end(status)
		print "# ---- " job ": status " status ",", seconds " s,",
			broken " KSM pages copied"
		fflush()
		ended++
		job = ""
	}

	# take LINE: a result.
	function take(line, status,    ok, name, reason) {
		ok = line ~ /^ok/
		sub(/^(not )?ok [0-9]+ */, "", line)
		sub(/^- /, "", line)
		if (line ~ /^# (SKIP|XFAIL)/) {
			reason = line ~ /^# XFAIL/ ? "expected to fail: " : ""
			sub(/^# [A-Z]+ /, "", line)
			reason = reason line
			# Here the line does not tell why, but the comment before it.
			if (kind == "one" && comments)
				reason = substr(comment[comments], 3)
		}
		sub(/^# error /, "", line)
		# Numbers that were measured are no part of a name.
		sub(/ (count [0-9]|Extra pages [0-9]|count > ).*/, "", line)

		name = job
		if (kind == "heading" && heading != "")
			name = name ": " heading
		else if (kind != "one")
			name = name ": " (heading == "" ? "" : heading ": ") line
		results++
		failures += !ok
		if (headings)
			heading_results[headings]++
		if (kind == "heading" && !ok)
			comment[++comments] = line
		report(ok && (kind != "one" || status == 0), name, reason)
		comments = 0
	}

	# A program that ended as a whole also has a result for every test that it planned.
	function judge_end(status,    i, missing, text) {
		missing = planned - results
		for (i = 1; i <= headings && missing > 0; i++) {
			if (heading_results[i])
				continue
			comment[comments = 1] = "it gave no result"
			report(0, job ": " heading_name[i], "")
			comments = 0
			failures++
			missing--
		}
		comments = 0
		if (missing > 0)
			comment[++comments] = results " results of " planned
		if (status >= 128 || status == "none" || status != 0 && !failures)
			comment[++comments] = "exit status " status
		report(comments == 0, job ": ran to its end", "")
	}

	# report OK NAME REASON: a line of TAP. Of the comments, if it passed, only times.
	function report(ok, name, reason,    i) {
		if (seen[name]++)
			name = name " (" seen[name] ")"
		for (i = 1; i <= comments; i++)
			if (!ok || comment[i] ~ /^# (Total|Average) /)
				print "# " (comment[i] ~ /^# / ? substr(comment[i], 3) : comment[i])
		comments = 0
		if (reason != "")
			print "ok - " name " # SKIP " reason
		else if (!ok && name in known)
			print "ok - " name " # SKIP fails, as it does on the base: " known[name]
		else if (ok)
			print "ok - " name
		else {
			print "not ok - " name
			bad++
		}
		if (ok && name in known)
			print "# " name " is listed in check-base-tests.sh as failing, but passes"
	}'
}

tree && guest_programs && kernel "$TREE" "${VM_CONFIG:-debug}" || exit 1

rm -rf "$programs" "$objects"
mkdir -p "$programs" "$objects"
# Without liburing, whose tests of pinned buffers are the selftests' own here (ksm_pins).
: > "$objects/local_config.h"
list_jobs && write_guest_script || exit 1
if [ $# -gt 0 ]; then
	for i in "${!jobs[@]}"; do
		IFS='|' read -r _ _ name _ <<< "${jobs[i]}"
		[[ " $* " == *" ${name%% *} "* ]] || unset "jobs[i]"
	done
	[ ${#jobs[@]} -gt 0 ] || { echo "# none of these is a program: $*" >&2; exit 1; }
fi
printf '%s\n' "${jobs[@]}" > "$programs/jobs"
[ "$TREE" != linux ] || for name in "${!known[@]}"; do
	printf '%s\t%s\n' "$name" "${known[$name]}"
done > "$objects/known"

for name in ksm_tests ksm_functional_tests mkdirty cow mrelease_test madv_populate pagemap_ioctl; do
	beside attempt "base-tests: $name compiles" compile $name
done
compile_merging || exit 1
wait

log=base-tests
[ "$TREE" = linux ] || log=base-tests-$TREE
# Without pages of 1 GiB, which no guest here has memory for: cow would have some 20 tests to skip.
"$top/scripts/vm.sh" -l "$log" -m 3072 -t "${VM_TIMEOUT:-7200}" -d 512M -n 2 -a "$(guest_clock)" \
	-q '-cpu max,-pdpe1gb' -f "$programs:/tests" "$TREE-${VM_CONFIG:-debug}" \
	"SECONDS_LEFT=$(seconds_left) sh /tests/run.sh" | flatten
status=("${PIPESTATUS[@]}")
result $((status[0] == 125)) "base-tests: no complaint on the console"
[ "${status[*]}" = '0 0' ]
