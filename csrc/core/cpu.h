/* What this CPU and its operating system offer. */
#ifndef EDGEZIP_CPU_H
#define EDGEZIP_CPU_H

#include <stdint.h>

enum {
  EZ_CPU_AVX2 = 1u << 0,       /* with FMA and the ymm state enabled */
  EZ_CPU_AVX512VNNI = 1u << 1, /* AVX-512 F, BW, VL, DQ and VNNI with the zmm state enabled */
  EZ_CPU_AVXVNNI = 1u << 4,    /* vpdpbusd in VEX encoding */
  EZ_CPU_AMX = 1u << 5,        /* tiles with int8 products, their state enabled and the process permitted to use it */
  EZ_CPU_NEON = 1u << 2,
  EZ_CPU_DOTPROD = 1u << 3,
  EZ_CPU_I8MM = 1u << 8,
  EZ_CPU_AVX512VBMI = 1u << 9,
  EZ_CPU_CRC = 1u << 30 /* what core/crc32.c multiplies with: PCLMULQDQ and SSE4.1, or ARMv8's CRC32 */
};

/* Bits EZ_CPU_*. The processor is asked once: in a virtual machine the question costs 30 us. */
uint32_t ez_cpu_features(void);

#endif
