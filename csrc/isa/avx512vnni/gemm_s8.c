/* int8 product with vpdpbusd: up to 6 rows by 4 panels, or 12 rows by 2 panels, 24 accumulators each.
 *
 * A is broadcast four bytes at a time, so rows need not be packed; B is one zmm a panel and k-step, read as independent
 * streams (no interleave of panels: it would bring 2 %). 196x256x256 with requantisation: 690-716 GOPS, 128 MACs a cycle would be 793
 * (Sapphire Rapids VM, one core, 2026-11-24). */
#include <string.h>

#include "isa/avx512vnni/avx512vnni.h"

#define MAX_ROWS 12

/* `rows` rows of `P` panels that stand in one register, 16 bytes each, in order. */
EZ_INLINE void store_rows(uint8_t *y, size_t stride, int32_t columns, __m512i bytes, const int rows, const int P) {
  if (P >= 3) {
    _mm512_mask_storeu_epi8(y, columns >= 64 ? ~0ull : (1ull << columns) - 1, bytes);
  } else if (P == 2) {
    const __mmask32 mask = columns >= 32 ? ~0u : (1u << columns) - 1;
    _mm256_mask_storeu_epi8(y, mask, _mm512_castsi512_si256(bytes));
    if (rows > 1) _mm256_mask_storeu_epi8(y + stride, mask, _mm512_extracti64x4_epi64(bytes, 1));
  } else {
    const __mmask16 mask = columns >= 16 ? 0xffff : (__mmask16)((1u << columns) - 1);
    _mm_mask_storeu_epi8(y, mask, _mm512_castsi512_si128(bytes));
    if (rows > 1) _mm_mask_storeu_epi8(y + stride, mask, _mm512_extracti32x4_epi32(bytes, 1));
    if (rows > 2) _mm_mask_storeu_epi8(y + 2 * stride, mask, _mm512_extracti32x4_epi32(bytes, 2));
    if (rows > 3) _mm_mask_storeu_epi8(y + 3 * stride, mask, _mm512_extracti32x4_epi32(bytes, 3));
  }
}

/* Four registers of sums at a time (a row of 4 panels, two of 2, four of 1): after two rounds of packs, dword 4 l + i holds columns
 * 4 l .. 4 l + 3 of register i. */
EZ_INLINE void store_block(const ez_gemm_s8_args *g, int32_t row0, const int R, const int P, __m512i acc[MAX_ROWS][4]) {
  const __m512 lo = _mm512_set1_ps((float)(g->lo - g->zero_point)), hi = _mm512_set1_ps((float)(g->hi - g->zero_point));
  const __m512i shift = _mm512_set1_epi16((int16_t)(g->zero_point + 128)); /* steps -> stored byte */
  const __m512i order = _mm512_setr_epi32(0, 4, 8, 12, 1, 5, 9, 13, 2, 6, 10, 14, 3, 7, 11, 15);
  const int together = 4 / P;
#pragma GCC unroll 12
  for (int r = 0; r < R; r += together) {
    __m512i steps[4];
#pragma GCC unroll 4
    for (int i = 0; i < 4; i++) {
      if (r + i / P >= R || i >= together * P) {
        steps[i] = steps[0]; /* not stored */
        continue;
      }
      const __m512 t = _mm512_mul_ps(_mm512_cvtepi32_ps(acc[r + i / P][i % P]), _mm512_loadu_ps(g->mult + 16 * (i % P)));
      steps[i] = _mm512_cvtps_epi32(_mm512_min_ps(_mm512_max_ps(t, lo), hi));
    }
    const __m512i words01 = _mm512_add_epi16(_mm512_packs_epi32(steps[0], steps[1]), shift);
    const __m512i words23 = _mm512_add_epi16(_mm512_packs_epi32(steps[2], steps[3]), shift);
    const __m512i bytes = _mm512_permutexvar_epi32(order, _mm512_packus_epi16(words01, words23));
    store_rows(g->y + (size_t)(row0 + r) * g->y_stride, g->y_stride, g->columns, bytes, R - r, P);
  }
}

EZ_INLINE void block(const ez_gemm_s8_args *g, int32_t row0, const int R, const int P) {
  __m512i acc[MAX_ROWS][4];
#pragma GCC unroll 4
  for (int p = 0; p < P; p++)
#pragma GCC unroll 12
    for (int r = 0; r < R; r++) acc[r][p] = _mm512_loadu_si512(g->bias + 16 * p);
  const int8_t *w = g->w;
  const size_t steps = (size_t)(g->channels + 3) / 4, panel_bytes = g->panel_bytes, a_stride = g->a_stride;
  const uint8_t *const *rows = g->a + row0, *const *const end = rows + (size_t)g->taps * a_stride;
  for (; rows != end; rows += a_stride) {
    const uint8_t *a[MAX_ROWS];
    for (int r = 0; r < R; r++) a[r] = rows[r];
    for (size_t k = 0; k < steps; k++, w += 64) {
      __m512i b[4];
      for (int p = 0; p < P; p++) b[p] = _mm512_loadu_si512(w + (size_t)p * panel_bytes);
#pragma GCC unroll 12
      for (int r = 0; r < R; r++) {
        int32_t four;
        memcpy(&four, a[r] + 4 * k, 4);
        const __m512i x = _mm512_set1_epi32(four);
        for (int p = 0; p < P; p++) acc[r][p] = _mm512_dpbusd_epi32(acc[r][p], x, b[p]);
      }
    }
  }
  /* Without this line gcc 12 gives what the epilogue reads its own registers and, having too few, stores every sum at every k-step. */
#pragma GCC unroll 12
  for (int r = 0; r < R; r++)
#pragma GCC unroll 4
    for (int p = 0; p < P; p++) __asm__ volatile("" : "+v"(acc[r][p]));
  store_block(g, row0, R, P, acc);
}

#define INSTANCE(R, P) \
  static __attribute__((noinline)) void block_##R##x##P(const ez_gemm_s8_args *g, int32_t row0) { block(g, row0, R, P); }
#define ROWS_1_TO_6(P) INSTANCE(1, P) INSTANCE(2, P) INSTANCE(3, P) INSTANCE(4, P) INSTANCE(5, P) INSTANCE(6, P)
#define ROWS_7_TO_12(P) INSTANCE(7, P) INSTANCE(8, P) INSTANCE(9, P) INSTANCE(10, P) INSTANCE(11, P) INSTANCE(12, P)
ROWS_1_TO_6(1) ROWS_1_TO_6(2) ROWS_1_TO_6(3) ROWS_1_TO_6(4) ROWS_7_TO_12(1) ROWS_7_TO_12(2)

typedef void (*block_fn)(const ez_gemm_s8_args *g, int32_t row0);
#define NAMES_6(P) block_1x##P, block_2x##P, block_3x##P, block_4x##P, block_5x##P, block_6x##P
#define NAMES_12(P) NAMES_6(P), block_7x##P, block_8x##P, block_9x##P, block_10x##P, block_11x##P, block_12x##P
static const block_fn blocks[4][MAX_ROWS] = {{NAMES_12(1)}, {NAMES_12(2)}, {NAMES_6(3)}, {NAMES_6(4)}};

void ez_avx512vnni_gemm_s8(const ez_gemm_s8_args *g) {
  const int32_t panels = (g->columns + 15) / 16;
  const int32_t most = panels <= 2 ? 12 : 6;
  for (int32_t row = 0; row < g->rows; row += most) {
    const int32_t rows = g->rows - row < most ? g->rows - row : most;
    blocks[panels - 1][rows - 1](g, row);
  }
}
