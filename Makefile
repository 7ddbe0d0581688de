# SPDX-License-Identifier: GPL-2.0
#
# The project's commands. Each target calls a script in scripts/, which can be run
# by hand too; `make help` lists them. Everything that is made goes to build/.

BASE ?=
FILES ?=
SECONDS ?= 60
CHECK_SECONDS ?=

.DEFAULT_GOAL := help
.NOTPARALLEL:
.PHONY: help deps tree mainline kernel kernel-debug kernel-mainline debian-image demo check \
	check-all check-quick check-unit check-kunit check-i386 check-vm check-kvm check-torture \
	check-matrix check-style check-docs check-base-tests check-clients torture mutants bench \
	bench-kvm docs docs-check clean distclean

help: ## show this help
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "  %-16s %s\n", $$1, $$2 }' Makefile

deps: ## install what the other targets need (apt; without root: print the line)
	@scripts/deps.sh

tree: deps ## build/linux: the base, our files and patches (BASE=DIR: another base)
	@scripts/mktree.sh linux "$(BASE)"

mainline: deps ## build/mainline: the untouched base
	@scripts/mktree.sh mainline "$(BASE)"

kernel: tree ## a small x86_64 kernel for QEMU with our KSM
	@scripts/kbuild.sh linux qemu

kernel-debug: tree ## the same with KASAN, lockdep and other checks
	@scripts/kbuild.sh linux debug

kernel-mainline: mainline ## the small kernel with mainline's KSM, to compare
	@scripts/kbuild.sh mainline qemu

debian-image: deps ## Debian's userland for the guest of check-clients (mmdebstrap; root)
	@scripts/mkdebian.sh

demo: deps ## boot it and merge real files loaded by processes (FILES=DIR)
	@FILES="$(FILES)" scripts/demo.sh

check: deps ## run the tests; ends with 'N passed, N failed' (CHECK_SECONDS=n)
	@CHECK_SECONDS=$(CHECK_SECONDS) scripts/check.sh

check-all: deps ## the same, and base-tests, clients and kvm
	@CHECK_SECONDS=$(CHECK_SECONDS) scripts/check.sh all

check-quick: deps ## unit tests, and all kselftests on a quick kernel
	@scripts/check.sh unit vm-quick

check-unit: deps ## tests of the pure layers, in userspace
	@scripts/check.sh unit

check-kunit: deps ## KUnit and a few kselftests in user mode Linux
	@scripts/check.sh kunit

check-i386: deps ## KUnit and the kselftests on a kernel of 32 bits in QEMU
	@scripts/check.sh i386

check-vm: deps ## kselftests on the debug kernel in QEMU
	@scripts/check.sh vm

check-kvm: deps ## guests of KVM with merged memory, nested in QEMU
	@scripts/check.sh kvm

check-torture: deps ## one minute of torture on the debug kernel
	@scripts/check.sh torture

check-base-tests: deps ## the base's own selftests on the debug kernel (TREE=mainline: on its)
	@scripts/check.sh base-tests

check-clients: deps ## Debian's programs that use KSM, in QEMU (TREE=mainline: on its kernel)
	@scripts/check.sh clients

check-matrix: deps ## compile with other configurations, W=1
	@scripts/check.sh matrix

check-style: deps ## checkpatch, sparse, kernel-doc
	@scripts/check.sh style

torture: deps ## torture for SECONDS=n (60) with a content oracle (FAULTS=1: failing allocations)
	@SECONDS_TO_RUN=$(SECONDS) scripts/check.sh torture

mutants: deps ## break the code in small ways; every breakage has to be caught
	@scripts/mutants.sh

bench: deps ## compare with mainline under UML, as table, JSON and SVG
	@scripts/bench.sh

bench-kvm: deps ## ranges, flushes and exits of guests of KVM, beside mainline
	@scripts/bench-kvm.sh

docs: ## the documents as HTML in build/docs, by Sphinx
	@scripts/docs.sh

docs-check: tree ## kernel-doc of the sources and references of the documents
	@scripts/check-docs.sh

clean: ## remove what was built, but not the trees
	rm -rf build/linux/.out-* build/mainline/.out-* build/out build/log build/tests

distclean: ## remove build/
	rm -rf build
