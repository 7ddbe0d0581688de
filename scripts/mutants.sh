#!/bin/bash
# SPDX-License-Identifier: GPL-2.0
#
# Do the tests notice broken code? tools/testing/ksm/mutants/mutants.list describes small
# breakages, a line of code each. One at a time is made in a kernel tree of its own, and the tests
# that should notice are run there: unit tests in userspace, selftests in user mode Linux if all that
# it wants run there, else in QEMU on a kernel with the cheap checks and the validator
# (configs/mutant.config). QEMU's and the others are two lanes, which run side by side in
# build/mutant-vm and build/mutant-uml.
#
#   mutants.sh [-k] [NAME ...]	these mutants (all by default)
#   mutants.sh -l		list them, and check that each still fits the code; builds nothing
#   mutants.sh -t [NAME ...]	run on the unbroken code what these mutants want to be run
#
#   -k	go on with the results that build/mutant-*.done keep, as long as the code is the same; so
#	that a run may be ended at any time and continued
#
# The unbroken code comes first: a test that fails there catches nothing, and makes the whole run
# fail, as does a mutant that survives, fits no more or does not compile. A mutant is caught when a
# test fails, a program dies or doesn't end in time, or the kernel complains, and not so before.

. "$(dirname "$0")/lib.sh"

list=$top/tools/testing/ksm/mutants/mutants.list
vm=$top/build/mutant.vm
# What needs neither a second processor nor a second node, a disk or a special device.
uml_programs=' ksm_abi_madvise ksm_abi_prctl ksm_abi_proc ksm_abi_sysfs ksm_anon_vma ksm_busy ksm_collide'
uml_programs+=' ksm_counters ksm_cow ksm_exit ksm_lookalike ksm_merge ksm_merge_dups ksm_merge_yield'
uml_programs+=' ksm_merge_zero ksm_peers ksm_pins ksm_unmerge '
unbroken=$top/build/mutant.unbroken

# use_lane uml|vm: all that the functions below make is the lane's own.
use_lane() {
	lane=$1
	copy=$top/build/mutant-$lane		# the tree that gets broken
	pristine=$copy.pristine			# our files and the patched ones, unbroken
	unit=$copy.unit
	results=$copy.done
	unbroken=$copy.unbroken
	log=$logs/mutant-$lane
	config=mutant
	[ $lane = vm ] || config=kunit-uml
}

say() { printf '  MUTANT  %s\n' "$*" >&2; }
die() { echo "mutants: $*" >&2; exit 1; }

# read_list: fills the tables below from stanzas of `key: value`, parted by blank lines.
declare -A breaks file func from to wants
all=()
read_list() {
	local line key value name=

	while IFS= read -r line; do
		case $line in
		'' | '#'*) continue ;;
		esac
		key=${line%%:*}
		value=${line#*:}
		value=${value#"${value%%[![:space:]]*}"}
		case $key in
		name)	name=$value
			[ -z "${file[$name]-}" ] || die "two mutants are named $name"
			file[$name]='mm/ksm/*.c'
			all+=("$name") ;;
		breaks)	breaks[$name]=$value ;;
		file)	file[$name]=$value ;;
		in)	func[$name]=$value ;;
		from)	from[$name]=${value//'\n'/$'\n'} ;;
		to)	to[$name]=${value//'\n'/$'\n'} ;;
		tests)	wants[$name]=$value ;;
		*)	die "$list: what is '$key'?" ;;
		esac
	done < "$list"
}

# cut_file FILE FUNCTION: the file as $head, $body and $tail, of which the body is that function, or all
# without one.
cut_file() {
	local first last

	head= tail=
	body=$(cat "$1"; echo x)
	body=${body%x}
	[ -n "$2" ] || return 0
	first=$(grep -nE "^[a-z].*[ *]$2\(" "$1" | grep -v ';$' | cut -d: -f1)
	[ "$(wc -w <<< "$first")" = 1 ] || return 1
	last=$(awk -v first="$first" 'NR > first && /^}/ { print NR; exit }' "$1")
	head=$(sed "$((first - 1))q" "$1"; echo x)
	head=${head%x}
	tail=$(sed "1,${last}d" "$1"; echo x)
	tail=${tail%x}
	body=$(sed -n "$first,${last}p" "$1"; echo x)
	body=${body%x}
}

