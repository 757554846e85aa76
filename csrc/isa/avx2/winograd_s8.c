/* int8 3x3 convolution by Winograd's F(2x2, 3x3) (Lavin and Gray, arXiv 1509.09308, equation 8), exact.
 *
 * Y = A' [(G g G') * (B' d B)] A, with 2 G in place of G, so that all is in integers and Y is four times the sum. Inputs reach
 * 4 * 255 and weights 9 * 127, so both are words and vpmaddwd multiplies them; what it adds up may wrap, but Y is right modulo 2^32,
 * and four times a sum of at most 9 * 1024 products of 255 * 127 fits 32 bits with a sign. The bias is added afterwards.
 *
 * A panel's weights are transformed at each call: as much work as 1.4 tiles. */
#include "isa/avx2/requant.h"
#include "isa/avx2/wide.h"

#define PLACES 16 /* products of a tile: (row, column) of 4 x 4 */
#define NEAR 24   /* tiles whose sums wait in the first-level cache */

/* Where things lie in scratch. Places are no power of two apart, or the 16 of a tile would share a few sets of the cache. */
typedef struct areas {
  uint8_t *inputs;     /* (place, tile): words (x0, x2) of each step of 4 channels, then (x1, x3) */
  size_t pitch, place; /* bytes from tile to tile, from place to place */
  __m256i (*weights)[4]; /* (place, step) as ez_add_wide reads them */
  size_t weights_place;  /* steps from place to place */
  int32_t (*sums)[NEAR][16];
} areas;

static size_t half_pitch(int32_t channels) { return ((size_t)channels + 31) / 32 * 32; }
static size_t place_of(int32_t tiles, int32_t channels) { return (size_t)tiles * 2 * half_pitch(channels) + 64; }
static size_t weights_place_of(int32_t channels) { return (size_t)channels / 4 + 1; }

static areas areas_of(uint8_t *scratch, int32_t tiles, int32_t channels) {
  areas a = {.inputs = scratch, .pitch = 2 * half_pitch(channels), .place = place_of(tiles, channels), .weights_place = weights_place_of(channels)};
  a.weights = (__m256i(*)[4])(void *)(scratch + PLACES * a.place);
  a.sums = (int32_t(*)[NEAR][16])(void *)(a.weights + PLACES * a.weights_place);
  return a;
}

size_t ez_avx2_winograd_scratch(int32_t tiles, int32_t channels) {
  return PLACES * (place_of(tiles, channels) + weights_place_of(channels) * sizeof(__m256i[4]) + sizeof(int32_t[NEAR][16]));
}

/* B' along one axis of four. */
EZ_INLINE void transform_inputs(const __m256i d[4], __m256i out[4]) {
  out[0] = _mm256_sub_epi16(d[0], d[2]);
  out[1] = _mm256_add_epi16(d[1], d[2]);
  out[2] = _mm256_sub_epi16(d[2], d[1]);
  out[3] = _mm256_sub_epi16(d[1], d[3]);
}

EZ_INLINE void transform_tile(const __m256i x[4][4], uint8_t *to, size_t place) {
  __m256i across[4][4];
#pragma GCC unroll 4
  for (int i = 0; i < 4; i++) transform_inputs(x[i], across[i]);
#pragma GCC unroll 4
  for (int j = 0; j < 4; j++) {
    const __m256i column[4] = {across[0][j], across[1][j], across[2][j], across[3][j]};
    __m256i down[4];
    transform_inputs(column, down);
#pragma GCC unroll 4
    for (int i = 0; i < 4; i++) _mm256_storeu_si256((__m256i *)(void *)(to + (size_t)(4 * i + j) * place), down[i]);
  }
}

/* 32 channels at a time; those past the end have no weights. */
static void inputs_of(const ez_winograd_s8_args *g, const areas *a, int32_t tile) {
  const uint8_t *const *pixels = g->a + (size_t)tile * PLACES;
  uint8_t *to = a->inputs + (size_t)tile * a->pitch;
  for (int32_t c = 0; c < g->channels; c += 32) {
    __m256i even[4][4], odd[4][4];
#pragma GCC unroll 4
    for (int i = 0; i < 4; i++)
#pragma GCC unroll 4
      for (int j = 0; j < 4; j++) {
        const __m256i x = _mm256_loadu_si256((const __m256i *)(const void *)(pixels[4 * i + j] + c));
        even[i][j] = ez_even_words(x), odd[i][j] = ez_odd_words(x);
      }
    transform_tile((const __m256i(*)[4])even, to + c, a->place);
    transform_tile((const __m256i(*)[4])odd, to + half_pitch(g->channels) + c, a->place);
  }
}

