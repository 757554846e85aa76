/* Depthwise, four lanes of 16 channels at a time: 64 channels of one pixel, 32 of two, or 16 of four.
 *
 * A kernel slides along the output row. Each input column is interleaved once, so that every dword holds four vertical taps of one
 * channel, and is then multiplied into each of the outputs that see it: one vpdpbusd is 64 products. Unpacks work inside 128-bit
 * lanes, so quarter q holds channels 4q..4q+3 of each lane; weights, bias and multipliers are brought into that order once per
 * block of channels, and the packs of the epilogue undo it for free. Where a register holds several pixels, they are the heads of
 * equal parts of the row, so that all of them slide alike. A 3x3 kernel leaves the fourth byte of a dword free: with stride 1 it
 * holds the row below, and the column then serves two output lines, the lower one by weights moved on by a byte. */
#include "isa/avx512vnni/avx512vnni.h"
#include "isa/depthwise.h"
#include "isa/portable/portable.h"

#define MOST_GROUPS 16

typedef struct channel_block {
  __m512i w[MOST_GROUPS][4];
  __m512i bias[4];
  __m512 mult[4];
} channel_block;

/* 16 bytes from each of `panels` panels, `step` bytes apart, repeated to four lanes; those of panels that do not exist are zero.
 * Built by inserts: wide loads behind narrow stores would wait for the stores to leave the core. */
EZ_INLINE __m512i lanes_of(const void *at, size_t step, const int panels, int32_t exist) {
  const char *from = at;
  const __m128i first = _mm_loadu_si128((const __m128i *)from), zero = _mm_setzero_si128();
  if (panels == 1) return _mm512_broadcast_i32x4(first);
  const __m128i second = exist > 1 ? _mm_loadu_si128((const __m128i *)(from + step)) : zero;
  const __m512i two = _mm512_inserti32x4(_mm512_castsi128_si512(first), second, 1);
  if (panels == 2) return _mm512_shuffle_i64x2(two, two, 0x44);
  const __m128i third = exist > 2 ? _mm_loadu_si128((const __m128i *)(from + 2 * step)) : zero;
  const __m128i fourth = exist > 3 ? _mm_loadu_si128((const __m128i *)(from + 3 * step)) : zero;
  return _mm512_inserti32x4(_mm512_inserti32x4(two, third, 2), fourth, 3);
}

/* Lane l of quarter q: 4 channels of panel `panel + l % panels`. */
EZ_INLINE void gather_block(const ez_depthwise_s8_args *d, int32_t panel, const int panels, int32_t groups, channel_block *out) {
  const int32_t exist = (d->channels + 15) / 16 - panel;
  for (int q = 0; q < 4; q++) {
    out->bias[q] = lanes_of(d->bias + 16 * panel + 4 * q, 64, panels, exist);
    out->mult[q] = _mm512_castsi512_ps(lanes_of(d->mult + 16 * panel + 4 * q, 64, panels, exist));
  }
  const size_t panel_bytes = (size_t)groups * 64;
  for (int32_t g = 0; g < groups; g++)
    for (int q = 0; q < 4; q++)
      out->w[g][q] = lanes_of(d->w + (size_t)panel * panel_bytes + (size_t)g * 64 + 16 * q, panel_bytes, panels, exist);
}

/* Channels from c on of `pixels` pixels side by side. */
EZ_INLINE __m512i load_lanes(const uint8_t *const at[4], int32_t c, const int pixels) {
  if (pixels == 1) return _mm512_loadu_si512(at[0] + c);
  if (pixels == 2)
    return _mm512_inserti64x4(_mm512_castsi256_si512(_mm256_loadu_si256((const __m256i *)(at[0] + c))),
                              _mm256_loadu_si256((const __m256i *)(at[1] + c)), 1);
  __m512i x = _mm512_castsi128_si512(_mm_loadu_si128((const __m128i *)(at[0] + c)));
  x = _mm512_inserti32x4(x, _mm_loadu_si128((const __m128i *)(at[1] + c)), 1);
  x = _mm512_inserti32x4(x, _mm_loadu_si128((const __m128i *)(at[2] + c)), 2);
  return _mm512_inserti32x4(x, _mm_loadu_si128((const __m128i *)(at[3] + c)), 3);
}

