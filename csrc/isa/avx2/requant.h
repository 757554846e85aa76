/* Sums in ymm registers -> stored bytes (EZ-N1 rule 4), two rows of 16 columns at a time. Shared by the folders that work on ymm. */
#ifndef EDGEZIP_AVX2_REQUANT_H
#define EDGEZIP_AVX2_REQUANT_H

#include <immintrin.h>
#include <string.h>

#include "isa/isa.h"

#define EZ_INLINE static inline __attribute__((always_inline))

typedef struct ez_requant_rows {
  __m256 lo, hi;             /* float clamp, steps from the zero point */
  __m256i shift;             /* steps -> stored byte, 16 bits */
  __m256i least, most;       /* the same clamp on stored bytes */
  __m256 mult[2];            /* of the panel's 16 columns */
} ez_requant_rows;

EZ_INLINE ez_requant_rows ez_requant_rows_of(const ez_gemm_s8_args *g, const float *mult) {
  return (ez_requant_rows){
      .lo = _mm256_set1_ps((float)(g->lo - g->zero_point)), .hi = _mm256_set1_ps((float)(g->hi - g->zero_point)),
      .shift = _mm256_set1_epi16((int16_t)(g->zero_point + 128)),
      .least = _mm256_set1_epi8((int8_t)(g->lo ^ -128)), .most = _mm256_set1_epi8((int8_t)(g->hi ^ -128)),
      .mult = {_mm256_loadu_ps(mult), _mm256_loadu_ps(mult + 8)},
  };
}

/* With `small` (|mult| < 1) no product leaves int32: packs saturate, and the clamp is done on the bytes. */
EZ_INLINE __m256i ez_requant_steps(const ez_requant_rows *q, __m256i acc, __m256 mult, const int small) {
  __m256 t = _mm256_mul_ps(_mm256_cvtepi32_ps(acc), mult);
  if (!small) t = _mm256_min_ps(_mm256_max_ps(t, q->lo), q->hi);
  return _mm256_cvtps_epi32(t);
}

/* Columns 0-3 8-11 | 4-7 12-15 of one row, as 16-bit stored values not yet cut to a byte. */
EZ_INLINE __m256i ez_requant_row(const ez_requant_rows *q, __m256i acc0, __m256i acc1, const int small) {
  const __m256i words = _mm256_packs_epi32(ez_requant_steps(q, acc0, q->mult[0], small), ez_requant_steps(q, acc1, q->mult[1], small));
  return _mm256_adds_epi16(words, q->shift);
}

/* Two rows of ez_requant_row -> 16 bytes of the first row, 16 of the second, columns in order. */
EZ_INLINE __m256i ez_requant_bytes(const ez_requant_rows *q, __m256i row0, __m256i row1, const int small) {
  __m256i bytes = _mm256_packus_epi16(row0, row1);
  if (small) bytes = _mm256_min_epu8(_mm256_max_epu8(bytes, q->least), q->most);
  return _mm256_permutevar8x32_epi32(bytes, _mm256_setr_epi32(0, 4, 1, 5, 2, 6, 3, 7));
}

/* The first `columns` (at least 1) of 16 bytes. */
EZ_INLINE void ez_store_row(uint8_t *y, __m128i bytes, int32_t columns) {
  if (columns >= 16) {
    _mm_storeu_si128((__m128i *)y, bytes);
    return;
  }
  if (columns & 8) {
    _mm_storel_epi64((__m128i *)y, bytes);
    bytes = _mm_unpackhi_epi64(bytes, bytes), y += 8;
  }
  if (columns & 4) {
    memcpy(y, &(int32_t){_mm_cvtsi128_si32(bytes)}, 4);
    bytes = _mm_srli_si128(bytes, 4), y += 4;
  }
  const int32_t rest = _mm_cvtsi128_si32(bytes);
  if (columns & 2) memcpy(y, &(int16_t){(int16_t)rest}, 2);
  if (columns & 1) y[columns & 2] = (uint8_t)(columns & 2 ? rest >> 16 : rest);
}

/* R rows of one panel: acc[r] holds columns 0-7 and 8-15. */
EZ_INLINE void ez_store_panel(const ez_requant_rows *q, __m256i acc[][2], uint8_t *y, size_t y_stride, int32_t columns, const int R,
                              const int small) {
#pragma GCC unroll 8
  for (int r = 0; r < R; r += 2) {
    const int second = r + 1 < R ? r + 1 : r;
    const __m256i row0 = ez_requant_row(q, acc[r][0], acc[r][1], small);
    const __m256i row1 = second == r ? row0 : ez_requant_row(q, acc[second][0], acc[second][1], small);
    const __m256i bytes = ez_requant_bytes(q, row0, row1, small);
    ez_store_row(y + (size_t)r * y_stride, _mm256_castsi256_si128(bytes), columns);
    if (second != r) ez_store_row(y + (size_t)second * y_stride, _mm256_extracti128_si256(bytes, 1), columns);
  }
}

/* Float results (isa.h) of R rows from `row` on, columns n .. n + 15. */
EZ_INLINE void ez_store_float_panel(const ez_gemm_s8_args *g, __m256i acc[][2], int32_t row, int32_t n, const int R) {
#pragma GCC unroll 2
  for (int i = 0; i < 2; i++) {
    const __m256 mult = _mm256_loadu_ps(g->mult + n + 8 * i), addend = _mm256_loadu_ps(g->addend + n + 8 * i);
    const __m256i left = _mm256_set1_epi32(g->columns - n - 8 * i);
    const __m256i mask = _mm256_cmpgt_epi32(left, _mm256_setr_epi32(0, 1, 2, 3, 4, 5, 6, 7));
#pragma GCC unroll 8
    for (int r = 0; r < R; r++) {
      const __m256 t = _mm256_mul_ps(_mm256_cvtepi32_ps(acc[r][i]), _mm256_set1_ps(g->row_scale[row + r]));
      _mm256_maskstore_ps(g->y_f32 + (size_t)(row + r) * g->y_stride + n + 8 * i, mask, _mm256_add_ps(_mm256_mul_ps(t, mult), addend));
    }
  }
}

#endif
