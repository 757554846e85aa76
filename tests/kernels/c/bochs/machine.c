/* A PC of one program: what a static Linux executable asks of its kernel, on the bare machine that rom.S has set up.
 *
 * The program runs in kernel mode, one thread, its output goes to the parallel port (Bochs writes what it prints to a file, at once: no baud rate). Answered are the system calls that glibc's start
 * and the kernel check need; every other one gets -ENOSYS. Memory from mmap lies behind page tables of its own, so that a guard page
 * faults; a fault, as the end of the program, is printed (`machine: exit 0`, `machine: vector 14 ...`) and switches the PC off. */
#include <errno.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <sys/uio.h>

#define MIB (1ull << 20)
#define HEAP (64 * MIB)   /* the program lies below */
#define STACK (128 * MIB) /* its top */
#define POOL (128 * MIB)  /* pages of 4 KiB up to POOL_END: for page tables and for mmap */
#define POOL_END (448 * MIB)
#define WINDOW (1ull << 39) /* addresses that mmap returns: only ever new ones */
#define PAGE 4096ull
enum { PRESENT = 1, WRITABLE = 2, PRINTER = 0x378, PRINTER_CONTROL = 0x37a, SELECTED = 0x0c, STROBE = 0x0d, POWER = 0x8900 };

void machine_start(const char *arguments);
void machine_system_call(void);
int64_t machine_answer(int64_t number, uint64_t a, uint64_t b, uint64_t c);
void machine_fault(uint64_t vector, const uint64_t *frame);
extern void _start(void);
extern char machine_vectors[];

static uint64_t next_page = POOL, free_pages, next_address = WINDOW, heap_end = HEAP;

/* --- ports ------------------------------------------------------------------------------------------------------------------ */

static void port(uint16_t number, uint8_t byte) { __asm__ volatile("outb %0, %1" : : "a"(byte), "Nd"(number)); }
static void put(char byte) { port(PRINTER, (uint8_t)byte), port(PRINTER_CONTROL, STROBE), port(PRINTER_CONTROL, SELECTED); }
static void print(const char *text) {
  while (*text) put(*text++);
}
static void print_number(const char *label, uint64_t n, unsigned base) {
  char digits[24], *at = digits + sizeof digits - 1;
  *at = 0;
  do *--at = "0123456789abcdef"[n % base];
  while (n /= base);
  print(label), print(at);
}
static _Noreturn void power_off(void) {
  print("\n");
  for (const char *word = "Shutdown"; *word; word++) port(POWER, (uint8_t)*word);
  for (;;) __asm__ volatile("hlt");
}

/* --- memory ----------------------------------------------------------------------------------------------------------------- */

/* Zeroed. A free page holds the address of the next free one. */
static uint64_t take_page(void) {
  uint64_t page = free_pages;
  if (page) {
    free_pages = *(uint64_t *)page;
  } else {
    page = next_page, next_page += PAGE;
    if (next_page > POOL_END) print("machine: out of memory"), power_off();
  }
  for (uint64_t *at = (uint64_t *)page; at < (uint64_t *)(page + PAGE); at++) *at = 0;
  return page;
}

/* The table entry of one page of the window. */
static uint64_t *entry_of(uint64_t address) {
  uint64_t table;
  __asm__("mov %%cr3, %0" : "=r"(table));
  for (int shift = 39; shift > 12; shift -= 9) {
    uint64_t *entry = (uint64_t *)table + (address >> shift) % 512;
    if (!*entry) *entry = take_page() | PRESENT | WRITABLE;
    table = *entry & ~(PAGE - 1);
  }
  return (uint64_t *)table + (address >> 12) % 512;
}

static int64_t map(uint64_t bytes, uint64_t protection) {
  const uint64_t at = next_address, end = (at + bytes + PAGE - 1) & ~(PAGE - 1);
  for (uint64_t page = at; page < end; page += PAGE) *entry_of(page) = take_page() | (protection ? PRESENT | WRITABLE : 0);
  next_address = end + PAGE;
  return (int64_t)at;
}

