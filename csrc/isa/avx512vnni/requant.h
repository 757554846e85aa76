/* Sums in zmm registers -> stored bytes (EZ-N1 rule 4). Shared by the folders that end in AVX-512. */
#ifndef EDGEZIP_AVX512VNNI_REQUANT_H
#define EDGEZIP_AVX512VNNI_REQUANT_H

#include "isa/avx512vnni/avx512vnni.h"

/* What the epilogue needs in every tile. */
typedef struct ez_requant_zmm {
  __m512 lo, hi;          /* in steps from the zero point, for multipliers that may leave int32 */
  __m512i shift, low, high; /* steps -> stored byte in 16 bits; the clamp of stored bytes */
  __m512i order;
  __mmask64 columns;
  int clamps; /* lo or hi cut more than a byte does */
} ez_requant_zmm;

EZ_INLINE ez_requant_zmm ez_requant_zmm_of(const ez_gemm_s8_args *g, const int P) {
  const int width = P >= 3 ? 64 : 16 * P;
  return (ez_requant_zmm){
      .lo = _mm512_set1_ps((float)(g->lo - g->zero_point)),
      .hi = _mm512_set1_ps((float)(g->hi - g->zero_point)),
      .shift = _mm512_set1_epi16((int16_t)(g->zero_point + 128)),
      .low = _mm512_set1_epi8((char)(g->lo ^ 0x80)),
      .high = _mm512_set1_epi8((char)(g->hi ^ 0x80)),
      .order = _mm512_setr_epi32(0, 4, 8, 12, 1, 5, 9, 13, 2, 6, 10, 14, 3, 7, 11, 15),
      .columns = g->columns >= width ? ~0ull >> (64 - width) : (1ull << g->columns) - 1,
      .clamps = g->lo > -128 || g->hi < 127,
  };
}

/* `rows` rows of `P` panels that stand in one register, 16 bytes each, in order. */
EZ_INLINE void ez_store_zmm(uint8_t *y, size_t stride, __mmask64 columns, __m512i bytes, const int rows, const int P) {
  if (P >= 3) {
    _mm512_mask_storeu_epi8(y, columns, bytes);
  } else if (P == 2) {
    _mm256_mask_storeu_epi8(y, (__mmask32)columns, _mm512_castsi512_si256(bytes));
    if (rows > 1) _mm256_mask_storeu_epi8(y + stride, (__mmask32)columns, _mm512_extracti64x4_epi64(bytes, 1));
  } else {
    const __mmask16 mask = (__mmask16)columns;
    _mm_mask_storeu_epi8(y, mask, _mm512_castsi512_si128(bytes));
    if (rows > 1) _mm_mask_storeu_epi8(y + stride, mask, _mm512_extracti32x4_epi32(bytes, 1));
    if (rows > 2) _mm_mask_storeu_epi8(y + 2 * stride, mask, _mm512_extracti32x4_epi32(bytes, 2));
    if (rows > 3) _mm_mask_storeu_epi8(y + 3 * stride, mask, _mm512_extracti32x4_epi32(bytes, 3));
  }
}

/* Four registers of sums at a time (a row of 4 panels, two of 2, four of 1): after two rounds of packs, dword 4 l + i holds columns
 * 4 l .. 4 l + 3 of register i. The packs saturate where the clamp would; only what int32 cannot hold must be clamped before. */
EZ_INLINE void ez_store_tile(const ez_gemm_s8_args *g, const ez_requant_zmm *q, uint8_t *y, const int R, const int P, __m512i acc[][4]) {
  const int together = 4 / P;
  const int clamp_first = !g->small_mult;
#pragma GCC unroll 12
  for (int r = 0; r < R; r += together) {
    __m512i steps[4];
#pragma GCC unroll 4
    for (int i = 0; i < 4; i++) {
      if (r + i / P >= R || i >= together * P) {
        steps[i] = steps[0]; /* not stored */
        continue;
      }
      __m512 t = _mm512_mul_ps(_mm512_cvtepi32_ps(acc[r + i / P][i % P]), _mm512_loadu_ps(g->mult + 16 * (i % P)));
      if (__builtin_expect(clamp_first, 0)) t = _mm512_min_ps(_mm512_max_ps(t, q->lo), q->hi);
      steps[i] = _mm512_cvtps_epi32(t);
    }
    const __m512i words01 = _mm512_adds_epi16(_mm512_packs_epi32(steps[0], steps[1]), q->shift);
    const __m512i words23 = _mm512_adds_epi16(_mm512_packs_epi32(steps[2], steps[3]), q->shift);
    __m512i bytes = _mm512_packus_epi16(words01, words23);
    if (__builtin_expect(q->clamps, 0)) bytes = _mm512_min_epu8(_mm512_max_epu8(bytes, q->low), q->high);
    ez_store_zmm(y + (size_t)r * g->y_stride, g->y_stride, q->columns, _mm512_permutexvar_epi32(q->order, bytes), R - r, P);
  }
}

/* Float results of R rows from `row` on (isa.h). */
EZ_INLINE void ez_store_float_tile(const ez_gemm_s8_args *g, int32_t row, const int R, const int P, __m512i acc[][4]) {
  float *y = g->y_f32 + (size_t)row * g->y_stride;
#pragma GCC unroll 4
  for (int p = 0; p < P; p++) {
    const __m512 mult = _mm512_loadu_ps(g->mult + 16 * p), addend = _mm512_loadu_ps(g->addend + 16 * p);
    const int32_t left = g->columns - 16 * p;
    const __mmask16 mask = left >= 16 ? 0xffff : (__mmask16)((1u << left) - 1);
#pragma GCC unroll 12
    for (int r = 0; r < R; r++) {
      const __m512 t = _mm512_mul_ps(_mm512_cvtepi32_ps(acc[r][p]), _mm512_set1_ps(g->row_scale[row + r]));
      _mm512_mask_storeu_ps(y + (size_t)r * g->y_stride + 16 * p, mask, _mm512_add_ps(_mm512_mul_ps(t, mult), addend));
    }
  }
}

#endif
