#include "core/panels.h"

#include <string.h>

#include "core/numerics.h"

static uint64_t align64(uint64_t bytes) { return (bytes + 63) / 64 * 64; }
static uint64_t padded_k(int32_t K, uint32_t layout) {
  const uint64_t step = layout == EZ_LAYOUT_K8N16 ? 8 : 4;
  return ((uint64_t)K + step - 1) / step * step;
}
static uint64_t padded_n(int32_t N) { return ((uint64_t)N + 15) / 16 * 16; }

/* --- float32 ----------------------------------------------------------------------------------------------------------------- */

uint64_t ez_panels_f32_bytes(int32_t K, int32_t N) { return align64(padded_n(N) * (uint64_t)K * sizeof(float)); }

void ez_pack_panels_f32(const ez_kernels *kernels, const ez_matrix *b, float *panels) {
  const size_t K = (size_t)b->K;
  for (int32_t n0 = 0; n0 < b->N; n0 += 16, panels += 16 * K) {
    const size_t columns = (size_t)(b->N - n0 < 16 ? b->N - n0 : 16);
    const float *from = (const float *)(const void *)b->at + (size_t)n0 * b->stride_n;
    if (columns < 16) memset(panels, 0, 16 * K * sizeof *panels);
    if (b->stride_k == 1 && b->stride_n != 1) {
      kernels->rows.turn_32(from, b->stride_n, panels, 16, columns, K);
      continue;
    }
    for (size_t k = 0; k < K; k++, from += b->stride_k) {
      if (columns == 16 && b->stride_n == 1) memcpy(panels + 16 * k, from, 64);
      else
        for (size_t n = 0; n < columns; n++) panels[16 * k + n] = from[n * b->stride_n];
    }
  }
}

/* --- int8 -------------------------------------------------------------------------------------------------------------------- */

#define MOST_TAPS 3 /* 255 = 127 + 127 + 1 */

/* One tap of B as logical bytes, rows along the axis that is contiguous in memory, zeros in the padding. */
typedef struct plane {
  int8_t *at;
  size_t pitch;
} plane;

uint64_t ez_panels_s8_bytes(int32_t K, int32_t N, uint32_t layout) {
  const uint64_t k = padded_k(K, layout), n = padded_n(N);
  return 2 * align64(MOST_TAPS * k * n) + 4 * align64(n * 4) + align64(k + EZ_OVERREAD);
}

static int32_t cut(int32_t v) { return v < -127 ? -127 : v > 127 ? 127 : v; }

/* What a row of n bytes gives to tap t; returns 0 when nothing is left for the next. */
static int32_t centre_row(const uint8_t *from, size_t step, size_t n, uint32_t sign, int32_t zero, int32_t tap, int8_t *restrict to) {
  int32_t left = 0;
  for (size_t i = 0; i < n; i++) {
    int32_t v = ez_load(from[i * step], sign) - zero;
    for (int32_t t = 0; t < tap; t++) v -= cut(v);
    to[i] = (int8_t)cut(v);
    left |= v - cut(v);
  }
  return left;
}

static int32_t centre(const ez_kernels *kernels, const ez_matrix *b, int32_t zero, int32_t tap, int along_k, plane to) {
  const uint32_t sign = kernels->act_sign;
  const size_t rows = (size_t)(along_k ? b->N : b->K), length = (size_t)(along_k ? b->K : b->N);
  const size_t from_row = along_k ? b->stride_n : b->stride_k, step = along_k ? b->stride_k : b->stride_n;
  if (step == 1 && zero == 0 && tap == 0) return kernels->rows.logical_s8(b->at, from_row, to.at, to.pitch, rows, length, sign);
  int32_t left = 0;
  for (size_t r = 0; r < rows; r++) left |= centre_row(b->at + r * from_row, step, length, sign, zero, tap, to.at + r * to.pitch);
  return left;
}

/* One tap of a panel of 16 columns from a plane whose rows are the columns of B: words of 4 (or pairs of words of 8) k. */
static void panel_of_columns(const ez_kernels *kernels, plane from, size_t steps, size_t step, int8_t *w) {
  if (step == 4) {
    kernels->rows.turn_32(from.at, from.pitch / 4, w, 16, 16, steps);
    return;
  }
  for (size_t k = 0; k < steps; k++)
    for (size_t n = 0; n < 16; n++) memcpy(w + (k * 16 + n) * 8, from.at + n * from.pitch + 8 * k, 8);
}

