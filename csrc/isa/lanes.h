/* The 16 partial sums of EZ-N1 rule 9 as registers: two ymm, four of NEON or SSE. One vector of 64 bytes would say the same, but gcc carries
 * what is wider than a register through memory (layer norm of 128 x 384 on AVX2, Zen 3: 99 us, so 33). */
#ifndef EDGEZIP_ISA_LANES_H
#define EDGEZIP_ISA_LANES_H

#include <stddef.h>
#include <stdint.h>

#define EZ_LANES 16
#ifdef __AVX__
#define EZ_PART 8
#else
#define EZ_PART 4
#endif
#define EZ_PARTS (EZ_LANES / EZ_PART)
typedef float ez_part __attribute__((vector_size(4 * EZ_PART), aligned(4), may_alias));

#define EZ_PART_AT(pointer) (*(const ez_part *)(const void *)(pointer))
#define EZ_PART_TO(pointer) (*(ez_part *)(void *)(pointer))
#define EZ_EACH_PART _Pragma("GCC unroll 4") for (int part = 0; part < EZ_PARTS; part++)

#endif