static int64_t protect(uint64_t at, uint64_t bytes, uint64_t protection) {
  if (at < WINDOW) return 0; /* the program's own constants */
  for (uint64_t page = at; page < at + bytes; page += PAGE) {
    uint64_t *entry = entry_of(page);
    *entry = (*entry & ~(PAGE - 1)) | (protection & PROT_WRITE ? PRESENT | WRITABLE : protection ? PRESENT : 0);
    __asm__ volatile("invlpg (%0)" : : "r"(page) : "memory");
  }
  return 0;
}

static int64_t unmap(uint64_t at, uint64_t bytes) {
  for (uint64_t page = at; page < at + bytes; page += PAGE) {
    uint64_t *entry = entry_of(page), memory = *entry & ~(PAGE - 1);
    if (memory) *(uint64_t *)memory = free_pages, free_pages = memory;
    *entry = 0;
    __asm__ volatile("invlpg (%0)" : : "r"(page) : "memory");
  }
  return 0;
}

static int64_t move_heap_end(uint64_t to) {
  if (to < HEAP || to > STACK - 16 * MIB) return (int64_t)heap_end;
  while (heap_end < to) *(uint8_t *)heap_end++ = 0;
  heap_end = to;
  return (int64_t)heap_end;
}

/* --- system calls ----------------------------------------------------------------------------------------------------------- */

static int64_t write_out(const char *bytes, uint64_t count) {
  for (uint64_t i = 0; i < count; i++) put(bytes[i]);
  return (int64_t)count;
}

static int64_t write_parts(const struct iovec *parts, uint64_t count) {
  int64_t all = 0;
  for (uint64_t i = 0; i < count; i++) all += write_out(parts[i].iov_base, parts[i].iov_len);
  return all;
}

static void write_msr(uint32_t number, uint64_t value) {
  __asm__ volatile("wrmsr" : : "c"(number), "a"((uint32_t)value), "d"((uint32_t)(value >> 32)));
}

static int64_t set_process(uint64_t what, uint64_t value) {
  enum { SET_FS = 0x1002, REQUEST_PERMISSION = 0x1023, FS_BASE = 0xc0000100 }; /* arch/x86/include/uapi/asm/prctl.h */
  if (what == SET_FS) write_msr(FS_BASE, value);
  return what == SET_FS || what == REQUEST_PERMISSION ? 0 : -EINVAL;
}

static _Noreturn void leave(uint64_t code) {
  print_number("machine: exit ", code, 10);
  power_off();
}

int64_t machine_answer(int64_t number, uint64_t a, uint64_t b, uint64_t c) {
  switch (number) {
    case SYS_write: return write_out((const char *)b, c);
    case SYS_writev: return write_parts((const struct iovec *)b, c);
    case SYS_mmap: return map(b, c);
    case SYS_mprotect: return protect(a, b, c);
    case SYS_munmap: return unmap(a, b);
    case SYS_brk: return move_heap_end(a);
    case SYS_arch_prctl: return set_process(a, b);
    case SYS_exit:
    case SYS_exit_group: leave(a);
    default: return -ENOSYS;
  }
}

/* `syscall` from kernel mode: back by a jump, on a stack of its own (the caller may use the 128 bytes below its stack pointer). */
__asm__(
    "machine_system_call:\n"
    "  mov %rsp, machine_caller_stack(%rip)\n"
    "  lea machine_stack_top(%rip), %rsp\n"
    "  push %rcx; push %r11; push %rdi; push %rsi; push %rdx; push %r8; push %r9; push %r10\n"
    "  mov %rdx, %rcx\n  mov %rsi, %rdx\n  mov %rdi, %rsi\n  mov %rax, %rdi\n"
    "  call machine_answer\n"
    "  pop %r10; pop %r9; pop %r8; pop %rdx; pop %rsi; pop %rdi; pop %r11; pop %rcx\n"
    "  mov machine_caller_stack(%rip), %rsp\n"
    "  jmp *%rcx\n"
    ".local machine_caller_stack\n.comm machine_caller_stack, 8, 8\n"
    ".local machine_stack\n.comm machine_stack, 32768, 64\n"
    ".set machine_stack_top, machine_stack + 32768\n");

