#include "core/cpu.h"
#include "edgezip/ez_format.h"
#include "isa/avx2/rows.h"
#include "isa/avx512vnni/avx512vnni.h"
#include "isa/avx512vnni/rows.h"

extern const ez_rows ez_rows_avx512vnni;

static const ez_rows own_rows = {
    .add_s8 = ez_avx512vnni_add_s8,
    .sub_s8 = ez_avx512vnni_sub_s8,
    .mul_s8 = ez_avx512vnni_mul_s8,
    .quantize = ez_avx512vnni_quantize,
    .norm_f32 = ez_avx512vnni_norm_f32,
    .attend_f32 = ez_avx512vnni_attend_f32,
    .quantize_row = ez_avx512vnni_quantize_row,
    .quantize_planes = ez_avx512vnni_quantize_planes,
    .dequantize = ez_avx512vnni_dequantize,
    .requantize = ez_avx512vnni_requantize,
    .max_s8 = ez_avx512vnni_max_s8,
    .sum_s8 = ez_avx512vnni_sum_s8,
    .scale_s32 = ez_avx512vnni_scale_s32,
    .prelu_s8 = ez_avx512vnni_prelu_s8,
    .lerp_s8 = ez_avx512vnni_lerp_s8,
    .max_f32 = ez_avx512vnni_max_f32,
    .turn_8 = ez_avx2_turn_8,
    .turn_32 = ez_avx2_turn_32,
};

const ez_isa ez_isa_avx512vnni = {
    .name = "avx512vnni",
    .features = EZ_CPU_AVX2 | EZ_CPU_AVX512VNNI,
    .layouts = 1u << EZ_LAYOUT_K4N16,
    .act_signs = 2,
    .next = "avx2",
    .gemm_s8_rows = EZ_ROW_BLOCK,
    .gemm_s8_panels = 4,
    .gemm_s8 = ez_avx512vnni_gemm_s8,
    .blocks_s8 = ez_avx512vnni_blocks_s8,
    .blocks_name = "avx512vnni-blocks",
    .gemm_f32_rows = EZ_ROW_BLOCK,
    .gemm_f32_panels = 4,
    .gemm_f32 = ez_avx512vnni_gemm_f32,
    .depthwise_s8 = ez_avx512vnni_depthwise_s8,
    .depthwise_f32 = ez_avx512vnni_depthwise_f32,
    .rows = &own_rows,
    .compiled_rows = &ez_rows_avx512vnni,
    .rates = {.gemm_s8 = 200, .gemm_f32 = 60, .depthwise_s8 = 50, .depthwise_f32 = 15},
};
