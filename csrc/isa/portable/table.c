#include "edgezip/ez_format.h"
#include "isa/portable/portable.h"

const ez_isa ez_isa_portable = {
    .name = "portable",
    .features = 0,
    .layouts = 1u << EZ_LAYOUT_K4N16 | 1u << EZ_LAYOUT_K8N16,
    .act_signs = 3,
    .next = 0,
#ifndef EZ_COVERED /* another ISA has all of these on every CPU of the target: compile --emit leaves them out */
    .gemm_s8_rows = EZ_ROW_BLOCK,
    .gemm_s8_panels = 1,
    .gemm_s8 = ez_portable_gemm_s8,
    .gemm_f32_rows = EZ_ROW_BLOCK,
    .gemm_f32_panels = 1,
    .gemm_f32 = ez_portable_gemm_f32,
    .depthwise_s8 = ez_portable_depthwise_s8,
    .depthwise_f32 = ez_portable_depthwise_f32,
#endif
#ifndef EZ_DENSE /* a program without block-sparse weights (compile --emit) */
    .blocks_s8 = ez_portable_blocks_s8,
    .blocks_name = "portable-blocks",
#endif
#ifndef EZ_NO_CODES /* a program without packed low-bit weights (compile --emit) */
    .codes = &ez_portable_codes,
#endif
    .compiled_rows = &ez_rows_portable,
    .rates = {.gemm_s8 = 2, .gemm_f32 = 2, .depthwise_s8 = 1, .depthwise_f32 = 1},
};
