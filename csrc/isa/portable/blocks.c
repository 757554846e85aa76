/* The portable product without the empty groups of its weights. */
#include "core/numerics.h"
#include "edgezip/ez_format.h"
#include "isa/portable/portable.h"

/* Group i of a row's sums: STEP bytes of the span that its k-step lies in. */
static void add_group(const ez_gemm_s8_args *args, int32_t row, uint32_t i, int32_t step, int32_t *acc) {
  const int32_t span_steps = (args->channels + step - 1) / step, at = args->index[i], k = at % span_steps * step;
  const uint8_t *a = args->a[(size_t)(at / span_steps) * args->a_stride + (size_t)row] + k;
  const int8_t *w = args->w + (size_t)i * 16 * (size_t)step;
  const int32_t left = args->channels - k < step ? args->channels - k : step;
  for (int32_t c = 0; c < left; c++) {
    const int32_t x = ez_operand(a[c], args->act_sign);
    for (int n = 0; n < 16; n++) acc[n] = ez_mac(acc[n], x, w[n * step + c]);
  }
}

void ez_portable_blocks_s8(const ez_gemm_s8_args *args) {
  const int32_t step = args->layout == EZ_LAYOUT_K8N16 ? 8 : 4;
  for (int32_t n0 = 0; n0 < args->columns; n0 += 16)
    for (int32_t r = 0; r < args->rows; r++) {
      int32_t acc[16];
      for (int n = 0; n < 16; n++) acc[n] = args->bias[n0 + n];
      for (uint32_t i = args->starts[n0 / 16]; i < args->starts[n0 / 16 + 1]; i++) add_group(args, r, i, step, acc);
      ez_portable_store_row(args, acc, r, n0);
    }
}
