#!/bin/bash
# SPDX-License-Identifier: GPL-2.0
#
# Builds the kernel's documentation of memory management with Sphinx, ours in it, as HTML in build/docs.
# Fails if Sphinx has something to say of our pages; what it says of others is the base's.

. "$(dirname "$0")/lib.sh"

log=$logs/docs.log
out=$top/build/docs

"$top/scripts/deps.sh" python3-sphinx || exit 1
tree || exit 1
for section in mm admin-guide/mm; do
	echo "  DOCS    $section" >&2
	make -C "$top/build/linux" SPHINXDIRS="$section" BUILDDIR="$out" SPHINXOPTS="-q -j$(nproc)" \
		htmldocs || exit 1
done > "$log" 2>&1
for page in mm/ksm mm/ksm-design admin-guide/mm/ksm; do
	[ -s "$out/$page.html" ] || { echo "docs: no $page.html; see build/log/docs.log" >&2; exit 1; }
done
! grep -E 'Documentation/(admin-guide/)?mm/ksm[a-z-]*\.rst|mm/ksm/|linux/ksm\.h' "$log" >&2
