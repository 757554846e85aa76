/* Stands for csrc/isa/amx/table.c where the kernel was compiled against the model: any CPU with AVX512-VNNI may run it. Before each
 * product someone else has used the tiles, as another library of the process would. */
#include "amx_model.h"
#include "core/cpu.h"
#include "edgezip/ez_format.h"
#include "isa/amx/amx.h"

#include <stdio.h>

static void product(const ez_gemm_s8_args *g) {
  static unsigned calls;
  ez_tile_shapes other = {.palette = 1};
  for (int i = 0; i < 8; i++) other.rows[i] = (uint8_t)(1 + calls % 15), other.row_bytes[i] = 16;
  if (calls++ % 3 == 0) amx_model_config(&other);
  ez_amx_gemm_s8(g);
}

__attribute__((destructor)) static void report(void) {
  printf("amx model: loads=%llu stores=%llu products=%llu\n", (unsigned long long)amx_counted.loads,
         (unsigned long long)amx_counted.stores, (unsigned long long)amx_counted.products);
}

const ez_isa ez_isa_amx = {
    .name = "amx",
    .features = EZ_CPU_AVX2 | EZ_CPU_AVX512VNNI,
    .layouts = 1u << EZ_LAYOUT_K4N16,
    .act_signs = 2,
    .next = "avx512vnni",
    .gemm_s8_rows = EZ_ROW_BLOCK,
    .gemm_s8_panels = EZ_AMX_PANELS,
    .gemm_s8 = product,
};
