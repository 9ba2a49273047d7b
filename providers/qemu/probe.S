# The firmware that the probe of the acceleration runs, in place of a BIOS: as -bios, 64 KiB that end at 4 GiB and are seen below 1 MiB, too.
# It enters long mode with paging, as every system does, and then does what a broken acceleration is known to hang in or to take minutes
# for: millions of memory accesses, atomic operations on 16 bytes, SSE. Then it ends QEMU through isa-debug-exit.
#
#	as -o probe.o probe.S && objcopy -O binary -j .text probe.o probe.bin
        .code16
start:  cli
        movw %cs, %ax
        movw %ax, %ds
        # page tables at 0x1000: one each of PML4, PDPT and PD, the last with a page of 2 MiB; and room for data above
        xorw %ax, %ax
        movw %ax, %es
        movw $0x1000, %di
        movw $0x3000/4, %cx
        xorl %eax, %eax
        cld
        rep stosl
        movl $0x2003, %es:0x1000
        movl $0x3003, %es:0x2000
        movl $0x83, %es:0x3000
        lgdtl (gdtr - start)
        movl $0x620, %eax          # CR4: PAE, OSFXSR, OSXMMEXCPT
        movl %eax, %cr4
        movl $0x1000, %eax
        movl %eax, %cr3
        movl $0xc0000080, %ecx     # EFER: LME
        rdmsr
        orl $0x100, %eax
        wrmsr
        movl %cr0, %eax
        orl $0x80000001, %eax      # PG, PE
        andl $0xfffffffb, %eax     # no emulation of the FPU
        movl %eax, %cr0
        ljmpl $8, $(0xf0000 + long - start)
        .code64
long:   movl $0x10, %eax
        movl %eax, %ds
        movl %eax, %es
        movl %eax, %ss
        movl $0x8000, %esp
        movl $20000000, %ecx
        movl $0x10000, %edi
1:      movq %rcx, (%rdi)
        addq (%rdi), %rsi
        addl $64, %edi
        andl $0x1ffff, %edi
        orl $0x10000, %edi
        decl %ecx
        jnz 1b
        movl $100000, %esi
        movl $0x9000, %edi
2:      movq (%rdi), %rax
        movq 8(%rdi), %rdx
        movq %rsi, %rbx
        movq %rsi, %rcx
        lock cmpxchg16b (%rdi)
        movups (%rdi), %xmm0
        movups %xmm0, 32(%rdi)
        decl %esi
        jnz 2b
        movb $0x2a, %al
        outb %al, $0xf4            # QEMU's exit status is 2 * 0x2a + 1
3:      hlt
        jmp 3b
        .align 8
gdt:    .quad 0
        .quad 0x00af9b000000ffff   # 64-bit code
        .quad 0x00cf93000000ffff   # data
gdtr:   .word 23
        .long 0xf0000 + gdt - start
        .org 0xfff0
        .code16
        .byte 0xea                 # reset: jump to 0xf000:0
        .word 0, 0xf000
        .org 0x10000
