/* Depthwise by sdot, sliding along a row: 8 channels at a time; each input column is interleaved once, (channel, row) with four
 * rows a dword, and serves kernel_w output pixels from registers. 17 vector operations for 8 outputs of a 3 x 3 kernel. Its dwords have
 * room for a fourth row: two lines that lie one input row apart share them (16 operations), the second line's weights one byte on.
 *
 * Shared by the ISA folders that have sdot; they differ in how weights are packed. Included by one source of each. */
#ifndef EDGEZIP_DOTPROD_SLIDE_H
#define EDGEZIP_DOTPROD_SLIDE_H

#include "isa/depthwise.h"
#include "isa/neon/neon.h"

#define MOST_SIDE 5                /* of a kernel */
#define GROUPS(KH) (((KH) + 3) / 4) /* dwords that a column of a channel fills */

/* Weights of 8 channels from channel c: registers [group * KW + kx][half], 4 channels of 4 rows each. */
typedef void (*load_weights)(const ez_depthwise_s8_args *d, int32_t c, int8x16_t w[][2]);

/* The next column: of channel c in each row, and its number. */
typedef struct slide_column {
  const uint8_t *a[MOST_SIDE], *outside;
  size_t steps[MOST_SIDE]; /* a copy: d's would be loaded again for each column */
  int32_t ix, in_w;
} slide_column;

EZ_INLINE int8x16_t load8(const uint8_t *at) { return vcombine_s8(vld1_s8((const int8_t *)at), vdup_n_s8(0)); }

/* 8 bytes of each of `rows` rows (up to 4; the weights of the others are zero) -> dwords of 8 channels. */
EZ_INLINE void interleave(const uint8_t *const *a, const int rows, int8x16_t out[2]) {
  const int8x16_t x0 = load8(a[0]), x1 = rows > 1 ? load8(a[1]) : x0, x2 = rows > 2 ? load8(a[2]) : x0, x3 = rows > 3 ? load8(a[3]) : x2;
  const int16x8_t x01 = vreinterpretq_s16_s8(vzip1q_s8(x0, x1)), x23 = rows > 2 ? vreinterpretq_s16_s8(vzip1q_s8(x2, x3)) : x01;
  out[0] = vreinterpretq_s8_s16(vzip1q_s16(x01, x23)), out[1] = vreinterpretq_s8_s16(vzip2q_s16(x01, x23));
}

EZ_INLINE void column_at(const uint8_t *const *a, const int KH, int8x16_t out[][2]) {
  for (int g = 0; g < GROUPS(KH); g++) interleave(a + 4 * g, KH - 4 * g < 4 ? KH - 4 * g : 4, out[g]);
}

EZ_INLINE void column_inside(slide_column *s, const int KH, int8x16_t out[][2]) {
  column_at(s->a, KH, out);
  for (int ky = 0; ky < KH; ky++) s->a[ky] += s->steps[ky];
}

/* Without a branch: pixels at the borders are few, but each would pay for two. */
EZ_INLINE void column_anywhere(slide_column *s, const int KH, int8x16_t out[][2]) {
  const int inside = (uint32_t)s->ix++ < (uint32_t)s->in_w;
  const uint8_t *a[MOST_SIDE];
  for (int ky = 0; ky < KH; ky++) {
    a[ky] = inside ? s->a[ky] : s->outside;
    s->a[ky] += inside ? s->steps[ky] : 0;
  }
  column_at(a, KH, out);
}

/* SIMPLE: as in ez_requant_neon. */
EZ_INLINE void finish8(const ez_requant_neon *q, const int32x4_t acc[2], const float32x4_t m[2], uint8_t *y, int32_t left, const int SIMPLE) {
  if (SIMPLE) {
    vst1_s8((int8_t *)y, vqmovn_s16(ez_scale8_small_neon(q, acc[0], acc[1], m[0], m[1])));
  } else {
    int16x8_t result = q->small_sums ? ez_scale8_small_neon(q, acc[0], acc[1], m[0], m[1]) : ez_scale8_neon(acc[0], acc[1], m[0], m[1]);
    result = vqaddq_s16(result, q->zero_point);
    ez_store_rows8_neon(q, &result, 1, y, 0, left);
  }
}

/* Slot of the ring that holds input column S * pixel + kx. */
#define SLOT(pixel, kx) ((S * (pixel) + (kx)) % KW)

/* Pixel `i` of a turn of the ring, of each line. Its sums start by loading the bias, which costs no vector operation. */
#define PIXEL(i, COLUMN)                                                                                   \
  do {                                                                                                     \
    for (int j = KW - S; j < KW; j++) COLUMN(&s, ROWS, x[SLOT(i, j)]);                                     \
    for (int l = 0; l < LINES; l++) {                                                                      \
      EZ_LOAD_AGAIN(bias);                                                                                 \
      int32x4_t acc[2] = {bias[0], bias[1]};                                                               \
      for (int g = 0; g < GROUPS(KH); g++)                                                                 \
        for (int kx = 0; kx < KW; kx++)                                                                    \
          for (int h = 0; h < 2; h++) acc[h] = vdotq_s32(acc[h], x[SLOT(i, kx)][g][h], w[l][g * KW + kx][h]); \
      finish8(q, acc, m, y + (l ? y_line_stride : 0), left, SIMPLE);                                       \
    }                                                                                                      \
    y += y_stride;                                                                                         \
  } while (0)
#define LAST_PIXELS(i)                \
  do {                                \
    if (pixels-- == 0) return;        \
    PIXEL(i, column_anywhere);        \
  } while (0)

/* What 8 channels share in all lines: weights [group * KW + kx][half], bias with q's offset, multipliers. */
typedef struct slide_constants {
  int8x16_t w[2 * MOST_SIDE][2];
  int32x4_t bias[2];
  float32x4_t m[2];
} slide_constants;

