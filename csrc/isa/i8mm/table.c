#include "core/cpu.h"
#include "edgezip/ez_format.h"
#include "isa/codes.h"
#include "isa/i8mm/i8mm.h"
#include "isa/neon/rows.h"

extern const ez_rows ez_rows_i8mm;
extern const ez_codes_kernels ez_i8mm_codes;

static const ez_rows own_rows = {EZ_NEON_OWN_ROWS};

const ez_isa ez_isa_i8mm = {
    .name = "i8mm",
    .features = EZ_CPU_NEON | EZ_CPU_DOTPROD | EZ_CPU_I8MM,
    .layouts = 1u << EZ_LAYOUT_K8N16,
    .act_signs = 1,
    .next = "neon", /* for the float kernels; it reads the same layout */
    .gemm_s8_rows = EZ_ROW_BLOCK,
    .gemm_s8_panels = 4,
    .gemm_s8 = ez_i8mm_gemm_s8,
#ifndef EZ_DENSE /* a program without block-sparse weights (compile --emit) */
    .blocks_s8 = ez_i8mm_blocks_s8,
    .blocks_name = "i8mm-blocks",
#endif
    .depthwise_s8 = ez_i8mm_depthwise_s8,
#ifndef EZ_NO_CODES /* a program without packed low-bit weights (compile --emit) */
    .codes = &ez_i8mm_codes,
#endif
    .rows = &own_rows,
    .compiled_rows = &ez_rows_i8mm,
};