/* n = 1..4 vectors of bytes -> dwords of n bytes and zeros, one a channel. */
EZ_INLINE void interleave(const __m512i *x, const int n, __m512i quads[4]) {
  const __m512i zero = _mm512_setzero_si512();
  if (n == 1) { /* byte 4q + i of a lane to dword i */
    const __m512i spread = _mm512_broadcast_i32x4(_mm_setr_epi8(0, -1, -1, -1, 1, -1, -1, -1, 2, -1, -1, -1, 3, -1, -1, -1));
    for (int q = 0; q < 4; q++) quads[q] = _mm512_shuffle_epi8(x[0], _mm512_add_epi8(spread, _mm512_set1_epi32(4 * q)));
    return;
  }
  const __m512i low01 = _mm512_unpacklo_epi8(x[0], x[1]), high01 = _mm512_unpackhi_epi8(x[0], x[1]);
  const __m512i third = n > 2 ? x[2] : zero, fourth = n > 3 ? x[3] : zero;
  const __m512i low23 = n > 2 ? _mm512_unpacklo_epi8(third, fourth) : zero, high23 = n > 2 ? _mm512_unpackhi_epi8(third, fourth) : zero;
  quads[0] = _mm512_unpacklo_epi16(low01, low23);
  quads[1] = _mm512_unpackhi_epi16(low01, low23);
  quads[2] = _mm512_unpacklo_epi16(high01, high23);
  quads[3] = _mm512_unpackhi_epi16(high01, high23);
}

/* The weights of the second line of a pair behind those of the first. */
EZ_INLINE void add_lower_line(channel_block *b, const int KW) {
  for (int kx = 0; kx < KW; kx++)
    for (int q = 0; q < 4; q++) {
      const __m512i upper = _mm512_and_si512(b->w[kx][q], _mm512_set1_epi32(0x00ffffff));
      b->w[kx][q] = upper;
      b->w[KW + kx][q] = _mm512_slli_epi32(upper, 8);
    }
}

typedef struct finisher {
  __m512 lo, hi;
  __m512i shift, byte_lo, byte_hi;
} finisher;

EZ_INLINE finisher finisher_of(const ez_depthwise_s8_args *d) {
  return (finisher){
      .lo = _mm512_set1_ps((float)(d->lo - d->zero_point)),
      .hi = _mm512_set1_ps((float)(d->hi - d->zero_point)),
      .shift = _mm512_set1_epi16((int16_t)(d->zero_point + 128)), /* steps -> stored byte */
      .byte_lo = _mm512_set1_epi8((char)(d->lo + 128)),
      .byte_hi = _mm512_set1_epi8((char)(d->hi + 128)),
  };
}

/* Neither small sums nor sums times less than one leave int32: they need no clamp before the conversion, since saturating packs and
 * a clamp of bytes give the same. */
static int converts_unclamped(const ez_depthwise_s8_args *d, int32_t c) {
  const __m512 one = _mm512_set1_ps(1.0f);
  const int32_t end = d->channels - c < 64 ? d->channels : c + 64;
  for (; c < end && !d->small_sums; c += 16)
    if (_mm512_cmp_ps_mask(_mm512_abs_ps(_mm512_loadu_ps(d->mult + c)), one, _CMP_LT_OQ) != 0xffff) return 0;
  return 1;
}

EZ_INLINE __m512i finish(const finisher *f, const __m512 mult[4], const __m512i acc[4], const int small) {
  __m512i steps[4];
  for (int q = 0; q < 4; q++) {
    __m512 t = _mm512_mul_ps(_mm512_cvtepi32_ps(acc[q]), mult[q]);
    if (!small) t = _mm512_min_ps(_mm512_max_ps(t, f->lo), f->hi);
    steps[q] = _mm512_cvtps_epi32(t);
  }
  const __m512i words01 = _mm512_adds_epi16(_mm512_packs_epi32(steps[0], steps[1]), f->shift);
  const __m512i words23 = _mm512_adds_epi16(_mm512_packs_epi32(steps[2], steps[3]), f->shift);
  return _mm512_min_epu8(_mm512_max_epu8(_mm512_packus_epi16(words01, words23), f->byte_lo), f->byte_hi);
}

/* Where the results of each lane go. */
typedef struct pixel_writer {
  uint8_t *y[4];
  size_t stride;
  uint64_t mask;
} pixel_writer;

EZ_INLINE pixel_writer writer_at(const ez_depthwise_s8_args *d, int32_t line, const int32_t *first, int32_t c, const int pixels) {
  const int32_t left = d->channels - c, width = 64 / pixels;
  pixel_writer to = {.stride = d->y_stride, .mask = left >= width ? ~0ull >> (64 - width) : (1ull << left) - 1};
  for (int l = 0; l < pixels; l++) to.y[l] = d->y + (size_t)line * d->y_line_stride + (size_t)first[l] * d->y_stride + c;
  return to;
}

