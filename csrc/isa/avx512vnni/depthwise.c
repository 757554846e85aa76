/* Depthwise, four lanes of 16 channels at a time: 64 channels of one pixel, 32 of two, or 16 of four.
 *
 * Four taps are interleaved by two rounds of byte and word unpacks, so that each dword holds the four taps of one channel: then
 * one vpdpbusd does 64 products. Unpacks work inside 128-bit lanes, so quarter q of the result holds channels 4q..4q+3 of each
 * lane; weights, bias and multipliers are brought into that order once per block of channels, and the packs of the epilogue undo
 * it for free. Bound by the 8 unpacks a tap group (port 5). Fused with requantisation, pointers included: 3x3 56x56x128 80-89 GOPS,
 * 14x14x512 85-104, 5x5 14x14x672 120-150, 3x3 112x112x32 54 (Sapphire Rapids VM, one core, 2026-11-24). */
#include <string.h>

#include "isa/avx512vnni/avx512vnni.h"
#include "isa/portable/portable.h"

#define MAX_GROUPS 16 /* 64 taps: an 8x8 kernel; larger ones go to portable C */

typedef struct channel_block {
  __m512i w[MAX_GROUPS][4];
  __m512i bias[4];
  __m512 mult[4];
} channel_block;

/* Lane l of quarter q: 4 channels of panel `panel + l % panels`; a panel that does not exist is zero. */
EZ_INLINE void gather_block(const ez_depthwise_s8_args *d, int32_t panel, const int panels, int32_t groups, channel_block *out) {
  const int32_t all = (d->channels + 15) / 16;
  memset(out->bias, 0, sizeof out->bias);
  memset(out->mult, 0, sizeof out->mult);
  memset(out->w, 0, (size_t)groups * sizeof out->w[0]);
  for (int lane = 0; lane < 4; lane++) {
    const int32_t from = panel + lane % panels;
    if (from >= all) continue;
    for (int q = 0; q < 4; q++) {
      memcpy((char *)&out->bias[q] + 16 * lane, d->bias + 16 * from + 4 * q, 16);
      memcpy((char *)&out->mult[q] + 16 * lane, d->mult + 16 * from + 4 * q, 16);
      for (int32_t g = 0; g < groups; g++)
        memcpy((char *)&out->w[g][q] + 16 * lane, d->w + ((size_t)from * (size_t)groups + (size_t)g) * 64 + 16 * q, 16);
    }
  }
}

/* One tap of `pixels` pixels side by side; a[i] points to pixel i's taps. */
EZ_INLINE __m512i load_lanes(const uint8_t *const *const a[4], int32_t tap, int32_t c, const int pixels) {
  if (pixels == 1) return _mm512_loadu_si512(a[0][tap] + c);
  if (pixels == 2)
    return _mm512_inserti64x4(_mm512_castsi256_si512(_mm256_loadu_si256((const __m256i *)(a[0][tap] + c))),
                              _mm256_loadu_si256((const __m256i *)(a[1][tap] + c)), 1);
  __m512i x = _mm512_castsi128_si512(_mm_loadu_si128((const __m128i *)(a[0][tap] + c)));
  x = _mm512_inserti32x4(x, _mm_loadu_si128((const __m128i *)(a[1][tap] + c)), 1);
  x = _mm512_inserti32x4(x, _mm_loadu_si128((const __m128i *)(a[2][tap] + c)), 2);
  return _mm512_inserti32x4(x, _mm_loadu_si128((const __m128i *)(a[3][tap] + c)), 3);
}

EZ_INLINE void accumulate(const channel_block *b, const uint8_t *const *const a[4], int32_t c, const int pixels, const int groups,
                          int32_t taps, __m512i acc[4]) {
  for (int q = 0; q < 4; q++) acc[q] = b->bias[q];
  for (int g = 0; g < groups; g++) {
    __m512i x[4];
    for (int i = 0; i < 4; i++) /* a tap past the end has zero weights: any readable bytes do */
      x[i] = load_lanes(a, 4 * g + i < taps ? 4 * g + i : 4 * g, c, pixels);
    const __m512i low01 = _mm512_unpacklo_epi8(x[0], x[1]), high01 = _mm512_unpackhi_epi8(x[0], x[1]);
    const __m512i low23 = _mm512_unpacklo_epi8(x[2], x[3]), high23 = _mm512_unpackhi_epi8(x[2], x[3]);
    acc[0] = _mm512_dpbusd_epi32(acc[0], _mm512_unpacklo_epi16(low01, low23), b->w[g][0]);
    acc[1] = _mm512_dpbusd_epi32(acc[1], _mm512_unpackhi_epi16(low01, low23), b->w[g][1]);
    acc[2] = _mm512_dpbusd_epi32(acc[2], _mm512_unpacklo_epi16(high01, high23), b->w[g][2]);
    acc[3] = _mm512_dpbusd_epi32(acc[3], _mm512_unpackhi_epi16(high01, high23), b->w[g][3]);
  }
}

