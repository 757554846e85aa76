/* 16 floats side by side, whatever the registers of the folder are (one zmm, two ymm, four of NEON or SSE): the partial sums of EZ-N1
 * rule 9 as one value, so that they stay in registers. Never passed to a function: the ABI of such vectors depends on the flags. */
#ifndef EDGEZIP_ISA_LANES_H
#define EDGEZIP_ISA_LANES_H

#include <stddef.h>
#include <stdint.h>

#define EZ_LANES 16
typedef float ez_lanes __attribute__((vector_size(64), aligned(4), may_alias));

#define EZ_LANES_AT(pointer) (*(const ez_lanes *)(const void *)(pointer))
#define EZ_LANES_TO(pointer) (*(ez_lanes *)(void *)(pointer))

#endif
