/* Holds a program to an older x86 processor: preloaded, it hides instruction families from CPUID.
 *
 *   gcc -O2 -shared -fPIC -o hold_isa.so hold_isa.c;  LD_PRELOAD=./hold_isa.so EDGEZIP_HOLD=avx2 program
 *
 * EDGEZIP_HOLD=avx2 hides AVX-512, AVX-VNNI and AMX; avxvnni hides AVX-512 and AMX. Linux lets a process have CPUID fault
 * (arch_prctl ARCH_SET_CPUID, where the processor offers it); the fault is answered here with the true answer less some bits.
 * The kernel hands the setting on to new threads. If the kernel refuses, the program ends at once: a peer that was not held must
 * not be measured as if it were. Only for benchmarks: it takes SIGSEGV for itself.
 */
#define _GNU_SOURCE
#include <signal.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/syscall.h>
#include <ucontext.h>
#include <unistd.h>

#define ARCH_SET_CPUID 0x1012
#define BIT(n) (1u << (n))

/* Leaf 7, subleaf 0: AVX-512 F DQ IFMA PF ER CD BW VL; VBMI VBMI2 VNNI BITALG VPOPCNTDQ; 4VNNIW 4FMAPS VP2INTERSECT FP16, AMX. */
static const uint32_t hidden_7_ebx = BIT(16) | BIT(17) | BIT(21) | BIT(26) | BIT(27) | BIT(28) | BIT(30) | BIT(31);
static const uint32_t hidden_7_ecx = BIT(1) | BIT(6) | BIT(11) | BIT(12) | BIT(14);
static const uint32_t hidden_7_edx = BIT(2) | BIT(3) | BIT(8) | BIT(22) | BIT(23) | BIT(24) | BIT(25);
/* Subleaf 1: AVX512-BF16, AMX-FP16, AVX-IFMA; AVX-VNNI-INT8 and -INT16, AMX-COMPLEX, AVX10. */
static const uint32_t hidden_71_eax = BIT(5) | BIT(21) | BIT(23);
static const uint32_t hidden_71_edx = BIT(4) | BIT(5) | BIT(8) | BIT(10) | BIT(19);
static const uint32_t avx_vnni = BIT(4);
/* Leaf 13: register state of AVX-512 and AMX. */
static const uint32_t hidden_state = BIT(5) | BIT(6) | BIT(7) | BIT(17) | BIT(18);

static int hides_avx_vnni;

static long set_cpuid(long enabled) { return syscall(SYS_arch_prctl, ARCH_SET_CPUID, enabled); }

static void answer(uint32_t leaf, uint32_t subleaf, uint32_t reg[4]) {
  __asm__ volatile("cpuid" : "=a"(reg[0]), "=b"(reg[1]), "=c"(reg[2]), "=d"(reg[3]) : "a"(leaf), "c"(subleaf));
  if (leaf == 7 && subleaf == 0) {
    reg[1] &= ~hidden_7_ebx;
    reg[2] &= ~hidden_7_ecx;
    reg[3] &= ~hidden_7_edx;
  } else if (leaf == 7 && subleaf == 1) {
    reg[0] &= ~(hidden_71_eax | (hides_avx_vnni ? avx_vnni : 0));
    reg[3] &= ~hidden_71_edx;
  } else if (leaf == 13 && subleaf == 0) {
    reg[0] &= ~hidden_state;
  }
}

static void on_fault(int signal_number, siginfo_t *info, void *context) {
  (void)info;
  greg_t *g = ((ucontext_t *)context)->uc_mcontext.gregs;
  const uint8_t *at = (const uint8_t *)g[REG_RIP];
  if (at[0] != 0x0f || at[1] != 0xa2) { /* not CPUID: a true fault */
    signal(signal_number, SIG_DFL);
    return;
  }
  uint32_t reg[4];
  set_cpuid(1);
  answer((uint32_t)g[REG_RAX], (uint32_t)g[REG_RCX], reg);
  set_cpuid(0);
  g[REG_RAX] = reg[0];
  g[REG_RBX] = reg[1];
  g[REG_RCX] = reg[2];
  g[REG_RDX] = reg[3];
  g[REG_RIP] += 2;
}

__attribute__((constructor)) static void hold(void) {
  const char *level = getenv("EDGEZIP_HOLD");
  if (!level || !*level) return;
  const int known = strcmp(level, "avx2") == 0 || strcmp(level, "avxvnni") == 0;
  hides_avx_vnni = known && level[3] == '2';
  struct sigaction action = {.sa_sigaction = on_fault, .sa_flags = SA_SIGINFO | SA_NODEFER};
  if (known && sigaction(SIGSEGV, &action, NULL) == 0 && set_cpuid(0) == 0) return;
  fprintf(stderr, "hold_isa: cannot hold to %s\n", level);
  _exit(97);
}