/* 2 G along one axis of three. */
EZ_INLINE void transform_weights(const __m256i g[3], __m256i out[4]) {
  const __m256i ends = _mm256_add_epi16(g[0], g[2]);
  out[0] = _mm256_add_epi16(g[0], g[0]);
  out[1] = _mm256_add_epi16(ends, g[1]);
  out[2] = _mm256_sub_epi16(ends, g[1]);
  out[3] = _mm256_add_epi16(g[2], g[2]);
}

/* A quarter of a step: `part` 0 and 1 are the even words of columns 0-7 and 8-15, 2 and 3 the odd ones. */
EZ_INLINE void weights_of_step(const int8_t *w, size_t tap, const areas *a, int32_t step, const int part) {
  __m256i across[3][4];
#pragma GCC unroll 3
  for (int ky = 0; ky < 3; ky++) {
    __m256i g[3];
#pragma GCC unroll 3
    for (int kx = 0; kx < 3; kx++) {
      const __m256i x = _mm256_loadu_si256((const __m256i *)(const void *)(w + (size_t)(3 * ky + kx) * tap + 32 * (part % 2)));
      g[kx] = part < 2 ? ez_even_weights(x) : ez_odd_weights(x);
    }
    transform_weights(g, across[ky]);
  }
#pragma GCC unroll 4
  for (int j = 0; j < 4; j++) {
    const __m256i column[3] = {across[0][j], across[1][j], across[2][j]};
    __m256i down[4];
    transform_weights(column, down);
#pragma GCC unroll 4
    for (int i = 0; i < 4; i++) a->weights[(size_t)(4 * i + j) * a->weights_place + (size_t)step][part] = down[i];
  }
}

static void weights_of(const int8_t *panel, int32_t channels, const areas *a) {
  const size_t tap = (size_t)channels * 16;
  for (int32_t step = 0; step < channels / 4; step++, panel += 64) {
    weights_of_step(panel, tap, a, step, 0);
    weights_of_step(panel, tap, a, step, 1);
    weights_of_step(panel, tap, a, step, 2);
    weights_of_step(panel, tap, a, step, 3);
  }
}

/* One place of R tiles. */
#define INSTANCE(R)                                                                                                                       \
  static __attribute__((noinline)) void product_##R(const __m256i(*w)[4], int32_t steps, const uint8_t *x, size_t pitch, int32_t(*to)[16]) { \
    __m256i acc[EZ_WIDE_ROWS][2];                                                                                                         \
    _Pragma("GCC unroll 6") for (int r = 0; r < R; r++) acc[r][0] = acc[r][1] = _mm256_setzero_si256();                                   \
    ez_add_wide(acc, w, steps, x, pitch, pitch / 2, R);                                                                                   \
    _Pragma("GCC unroll 6") for (int r = 0; r < R; r++) {                                                                                 \
      _mm256_store_si256((__m256i *)(void *)to[r], acc[r][0]);                                                                            \
      _mm256_store_si256((__m256i *)(void *)(to[r] + 8), acc[r][1]);                                                                      \
    }                                                                                                                                     \
  }
INSTANCE(1) INSTANCE(2) INSTANCE(3) INSTANCE(4) INSTANCE(5) INSTANCE(6)

typedef void (*product_fn)(const __m256i (*w)[4], int32_t steps, const uint8_t *x, size_t pitch, int32_t (*to)[16]);
static const product_fn products[EZ_WIDE_ROWS + 1] = {NULL, product_1, product_2, product_3, product_4, product_5, product_6};