EZ_INLINE void store_lanes(const ez_depthwise_s8_args *d, int32_t pixel, int32_t c, const int pixels, __m512i bytes) {
  const int32_t left = d->channels - c;
  uint8_t *y = d->y + (size_t)pixel * d->y_stride + c;
  if (pixels == 1) {
    _mm512_mask_storeu_epi8(y, left >= 64 ? ~0ull : (1ull << left) - 1, bytes);
  } else if (pixels == 2) {
    const __mmask32 mask = left >= 32 ? ~0u : (1u << left) - 1;
    _mm256_mask_storeu_epi8(y, mask, _mm512_castsi512_si256(bytes));
    if (pixel + 1 < d->pixels) _mm256_mask_storeu_epi8(y + d->y_stride, mask, _mm512_extracti64x4_epi64(bytes, 1));
  } else {
    const __mmask16 mask = left >= 16 ? 0xffff : (__mmask16)((1u << left) - 1);
    _mm_mask_storeu_epi8(y, mask, _mm512_castsi512_si128(bytes));
    if (pixel + 1 < d->pixels) _mm_mask_storeu_epi8(y + d->y_stride, mask, _mm512_extracti32x4_epi32(bytes, 1));
    if (pixel + 2 < d->pixels) _mm_mask_storeu_epi8(y + 2 * d->y_stride, mask, _mm512_extracti32x4_epi32(bytes, 2));
    if (pixel + 3 < d->pixels) _mm_mask_storeu_epi8(y + 3 * d->y_stride, mask, _mm512_extracti32x4_epi32(bytes, 3));
  }
}

EZ_INLINE void block(const ez_depthwise_s8_args *d, int32_t c, const int pixels, const int groups, int32_t taps) {
  channel_block b;
  gather_block(d, c / 16, 4 / pixels, groups, &b);
  const __m512 lo = _mm512_set1_ps((float)(d->lo - d->zero_point)), hi = _mm512_set1_ps((float)(d->hi - d->zero_point));
  const __m512i shift = _mm512_set1_epi16((int16_t)(d->zero_point + 128)); /* steps -> stored byte */
  for (int32_t p = 0; p < d->pixels; p += pixels) {
    const uint8_t *const *a[4];
    for (int i = 0; i < pixels; i++) a[i] = d->a + (size_t)(p + i < d->pixels ? p + i : p) * (size_t)taps;
    __m512i acc[4];
    accumulate(&b, a, c, pixels, groups, taps, acc);
    for (int q = 0; q < 4; q++) {
      const __m512 t = _mm512_mul_ps(_mm512_cvtepi32_ps(acc[q]), b.mult[q]);
      acc[q] = _mm512_cvtps_epi32(_mm512_min_ps(_mm512_max_ps(t, lo), hi));
    }
    const __m512i words01 = _mm512_add_epi16(_mm512_packs_epi32(acc[0], acc[1]), shift);
    const __m512i words23 = _mm512_add_epi16(_mm512_packs_epi32(acc[2], acc[3]), shift);
    store_lanes(d, p, c, pixels, _mm512_packus_epi16(words01, words23));
  }
}

#define INSTANCES(NAME, GROUPS, TAPS)                                                                                \
  static void NAME##_1(const ez_depthwise_s8_args *d, int32_t c) { block(d, c, 1, GROUPS, TAPS); }                   \
  static void NAME##_2(const ez_depthwise_s8_args *d, int32_t c) { block(d, c, 2, GROUPS, TAPS); }                   \
  static void NAME##_4(const ez_depthwise_s8_args *d, int32_t c) { block(d, c, 4, GROUPS, TAPS); }
INSTANCES(taps_9, 3, 9)
INSTANCES(taps_25, 7, 25)
INSTANCES(taps_any, (d->taps + 3) / 4, d->taps)

void ez_avx512vnni_depthwise_s8(const ez_depthwise_s8_args *d) {
  if (d->taps > 4 * MAX_GROUPS) {
    ez_portable_depthwise_s8(d);
    return;
  }
  static void (*const blocks[3][3])(const ez_depthwise_s8_args *, int32_t) = {
      {taps_9_1, taps_9_2, taps_9_4}, {taps_25_1, taps_25_2, taps_25_4}, {taps_any_1, taps_any_2, taps_any_4}};
  void (*const *const of_taps)(const ez_depthwise_s8_args *, int32_t) = blocks[d->taps == 9 ? 0 : d->taps == 25 ? 1 : 2];
  for (int32_t c = 0; c < d->channels; c += 64) {
    const int32_t left = d->channels - c;
    of_taps[left <= 16 ? 2 : left <= 32 ? 1 : 0](d, c);
  }
}

void ez_avx512vnni_depthwise_f32(const ez_depthwise_f32_args *d) {
  const __m512 lo = _mm512_set1_ps(d->lo), hi = _mm512_set1_ps(d->hi);
  for (int32_t c = 0; c < d->channels; c += 16) {
    const float *w = d->w + (size_t)c * (size_t)d->taps;
    const int32_t left = d->channels - c;
    const __mmask16 mask = left >= 16 ? 0xffff : (__mmask16)((1u << left) - 1);
    const __m512 bias = _mm512_loadu_ps(d->bias + c);
    for (int32_t p = 0; p < d->pixels; p++) {
      const float *const *a = d->a + (size_t)p * (size_t)d->taps;
      __m512 acc = _mm512_setzero_ps();
      for (int32_t t = 0; t < d->taps; t++)
        acc = _mm512_fmadd_ps(_mm512_maskz_loadu_ps(mask, a[t] + c), _mm512_loadu_ps(w + 16 * t), acc);
      const __m512 y = _mm512_min_ps(_mm512_max_ps(_mm512_add_ps(acc, bias), lo), hi);
      _mm512_mask_storeu_ps(d->y + (size_t)p * d->y_stride + c, mask, y);
    }
  }
}
