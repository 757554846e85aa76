/* Row kernels by hand: the residual add. */
#include "isa/avx512vnni/avx512vnni.h"

/* Byte j of each dword, minus z: one vpdpbusd widens and centres. */
EZ_INLINE __m512 centred_bytes(__m512i x, __m512i minus_z, const int j) {
  return _mm512_cvtepi32_ps(_mm512_dpbusd_epi32(minus_z, x, _mm512_set1_epi32(1 << 8 * j)));
}

typedef struct add_constants {
  __m512i flip, za, zb, shift, order;
  __m512 ma, mb, lo, hi;
} add_constants;

/* 64 sums. Register j holds byte j of each dword, so two rounds of packs bring the four bytes of a dword into one 128-bit lane
 * and a byte shuffle puts them in order. */
EZ_INLINE __m512i add_64(__m512i a, __m512i b, const add_constants *c) {
  __m512i steps[4];
  a = _mm512_xor_si512(a, c->flip);
  b = _mm512_xor_si512(b, c->flip);
#pragma GCC unroll 4
  for (int j = 0; j < 4; j++) {
    const __m512 t = _mm512_add_ps(_mm512_mul_ps(centred_bytes(a, c->za, j), c->ma), _mm512_mul_ps(centred_bytes(b, c->zb, j), c->mb));
    steps[j] = _mm512_cvtps_epi32(_mm512_min_ps(_mm512_max_ps(t, c->lo), c->hi));
  }
  const __m512i words01 = _mm512_add_epi16(_mm512_packs_epi32(steps[0], steps[1]), c->shift);
  const __m512i words23 = _mm512_add_epi16(_mm512_packs_epi32(steps[2], steps[3]), c->shift);
  return _mm512_xor_si512(_mm512_shuffle_epi8(_mm512_packus_epi16(words01, words23), c->order), c->flip);
}

static void add_s8(const uint8_t *a, const uint8_t *b, uint8_t *y, size_t n, uint32_t act_sign, int32_t za, int32_t zb, float ma,
                   float mb, int32_t zy, int32_t lo, int32_t hi) {
  const add_constants c = {
      .flip = _mm512_set1_epi8((char)(act_sign ^ 0x80)),
      .za = _mm512_set1_epi32(-(za + 128)),
      .zb = _mm512_set1_epi32(-(zb + 128)),
      .shift = _mm512_set1_epi16((int16_t)(zy + 128)),
      .order = _mm512_broadcast_i32x4(_mm_setr_epi8(0, 4, 8, 12, 1, 5, 9, 13, 2, 6, 10, 14, 3, 7, 11, 15)),
      .ma = _mm512_set1_ps(ma), .mb = _mm512_set1_ps(mb),
      .lo = _mm512_set1_ps((float)(lo - zy)), .hi = _mm512_set1_ps((float)(hi - zy)),
  };
  size_t i = 0;
  for (; i + 64 <= n; i += 64) _mm512_storeu_si512(y + i, add_64(_mm512_loadu_si512(a + i), _mm512_loadu_si512(b + i), &c));
  if (i < n) {
    const __mmask64 rest = (1ull << (n - i)) - 1;
    _mm512_mask_storeu_epi8(y + i, rest, add_64(_mm512_maskz_loadu_epi8(rest, a + i), _mm512_maskz_loadu_epi8(rest, b + i), &c));
  }
}

extern const ez_rows ez_rows_avx512vnni_by_hand;
const ez_rows ez_rows_avx512vnni_by_hand = {.add_s8 = add_s8};
