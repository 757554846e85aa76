#include "core/cpu.h"
#include "edgezip/ez_format.h"
#include "isa/avxvnni/avxvnni.h"

const ez_isa ez_isa_avxvnni = {
    .name = "avxvnni",
    .features = EZ_CPU_AVX2 | EZ_CPU_AVXVNNI,
    .layouts = 1u << EZ_LAYOUT_K4N16,
    .act_signs = 2,
    .next = "avx2",
    .gemm_s8_rows = EZ_ROW_BLOCK,
    .gemm_s8_panels = 4,
    .gemm_s8 = ez_avxvnni_gemm_s8,
    .depthwise_s8 = ez_avxvnni_depthwise_s8,
    .rates = {.gemm_s8 = 130, .gemm_f32 = 35, .depthwise_s8 = 25, .depthwise_f32 = 10},
};
