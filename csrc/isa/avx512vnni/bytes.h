/* 64 activations as four vectors of 16 floats and back, with the pieces that the row kernels of this folder share.
 *
 * Register j holds byte j of each dword: one vpdpbusd widens and centres, and two rounds of packs bring the four bytes of a dword
 * back into one 128-bit lane. Ends of rows are masked, for rows are short: often one pixel of 16 to 96 channels. */
#ifndef EDGEZIP_AVX512VNNI_BYTES_H
#define EDGEZIP_AVX512VNNI_BYTES_H

#include <immintrin.h>

#include "isa/avx512vnni/avx512vnni.h"

/* Masks of the elements that are left, all of them or fewer. */
EZ_INLINE __mmask64 mask_64(size_t left) { return left >= 64 ? ~0ull : (1ull << left) - 1; }
EZ_INLINE __mmask16 mask_16(size_t left) { return (__mmask16)(left >= 16 ? 0xffffu : (1u << left) - 1); }

/* The 16 partial sums of rule 9 added up: lanes at distance 8, 4, 2, 1. */
EZ_INLINE float sum_of_lanes(__m512 sums) {
  const __m256 eight = _mm256_add_ps(_mm512_castps512_ps256(sums), _mm512_extractf32x8_ps(sums, 1));
  const __m128 four = _mm_add_ps(_mm256_castps256_ps128(eight), _mm256_extractf128_ps(eight, 1));
  const __m128 two = _mm_add_ps(four, _mm_movehl_ps(four, four));
  return _mm_cvtss_f32(_mm_add_ss(two, _mm_movehdup_ps(two)));
}

/* Stored <-> excess 128; an XOR with zero for programs of this ISA. */
EZ_INLINE __m512i flip_of(uint32_t act_sign) { return _mm512_set1_epi8((char)(act_sign ^ 0x80)); }

/* What is added to an excess-128 byte to have steps from the zero point. */
EZ_INLINE __m512i minus_zero_point(int32_t zero_point) { return _mm512_set1_epi32(-(zero_point + 128)); }

/* Byte j of each dword of x (excess 128), in steps. */
EZ_INLINE __m512 centred(__m512i x, __m512i minus_zero, const int j) {
  return _mm512_cvtepi32_ps(_mm512_dpbusd_epi32(minus_zero, x, _mm512_set1_epi32(1 << 8 * j)));
}

/* How sums in output steps become stored bytes. */
typedef struct byte_sink {
  __m512 lo, hi;                     /* steps from the zero point */
  __m512i shift, least, most, flip; /* zero point and range, excess 128 */
} byte_sink;

EZ_INLINE byte_sink sink_of(uint32_t act_sign, int32_t zero_point, int32_t lo, int32_t hi) {
  return (byte_sink){_mm512_set1_ps((float)(lo - zero_point)), _mm512_set1_ps((float)(hi - zero_point)),
                     _mm512_set1_epi16((int16_t)(zero_point + 128)), _mm512_set1_epi8((char)(lo + 128)),
                     _mm512_set1_epi8((char)(hi + 128)), flip_of(act_sign)};
}

EZ_INLINE __m512i rounded(__m512 t, const byte_sink *sink) {
  return _mm512_cvtps_epi32(_mm512_min_ps(_mm512_max_ps(t, sink->lo), sink->hi));
}

/* Without the range: saturation keeps it from here on, if no sum leaves int32 (fits_int32). */
EZ_INLINE __m512i nearest(__m512 t) { return _mm512_cvtps_epi32(t); }
EZ_INLINE int fits_int32(float largest) { return largest < 1e9f; }

EZ_INLINE __m512i packed(const __m512i steps[4], const byte_sink *sink) {
  const __m512i words01 = _mm512_adds_epi16(_mm512_packs_epi32(steps[0], steps[1]), sink->shift);
  const __m512i words23 = _mm512_adds_epi16(_mm512_packs_epi32(steps[2], steps[3]), sink->shift);
  return _mm512_min_epu8(_mm512_max_epu8(_mm512_packus_epi16(words01, words23), sink->least), sink->most);
}

/* Rounded steps, register j those of byte j of each dword -> 64 stored bytes. */
EZ_INLINE __m512i stored(const __m512i steps[4], const byte_sink *sink) {
  const __m512i order = _mm512_broadcast_i32x4(_mm_setr_epi8(0, 4, 8, 12, 1, 5, 9, 13, 2, 6, 10, 14, 3, 7, 11, 15));
  return _mm512_xor_si512(_mm512_shuffle_epi8(packed(steps, sink), order), sink->flip);
}

/* The same for four registers of 16 elements in order. */
EZ_INLINE __m512i stored_in_order(const __m512i steps[4], const byte_sink *sink) {
  const __m512i order = _mm512_setr_epi32(0, 4, 8, 12, 1, 5, 9, 13, 2, 6, 10, 14, 3, 7, 11, 15);
  return _mm512_xor_si512(_mm512_permutexvar_epi32(order, packed(steps, sink)), sink->flip);
}

#endif
