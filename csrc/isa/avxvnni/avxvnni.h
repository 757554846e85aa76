/* Kernels of this folder: vpdpbusd on 256-bit registers, for CPUs that have VNNI but not AVX-512 (Alder Lake and later clients).
 * Activations are unsigned bytes (act_sign 0x80), weights K4N16. Slots without a kernel here fall to avx2. */
#ifndef EDGEZIP_AVXVNNI_H
#define EDGEZIP_AVXVNNI_H

#include "isa/isa.h"

void ez_avxvnni_gemm_s8(const ez_gemm_s8_args *args);
void ez_avxvnni_depthwise_s8(const ez_depthwise_s8_args *args);

#endif
