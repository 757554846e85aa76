/* Counts the tile instructions of products M N K (arguments, three each; a fourth number > 1: taps whose rows are not equally spaced),
 * driven in blocks as core/conv_driver.c does. One line a shape: loads, products, and the share of the products' MACs that are wanted. */
#include "amx_model.h"
#include "isa/amx/amx.h"

#include <stdio.h>
#include <stdlib.h>

static void count(int32_t m, int32_t n, int32_t k, int32_t taps) {
  const size_t channels = (size_t)(k / taps), padded = (channels + 3) / 4 * 4, panels = ((size_t)n + 15) / 16;
  uint8_t *x = calloc((size_t)m * channels + 64, 1), *y = malloc((size_t)m * (size_t)n);
  int8_t *w = calloc(panels * padded * (size_t)taps * 16 + 64, 1);
  int32_t *bias = calloc(panels * 16, 4);
  float *mult = calloc(panels * 16, 4);
  const uint8_t **rows = malloc((size_t)taps * EZ_ROW_BLOCK * sizeof *rows);
  amx_counted = (amx_counts){0};
  int32_t tiled = 0; /* rows that go to the tiles */
  for (int32_t first = 0; first < m; first += EZ_ROW_BLOCK) {
    const int32_t here = m - first < EZ_ROW_BLOCK ? m - first : EZ_ROW_BLOCK;
    if (here > EZ_AMX_FEW_ROWS) tiled += here;
    for (int32_t t = 0; t < taps; t++)
      for (int32_t r = 0; r < here; r++) rows[t * EZ_ROW_BLOCK + r] = x + (size_t)(first + r) * channels;
    for (int32_t c = 0; c < n; c += 16 * EZ_AMX_PANELS) {
      const ez_gemm_s8_args args = {.a = rows, .a_stride = EZ_ROW_BLOCK, .row_step = taps == 1 ? channels : 0, .rows = here,
                                    .columns = n - c < 16 * EZ_AMX_PANELS ? n - c : 16 * EZ_AMX_PANELS, .taps = taps,
                                    .channels = (int32_t)channels, .w = w + (size_t)c * padded * (size_t)taps,
                                    .panel_bytes = padded * (size_t)taps * 16, .bias = bias + c, .mult = mult + c,
                                    .y = y + (size_t)first * (size_t)n + c, .y_stride = (size_t)n, .lo = -128, .hi = 127, .small_mult = 1};
      ez_amx_gemm_s8(&args);
    }
  }
  const double useful = (double)tiled * n * k / ((double)amx_counted.products * 16 * 16 * 64);
  printf("%dx%dx%d taps=%d tiled=%d configs=%llu loads=%llu stores=%llu products=%llu useful=%.3f\n", m, n, k, taps, tiled,
         (unsigned long long)amx_counted.configs, (unsigned long long)amx_counted.loads, (unsigned long long)amx_counted.stores,
         (unsigned long long)amx_counted.products, useful);
  free(x), free(y), free(w), free(bias), free(mult), free(rows);
}

int main(int argc, char **argv) {
  for (int i = 1; i + 3 < argc; i += 4) count(atoi(argv[i]), atoi(argv[i + 1]), atoi(argv[i + 2]), atoi(argv[i + 3]));
  return 0;
}
