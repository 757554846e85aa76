/* Low-bit products on AVX2. A 4-byte group of activations is broadcast to the columns; nibbles are split by shift and mask.
 *
 * Uniform codes are multiplied as they are (vpmaddubsw of at most 15 by 127: eight steps fit 16 bits) and the offset is taken off by the
 * sum of the activations. Codebooks go through vpshufb; |a| times the entry with the sign of a is at most 2 * 127 * 127, which fits. */
#include <immintrin.h>

#define CODES(name) name
#include "isa/avx2/avx2.h"
#include "isa/codes.inc"

#define INLINE static inline __attribute__((always_inline))
enum {
  CHUNK = 32,  /* elements of K that sums of 16 bits hold */
  AHEAD = 2048 /* bytes that codes are asked for before they are used */
};

INLINE __m256i load(const void *at) { return _mm256_loadu_si256((const __m256i *)at); }
INLINE __m256i four(const int8_t *a) {
  int32_t bytes;
  memcpy(&bytes, a, sizeof bytes);
  return _mm256_set1_epi32(bytes);
}
INLINE __m256 scales_of(const uint8_t *at) {
  const __m256i bits = _mm256_slli_epi32(_mm256_cvtepu16_epi32(_mm_loadu_si128((const __m128i *)(const void *)at)), 13);
  return _mm256_mul_ps(_mm256_castsi256_ps(bits), _mm256_set1_ps(0x1p112f));
}
INLINE __m256i plane_of(__m256i packed, int bits, int plane) {
  return _mm256_and_si256(_mm256_srli_epi16(packed, bits * plane), _mm256_set1_epi8((char)((1 << bits) - 1)));
}

/* acc (rows, 2) += the products of CHUNK elements with 16 columns. */
INLINE void add_uniform(const uint8_t *codes, const int8_t *a, size_t a_stride, int rows, int bits, __m256i acc[][2]) {
  const int planes = 8 / bits, steps = CHUNK / 4 / planes;
  const __m256i ones = _mm256_set1_epi16(1);
  __m256i narrow[EZ_CODES_ROWS][2];
  for (int r = 0; r < rows; r++) narrow[r][0] = narrow[r][1] = _mm256_setzero_si256();
#pragma GCC unroll 4
  for (int t = 0; t < steps; t++) {
    const __m256i packed[2] = {load(codes + 64 * t), load(codes + 64 * t + 32)};
#pragma GCC unroll 4
    for (int plane = 0; plane < planes; plane++) {
      const __m256i w[2] = {plane_of(packed[0], bits, plane), plane_of(packed[1], bits, plane)};
#pragma GCC unroll 4
      for (int r = 0; r < rows; r++) {
        const __m256i x = four(a + (size_t)r * a_stride + 4 * (t * planes + plane));
        for (int i = 0; i < 2; i++) narrow[r][i] = _mm256_add_epi16(narrow[r][i], _mm256_maddubs_epi16(w[i], x));
      }
    }
  }
  for (int r = 0; r < rows; r++)
    for (int i = 0; i < 2; i++) acc[r][i] = _mm256_add_epi32(acc[r][i], _mm256_madd_epi16(narrow[r][i], ones));
}

INLINE void add_codebook(const uint8_t *codes, __m256i table, const int8_t *a, size_t a_stride, int rows, int bits, __m256i acc[][2]) {
  const int planes = 8 / bits, steps = CHUNK / 4 / planes;
  const __m256i ones = _mm256_set1_epi16(1);
#pragma GCC unroll 4
  for (int t = 0; t < steps; t++) {
    const __m256i packed[2] = {load(codes + 64 * t), load(codes + 64 * t + 32)};
#pragma GCC unroll 4
    for (int plane = 0; plane < planes; plane++) {
      const __m256i w[2] = {_mm256_shuffle_epi8(table, plane_of(packed[0], bits, plane)), _mm256_shuffle_epi8(table, plane_of(packed[1], bits, plane))};
#pragma GCC unroll 4
      for (int r = 0; r < rows; r++) {
        const __m256i x = four(a + (size_t)r * a_stride + 4 * (t * planes + plane)), size = _mm256_abs_epi8(x);
        for (int i = 0; i < 2; i++) {
          const __m256i pairs = _mm256_maddubs_epi16(size, _mm256_sign_epi8(w[i], x));
          acc[r][i] = _mm256_add_epi32(acc[r][i], _mm256_madd_epi16(pairs, ones));
        }
      }
    }
  }
}