/* Whether the next line sees the same rows but the first, and one more. */
EZ_INLINE int shares_rows(const ez_depthwise_s8_args *d, int32_t line, const int KH) {
  if (line + 1 == d->lines) return 0;
  for (int ky = line * KH + 1; ky < (line + 1) * KH; ky++)
    if (d->rows[ky] != d->rows[ky + KH - 1] || d->steps[ky] != d->steps[ky + KH - 1]) return 0;
  return 1;
}

/* Channels c to c + 7 of one line, or of two that share rows. turns: of the ring through which no column lies outside, all pixels but some
 * of the last. */
EZ_INLINE void slide_lines(const ez_depthwise_s8_args *d, const ez_requant_neon *q, const slide_constants *constants, int32_t line, int32_t c,
                           int32_t turns, const int KH, const int KW, const int S, const int LINES, const int SIMPLE) {
  const int ROWS = KH + LINES - 1;
  int8x16_t x[MOST_SIDE][2][2]; /* ring of columns */
  slide_column s = {.outside = d->outside + c, .ix = d->column, .in_w = d->in_w};
  for (int ky = 0; ky < ROWS; ky++) {
    const int32_t at = ky < KH ? line * KH + ky : line * KH + 2 * KH - 1;
    s.steps[ky] = d->steps[at];
    s.a[ky] = d->rows[at] + c + (d->column > 0 ? (size_t)d->column * s.steps[ky] : 0);
  }
  const int32x4_t *bias = constants->bias;
  const float32x4_t m[2] = {constants->m[0], constants->m[1]};
  int8x16_t w[2][2 * MOST_SIDE][2]; /* a copy, for registers; [1]: of the second line */
  for (int i = 0; i < GROUPS(KH) * KW; i++)
    for (int h = 0; h < 2; h++) {
      w[0][i][h] = constants->w[i][h];
      if (LINES == 2) w[1][i][h] = vreinterpretq_s8_s32(vshlq_n_s32(vreinterpretq_s32_s8(constants->w[i][h]), 8));
    }
  uint8_t *y = d->y + (size_t)line * d->y_line_stride + c;
  const size_t y_stride = d->y_stride, y_line_stride = d->y_line_stride;
  const int32_t left = d->channels - c;
  for (int i = 0; i < KW - S; i++) column_anywhere(&s, ROWS, x[i]);
  for (int32_t turn = turns; turn > 0; turn--) { /* written out: not every compiler unrolls it, and the ring must stay in registers */
    PIXEL(0, column_inside);
    PIXEL(1, column_inside);
    PIXEL(2, column_inside);
    if (KW == 5) PIXEL(3, column_inside);
    if (KW == 5) PIXEL(4, column_inside);
  }
  s.ix += turns * KW * S;
  int32_t pixels = d->pixels - turns * KW;
  for (;;) {
    LAST_PIXELS(0);
    LAST_PIXELS(1);
    LAST_PIXELS(2);
    if (KW == 5) LAST_PIXELS(3);
    if (KW == 5) LAST_PIXELS(4);
  }
}

EZ_INLINE void slide_channels(const ez_depthwise_s8_args *d, const ez_requant_neon *q, load_weights weights, int32_t c, int32_t turns,
                              const int K, const int S, const int SIMPLE) {
  slide_constants constants = {
      .bias = {vaddq_s32(vld1q_s32(d->bias + c), q->bias_offset), vaddq_s32(vld1q_s32(d->bias + c + 4), q->bias_offset)},
      .m = {vld1q_f32(d->mult + c), vld1q_f32(d->mult + c + 4)},
  };
  weights(d, c, constants.w);
  for (int32_t line = 0; line < d->lines; line++) {
    if (K == 3 && S == 1 && SIMPLE && shares_rows(d, line, K))
      slide_lines(d, q, &constants, line++, c, turns, K, K, S, 2, SIMPLE);
    else
      slide_lines(d, q, &constants, line, c, turns, K, K, S, 1, SIMPLE);
  }
}

EZ_INLINE void slide_all(const ez_depthwise_s8_args *d, const ez_requant_neon *q, load_weights weights, const int K, const int S) {
  const int32_t room = d->in_w - d->column - K; /* columns to the right of pixel 0 */
  const int32_t turns = room < 0 || d->column < S - K ? 0 : (room / S + 1 < d->pixels ? room / S + 1 : d->pixels) / K;
  int32_t c = 0;
  if (q->simple)
    for (; c + 8 <= d->channels; c += 8) slide_channels(d, q, weights, c, turns, K, S, 1);
  for (; c < d->channels; c += 8) slide_channels(d, q, weights, c, turns, K, S, 0);
}

/* Whether the lines were done: square kernels of 3 and 5 with stride 1 or 2 and no dilation. */
EZ_INLINE int slide_s8(const ez_depthwise_s8_args *d, load_weights weights3, load_weights weights5) {
  if (d->kernel_h != d->kernel_w || d->dilation != 1 || d->stride > 2) return 0;
  const ez_requant_neon q = ez_requant_neon_of(d->lo, d->hi, d->zero_point, d->small_sums);
  if (d->kernel_w == 3 && d->stride == 1)
    slide_all(d, &q, weights3, 3, 1);
  else if (d->kernel_w == 3)
    slide_all(d, &q, weights3, 3, 2);
  else if (d->kernel_w == 5 && d->stride == 1)
    slide_all(d, &q, weights5, 5, 1);
  else if (d->kernel_w == 5)
    slide_all(d, &q, weights5, 5, 2);
  else
    return 0;
  return 1;
}

#endif
