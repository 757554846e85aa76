/* int8 product with sdot by lane: up to 4 rows by 16 outputs; 16 accumulators, 4 registers of A, 4 of B.
 *
 * 8 rows by 8 outputs need as many loads, but twice the pointers and stores. */
#include "isa/dotprod/products.h"

/* Lane `L` of each row's 16 bytes by 8 of the 16 columns, then by the others: one k-step. */
#define HALF_STEP(L, H)                                                                  \
  do {                                                                                   \
    EZ_KEEP_LOADS_HERE;                                                                  \
    const int8x16_t b0 = vld1q_s8(w + 32 * (H)), b1 = vld1q_s8(w + 32 * (H) + 16);       \
    for (int r = 0; r < R; r++) {                                                        \
      acc[r][2 * (H)] = vdotq_laneq_s32(acc[r][2 * (H)], b0, x[r], L);                   \
      acc[r][2 * (H) + 1] = vdotq_laneq_s32(acc[r][2 * (H) + 1], b1, x[r], L);           \
    }                                                                                    \
  } while (0)
#define STEP(L)        \
  do {                 \
    HALF_STEP(L, 0);   \
    HALF_STEP(L, 1);   \
    w += 64;           \
  } while (0)

/* What a block need not look at, so that its start, first step and end are each one run of instructions. */
typedef enum {
  ANY_SHAPE,
  PLAIN /* one tap, channels a multiple of 16 */
} shape_kind;

/* R rows by the 16 columns at w. `bias` holds q's bias offset too. */
EZ_INLINE void block(const ez_gemm_s8_args *g, const ez_requant_neon *q, const int32x4_t *bias, const float *mult,
                     const uint8_t *const *pointers, const int8_t *w, uint8_t *y, int32_t left, const int R, const shape_kind kind) {
  int32x4_t acc[4][4];
  const ptrdiff_t row = pointers - g->a;
  for (int r = 0; r < R; r++) {
    if (r % 2 == 0) EZ_LOAD_AGAIN(bias); /* half of the rows start by loads, half by moves: neither pipe waits */
    for (int i = 0; i < 4; i++) acc[r][i] = bias[i];
  }
  for (int32_t t = kind == PLAIN ? 1 : g->taps; t > 0; t--, pointers += g->a_stride) {
    const uint8_t *a[4];
    int8x16_t x[4];
    for (int r = 0; r < R; r++) a[r] = pointers[r];
    size_t at = 0, whole = (size_t)g->channels;
    if (kind == ANY_SHAPE) whole = (whole + 3) / 16 * 16; /* three steps of four are a part, as the last of them may be */
    if (kind == PLAIN || whole) do {
      for (int r = 0; r < R; r++) x[r] = vreinterpretq_s8_u8(vld1q_u8(a[r] + at));
      STEP(0);
      STEP(1);
      STEP(2);
      STEP(3);
      at += 16;
    } while (at != whole);
    const int32_t channels = g->channels - (int32_t)at;
    if (kind == PLAIN || channels <= 0) continue;
    for (int r = 0; r < R; r++) x[r] = vreinterpretq_s8_u8(vld1q_u8(a[r] + at)); /* lanes past the last channel are not used */
    STEP(0);
    if (channels > 4) STEP(1);
    if (channels > 8) STEP(2);
  }
  ez_dotprod_finish(g, q, row, mult, acc, y, left, R);
}

/* All rows by the 16 columns from n0. */
EZ_INLINE void column_block(const ez_gemm_s8_args *g, const ez_requant_neon *q, int32_t n0, const shape_kind kind) {
  int32x4_t bias[4];
  for (int i = 0; i < 4; i++) bias[i] = vaddq_s32(vld1q_s32(g->bias + n0 + 4 * i), q->bias_offset);
  const float *mult = g->mult + n0;
  const int8_t *w = g->w + (size_t)(n0 / 16) * g->panel_bytes;
  const uint8_t *const *a = g->a;
  uint8_t *y = g->y + n0;
  const int32_t left = g->columns - n0;
  int32_t rows = g->rows;
  for (; rows >= 4; rows -= 4, a += 4, y += 4 * g->y_stride) block(g, q, bias, mult, a, w, y, left, 4, kind);
  if (rows >= 2) block(g, q, bias, mult, a, w, y, left, 2, ANY_SHAPE), rows -= 2, a += 2, y += 2 * g->y_stride;
  if (rows) block(g, q, bias, mult, a, w, y, left, 1, ANY_SHAPE);
}

void ez_dotprod_gemm_s8(const ez_gemm_s8_args *g) {
  const ez_requant_neon q = ez_requant_neon_of(g->lo, g->hi, g->zero_point, g->small_sums);
  for (int32_t n0 = 0; n0 < g->columns; n0 += 16) {
    if (g->taps == 1 && g->channels % 16 == 0)
      column_block(g, &q, n0, PLAIN);
    else
      column_block(g, &q, n0, ANY_SHAPE);
  }
}