INLINE void panel(const ez_codes_args *args, int32_t p, int rows, int bits, int is_uniform) {
  const int32_t block = args->form.block;
  const __m256i table = _mm256_broadcastsi128_si256(_mm_loadu_si128((const __m128i *)(const void *)args->form.table));
  const uint8_t *w = args->w + (size_t)p * args->panel_bytes;
  const int8_t *a = args->a;
  __m256 sum[EZ_CODES_ROWS][2];
  for (int r = 0; r < rows; r++) sum[r][0] = sum[r][1] = _mm256_setzero_ps();
  for (int32_t g = 0; g < args->blocks; g++) {
    const uint8_t *codes = w + EZ_CODES_SCALE_BYTES;
    __m256i acc[EZ_CODES_ROWS][2];
    for (int r = 0; r < rows; r++)
      acc[r][0] = acc[r][1] = is_uniform ? _mm256_set1_epi32(-args->form.offset * args->sums[r * args->blocks + g]) : _mm256_setzero_si256();
    for (int32_t k = 0; k < block; k += CHUNK, codes += 2 * CHUNK * bits, a += CHUNK) {
      for (int at = 0; at < 2 * CHUNK * bits; at += 64) _mm_prefetch((const char *)codes + AHEAD + at, _MM_HINT_T0);
      if (is_uniform) add_uniform(codes, a, args->a_stride, rows, bits, acc);
      else add_codebook(codes, table, a, args->a_stride, rows, bits, acc);
    }
    for (int i = 0; i < 2; i++) {
      const __m256 scale = scales_of(w + 16 * i);
      for (int r = 0; r < rows; r++) sum[r][i] = _mm256_fmadd_ps(_mm256_cvtepi32_ps(acc[r][i]), scale, sum[r][i]);
    }
    w = codes;
  }
  for (int r = 0; r < rows; r++) {
    float all[16];
    _mm256_storeu_ps(all, sum[r][0]), _mm256_storeu_ps(all + 8, sum[r][1]);
    finish(all, args->row_scale[r], args->mult + 16 * p, args->addend + 16 * p, args->y + (size_t)r * args->y_stride + 16 * (size_t)p, columns_left(args, p));
  }
}

#define GEMV(rows, bits, uniform) \
  static void gemv_##rows##_##bits##_##uniform(const ez_codes_args *args) { \
    for (int32_t p = 0; 16 * p < args->columns; p++) panel(args, p, rows, bits, uniform); \
  }
#define GEMVS(bits, uniform) GEMV(1, bits, uniform) GEMV(2, bits, uniform) GEMV(3, bits, uniform) GEMV(4, bits, uniform)
GEMVS(4, 0) GEMVS(4, 1) GEMVS(2, 0) GEMVS(2, 1)
#define LIST(bits, uniform) {gemv_1_##bits##_##uniform, gemv_2_##bits##_##uniform, gemv_3_##bits##_##uniform, gemv_4_##bits##_##uniform}

static void gemv(const ez_codes_args *args) {
  static void (*const all[2][2][EZ_CODES_ROWS])(const ez_codes_args *) = {{LIST(2, 0), LIST(2, 1)}, {LIST(4, 0), LIST(4, 1)}};
  all[args->form.bits == 4][args->form.is_uniform != 0][args->rows - 1](args);
}

static void decode(const ez_codes_form *form, const uint8_t *codes, uint32_t layout, int8_t *out, int32_t sums[16]) {
  (void)layout; /* K4N16, the only one of x86 */
  const int planes = 8 / form->bits;
  const __m256i table = _mm256_broadcastsi128_si256(_mm_loadu_si128((const __m128i *)(const void *)form->table));
  const __m256i mask = _mm256_set1_epi8((char)((1 << form->bits) - 1)), ones = _mm256_set1_epi8(1), wide = _mm256_set1_epi16(1);
  __m256i acc[2] = {_mm256_setzero_si256(), _mm256_setzero_si256()};
  for (int32_t k = 0; k < form->block; k += 4 * planes, codes += 64)
    for (int plane = 0; plane < planes; plane++)
      for (int i = 0; i < 2; i++, out += 32) {
        const __m256i index = _mm256_and_si256(_mm256_srl_epi16(load(codes + 32 * i), _mm_cvtsi32_si128(form->bits * plane)), mask);
        const __m256i w = _mm256_shuffle_epi8(table, index);
        _mm256_storeu_si256((__m256i *)(void *)out, w);
        acc[i] = _mm256_add_epi32(acc[i], _mm256_madd_epi16(_mm256_maddubs_epi16(ones, w), wide));
      }
  for (int i = 0; i < 2; i++) _mm256_storeu_si256((__m256i *)(void *)(sums + 8 * i), acc[i]);
}

const ez_codes_kernels ez_avx2_codes = {.name = "avx2", .most_uniform = 96, .most_codebook = 96, .gemv = gemv, .decode = decode, .add_block = add_block};