EZ_INLINE void store_lanes(pixel_writer *to, const int pixels, __m512i bytes) {
  if (pixels == 1) {
    _mm512_mask_storeu_epi8(to->y[0], to->mask, bytes);
  } else if (pixels == 2) {
    _mm256_mask_storeu_epi8(to->y[0], (__mmask32)to->mask, _mm512_castsi512_si256(bytes));
    _mm256_mask_storeu_epi8(to->y[1], (__mmask32)to->mask, _mm512_extracti64x4_epi64(bytes, 1));
  } else {
    _mm_mask_storeu_epi8(to->y[0], (__mmask16)to->mask, _mm512_castsi512_si128(bytes));
    _mm_mask_storeu_epi8(to->y[1], (__mmask16)to->mask, _mm512_extracti32x4_epi32(bytes, 1));
    _mm_mask_storeu_epi8(to->y[2], (__mmask16)to->mask, _mm512_extracti32x4_epi32(bytes, 2));
    _mm_mask_storeu_epi8(to->y[3], (__mmask16)to->mask, _mm512_extracti32x4_epi32(bytes, 3));
  }
  for (int l = 0; l < pixels; l++) to->y[l] += to->stride;
}

/* `pixels` equal parts of the row: the first pixel of each; parts overlap where the row does not divide. Returns their length. */
EZ_INLINE int32_t parts_of(const ez_depthwise_s8_args *d, const int pixels, int32_t first[4]) {
  const int32_t length = (d->pixels + pixels - 1) / pixels;
  for (int l = 0; l < pixels; l++) first[l] = l * length < d->pixels - length ? l * length : d->pixels - length;
  return length;
}

/* The next input column of each lane. Pointers and limits stand in locals: stores of bytes may alias whatever lies in memory. */
typedef struct cursor {
  const uint8_t *at[4][8]; /* (lane, ky) channel c of column ix[lane], only valid inside of the row */
  size_t step[8];
  const uint8_t *outside;
  int32_t ix[4], in_w;
} cursor;

/* With LINES == 2 the last row of the second line follows those of the first. */
EZ_INLINE cursor cursor_at(const ez_depthwise_s8_args *d, int32_t line, const int32_t *first, int32_t c, const int pixels, const int KH,
                           const int S, const int LINES) {
  const uint8_t *const *rows = d->rows + (size_t)line * KH;
  const size_t *steps = d->steps + (size_t)line * KH;
  cursor at = {.outside = d->outside + c, .in_w = d->in_w};
  for (int i = 0; i < KH + LINES - 1; i++) {
    const int ky = i < KH ? i : 2 * KH - 1;
    at.step[i] = steps[ky];
    for (int l = 0; l < pixels; l++) {
      at.ix[l] = d->column + first[l] * S;
      at.at[l][i] = (const uint8_t *)((uintptr_t)rows[ky] + (uintptr_t)((intptr_t)at.ix[l] * (intptr_t)at.step[i] + c));
    }
  }
  return at;
}

/* Its KH bytes of a channel as one or two dwords; then on to the column behind it. */
EZ_INLINE void column(cursor *d, const int pixels, const int KH, __m512i quads[2][4]) {
  __m512i x[8];
#pragma GCC unroll 8
  for (int ky = 0; ky < KH; ky++) {
    const uint8_t *at[4];
    for (int l = 0; l < pixels; l++) {
      at[l] = (uint32_t)d->ix[l] < (uint32_t)d->in_w ? d->at[l][ky] : d->outside;
      d->at[l][ky] = (const uint8_t *)((uintptr_t)d->at[l][ky] + d->step[ky]);
    }
    x[ky] = load_lanes(at, 0, pixels);
  }
  for (int l = 0; l < pixels; l++) d->ix[l]++;
  interleave(x, KH < 4 ? KH : 4, quads[0]);
  if (KH > 4) interleave(x + 4, KH - 4, quads[1]);
}

