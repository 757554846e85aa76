#include "core/cpu.h"
#include "edgezip/ez_format.h"
#include "isa/dotprod/dotprod.h"
#include "isa/neon/rows.h"

extern const ez_rows ez_rows_dotprod;

static const ez_rows own_rows = {EZ_NEON_OWN_ROWS};

const ez_isa ez_isa_dotprod = {
    .name = "dotprod",
    .features = EZ_CPU_NEON | EZ_CPU_DOTPROD,
    .layouts = 1u << EZ_LAYOUT_K4N16,
    .act_signs = 1,
    .next = "neon", /* for the float kernels */
    .gemm_s8_rows = EZ_ROW_BLOCK,
    .gemm_s8_panels = 4,
    .gemm_s8 = ez_dotprod_gemm_s8,
#ifndef EZ_DENSE /* a program without block-sparse weights (compile --emit) */
    .blocks_s8 = ez_dotprod_blocks_s8,
    .blocks_name = "dotprod-blocks",
#endif
    .depthwise_s8 = ez_dotprod_depthwise_s8,
#ifndef EZ_NO_CODES /* a program without packed low-bit weights (compile --emit) */
    .codes = &ez_dotprod_codes,
#endif
    .rows = &own_rows,
    .compiled_rows = &ez_rows_dotprod,
    .rates = {.gemm_s8 = 40, .depthwise_s8 = 12},
};
