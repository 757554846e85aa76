#include "core/cpu.h"
#include "edgezip/ez_format.h"
#include "isa/avx512vnni/avx512vnni.h"

extern const ez_rows ez_rows_avx512vnni, ez_rows_avx512vnni_by_hand;

const ez_isa ez_isa_avx512vnni = {
    .name = "avx512vnni",
    .features = EZ_CPU_AVX2 | EZ_CPU_AVX512VNNI,
    .layouts = 1u << EZ_LAYOUT_K4N16,
    .act_signs = 2,
    .next = "avx2",
    .gemm_s8_rows = EZ_ROW_BLOCK,
    .gemm_s8_panels = 4,
    .gemm_s8 = ez_avx512vnni_gemm_s8,
    .gemm_f32_rows = 6,
    .gemm_f32_panels = 4,
    .gemm_f32 = ez_avx512vnni_gemm_f32,
    .depthwise_s8 = ez_avx512vnni_depthwise_s8,
    .depthwise_f32 = ez_avx512vnni_depthwise_f32,
    .rows = &ez_rows_avx512vnni_by_hand,
    .compiled_rows = &ez_rows_avx512vnni,
    .rates = {.gemm_s8 = 200, .gemm_f32 = 60, .depthwise_s8 = 50, .depthwise_f32 = 15},
};
