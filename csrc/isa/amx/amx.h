/* Kernels of this folder: int8 products on AMX tiles; slots without a kernel here fall along the chain. Activations are unsigned bytes
 * (act_sign 0x80), weights K4N16: 64 k of a panel are 16 rows of 64 bytes, one tile as it lies.
 *
 * No speed of this folder was measured: the project's machines have no AMX. It was proved against a model of the tile instructions
 * (tests/kernels/c/amx_model.h), which counts them too. */
#ifndef EDGEZIP_AMX_H
#define EDGEZIP_AMX_H

#include "isa/isa.h"

#define EZ_AMX_PANELS 8 /* of one call: activations that must be copied are copied once for all of them */
#define EZ_AMX_FEW_ROWS 4 /* so many rows, or fewer, are left to avx512vnni */

void ez_amx_gemm_s8(const ez_gemm_s8_args *args);

#endif
