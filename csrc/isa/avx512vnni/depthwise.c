/* Depthwise, 64 channels at a time.
 *
 * Four taps of 64 channels are interleaved by two rounds of byte and word unpacks, so that each dword holds the four taps of
 * one channel: then one vpdpbusd does 64 products. Unpacks work inside 128-bit lanes, so quarter q of the result holds channels
 * 4q..4q+3 of each lane; weights, bias and multipliers are brought into that order once per block of 64 channels, and the packs
 * of the epilogue undo it for free. Bound by the 8 unpacks a tap group (port 5). */
#include <string.h>

#include "isa/avx512vnni/avx512vnni.h"
#include "isa/portable/portable.h"

#define MAX_GROUPS 16 /* 64 taps: an 8x8 kernel; larger ones go to portable C */

typedef struct ez_channel_block {
  __m512i w[MAX_GROUPS][4];
  __m512i bias[4];
  __m512 mult[4];
} ez_channel_block;

/* Lane `lane` of quarter q: 4 channels, from panel c0/16 + lane; absent panels are zero. */
static void gather_block(const ez_depthwise_s8_args *d, int32_t c0, int32_t groups, ez_channel_block *out) {
  const int32_t panels = (d->channels + 15) / 16;
  memset(out->bias, 0, sizeof out->bias);
  memset(out->mult, 0, sizeof out->mult);
  memset(out->w, 0, (size_t)groups * sizeof out->w[0]);
  for (int32_t lane = 0; lane < 4 && c0 / 16 + lane < panels; lane++) {
    const int32_t panel = c0 / 16 + lane;
    for (int q = 0; q < 4; q++) {
      memcpy((char *)&out->bias[q] + 16 * lane, d->bias + 16 * panel + 4 * q, 16);
      memcpy((char *)&out->mult[q] + 16 * lane, d->mult + 16 * panel + 4 * q, 16);
      for (int32_t g = 0; g < groups; g++) memcpy((char *)&out->w[g][q] + 16 * lane, d->w + ((size_t)panel * groups + g) * 64 + 16 * q, 16);
    }
  }
}

EZ_INLINE void pixel(const ez_channel_block *b, const uint8_t *const *a, int32_t c0, const int groups, int32_t taps, __m512i acc[4]) {
  for (int q = 0; q < 4; q++) acc[q] = b->bias[q];
  for (int g = 0; g < groups; g++) {
    __m512i x[4];
    for (int i = 0; i < 4; i++) { /* a tap past the end has zero weights: any readable bytes do */
      const int32_t tap = 4 * g + i < taps ? 4 * g + i : 0;
      x[i] = _mm512_loadu_si512(a[tap] + c0);
    }
    const __m512i low01 = _mm512_unpacklo_epi8(x[0], x[1]), high01 = _mm512_unpackhi_epi8(x[0], x[1]);
    const __m512i low23 = _mm512_unpacklo_epi8(x[2], x[3]), high23 = _mm512_unpackhi_epi8(x[2], x[3]);
    acc[0] = _mm512_dpbusd_epi32(acc[0], _mm512_unpacklo_epi16(low01, low23), b->w[g][0]);
    acc[1] = _mm512_dpbusd_epi32(acc[1], _mm512_unpackhi_epi16(low01, low23), b->w[g][1]);
    acc[2] = _mm512_dpbusd_epi32(acc[2], _mm512_unpacklo_epi16(high01, high23), b->w[g][2]);
    acc[3] = _mm512_dpbusd_epi32(acc[3], _mm512_unpackhi_epi16(high01, high23), b->w[g][3]);
  }
}

EZ_INLINE void block(const ez_depthwise_s8_args *d, int32_t c0, const int groups, int32_t taps) {
  ez_channel_block b;
  gather_block(d, c0, groups, &b);
  const __m512 lo = _mm512_set1_ps((float)(d->lo - d->zero_point)), hi = _mm512_set1_ps((float)(d->hi - d->zero_point));
  const __m512i zero_point = _mm512_set1_epi32(d->zero_point), sign = _mm512_set1_epi8((char)0x80);
  const int32_t left = d->channels - c0;
  const __mmask64 mask = left >= 64 ? ~0ull : (1ull << left) - 1;
  for (int32_t p = 0; p < d->pixels; p++) {
    __m512i acc[4];
    pixel(&b, d->a + (size_t)p * taps, c0, groups, taps, acc);
    for (int q = 0; q < 4; q++) {
      __m512 t = _mm512_mul_ps(_mm512_cvtepi32_ps(acc[q]), b.mult[q]);
      t = _mm512_min_ps(_mm512_max_ps(t, lo), hi);
      acc[q] = _mm512_add_epi32(_mm512_cvtps_epi32(t), zero_point);
    }
    const __m512i words01 = _mm512_packs_epi32(acc[0], acc[1]), words23 = _mm512_packs_epi32(acc[2], acc[3]);
    const __m512i bytes = _mm512_xor_si512(_mm512_packs_epi16(words01, words23), sign);
    _mm512_mask_storeu_epi8(d->y + (size_t)p * d->y_stride + c0, mask, bytes);
  }
}

void ez_avx512vnni_depthwise_s8(const ez_depthwise_s8_args *d) {
  const int32_t groups = (d->taps + 3) / 4;
  if (groups > MAX_GROUPS) {
    ez_portable_depthwise_s8(d);
    return;
  }
  for (int32_t c0 = 0; c0 < d->channels; c0 += 64) {
    if (d->taps == 9)
      block(d, c0, 3, 9);
    else if (d->taps == 25)
      block(d, c0, 7, 25);
    else
      block(d, c0, groups, d->taps);
  }
}

void ez_avx512vnni_depthwise_f32(const ez_depthwise_f32_args *d) {
  const __m512 lo = _mm512_set1_ps(d->lo), hi = _mm512_set1_ps(d->hi);
  for (int32_t c = 0; c < d->channels; c += 16) {
    const float *w = d->w + (size_t)c * d->taps;
    const int32_t left = d->channels - c;
    const __mmask16 mask = left >= 16 ? 0xffff : (__mmask16)((1u << left) - 1);
    const __m512 bias = _mm512_loadu_ps(d->bias + c);
    for (int32_t p = 0; p < d->pixels; p++) {
      const float *const *a = d->a + (size_t)p * d->taps;
      __m512 acc = _mm512_setzero_ps();
      for (int32_t t = 0; t < d->taps; t++) acc = _mm512_fmadd_ps(_mm512_maskz_loadu_ps(mask, a[t] + c), _mm512_loadu_ps(w + 16 * t), acc);
      const __m512 y = _mm512_min_ps(_mm512_max_ps(_mm512_add_ps(acc, bias), lo), hi);
      _mm512_mask_storeu_ps(d->y + (size_t)p * d->y_stride + c, mask, y);
    }
  }
}