static void products_of(const areas *a, int32_t channels, int32_t first, int32_t tiles) {
  const int32_t parts = (tiles + EZ_WIDE_ROWS - 1) / EZ_WIDE_ROWS;
  for (size_t place = 0; place < PLACES; place++) {
    const __m256i(*w)[4] = (const __m256i(*)[4])(a->weights + place * a->weights_place);
    const uint8_t *x = a->inputs + place * a->place + (size_t)first * a->pitch;
    for (int32_t i = 0, t = 0, next; i < parts; i++, t = next) {
      next = (i + 1) * tiles / parts;
      products[next - t](w, channels / 4, x + (size_t)t * a->pitch, a->pitch, a->sums[place] + t);
    }
  }
}

/* A' along one axis of four. */
EZ_INLINE void transform_sums(const __m256i m[4], __m256i out[2]) {
  out[0] = _mm256_add_epi32(_mm256_add_epi32(m[0], m[1]), m[2]);
  out[1] = _mm256_sub_epi32(_mm256_sub_epi32(m[1], m[2]), m[3]);
}

/* Columns 8 * half .. of a tile's four outputs. */
EZ_INLINE void outputs_of_half(const areas *a, int32_t tile, const int half, __m256i bias, __m256i acc[4][2]) {
  __m256i down[2][4];
#pragma GCC unroll 4
  for (int j = 0; j < 4; j++) {
    __m256i column[4], two[2];
#pragma GCC unroll 4
    for (int i = 0; i < 4; i++) column[i] = _mm256_load_si256((const __m256i *)(const void *)(a->sums[4 * i + j][tile] + 8 * half));
    transform_sums(column, two);
    down[0][j] = two[0], down[1][j] = two[1];
  }
#pragma GCC unroll 2
  for (int i = 0; i < 2; i++) {
    __m256i two[2];
    transform_sums(down[i], two);
    acc[2 * i][half] = _mm256_add_epi32(_mm256_srai_epi32(two[0], 2), bias);
    acc[2 * i + 1][half] = _mm256_add_epi32(_mm256_srai_epi32(two[1], 2), bias);
  }
}

/* The 16 columns from `column` on of `tiles` tiles. */
EZ_INLINE void store_tiles(const ez_winograd_s8_args *g, const areas *a, int32_t first, int32_t tiles, int32_t column, const int small) {
  const ez_gemm_s8_args clamp = {.lo = g->lo, .hi = g->hi, .zero_point = g->zero_point};
  const ez_requant_rows q = ez_requant_rows_of(&clamp, g->mult + column);
  const __m256i *bias = (const __m256i *)(const void *)(g->bias + column);
  const int32_t left = g->columns - column;
  for (int32_t t = 0; t < tiles; t++) {
    uint8_t *const *y = g->y + 4 * (size_t)(first + t);
    __m256i acc[4][2];
    outputs_of_half(a, t, 0, _mm256_loadu_si256(bias), acc);
    outputs_of_half(a, t, 1, _mm256_loadu_si256(bias + 1), acc);
#pragma GCC unroll 2
    for (int r = 0; r < 4; r += 2) {
      const __m256i row0 = ez_requant_row(&q, acc[r][0], acc[r][1], small), row1 = ez_requant_row(&q, acc[r + 1][0], acc[r + 1][1], small);
      const __m256i bytes = ez_requant_bytes(&q, row0, row1, small);
      if (y[r]) ez_store_row(y[r] + column, _mm256_castsi256_si128(bytes), left);
      if (y[r + 1]) ez_store_row(y[r + 1] + column, _mm256_extracti128_si256(bytes, 1), left);
    }
  }
}

void ez_avx2_winograd_s8(const ez_winograd_s8_args *g) {
  const areas a = areas_of(g->scratch, g->tiles, g->channels);
  for (int32_t t = 0; t < g->tiles; t++) inputs_of(g, &a, t);
  for (int32_t column = 0; column < g->columns; column += 16) {
    weights_of(g->w + (size_t)(column / 16) * g->panel_bytes, g->channels, &a);
    for (int32_t first = 0; first < g->tiles; first += NEAR) {
      const int32_t tiles = g->tiles - first < NEAR ? g->tiles - first : NEAR;
      products_of(&a, g->channels, first, tiles);
      if (g->small_mult)
        store_tiles(g, &a, first, tiles, column, 1);
      else
        store_tiles(g, &a, first, tiles, column, 0);
    }
  }
}
