/* Depthwise 3 x 3 without dot products, sliding along a row: 16 channels at a time. A ring of three columns stays in registers, so
 * a pixel loads three vectors of input instead of nine; two products share a 16-bit lane, then widen into 32 bits. */
#include "isa/depthwise.h"
#include "isa/neon/neon.h"

#define K 3

typedef struct slide_column {
  const uint8_t *a[K], *outside; /* 16 channels of the next column inside of the image, by row */
  size_t steps[K];
  int32_t ix, in_w; /* the next column */
} slide_column;

EZ_INLINE void column_inside(slide_column *s, int8x16_t out[K]) {
  for (int ky = 0; ky < K; ky++) {
    out[ky] = vreinterpretq_s8_u8(vld1q_u8(s->a[ky]));
    s->a[ky] += s->steps[ky];
  }
}

/* Without a branch: pixels at the borders are few, but each would pay for two. */
EZ_INLINE void column_anywhere(slide_column *s, int8x16_t out[K]) {
  const int inside = (uint32_t)s->ix++ < (uint32_t)s->in_w;
  for (int ky = 0; ky < K; ky++) {
    out[ky] = vreinterpretq_s8_u8(vld1q_u8(inside ? s->a[ky] : s->outside));
    s->a[ky] += inside ? s->steps[ky] : 0;
  }
}

EZ_INLINE void widen(int32x4_t acc[4], const int32x4_t from[4], int16x8_t low, int16x8_t high) {
  acc[0] = vaddw_s16(from[0], vget_low_s16(low)), acc[1] = vaddw_high_s16(from[1], low);
  acc[2] = vaddw_s16(from[2], vget_low_s16(high)), acc[3] = vaddw_high_s16(from[3], high);
}

EZ_INLINE void add_two(int32x4_t acc[4], int8x16_t x0, int8x16_t w0, int8x16_t x1, int8x16_t w1) {
  widen(acc, acc, vmlal_s8(vmull_s8(vget_low_s8(x0), vget_low_s8(w0)), vget_low_s8(x1), vget_low_s8(w1)),
        vmlal_high_s8(vmull_high_s8(x0, w0), x1, w1));
}

EZ_INLINE void pixel_16(const ez_requant_neon *q, const int8x16_t *c0, const int8x16_t *c1, const int8x16_t *c2, const int8x16_t w[9],
                        const int32_t *bias, const float *mult, uint8_t *y, int32_t left) {
  EZ_LOAD_AGAIN(bias);
  const int32x4_t start[4] = {vld1q_s32(bias), vld1q_s32(bias + 4), vld1q_s32(bias + 8), vld1q_s32(bias + 12)};
  int32x4_t acc[4];
  widen(acc, start, vmull_s8(vget_low_s8(c2[2]), vget_low_s8(w[8])), vmull_high_s8(c2[2], w[8]));
  add_two(acc, c0[0], w[0], c1[0], w[1]);
  add_two(acc, c0[1], w[3], c1[1], w[4]);
  add_two(acc, c0[2], w[6], c1[2], w[7]);
  add_two(acc, c2[0], w[2], c2[1], w[5]);
  int16x8_t low = ez_scale8_neon(acc[0], acc[1], vld1q_f32(mult), vld1q_f32(mult + 4));
  int16x8_t high = ez_scale8_neon(acc[2], acc[3], vld1q_f32(mult + 8), vld1q_f32(mult + 12));
  low = vqaddq_s16(low, q->zero_point), high = vqaddq_s16(high, q->zero_point);
  const int8x16_t bytes = vminq_s8(vmaxq_s8(vqmovn_high_s16(vqmovn_s16(low), high), q->lo), q->hi);
  if (left >= 16) {
    vst1q_s8((int8_t *)y, bytes);
  } else {
    int8_t tail[16];
    vst1q_s8(tail, bytes);
    memcpy(y, tail, (size_t)left);
  }
}

/* Pixel `i` of a turn of the ring; its first column stands in slot S * i % 3. */
#define PIXEL(i, COLUMN)                                                                                                       \
  do {                                                                                                                         \
    for (int j = K - S; j < K; j++) COLUMN(&s, x[(S * (i) + j) % K]);                                                          \
    pixel_16(q, x[S * (i) % K], x[(S * (i) + 1) % K], x[(S * (i) + 2) % K], w, d->bias + c, d->mult + c, y, left);             \
    y += d->y_stride;                                                                                                          \
  } while (0)
#define LAST_PIXEL(i)             \
  do {                            \
    if (pixels-- == 0) return;    \
    PIXEL(i, column_anywhere);    \
  } while (0)

/* turns: of the ring through which no column lies outside, all pixels but some of the last. */
EZ_INLINE void slide_line(const ez_depthwise_s8_args *d, const ez_requant_neon *q, int32_t line, int32_t c, int32_t turns, int32_t left,
                          const int S) {
  int8x16_t w[9], x[K][K]; /* x: ring of columns */
  for (int t = 0; t < 9; t++) w[t] = vld1q_s8(d->w + (size_t)c * 9 + 16 * t);
  slide_column s = {.outside = d->outside + c, .ix = d->column, .in_w = d->in_w};
  for (int ky = 0; ky < K; ky++) {
    s.steps[ky] = d->steps[line * K + ky];
    s.a[ky] = d->rows[line * K + ky] + c + (d->column > 0 ? (size_t)d->column * s.steps[ky] : 0);
  }
  uint8_t *y = d->y + (size_t)line * d->y_line_stride + c;
  for (int i = 0; i < K - S; i++) column_anywhere(&s, x[i]);
  for (int32_t turn = turns; turn > 0; turn--) {
    PIXEL(0, column_inside);
    PIXEL(1, column_inside);
    PIXEL(2, column_inside);
  }
  s.ix += turns * K * S;
  int32_t pixels = d->pixels - turns * K;
  for (;;) {
    LAST_PIXEL(0);
    LAST_PIXEL(1);
    LAST_PIXEL(2);
  }
}

EZ_INLINE void slide_all(const ez_depthwise_s8_args *d, const int S) {
  const ez_requant_neon q = ez_requant_neon_of(d->lo, d->hi, d->zero_point, 0);
  const int32_t room = d->in_w - d->column - K; /* columns to the right of pixel 0 */
  const int32_t turns = room < 0 || d->column < S - K ? 0 : (room / S + 1 < d->pixels ? room / S + 1 : d->pixels) / K;
  int32_t c = 0;
  for (; c + 16 <= d->channels; c += 16) /* `left` known: no test in a pixel */
    for (int32_t line = 0; line < d->lines; line++) slide_line(d, &q, line, c, turns, 16, S);
  for (; c < d->channels; c += 16)
    for (int32_t line = 0; line < d->lines; line++) slide_line(d, &q, line, c, turns, d->channels - c, S);
}

int ez_neon_slide_s8(const ez_depthwise_s8_args *d) {
  if (d->kernel_h != K || d->kernel_w != K || d->dilation != 1 || d->stride > 2) return 0;
  if (d->stride == 1)
    slide_all(d, 1);
  else
    slide_all(d, 2);
  return 1;
}