/* The same from a plane whose rows are the rows of B. */
static void panel_of_rows(const ez_kernels *kernels, plane from, size_t steps, size_t step, int8_t *restrict w) {
  if (step == 4) {
    kernels->rows.quads_s8(from.at, from.pitch, steps, w);
    return;
  }
  for (size_t k = 0; k < steps; k++) {
    for (size_t half = 0; half < step; half += 4) {
      const int8_t *a = from.at + (step * k + half) * from.pitch, *b = a + from.pitch, *c = b + from.pitch, *d = c + from.pitch;
      for (size_t n = 0; n < 16; n++) {
        int8_t *to = w + (k * 16 + n) * step + half;
        to[0] = a[n], to[1] = b[n], to[2] = c[n], to[3] = d[n];
      }
    }
  }
}

/* bias = -(za + 128 or 0) * column sum. The sums are products with a row of ones: exact in float, for they stay below 2^24. */
static void fill_bias(const ez_kernels *kernels, const ez_panels_s8 *panels, int32_t K, int32_t N, int32_t zero_a, uint8_t *ones, float *rows) {
  const ez_isa *isa = kernels->gemm_s8;
  const size_t n = (size_t)padded_n(N);
  float *sums = rows, *unit = rows + n, *zero = unit + n;
  const int32_t offset = -(zero_a + (kernels->act_sign ? 128 : 0));
  const uint8_t *a[MOST_TAPS] = {ones, ones, ones};
  memset(ones, 1, (size_t)K);
  for (size_t i = 0; i < n; i++) unit[i] = 1.0f, zero[i] = 0.0f, panels->bias[i] = 0;
  for (int32_t p = 0; 16 * p < N; p += isa->gemm_s8_panels) {
    const int32_t width = 16 * isa->gemm_s8_panels, columns = (int32_t)n - 16 * p < width ? (int32_t)n - 16 * p : width;
    const ez_gemm_s8_args args = {.a = a, .a_stride = 1, .rows = 1, .columns = columns, .taps = panels->taps, .channels = K,
                                  .w = panels->w + (size_t)p * panels->panel_bytes, .panel_bytes = panels->panel_bytes,
                                  .bias = panels->bias + 16 * p, .mult = unit + 16 * p, .y_f32 = sums + 16 * p, .y_stride = n, .row_scale = unit,
                                  .addend = zero, .layout = (int32_t)kernels->layout, .act_sign = kernels->act_sign};
    isa->gemm_s8(&args);
  }
  for (size_t i = 0; i < n; i++) panels->bias[i] = offset * (int32_t)sums[i];
}

ez_panels_s8 ez_pack_panels_s8(const ez_kernels *kernels, const ez_matrix *b, int32_t zero_a, int32_t zero_b, uint8_t *room) {
  const size_t step = kernels->layout == EZ_LAYOUT_K8N16 ? 8 : 4, k = (size_t)padded_k(b->K, kernels->layout), n = (size_t)padded_n(b->N);
  const int along_k = b->stride_k == 1;
  const size_t all = align64(MOST_TAPS * k * n);
  ez_panels_s8 panels = {.w = (int8_t *)room, .bias = (int32_t *)(void *)(room + 2 * all)};
  float *floats = (float *)(void *)((uint8_t *)panels.bias + align64(n * 4));
  plane planes[MOST_TAPS];
  for (int32_t t = 0, left = 1; t < MOST_TAPS && left; t++) {
    planes[t] = (plane){(int8_t *)room + all + (size_t)t * k * n, along_k ? k : n};
    if (k != (size_t)b->K || n != (size_t)b->N) memset(planes[t].at, 0, k * n);
    left = centre(kernels, b, zero_b, t, along_k, planes[t]);
    panels.taps = t + 1;
  }
  panels.panel_bytes = (size_t)panels.taps * k * 16;
  for (size_t n0 = 0; n0 < n; n0 += 16)
    for (int32_t t = 0; t < panels.taps; t++) {
      int8_t *w = panels.w + n0 / 16 * panels.panel_bytes + (size_t)t * k * 16;
      const plane from = {planes[t].at + (along_k ? n0 * planes[t].pitch : n0), planes[t].pitch};
      if (along_k) panel_of_columns(kernels, from, k / step, step, w);
      else panel_of_rows(kernels, from, k / step, step, w);
    }
  fill_bias(kernels, &panels, b->K, b->N, zero_a, (uint8_t *)floats + 3 * align64(n * 4), floats);
  return panels;
}
