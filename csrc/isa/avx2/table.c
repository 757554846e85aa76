#include "core/cpu.h"
#include "edgezip/ez_format.h"
#include "isa/avx2/avx2.h"
#include "isa/avx2/pairs.h"
#include "isa/avx2/rows.h"

extern const ez_rows ez_rows_avx2;

static const ez_rows own_rows = {
    .table_s8 = ez_avx2_table_s8,
    .softmax_s8 = ez_avx2_softmax_s8,
    .turn_8 = ez_avx2_turn_8,
    .turn_32 = ez_avx2_turn_32,
};

const ez_isa ez_isa_avx2 = {
    .name = "avx2",
    .features = EZ_CPU_AVX2,
    .layouts = 1u << EZ_LAYOUT_K4N16,
    .act_signs = 2,
    .next = "portable",
    .gemm_s8_rows = EZ_ROW_BLOCK,
    .gemm_s8_panels = 8,
    .gemm_s8 = ez_avx2_gemm_s8,
    .prepared_room = ez_avx2_prepared_room,
    .prepare_gemm_s8 = ez_avx2_prepare_gemm_s8,
#ifndef EZ_DENSE /* a program without block-sparse weights (compile --emit) */
    .blocks_s8 = ez_avx2_blocks_s8,
    .blocks_name = "avx2-blocks",
#endif
    .winograd_s8 = ez_avx2_winograd_s8,
    .winograd_scratch = ez_avx2_winograd_scratch,
    .gemm_f32_rows = EZ_ROW_BLOCK,
    .gemm_f32_panels = 4,
    .gemm_f32 = ez_avx2_gemm_f32,
    .depthwise_s8 = ez_avx2_depthwise_s8,
    .depthwise_f32 = ez_avx2_depthwise_f32,
#ifndef EZ_NO_CODES /* a program without packed low-bit weights (compile --emit) */
    .codes = &ez_avx2_codes,
#endif
    .rows = &own_rows,
    .compiled_rows = &ez_rows_avx2,
    .rates = {.gemm_s8 = 60, .gemm_f32 = 40, .depthwise_s8 = 17, .depthwise_f32 = 10},
};
