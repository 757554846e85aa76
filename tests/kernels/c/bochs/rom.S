/* The whole firmware of the emulated PC: from the reset vector to 64-bit mode with every vector register enabled, then to ENTRY (a
 * number), whose rdi is the command line. Memory is mapped one to one; a ROM of 64 KiB ends at 4 GiB. */
#define TABLES 0x1000 /* the page that maps 512 GiB, then the page of its first four GiB */
#define STACK 0x80000 /* its top, until the program has its own */
#define CR0_FLAGS 0x80010023 /* PG, WP, NE, MP, PE */
#define CR4_FLAGS 0x406a0 /* OSXSAVE, OSXMMEXCPT, OSFXSR, PGE, PAE */
#define EFER 0xc0000080

rom:
  .code16
start:
  cli
  lgdtl %cs:gdt_register - rom
  movl %cr0, %eax
  orb $1, %al
  movl %eax, %cr0
  ljmpl $8, $protected

  .code32
protected:
  movl $16, %eax
  movl %eax, %ds
  movl %eax, %es
  movl %eax, %ss
  /* Bochs 2.7 takes host memory in blocks in the order of their first use, but reads the program in as if all of it were one block:
   * touch what the program takes before anything else. */
  movl $IMAGE, %edi
2:
  movl (%edi), %eax
  addl $0x20000, %edi
  cmpl $IMAGE + IMAGE_BYTES, %edi
  jb 2b
  movl $TABLES, %edi /* memory starts with anything in it */
  movl $0x800, %ecx
  xorl %eax, %eax
  rep stosl
  movl $TABLES + 0x1003, TABLES
  movl $4, %ecx
  movl $0x83, %eax /* present, writable, one GiB */
  movl $TABLES + 0x1000, %edi
1:
  movl %eax, (%edi)
  addl $0x40000000, %eax
  addl $8, %edi
  loop 1b
  movl $TABLES, %eax
  movl %eax, %cr3
  movl $CR4_FLAGS, %eax
  movl %eax, %cr4
  movl $EFER, %ecx
  movl $0x101, %eax /* LME, SCE */
  xorl %edx, %edx
  wrmsr
  movl $CR0_FLAGS, %eax
  movl %eax, %cr0
  ljmpl $24, $long_mode

  .code64
long_mode:
  movl $0xd, %eax /* which registers XSAVE knows: enable all of them */
  xorl %ecx, %ecx
  cpuid
  xorl %ecx, %ecx
  xsetbv
  movl $STACK, %esp
  leaq arguments(%rip), %rdi
  movl $ENTRY, %eax
  call *%rax

  .balign 8
gdt:
  .quad 0, 0x00cf9b000000ffff, 0x00cf93000000ffff, 0x00af9b000000ffff, 0x00cf93000000ffff
gdt_register:
  .word gdt_register - gdt - 1
  .long gdt
arguments:
  .asciz ARGUMENTS

  .org 0xfff0 /* where a processor starts */
  .code16
  jmp start
  .balign 16