/* --- faults ----------------------------------------------------------------------------------------------------------------- */

/* Thirty-two entries of 16 bytes: push the number, print, off. */
__asm__(
    "  .balign 16\n"
    "machine_vectors:\n"
    "  .set vector, 0\n"
    "  .rept 32\n"
    "  .balign 16\n"
    "  mov $vector, %edi\n"
    "  jmp 1f\n"
    "  .set vector, vector + 1\n"
    "  .endr\n"
    "1:\n"
    "  mov %rsp, %rsi\n"
    "  lea machine_stack_top(%rip), %rsp\n"
    "  call machine_fault\n");

void machine_fault(uint64_t vector, const uint64_t *frame) {
  uint64_t address;
  __asm__("mov %%cr2, %0" : "=r"(address));
  const int has_code = (0x60227d00u >> vector) & 1;
  print_number("machine: vector ", vector, 10), print_number(" at ", frame[has_code], 16), print_number(" address ", address, 16);
  power_off();
}

static void set_vectors(void) {
  static struct { uint16_t low, selector, flags, middle; uint32_t high, zero; } table[32];
  for (int i = 0; i < 32; i++) {
    const uint64_t at = (uint64_t)machine_vectors + 16 * (uint64_t)i;
    table[i].low = (uint16_t)at, table[i].middle = (uint16_t)(at >> 16), table[i].high = (uint32_t)(at >> 32);
    table[i].selector = 24, table[i].flags = 0x8e00;
  }
  const struct __attribute__((packed)) { uint16_t limit; const void *base; } pointer = {sizeof table - 1, table};
  __asm__ volatile("lidt %0" : : "m"(pointer));
}

/* --- start ------------------------------------------------------------------------------------------------------------------ */

static uint64_t *cut_words(char *text, uint64_t *to, uint64_t *count) {
  for (*count = 0; *text;) {
    while (*text == ' ') *text++ = 0;
    if (*text) *to++ = (uint64_t)text, ++*count;
    while (*text && *text != ' ') text++;
  }
  return to;
}

static uint64_t start_block[512] __attribute__((aligned(64))); /* argc, argv, 0, envp = 0, auxv: the x86-64 ABI's initial stack */

static void lay_out_start(const char *arguments) {
  static char words[2048], random[16] = "a fixed sixteen";
  for (size_t i = 0; arguments[i] && i + 1 < sizeof words; i++) words[i] = arguments[i];
  enum { AT_PAGESZ = 6, AT_RANDOM = 25 };
  uint64_t *at = cut_words(words, start_block + 1, start_block);
  const uint64_t tail[] = {0, 0, AT_PAGESZ, PAGE, AT_RANDOM, (uint64_t)random, 0, 0};
  for (size_t i = 0; i < sizeof tail / sizeof *tail; i++) at[i] = tail[i];
}

void machine_start(const char *arguments) {
  enum { STAR = 0xc0000081, LSTAR = 0xc0000082, FMASK = 0xc0000084 };
  set_vectors();
  write_msr(STAR, 24ull << 32), write_msr(LSTAR, (uint64_t)machine_system_call), write_msr(FMASK, 0);
  lay_out_start(arguments);
  uint64_t *stack = (uint64_t *)STACK - 1024;
  for (size_t i = 0; i < 512; i++) stack[i] = start_block[i];
  __asm__ volatile("mov %0, %%rsp\n xor %%edx, %%edx\n xor %%ebp, %%ebp\n jmp _start" : : "r"(stack) : "memory");
}
