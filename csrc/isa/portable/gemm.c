/* Portable products: read every layout and sign. The oracle of the vector paths, so plain loops; the innermost runs over 16
 * outputs, which any compiler vectorises. */
#include "isa/portable/portable.h"

#include <math.h>

#include "core/numerics.h"
#include "edgezip/ez_format.h"

static void scale_row(const ez_gemm_s8_args *args, const int32_t *acc, int32_t row, int32_t n0) {
  const int32_t columns = args->columns - n0 < 16 ? args->columns - n0 : 16;
  float *y = args->y_f32 + (size_t)row * args->y_stride + n0;
  for (int32_t i = 0; i < columns; i++) y[i] = ((float)acc[i] * args->row_scale[row]) * args->mult[n0 + i] + args->addend[n0 + i];
}

static void requantize_row(const ez_gemm_s8_args *args, const int32_t *acc, int32_t n0, uint8_t *y) {
  const int32_t columns = args->columns - n0 < 16 ? args->columns - n0 : 16;
  for (int32_t i = 0; i < columns; i++)
    y[i] = ez_store(ez_requantize_s32(acc[i], args->mult[n0 + i], args->lo, args->hi, args->zero_point), args->act_sign);
}

void ez_portable_store_row(const ez_gemm_s8_args *args, const int32_t *acc, int32_t row, int32_t n0) {
  if (args->y_f32)
    scale_row(args, acc, row, n0);
  else
    requantize_row(args, acc, n0, args->y + (size_t)row * args->y_stride + n0);
}

void ez_portable_gemm_s8(const ez_gemm_s8_args *args) {
  const int32_t step = args->layout == EZ_LAYOUT_K8N16 ? 8 : 4;
  const int32_t padded = (args->channels + step - 1) / step * step;
  for (int32_t n0 = 0; n0 < args->columns; n0 += 16) {
    const int8_t *panel = args->w + (size_t)(n0 / 16) * args->panel_bytes; /* (taps * padded / step, 16, step) */
    for (int32_t r = 0; r < args->rows; r++) {
      int32_t acc[16];
      for (int i = 0; i < 16; i++) acc[i] = args->bias[n0 + i];
      for (int32_t t = 0; t < args->taps; t++) {
        const uint8_t *a = args->a[(size_t)t * args->a_stride + (size_t)r];
        const int8_t *w = panel + (size_t)t * (size_t)padded * 16;
        for (int32_t k = 0; k < args->channels; k++) {
          const int32_t x = ez_operand(a[k], args->act_sign);
          const int8_t *wk = w + (size_t)(k / step) * 16 * (size_t)step + k % step;
          for (int i = 0; i < 16; i++) acc[i] = ez_mac(acc[i], x, wk[i * step]);
        }
      }
      ez_portable_store_row(args, acc, r, n0);
    }
  }
}

void ez_portable_gemm_f32(const ez_gemm_f32_args *args) {
  for (int32_t n0 = 0; n0 < args->columns; n0 += 16) {
    const int32_t columns = args->columns - n0 < 16 ? args->columns - n0 : 16;
    for (int32_t r = 0; r < args->rows; r++) {
      const float *w = args->w + (size_t)(n0 / 16) * args->panel_floats; /* (taps * channels, 16) */
      float acc[16] = {0};
      for (int32_t t = 0; t < args->taps; t++) {
        const float *a = args->a[(size_t)t * args->a_stride + (size_t)r];
        for (int32_t k = 0; k < args->channels; k++, w += 16)
          for (int i = 0; i < 16; i++) acc[i] = fmaf(a[k], w[i], acc[i]);
      }
      float *y = args->y + (size_t)r * args->y_stride + n0;
      for (int32_t i = 0; i < columns; i++) y[i] = ez_clamp(acc[i] + args->bias[n0 + i], args->lo, args->hi);
    }
  }
}
