#include "core/cpu.h"
#include "edgezip/ez_format.h"
#include "isa/neon/neon.h"
#include "isa/neon/rows.h"

extern const ez_rows ez_rows_neon;

static const ez_rows own_rows = {EZ_NEON_OWN_ROWS};

const ez_isa ez_isa_neon = {
    .name = "neon",
    .features = EZ_CPU_NEON,
    .layouts = 1u << EZ_LAYOUT_K8N16,
    .act_signs = 1,
    .next = "portable",
    .gemm_s8_rows = EZ_ROW_BLOCK,
    .gemm_s8_panels = 4,
    .gemm_s8 = ez_neon_gemm_s8,
#ifndef EZ_DENSE /* a program without block-sparse weights (compile --emit) */
    .blocks_s8 = ez_neon_blocks_s8,
    .blocks_name = "neon-blocks",
#endif
    .gemm_f32_rows = 4,
    .gemm_f32_panels = 4,
    .gemm_f32 = ez_neon_gemm_f32,
    .depthwise_s8 = ez_neon_depthwise_s8,
    .depthwise_f32 = ez_neon_depthwise_f32,
#ifndef EZ_NO_CODES /* a program without packed low-bit weights (compile --emit) */
    .codes = &ez_neon_codes,
#endif
    .rows = &own_rows,
    .compiled_rows = &ez_rows_neon,
    .rates = {.gemm_s8 = 6, .gemm_f32 = 4, .depthwise_s8 = 4, .depthwise_f32 = 2},
};
