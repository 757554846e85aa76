#include "core/cpu.h"

#include <stdatomic.h>

#if defined(__x86_64__)
#include <cpuid.h>
#if defined(__linux__)
#include <sys/syscall.h>
#include <unistd.h>
#endif

#define CPUID_7_1_EAX_AVXVNNI (1u << 4)
#define CPUID_7_0_EDX_AMX (1u << 24 | 1u << 25) /* AMX-TILE, AMX-INT8 */
#define XCR0_TILES (3u << 17)                   /* XTILECFG, XTILEDATA */

/* Linux gives a process the 8 KiB of tiles only when asked, before it first touches them; the threads it starts inherit that. */
static int tiles_permitted(void) {
#if defined(__linux__)
  enum { REQUEST_PERMISSION = 0x1023, XTILEDATA = 18 }; /* arch/x86/include/uapi/asm/prctl.h: ARCH_REQ_XCOMP_PERM */
  return syscall(SYS_arch_prctl, REQUEST_PERMISSION, XTILEDATA) == 0;
#else
  return 0;
#endif
}

/* XCR0 tells which registers the operating system saves: bits 1-2 xmm and ymm, 5-7 opmask and zmm. */
static uint64_t enabled_state(void) {
  uint32_t low, high;
  __asm__ volatile("xgetbv" : "=a"(low), "=d"(high) : "c"(0));
  return (uint64_t)high << 32 | low;
}

static uint32_t ask(void) {
  uint32_t a, b, c, d, features = 0;
  if (!__get_cpuid(1, &a, &b, &c, &d)) return 0;
  if ((c & bit_PCLMUL) && (c & bit_SSE4_1)) features |= EZ_CPU_CRC;
  if (!(c & bit_OSXSAVE)) return features;
  const int fma = (c & bit_FMA) != 0;
  const uint64_t state = enabled_state();
  if (!__get_cpuid_count(7, 0, &a, &b, &c, &d)) return features;
  if ((state & 0x06) == 0x06 && fma && (b & bit_AVX2)) features |= EZ_CPU_AVX2;
  const uint32_t avx512 = bit_AVX512F | bit_AVX512BW | bit_AVX512VL | bit_AVX512DQ;
  if ((features & EZ_CPU_AVX2) && (state & 0xe6) == 0xe6 && (b & avx512) == avx512 && (c & bit_AVX512VNNI)) features |= EZ_CPU_AVX512VNNI;
  if ((features & EZ_CPU_AVX512VNNI) && (c & bit_AVX512VBMI)) features |= EZ_CPU_AVX512VBMI;
  const int tiles = (d & CPUID_7_0_EDX_AMX) == CPUID_7_0_EDX_AMX && (state & XCR0_TILES) == XCR0_TILES;
  if ((features & EZ_CPU_AVX512VNNI) && tiles && tiles_permitted()) features |= EZ_CPU_AMX;
  if ((features & EZ_CPU_AVX2) && __get_cpuid_count(7, 1, &a, &b, &c, &d) && (a & CPUID_7_1_EAX_AVXVNNI)) features |= EZ_CPU_AVXVNNI;
  return features;
}

#elif defined(__aarch64__)
#include <sys/auxv.h>

/* Linux arch/arm64 uapi: HWCAP_* */
#define HWCAP_BIT_CRC32 (1ul << 7)
#define HWCAP_BIT_ASIMDDP (1ul << 20)
#define HWCAP2_BIT_I8MM (1ul << 13)

static uint32_t ask(void) {
  const unsigned long has = getauxval(AT_HWCAP), has2 = getauxval(AT_HWCAP2);
  return EZ_CPU_NEON | (has & HWCAP_BIT_ASIMDDP ? EZ_CPU_DOTPROD : 0) | (has2 & HWCAP2_BIT_I8MM ? EZ_CPU_I8MM : 0) |
         (has & HWCAP_BIT_CRC32 ? EZ_CPU_CRC : 0);
}

#else
static uint32_t ask(void) { return 0; }
#endif

#define ASKED (1u << 31)

uint32_t ez_cpu_features(void) {
  static atomic_uint known;
  uint32_t features = atomic_load_explicit(&known, memory_order_relaxed);
  if (!features) {
    features = ask() | ASKED;
    atomic_store_explicit(&known, features, memory_order_relaxed);
  }
  return features & ~ASKED;
}
