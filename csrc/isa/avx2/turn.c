/* Matrices turned in blocks that fit the registers. A last block that would stick out is laid over its neighbour: what both hold
 * is written twice, with the same values. */
#include <immintrin.h>

#include "isa/avx2/rows.h"
#include "isa/turn.h"

/* 16 x 16 bytes. Four rounds of riffling rows i and i + 8: the bits of the element index rotate by one each time. */
static void turn_16x16(const uint8_t *in, size_t in_step, uint8_t *out, size_t out_step) {
  __m128i a[16], b[16];
  for (size_t r = 0; r < 16; r++) a[r] = _mm_loadu_si128((const __m128i *)(const void *)(in + r * in_step));
#pragma GCC unroll 2
  for (int twice = 0; twice < 2; twice++) {
#pragma GCC unroll 8
    for (int r = 0; r < 8; r++) b[2 * r] = _mm_unpacklo_epi8(a[r], a[r + 8]), b[2 * r + 1] = _mm_unpackhi_epi8(a[r], a[r + 8]);
#pragma GCC unroll 8
    for (int r = 0; r < 8; r++) a[2 * r] = _mm_unpacklo_epi8(b[r], b[r + 8]), a[2 * r + 1] = _mm_unpackhi_epi8(b[r], b[r + 8]);
  }
  for (size_t r = 0; r < 16; r++) _mm_storeu_si128((__m128i *)(void *)(out + r * out_step), a[r]);
}

/* Start of the next block of `edge`, moved back where it would stick out of `size`. */
static size_t held(size_t at, size_t edge, size_t size) { return at + edge <= size ? at : size - edge; }

void ez_avx2_turn_8(const uint8_t *in, size_t in_step, uint8_t *out, size_t out_step, size_t rows, size_t columns) {
  if (rows < 16 || columns < 16) {
    ez_turn_bytes(in, in_step, out, out_step, rows, columns);
    return;
  }
  for (size_t r = 0; r < rows; r += 16)
    for (size_t c = 0; c < columns; c += 16) {
      const size_t row = held(r, 16, rows), column = held(c, 16, columns);
      turn_16x16(in + row * in_step + column, in_step, out + column * out_step + row, out_step);
    }
}

/* 8 x 8 words: pairs, then quads, then halves change places. */
static void turn_8x8(const float *in, size_t in_step, float *out, size_t out_step) {
  __m256 a[8], b[8];
  for (size_t r = 0; r < 8; r++) a[r] = _mm256_loadu_ps(in + r * in_step);
#pragma GCC unroll 4
  for (int r = 0; r < 8; r += 2) b[r] = _mm256_unpacklo_ps(a[r], a[r + 1]), b[r + 1] = _mm256_unpackhi_ps(a[r], a[r + 1]);
#pragma GCC unroll 2
  for (int r = 0; r < 8; r += 4) {
    a[r] = _mm256_shuffle_ps(b[r], b[r + 2], 0x44), a[r + 1] = _mm256_shuffle_ps(b[r], b[r + 2], 0xee);
    a[r + 2] = _mm256_shuffle_ps(b[r + 1], b[r + 3], 0x44), a[r + 3] = _mm256_shuffle_ps(b[r + 1], b[r + 3], 0xee);
  }
  for (size_t r = 0; r < 4; r++) {
    _mm256_storeu_ps(out + r * out_step, _mm256_permute2f128_ps(a[r], a[r + 4], 0x20));
    _mm256_storeu_ps(out + (r + 4) * out_step, _mm256_permute2f128_ps(a[r], a[r + 4], 0x31));
  }
}

void ez_avx2_turn_32(const void *in, size_t in_step, void *out, size_t out_step, size_t rows, size_t columns) {
  if (rows < 8 || columns < 8) {
    ez_turn_words(in, in_step, out, out_step, rows, columns);
    return;
  }
  for (size_t r = 0; r < rows; r += 8)
    for (size_t c = 0; c < columns; c += 8) {
      const size_t row = held(r, 8, rows), column = held(c, 8, columns);
      turn_8x8((const float *)in + row * in_step + column, in_step, (float *)out + column * out_step + row, out_step);
    }
}
