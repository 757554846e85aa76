/* What one core of this machine can do at most: multiply-accumulates of each instruction family, from registers.
 *
 *   gcc -O2 -o peak peak.c && ./peak [milliseconds for each]     prints one JSON object, operations a second (2 for each MAC)
 *
 * Twelve independent sums hide the latency of every unit. Written as assembly, so that no compiler flag and no spilled register
 * stands between the instruction and the figure. The families a processor lacks are left out.
 */
#include <cpuid.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

#define ARCH_REQ_XCOMP_PERM 0x1023
#define XFEATURE_XTILEDATA 18
#define SUMS 12
#define LOOPS 20000

/* One instruction on each of twelve registers r0..r11; r14 and r15 are the factors. */
#define EACH(S) S(0) S(1) S(2) S(3) S(4) S(5) S(6) S(7) S(8) S(9) S(10) S(11)
#define LOOP(body) \
  uint64_t n = LOOPS; \
  __asm__ volatile("1:\n" body "dec %0\n jnz 1b\n" : "+r"(n) : : "cc", "memory", "xmm0", "xmm1", "xmm2", "xmm3", "xmm4", "xmm5", \
                   "xmm6", "xmm7", "xmm8", "xmm9", "xmm10", "xmm11", "xmm12", "xmm13", "xmm14", "xmm15")

#define FMA256(i) "vfmadd231ps %%ymm14, %%ymm15, %%ymm" #i "\n"
#define FMA512(i) "vfmadd231ps %%zmm14, %%zmm15, %%zmm" #i "\n"
#define VNNI256(i) "%{vex%} vpdpbusd %%ymm14, %%ymm15, %%ymm" #i "\n"
#define VNNI512(i) "vpdpbusd %%zmm14, %%zmm15, %%zmm" #i "\n"
/* u8 x s8 to 16 bits, pairs to 32, add: three instructions for 32 products */
#define MADDUBS(i) "vpmaddubsw %%ymm14, %%ymm15, %%ymm13\n vpmaddwd %%ymm15, %%ymm13, %%ymm13\n vpaddd %%ymm13, %%ymm" #i ", %%ymm" #i "\n"
/* products of 16 bits, exact for every u8 x s8: two instructions for 16 products (widened before) */
#define MADDWD(i) "vpmaddwd %%ymm14, %%ymm15, %%ymm13\n vpaddd %%ymm13, %%ymm" #i ", %%ymm" #i "\n"

/* Zeroed registers: no denormal, no overflow, and the units do not care. */
static void clear(void) { __asm__ volatile("vzeroall" : : : "memory"); }
static void fma256(void) { LOOP(EACH(FMA256)); }
static void fma512(void) { LOOP(EACH(FMA512)); }
static void avx_vnni(void) { LOOP(EACH(VNNI256)); }
static void avx512_vnni(void) { LOOP(EACH(VNNI512)); }
static void maddubs(void) { LOOP(EACH(MADDUBS)); }
static void maddwd(void) { LOOP(EACH(MADDWD)); }
/* Four 16x16 sums from four tiles of 16 x 64 bytes. */
static void amx(void) {
  uint64_t n = LOOPS;
  __asm__ volatile("1: tdpbusd %%tmm6, %%tmm4, %%tmm0\n tdpbusd %%tmm7, %%tmm4, %%tmm1\n tdpbusd %%tmm6, %%tmm5, %%tmm2\n"
                   "tdpbusd %%tmm7, %%tmm5, %%tmm3\n dec %0\n jnz 1b\n" : "+r"(n) : : "cc");
}

struct tile_config {
  uint8_t palette, start_row, reserved[14];
  uint16_t bytes_a_row[16];
  uint8_t rows[16];
};

static int amx_is_usable(void) {
  uint32_t a, b, c, d;
  const uint32_t tile = 1u << 24, int8 = 1u << 25;
  if (!__get_cpuid_count(7, 0, &a, &b, &c, &d) || (d & (tile | int8)) != (tile | int8)) return 0;
  if (syscall(SYS_arch_prctl, ARCH_REQ_XCOMP_PERM, XFEATURE_XTILEDATA)) return 0;
  struct tile_config config;
  memset(&config, 0, sizeof config);
  config.palette = 1;
  for (int i = 0; i < 8; i++) {
    config.bytes_a_row[i] = 64;
    config.rows[i] = 16;
  }
  __asm__ volatile("ldtilecfg %0" : : "m"(config));
  return 1;
}

static int leaf7_eax1(uint32_t bit) {
  uint32_t a, b, c, d;
  return __get_cpuid_count(7, 1, &a, &b, &c, &d) && (a >> bit & 1);
}

static double now(void) {
  struct timespec t;
  clock_gettime(CLOCK_MONOTONIC, &t);
  return (double)t.tv_sec + 1e-9 * (double)t.tv_nsec;
}

/* Operations a second in the fastest of the calls that fit into ``seconds``. */
static double best_rate(void (*run)(void), double operations, double seconds) {
  double best = 0;
  const double end = now() + seconds;
  clear();
  run();
  double start;
  do { /* once at least, however busy the core is */
    start = now();
    run();
    const double rate = operations * LOOPS / (now() - start);
    if (rate > best) best = rate;
  } while (now() < end);
  return best;
}

int main(int argc, char **argv) {
  const double seconds = (argc > 1 ? atof(argv[1]) : 20) / 1000;
  __builtin_cpu_init();
  const struct {
    const char *name;
    void (*run)(void);
    double operations; /* of one pass of the loop */
    int is_here;
  } families[] = {
      {"avx2_f32", fma256, 2.0 * 8 * SUMS, __builtin_cpu_supports("fma") != 0},
      {"avx2_s16", maddwd, 2.0 * 16 * SUMS, __builtin_cpu_supports("avx2") != 0},
      {"avx2_u8s8", maddubs, 2.0 * 32 * SUMS, __builtin_cpu_supports("avx2") != 0},
      {"avxvnni_u8s8", avx_vnni, 2.0 * 32 * SUMS, leaf7_eax1(4)},
      {"avx512_f32", fma512, 2.0 * 16 * SUMS, __builtin_cpu_supports("avx512f") != 0},
      {"avx512vnni_u8s8", avx512_vnni, 2.0 * 64 * SUMS, __builtin_cpu_supports("avx512vnni") != 0},
      {"amx_u8s8", amx, 2.0 * 4 * 16 * 16 * 64, amx_is_usable()},
  };
  const char *comma = "{";
  for (size_t i = 0; i < sizeof families / sizeof *families; i++) {
    if (!families[i].is_here) continue;
    printf("%s\"%s\": %.4g", comma, families[i].name, best_rate(families[i].run, families[i].operations, seconds));
    comma = ", ";
  }
  printf("}\n");
  return 0;
}
