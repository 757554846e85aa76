#include "core/cpu.h"
#include "edgezip/ez_format.h"
#include "isa/amx/amx.h"

const ez_isa ez_isa_amx = {
    .name = "amx",
    .features = EZ_CPU_AVX2 | EZ_CPU_AVX512VNNI | EZ_CPU_AMX,
    .layouts = 1u << EZ_LAYOUT_K4N16,
    .act_signs = 2,
    .next = "avx512vbmi",
    .gemm_s8_rows = EZ_ROW_BLOCK,
    .gemm_s8_panels = EZ_AMX_PANELS,
    .gemm_s8 = ez_amx_gemm_s8,
    .rates = {.gemm_s8 = 400, .gemm_f32 = 60, .depthwise_s8 = 50, .depthwise_f32 = 15}, /* guesses: see amx.h */
};
