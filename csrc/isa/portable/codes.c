/* Low-bit products in plain C: the oracle of every other table. */
#define CODES(name) name
#include "isa/codes.inc"
#include "isa/portable/portable.h"

static void decode(const ez_codes_form *form, const uint8_t *codes, uint32_t layout, int8_t *out, int32_t sums[16]) {
  for (int32_t n = 0; n < 16; n++) {
    sums[n] = 0;
    for (int32_t k = 0; k < form->block; k++) {
      const int8_t w = form->table[ez_code_at(codes, form->bits, k, n)];
      out[ez_panel_at(layout, k, n)] = w;
      sums[n] += w;
    }
  }
}

static int32_t block_sum(const ez_codes_form *form, const uint8_t *codes, const int8_t *a, int32_t n) {
  int32_t acc = 0;
  for (int32_t k = 0; k < form->block; k++) acc += a[k] * form->table[ez_code_at(codes, form->bits, k, n)];
  return acc;
}

static void gemv(const ez_codes_args *args) {
  const ez_codes_form *form = &args->form;
  const size_t block_bytes = ez_codes_block_bytes(form->bits, form->block);
  for (int32_t p = 0; 16 * p < args->columns; p++)
    for (int32_t r = 0; r < args->rows; r++) {
      float sum[16] = {0};
      const uint8_t *w = args->w + (size_t)p * args->panel_bytes;
      for (int32_t g = 0; g < args->blocks; g++, w += block_bytes)
        for (int32_t n = 0; n < columns_left(args, p); n++) {
          const int8_t *a = args->a + (size_t)r * args->a_stride + (size_t)g * (size_t)form->block;
          sum[n] = fmaf((float)block_sum(form, w + EZ_CODES_SCALE_BYTES, a, n), ez_codes_scale(w + 2 * n), sum[n]);
        }
      finish(sum, args->row_scale[r], args->mult + 16 * p, args->addend + 16 * p, args->y + (size_t)r * args->y_stride + 16 * (size_t)p, columns_left(args, p));
    }
}

const ez_codes_kernels ez_portable_codes = {.name = "portable", .most_uniform = 4, .most_codebook = 4, .gemv = gemv, .decode = decode, .add_block = add_block};
