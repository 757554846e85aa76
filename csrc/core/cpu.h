/* What this CPU and its operating system offer. */
#ifndef EDGEZIP_CPU_H
#define EDGEZIP_CPU_H

#include <stdint.h>

enum {
  EZ_CPU_AVX2 = 1u << 0,       /* with FMA and the ymm state enabled */
  EZ_CPU_AVX512VNNI = 1u << 1, /* AVX-512 F, BW, VL, DQ and VNNI with the zmm state enabled */
  EZ_CPU_NEON = 1u << 2,
  EZ_CPU_DOTPROD = 1u << 3
};

/* Bits EZ_CPU_*; asked once by the dispatcher, cheap enough to ask again. */
uint32_t ez_cpu_features(void);

#endif
