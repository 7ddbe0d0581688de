#!/bin/bash
# SPDX-License-Identifier: GPL-2.0
#
# KUnit under user mode Linux: mm/ksm/tests. The nested KTAP is flattened to one line
# a test case.

. "$(dirname "$0")/lib.sh"

tree && kernel "$TREE" kunit-uml || exit 1

# The tests run during boot. There is no root file system to go on with, so UML panics then.
ulimit -c 0
(timeout 300 "$top/build/out/$TREE-kunit-uml/linux" mem=512M earlyprintk stderr=1 \
	kunit.enable=1 panic=-1 < /dev/null 2>&1 || true) 2> /dev/null | tr -d '\r' > "$logs/kunit.console"

# Cases are indented by four blanks, and by eight those of a parameterised case, which has
# a line of its own. A suite's line, not indented, only sums up.
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
     END { print "1.." planned + 2 }' "$logs/kunit.console"

grep -qE '^# Totals: pass:[1-9]|^# .*: pass:[1-9]' "$logs/kunit.console"
result $? "kunit: tests ran"

grep -aE 'WARNING:|BUG:|KASAN:|UBSAN:|Oops|possible .*deadlock|suspicious RCU|sleeping function' "$logs/kunit.console" |
	sed 's/^/# /'
result $((PIPESTATUS[0] == 0)) "kunit: no complaint on the console"