# break_file NAME SOURCE DEST: puts the mutant's file, from the tree SOURCE, with the mutant in it into
# the tree DEST; $path says which. The text to replace has to be there exactly once, in the function that
# the mutant names, if it does. $why says what is wrong.
break_file() {
	local name=$1 candidate head body tail rest count=0 broken

	why= path=
	for candidate in "$2"/${file[$name]}; do
		[ -f "$candidate" ] && grep -qF -- "${from[$name]##*$'\n'}" "$candidate" &&
			cut_file "$candidate" "${func[$name]-}" || continue
		rest=${body//"${from[$name]}"/}
		[ ${#rest} != ${#body} ] || continue
		count=$((count + (${#body} - ${#rest}) / ${#from[$name]}))
		path=${candidate#"$2"/}
		# Quoted, as & would be special.
		broken=$head${body/"${from[$name]}"/"${to[$name]}"}$tail
	done
	if [ $count != 1 ]; then
		why="${func[$name]:+in ${func[$name]}() }matches $count times in ${file[$name]}"
		return 1
	fi
	# Not in place: the file may be a hard link to the base's.
	mkdir -p "$(dirname "$3/$path")"
	printf '%s' "$broken" > "$3/$path.new"
	mv "$3/$path.new" "$3/$path"
}

# Brings what make tree brought to build/linux over to the copy, file by file, new time stamps for changes only.
refresh() {
	local path new=$copy.managed.new

	if [ ! -d "$copy" ] || ! cmp -s "$top/build/linux.stamp" "$copy.stamp"; then
		say "making ${copy#"$top/"}"
		rm -rf "$copy" "$copy.stamp"
		rsync -a --exclude '/.out-*' --link-dest="$top/build/mainline" "$top/build/linux/" "$copy/"
		cp "$top/build/linux.stamp" "$copy.stamp"
	fi
	rm -rf "$pristine"
	touch "$copy.managed"
	cp "$top/build/linux.managed" "$new"
	while read -r path; do
		if [ ! -f "$top/build/linux/$path" ]; then
			rm -f "$copy/$path"
			continue
		fi
		install -D -m 644 "$top/build/linux/$path" "$pristine/$path"
		put "$path"
	done < <(sort -u "$new" "$copy.managed")
	mv "$new" "$copy.managed"
}

# put PATH: the unbroken file into the copy.
put() {
	cmp -s "$pristine/$1" "$copy/$1" || install -D -m 644 "$pristine/$1" "$copy/$1"
}

build() { nice -n 5 "$top/scripts/kbuild.sh" mutant-$lane $config > "$log-build.log" 2>&1 8>&-; }

# failures FILE: the failed tests in some TAP, with the name of the program before each. Programs
# with a status but no failed test get a line as well.
failures() {
	awk '/^# ---- / { program = $3; bad = 0 }
	     /^not ok / { sub(/^not ok ([0-9]+ )?(- )?/, ""); print program ": " $0; bad = 1 }
	     /^# status / && $3 && !bad { print program ": " ($3 == 124 || $3 == 143 ? "no end" : "died, status " $3) }' "$1"
}

# run_unit LOG PROGRAM ...
run_unit() {
	local out=$1 program status
	shift

	: > "$out"
	for program; do
		echo "# ---- $program" >> "$out"
		status=0
		timeout 120 nice -n 5 make -s -C "$copy/tools/testing/ksm" KTREE="$copy" OUTPUT="$unit" \
			CC="ccache gcc" "$unit/$program" < /dev/null > "$log-build.log" 2>&1 || status=2
		if [ $status = 2 ]; then
			why="does not compile"
			return 2
		fi
		timeout 120 "$unit/$program" < /dev/null >> "$out" 2>&1 || status=$?
		echo "# status $status" >> "$out"
	done
}

# run_guest OUT limited|unlimited PROGRAM ...: unlimited, all are run to the end, however it goes.
run_guest() {
	local out=$1 limited=$2 status=0 program seconds total=60 command append guest
	shift 2

	append="oops=panic"
	if [ $lane = vm ]; then
		# The other kernel has KASAN instead, which takes red zones for what it looks for.
		append+=" slab_debug=FZP,ksm_* mem=2816M movablecore=1G"
		guest=(-m 3072 -n 2 -d 512M -d 512M)
	else
		append+=" kunit.enable=0"
		guest=(-m 1024)
	fi
	command="cd /tests; export KSM_FRESH_BOOT=1; now() { cut -d. -f1 /proc/uptime; }; "
	command+="run() { limit=\$1; start=\$(now); shift; echo \"# ---- \$1\"; timeout \$limit ./\"\$@\" 2>&1; "
	command+="status=\$?; echo \"# status \$status after \$((\$(now) - start)) s\"; return \$status; }; "
	# What comes after a warning may never end, and there is no need to wait for it.
	[ $limited = unlimited ] || append+=" panic_on_warn=1"
	for program; do
		seconds=300
		[ $limited = unlimited ] || seconds=$((30 + 5 * ${took[$program]:-10}))
		total=$((total + seconds))
		case $program in
		ksm_torture) program+=" --seconds 20" ;;
		esac
		command+="run $seconds $program"
		[ $limited = unlimited ] || command+=" || exit 0"
		command+="; "
	done
	nice -n 5 "$top/scripts/vm.sh" -s -l mutant-$lane-guest -f "$vm:/tests" -a "$append" -t $total \
		"${guest[@]}" mutant-$lane-$config "$command exit 0" > "$log-guest.log" 2>&1 8>&- || status=$?
	cp "$log-guest.out" "$out"
	case $status in
	0) ;;
	125)	{ echo "# ---- console"
		  sed -n '/^vm: the kernel complained/{n;s/^ *\(\[[^]]*\] *\)*/not ok /p;q}' "$log-guest.log"
		} >> "$out" ;;
	*)	{ echo "# ---- guest"
		  sed -n '1s/^vm: \(.*\);.*/not ok \1/p' "$log-guest.log"; } >> "$out" ;;
	esac
}

# lane_of NAME
lane_of() {
	local test

	for test in ${wants[$1]}; do
		if [[ $test == ksm_* && $uml_programs != *" $test "* ]]; then
			echo vm
			return
		fi
	done
	echo uml
}

# wanted unit|guest NAME ...: the programs that these mutants are for, each once.
wanted() {
	local kind=$1 name test
	shift

	for name; do
		for test in ${wants[$name]}; do
			case $kind:$test in
			unit:*_test) echo "$test" ;;
			guest:ksm_*) echo "$test" ;;
			esac
		done
	done | awk '!seen[$0]++' | tr '\n' ' '
}

# The unbroken code: its failed tests go to $unbroken, and the seconds that its programs take to $took.
declare -A took
judge_unbroken() {
	local units guests program seconds ran

	units=$(wanted unit "$@")
	guests=$(wanted guest "$@")
	ran="unbroken  $units$guests"
	if ! grep -qxF "$ran" "$results"; then
		sed -i '/^unbroken /d' "$results"
		run_unbroken
		echo "$ran" >> "$results"
	fi
	while read -r program seconds; do
		took[$program]=$seconds
	done < <(awk '/^# ---- / { program = $3 } /^# status / { print program, $5 }' "$log-unbroken.log")
	sed 's/^/the unbroken code fails: /' "$unbroken"
}

run_unbroken() {
	: > "$unbroken"
	: > "$log-unbroken.log"
	if [ -n "$units" ]; then
		say "unbroken: $units"
		run_unit "$log-unbroken-unit.log" $units || die "the unbroken code does not compile"
		failures "$log-unbroken-unit.log" >> "$unbroken"
	fi
	if [ -n "$guests" ]; then
		say "unbroken: building mutant-$lane-$config"
		build || die "the unbroken code does not compile, see $log-build.log"
		say "unbroken: $guests"
		run_guest "$log-unbroken.log" unlimited $guests
		failures "$log-unbroken.log" >> "$unbroken"
	fi
}

# judge NAME: returns 0 when it is caught ($by says by what), 1 when not, 2 when it can't be judged.
judge() {
	local name=$1 out=$logs/mutant-$1.log units guests

	why= by=
	break_file "$name" "$pristine" "$copy" || return 2
	units=$(wanted unit "$name")
	guests=$(wanted guest "$name")
	if [ -n "$units" ]; then
		run_unit "$out" $units || return 2
		caught_by "$out" && return 0
	fi
	[ -n "$guests" ] || return 1
	if ! build; then
		why="does not compile"
		return 2
	fi
	run_guest "$out" limited $guests
	caught_by "$out"
}

# caught_by LOG: the failures that the unbroken code has not.
caught_by() {
	local found

	mapfile -t found < <(failures "$1" | grep -vxFf "$unbroken")
	[ ${#found[@]} -gt 0 ] || return 1
	by=${found[0]}
	[ ${#found[@]} = 1 ] || by+=" (and $((${#found[@]} - 1)) more)"
}

# run_lane uml|vm NAME ...: those of these mutants that belong there. $count gets how many were caught
# and how many not.
run_lane() {
	local name mine=() identity line start verdict status=0 caught=0 survived=0

	use_lane "$1"
	shift
	echo "0 1" > "$count-$lane"
	for name; do
		[ "$(lane_of "$name")" != $lane ] || mine+=("$name")
	done

	(flock 9; refresh) 9> "$top/build/.tree.lock" || exit 1
	identity=$(cd "$pristine" && find . -type f -print0 | sort -z | xargs -0 cat | cat - "$list" "$vm"/ksm_* | sha1sum)
	if [ $keep = 0 ] || [ "$(head -n 1 "$results" 2>/dev/null)" != "$identity" ]; then
		echo "$identity" > "$results"
	fi

	judge_unbroken "${mine[@]}"
	[ ! -s "$unbroken" ] || status=1
	if [ $mode = test ]; then
		echo "0 0" > "$count-$lane"
		exit $status
	fi

	for name in "${mine[@]}"; do
		if line=$(grep "^caught    $name " "$results"); then
			caught=$((caught + 1))
			echo "$line"
			continue
		fi
		start=$SECONDS
		verdict=0
		judge "$name" || verdict=$?
		[ -z "$path" ] || put "$path"
		case $verdict in
		0)	caught=$((caught + 1))
			line=$(printf 'caught    %-24s %4d s  %-50s %s' "$name" $((SECONDS - start)) "${breaks[$name]}" "$by")
			echo "$line" >> "$results" ;;
		1)	survived=$((survived + 1))
			line=$(printf 'SURVIVED  %-24s %4d s  %-50s %s' "$name" $((SECONDS - start)) "${breaks[$name]}" "${wants[$name]}") ;;
		*)	survived=$((survived + 1))
			line=$(printf 'UNJUDGED  %-24s %4d s  %-50s %s' "$name" $((SECONDS - start)) "${breaks[$name]}" "$why") ;;
		esac
		echo "$line"
	done
	echo "$caught $survived" > "$count-$lane"
	exit $status
}

# All of it is read before it starts, so that the script may be edited meanwhile.
main() {
	mode=run keep=0
	while getopts klt opt; do
		case $opt in
		k) keep=1 ;;
		l) mode=list ;;
		t) mode=test ;;
		*) sed -n '/^#   mutants.sh/,/^# The/s/^# \{0,3\}//p' "$0" >&2; exit 1 ;;
		esac
	done
	shift $((OPTIND - 1))

	read_list
	names=("$@")
	[ $# -gt 0 ] || names=("${all[@]}")
	for name in "${names[@]}"; do
		[ -n "${from[$name]-}" ] && [ -n "${wants[$name]-}" ] ||
			die "$name is no mutant, or lacks from or tests"
	done

	exec 8> "$top/build/.mutant.lock"
	flock -n 8 || die "another run is under way"

	tree || exit 1
	if [ $mode = list ]; then
		bad=0
		for name in "${names[@]}"; do
			break_file "$name" "$top/build/linux" "$top/build/mutant.list" || bad=1
			printf '%-24s %-3s %s%s\n' "$name" "$(lane_of "$name")" "${breaks[$name]}" "${why:+  -- $why}"
		done
		rm -rf "$top/build/mutant.list"
		exit $bad
	fi

	guest_programs || exit 1
	# They change while this runs, but what is judged must not.
	rm -rf "$vm"
	cp -r "$tests/vm" "$vm"

	count=$logs/mutant-count
	trap 'trap - INT TERM; kill 0' INT TERM
	run_lane uml "${names[@]}" &
	run_lane vm "${names[@]}" &
	wait -n
	status=$?
	wait -n || status=$?
	read -r caught survived < <(awk '{ c += $1; s += $2 } END { print c, s }' "$count"-*)
	[ $mode = test ] || echo "$caught caught, $survived survived"
	[ "$survived" = 0 ] && [ $status = 0 ]
	exit
}

main "$@"
