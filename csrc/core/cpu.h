/* What the CPU and the operating system offer, as bits that an ISA table can require. */
#ifndef EDGEZIP_CPU_H
#define EDGEZIP_CPU_H

#include <stdint.h>

enum {
  EZ_CPU_AVX2_FMA = 1u << 0,   /* AVX2, FMA, and the OS saves ymm */
  EZ_CPU_AVX512 = 1u << 1,     /* F, BW, VL, DQ, and the OS saves zmm and masks */
  EZ_CPU_AVX512VNNI = 1u << 2,
  EZ_CPU_AVXVNNI = 1u << 3,
  EZ_CPU_NEON = 1u << 4,
  EZ_CPU_DOTPROD = 1u << 5,
  EZ_CPU_I8MM = 1u << 6
};

/* Probed anew at each call (some hundred nanoseconds); no state. */
uint32_t ez_cpu_features(void);

/* Non-zero when float operations round to nearest even, as EZ-N1 demands. */
int32_t ez_cpu_rounds_to_nearest(void);

#endif