/* Column number m of a window goes to each of the F outputs in flight that see it, on each line. */
EZ_INLINE void spread(const channel_block *b, __m512i quads[2][4], const int m, const int KH, const int KW, const int S, const int F,
                      const int LINES, __m512i acc[2][5][4]) {
#pragma GCC unroll 2
  for (int line = 0; line < LINES; line++)
#pragma GCC unroll 5
    for (int f = 0; f < F; f++) {
      const int kx = m - f * S;
      if (kx < 0 || kx >= KW) continue;
#pragma GCC unroll 2
      for (int g = 0; g < (KH + 3) / 4; g++)
#pragma GCC unroll 4
        for (int q = 0; q < 4; q++) acc[line][f][q] = _mm512_dpbusd_epi32(acc[line][f][q], quads[g][q], b->w[(line + g) * KW + kx][q]);
    }
}

/* Stores the first output in flight, moves the others up and begins one behind them. */
EZ_INLINE void emit(const channel_block *b, const finisher *end, pixel_writer *to, const int pixels, const int F, const int small,
                    __m512i acc[5][4]) {
  store_lanes(to, pixels, finish(end, b->mult, acc[0], small));
#pragma GCC unroll 4
  for (int f = 0; f + 1 < F; f++)
#pragma GCC unroll 4
    for (int q = 0; q < 4; q++) acc[f][q] = acc[f + 1][q];
#pragma GCC unroll 4
  for (int q = 0; q < 4; q++) acc[F - 1][q] = b->bias[q];
}

/* One line, or two that lie one input row apart. KW >= S; acc[.][f] belongs to output j + f. */
EZ_INLINE void slide_lines(const ez_depthwise_s8_args *d, const channel_block *b, const finisher *end, int32_t line, int32_t c,
                           const int pixels, const int KH, const int KW, const int S, const int LINES, const int small) {
  const int F = (KW + S - 1) / S, rows = KH + LINES - 1;
  int32_t first[4];
  const int32_t length = parts_of(d, pixels, first);
  cursor from = cursor_at(d, line, first, c, pixels, KH, S, LINES);
  pixel_writer to[2];
  __m512i acc[2][5][4], quads[2][4];
#pragma GCC unroll 2
  for (int i = 0; i < LINES; i++) {
    to[i] = writer_at(d, line + i, first, c, pixels);
#pragma GCC unroll 5
    for (int f = 0; f < F; f++)
      for (int q = 0; q < 4; q++) acc[i][f][q] = b->bias[q];
  }
#pragma GCC unroll 4
  for (int m = 0; m < KW - S; m++) {
    column(&from, pixels, rows, quads);
    spread(b, quads, m, KH, KW, S, F, LINES, acc);
  }
  for (int32_t j = 0; j < length; j++) {
#pragma GCC unroll 2
    for (int m = KW - S; m < KW; m++) {
      column(&from, pixels, rows, quads);
      spread(b, quads, m, KH, KW, S, F, LINES, acc);
    }
#pragma GCC unroll 2
    for (int i = 0; i < LINES; i++) emit(b, end, &to[i], pixels, F, small, acc[i]);
  }
}

/* The next line sees the same rows of three, one further down. */
static int is_pair(const ez_depthwise_s8_args *d, int32_t line) {
  if (line + 1 >= d->lines) return 0;
  const uint8_t *const *rows = d->rows + 3 * (size_t)line;
  const size_t *steps = d->steps + 3 * (size_t)line;
  return rows[1] == rows[3] && rows[2] == rows[4] && steps[1] == steps[3] && steps[2] == steps[4];
}

EZ_INLINE void slide(const ez_depthwise_s8_args *d, int32_t c, const int pixels, const int KH, const int KW, const int S, const int small) {
  const int pairs = KH == 3 && S == 1;
  channel_block b;
  gather_block(d, c / 16, 4 / pixels, (KH + 3) / 4 * KW, &b);
  if (pairs) add_lower_line(&b, KW);
  const finisher end = finisher_of(d);
  for (int32_t line = 0; line < d->lines;)
    if (pairs && is_pair(d, line)) {
      slide_lines(d, &b, &end, line, c, pixels, KH, KW, S, 2, small);
      line += 2;
    } else {
      slide_lines(d, &b, &end, line++, c, pixels, KH, KW, S, 1, small);
    }
}

