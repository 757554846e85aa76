/* What byte permutes across a register (Ice Lake, Zen 4 and later) add to avx512vnni: the look-up of activations. */
#include "core/cpu.h"
#include "edgezip/ez_format.h"
#include "isa/isa.h"

extern const ez_rows ez_rows_avx512vbmi;

const ez_isa ez_isa_avx512vbmi = {
    .name = "avx512vbmi",
    .features = EZ_CPU_AVX2 | EZ_CPU_AVX512VNNI | EZ_CPU_AVX512VBMI,
    .layouts = 1u << EZ_LAYOUT_K4N16,
    .act_signs = 2,
    .next = "avx512vnni",
    .rows = &ez_rows_avx512vbmi,
};
