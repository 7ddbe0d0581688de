/* SPDX-License-Identifier: GPL-2.0 */
/*
 * Same-page merging selftests: the program that runs in a VM. It is copied to
 * GUEST_CODE and runs in 32-bit protected mode, with flat segments, no paging,
 * no stack and no interrupts. After each call it writes to a port, which ends
 * KVM_RUN; the next KVM_RUN goes on behind that with the next call.
 */
#include "kvm_guest.h"

	.section .rodata, "a"
	.code32
	.globl	guest_code, guest_code_end

guest_code:
	cld
call:
	movl	$0, GUEST_BOX + BOX_RESULT
	movl	GUEST_BOX + BOX_FIRST, %ebx	/* the page's number */
	movl	GUEST_BOX + BOX_COUNT, %ebp	/* how many are left */
page:
	subl	$1, %ebp
	jb	done
	movl	%ebx, %edi			/* the page */
	shll	$12, %edi
	addl	$GUEST_RAM, %edi
	xorl	%edx, %edx			/* its reference page */
	movl	%ebx, %eax
	divl	GUEST_BOX + BOX_DISTINCT
	movl	%edx, %esi
	shll	$12, %esi
	addl	$GUEST_REFS, %esi

	movl	$1024, %ecx
	movl	GUEST_BOX + BOX_OP, %eax
	cmpl	$GUEST_FILL, %eax
	je	fill
	cmpl	$GUEST_CHECK, %eax
	je	check

	addl	GUEST_BOX + BOX_AT, %edi
	addl	GUEST_BOX + BOX_AT, %esi
	movl	GUEST_BOX + BOX_VALUE, %ecx
	addl	%ebx, %ecx
	cmpl	$GUEST_STAMP, %eax
	je	stamp
	cmpl	$GUEST_CHECK_STAMP, %eax
	je	check_stamp
	cmpl	$GUEST_UNSTAMP, %eax
	je	unstamp
	jmp	wrong
next:
	addl	GUEST_BOX + BOX_STEP, %ebx
	jmp	page

fill:
	rep movsl
	jmp	next
check:
	repe cmpsl
	je	next
wrong:
	incl	GUEST_BOX + BOX_RESULT
	jmp	next
stamp:
	movl	%ecx, (%edi)
	jmp	next
check_stamp:
	cmpl	%ecx, (%edi)
	je	next
	jmp	wrong
unstamp:
	movl	(%esi), %ecx
	movl	%ecx, (%edi)
	jmp	next

done:
	outb	%al, $GUEST_PORT
	jmp	call
guest_code_end:

	.section .note.GNU-stack, "", @progbits