/* Any kernel of at most EZ_DEPTHWISE_MOST_TAPS: the four taps of a group are interleaved anew for every pixel. */
EZ_INLINE void any_line(const ez_depthwise_s8_args *d, const channel_block *b, int32_t c, const int pixels) {
  const int32_t taps = d->kernel_h * d->kernel_w, groups = ez_depthwise_groups(d->kernel_h, d->kernel_w);
  const finisher end = finisher_of(d);
  int32_t at[4];
  const int32_t length = parts_of(d, pixels, at);
  pixel_writer to = writer_at(d, 0, at, c, pixels);
  for (int32_t j = 0; j < length; j++) {
    const uint8_t *seen[4][EZ_DEPTHWISE_MOST_TAPS + 1];
    for (int l = 0; l < pixels; l++) {
      ez_depthwise_s8_taps(d, at[l]++, seen[l]);
      seen[l][taps] = d->outside; /* whatever stands beside a zero weight */
    }
    __m512i acc[4];
    for (int q = 0; q < 4; q++) acc[q] = b->bias[q];
    for (int32_t g = 0; g < groups; g++) {
      __m512i x[4], quads[4];
      for (int i = 0; i < 4; i++) {
        const int32_t tap = ez_depthwise_tap(d->kernel_h, d->kernel_w, g, i);
        const uint8_t *from[4];
        for (int l = 0; l < pixels; l++) from[l] = seen[l][tap < 0 ? taps : tap];
        x[i] = load_lanes(from, c, pixels);
      }
      interleave(x, 4, quads);
      for (int q = 0; q < 4; q++) acc[q] = _mm512_dpbusd_epi32(acc[q], quads[q], b->w[g][q]);
    }
    store_lanes(&to, pixels, finish(&end, b->mult, acc, 0));
  }
}

EZ_INLINE void any(const ez_depthwise_s8_args *d, int32_t c, const int pixels) {
  channel_block b;
  gather_block(d, c / 16, 4 / pixels, ez_depthwise_groups(d->kernel_h, d->kernel_w), &b);
  ez_depthwise_s8_args one = *d;
  for (int32_t i = 0; i < d->lines; i++, one.rows += d->kernel_h, one.steps += d->kernel_h, one.y += d->y_line_stride) any_line(&one, &b, c, pixels);
}

typedef void block_fn(const ez_depthwise_s8_args *, int32_t);
#define INSTANCE(NAME, PIXELS, KH, KW, S)                            \
  static void NAME(const ez_depthwise_s8_args *d, int32_t c) {       \
    if (converts_unclamped(d, c))                                    \
      slide(d, c, PIXELS, KH, KW, S, 1);                             \
    else                                                             \
      slide(d, c, PIXELS, KH, KW, S, 0);                             \
  }
#define SLIDING(KH, KW, S)                     \
  INSTANCE(slide_##KH##KW##S##_1, 1, KH, KW, S) \
  INSTANCE(slide_##KH##KW##S##_2, 2, KH, KW, S) \
  INSTANCE(slide_##KH##KW##S##_4, 4, KH, KW, S)
SLIDING(3, 3, 1)
SLIDING(3, 3, 2)
SLIDING(5, 5, 1)
SLIDING(5, 5, 2)
static void any_1(const ez_depthwise_s8_args *d, int32_t c) { any(d, c, 1); }
static void any_2(const ez_depthwise_s8_args *d, int32_t c) { any(d, c, 2); }
static void any_4(const ez_depthwise_s8_args *d, int32_t c) { any(d, c, 4); }

#define ROW(KH, KW, S) {KH, KW, S, {slide_##KH##KW##S##_1, slide_##KH##KW##S##_2, slide_##KH##KW##S##_4}}
static const struct {
  int32_t kernel_h, kernel_w, stride;
  block_fn *blocks[3]; /* 64, 32, 16 channels */
} sliding[] = {ROW(3, 3, 1), ROW(3, 3, 2), ROW(5, 5, 1), ROW(5, 5, 2)};

static block_fn *const *blocks_for(const ez_depthwise_s8_args *d) {
  static block_fn *const any_blocks[3] = {any_1, any_2, any_4};
  for (size_t i = 0; i < sizeof sliding / sizeof *sliding; i++)
    if (d->kernel_h == sliding[i].kernel_h && d->kernel_w == sliding[i].kernel_w && d->stride == sliding[i].stride && d->dilation == 1)
      return sliding[i].blocks;
  return any_blocks;
}

void ez_avx512vnni_depthwise_s8(const ez_depthwise_s8_args *d) {
  if (d->kernel_h * d->kernel_w > EZ_DEPTHWISE_MOST_TAPS || ez_depthwise_groups(d->kernel_h, d->kernel_w) > MOST_GROUPS) {
    ez_portable_depthwise_s8(d);
    return;
  }
  block_fn *const *blocks = blocks_for(d);
  for (int32_t c = 0; c < d->channels; c += 64) {
    const int32_t left = d->channels - c;
    blocks[left <= 16 ? 2 : left <= 32 ? 1 : 0](d, c);
  }
}
