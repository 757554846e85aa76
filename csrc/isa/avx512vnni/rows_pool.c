/* Maxima, sums and averages of many rows. */
#include "isa/avx512vnni/bytes.h"
#include "isa/avx512vnni/rows.h"

/* Columns outside, taps inside: the result stays in registers, two of them at once where there are that many. */
#define MAXIMA(larger)                                                                                                    \
  for (size_t p = 0; p < pixels; p++, at += step_x, y += step_y) {                                                        \
    size_t i = 0;                                                                                                         \
    for (; i + 128 <= n; i += 128) {                                                                                      \
      __m512i left = _mm512_loadu_si512(x[0] + at + i), right = _mm512_loadu_si512(x[0] + at + i + 64);                   \
      for (int32_t t = 1; t < taps; t++) {                                                                                \
        left = larger(left, _mm512_loadu_si512(x[t] + at + i));                                                           \
        right = larger(right, _mm512_loadu_si512(x[t] + at + i + 64));                                                    \
      }                                                                                                                   \
      _mm512_storeu_si512(y + i, left);                                                                                   \
      _mm512_storeu_si512(y + i + 64, right);                                                                             \
    }                                                                                                                     \
    for (; i < n; i += 64) {                                                                                              \
      const __mmask64 rest = mask_64(n - i);                                                                              \
      __m512i most = _mm512_maskz_loadu_epi8(rest, x[0] + at + i);                                                        \
      for (int32_t t = 1; t < taps; t++) most = larger(most, _mm512_maskz_loadu_epi8(rest, x[t] + at + i));               \
      _mm512_mask_storeu_epi8(y + i, rest, most);                                                                         \
    }                                                                                                                     \
  }

void ez_avx512vnni_max_s8(const uint8_t *const *x, int32_t taps, uint8_t *y, size_t n, size_t pixels, size_t step_x, size_t step_y,
                          uint32_t act_sign) {
  size_t at = 0;
  if (act_sign) {
    MAXIMA(_mm512_max_epu8)
  } else {
    MAXIMA(_mm512_max_epi8)
  }
}

/* vmaxps gives its second operand when one is not a number: the first of larger_f32, b > a ? b : a. */
void ez_avx512vnni_max_f32(const float *const *x, int32_t taps, float *y, size_t n, size_t pixels, size_t step_x, size_t step_y) {
  for (size_t p = 0, at = 0; p < pixels; p++, at += step_x, y += step_y)
    for (size_t i = 0; i < n; i += 16) {
      const __mmask16 rest = mask_16(n - i);
      __m512 most = _mm512_maskz_loadu_ps(rest, x[0] + at + i);
      for (int32_t t = 1; t < taps; t++) most = _mm512_max_ps(_mm512_maskz_loadu_ps(rest, x[t] + at + i), most);
      _mm512_mask_storeu_ps(y + i, rest, most);
    }
}

/* Two rows at a time, their bytes side by side: vpmaddubsw adds pairs, words hold 128 of such sums. */
#define ROUNDS 128

EZ_INLINE void add_words(int32_t *sums, __mmask16 rest, __m256i words, __m512i minus_zeros) {
  const __m512i wide = _mm512_add_epi32(_mm512_cvtepu16_epi32(words), minus_zeros);
  _mm512_mask_storeu_epi32(sums, rest, _mm512_add_epi32(_mm512_maskz_loadu_epi32(rest, sums), wide));
}

static void sum_block(const uint8_t *const *x, int32_t taps, int32_t *sums, size_t i, size_t n, __m512i flip, int32_t zero) {
  const __mmask64 rest = mask_64(n - i);
  const __m512i ones = _mm512_set1_epi8(1), nothing = _mm512_setzero_si512();
  for (int32_t t = 0; t < taps; t += 2 * ROUNDS) {
    const int32_t end = taps - t < 2 * ROUNDS ? taps : t + 2 * ROUNDS;
    __m512i low = nothing, high = nothing;
    int32_t k = t;
    for (; k + 2 <= end; k += 2) {
      const __m512i a = _mm512_xor_si512(_mm512_maskz_loadu_epi8(rest, x[k] + i), flip);
      const __m512i b = _mm512_xor_si512(_mm512_maskz_loadu_epi8(rest, x[k + 1] + i), flip);
      low = _mm512_add_epi16(low, _mm512_maddubs_epi16(_mm512_unpacklo_epi8(a, b), ones));
      high = _mm512_add_epi16(high, _mm512_maddubs_epi16(_mm512_unpackhi_epi8(a, b), ones));
    }
    if (k < end) {
      const __m512i a = _mm512_xor_si512(_mm512_maskz_loadu_epi8(rest, x[k] + i), flip);
      low = _mm512_add_epi16(low, _mm512_unpacklo_epi8(a, nothing));
      high = _mm512_add_epi16(high, _mm512_unpackhi_epi8(a, nothing));
    }
    /* unpacking works in lanes of 16 bytes: low has elements 0-7, 16-23, 32-39, 48-55 */
    const __m512i order0 = _mm512_setr_epi64(0, 1, 8, 9, 2, 3, 10, 11), order1 = _mm512_setr_epi64(4, 5, 12, 13, 6, 7, 14, 15);
    const __m512i first = _mm512_permutex2var_epi64(low, order0, high), second = _mm512_permutex2var_epi64(low, order1, high);
    const __m512i minus_zeros = _mm512_set1_epi32(-zero * (end - t));
    const size_t left = n - i;
    add_words(sums + i, mask_16(left), _mm512_castsi512_si256(first), minus_zeros);
    if (left > 16) add_words(sums + i + 16, mask_16(left - 16), _mm512_extracti64x4_epi64(first, 1), minus_zeros);
    if (left > 32) add_words(sums + i + 32, mask_16(left - 32), _mm512_castsi512_si256(second), minus_zeros);
    if (left > 48) add_words(sums + i + 48, mask_16(left - 48), _mm512_extracti64x4_epi64(second, 1), minus_zeros);
  }
}

void ez_avx512vnni_sum_s8(const uint8_t *const *x, int32_t taps, int32_t *sums, size_t n, uint32_t act_sign, int32_t zx) {
  for (size_t i = 0; i < n; i += 64) sum_block(x, taps, sums, i, n, flip_of(act_sign), zx + 128);
}

void ez_avx512vnni_scale_s32(const int32_t *sums, uint8_t *y, size_t n, uint32_t act_sign, float count, float m, int32_t zy, int32_t lo,
                             int32_t hi) {
  const byte_sink sink = sink_of(act_sign, zy, lo, hi);
  const __m512 wide_count = _mm512_set1_ps(count), wide_m = _mm512_set1_ps(m);
  for (size_t i = 0; i < n; i += 16) {
    const __mmask16 rest = mask_16(n - i);
    const __m512 mean = _mm512_div_ps(_mm512_cvtepi32_ps(_mm512_maskz_loadu_epi32(rest, sums + i)), wide_count);
    const __m512i bytes = _mm512_add_epi32(rounded(_mm512_mul_ps(mean, wide_m), &sink), _mm512_set1_epi32(zy + 128));
    _mm_mask_storeu_epi8(y + i, rest, _mm_xor_si128(_mm512_cvtepi32_epi8(bytes), _mm512_castsi512_si128(sink.flip)));
  }
}
