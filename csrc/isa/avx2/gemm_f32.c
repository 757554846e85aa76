/* float32 product: one fma chain in ascending k per output. Columns go by vectors of 8: 6 rows by 2 vectors as a rule, 10 rows by the
 * last vector of an odd number, and 2, 4 or 8 vectors for up to three rows, so that eight chains hide the latency of four cycles.
 * K is cut into chunks that leave a panel's part in L1 while all rows meet it; the sums wait on the stack in between. */
#include "isa/avx2/avx2.h"

#define CHUNK 256 /* k */
#define MAX_VECTORS 8

typedef struct chunk {
  int32_t tap, first; /* where it begins */
  int32_t k;          /* how many */
  int32_t is_first, is_last;
} chunk;

typedef struct partial_sums {
  float at[EZ_ROW_BLOCK][8 * MAX_VECTORS] __attribute__((aligned(32)));
} partial_sums;

EZ_INLINE void finish(const ez_gemm_f32_args *g, __m256 acc[][MAX_VECTORS], int32_t row0, int32_t n0, const int R, const int V) {
  const __m256 lo = _mm256_set1_ps(g->lo), hi = _mm256_set1_ps(g->hi);
  const size_t y_stride = g->y_stride; /* here, since a store to y could change g, as far as the compiler knows */
  const float *const biases = g->bias + n0;
  const int32_t left = g->columns - n0;
  float *const y = g->y + (size_t)row0 * y_stride + n0;
#pragma GCC unroll 8
  for (int v = 0; v < V; v++) {
    const __m256 bias = _mm256_loadu_ps(biases + 8 * v);
#pragma GCC unroll 10
    for (int r = 0; r < R; r++) acc[r][v] = _mm256_min_ps(_mm256_max_ps(_mm256_add_ps(acc[r][v], bias), lo), hi);
  }
  if (left >= 8 * V) {
#pragma GCC unroll 10
    for (int r = 0; r < R; r++)
#pragma GCC unroll 8
      for (int v = 0; v < V; v++) _mm256_storeu_ps(y + (size_t)r * y_stride + 8 * v, acc[r][v]);
    return;
  }
#pragma GCC unroll 8
  for (int v = 0; v < V; v++)
#pragma GCC unroll 10
    for (int r = 0; r < R; r++) ez_store_floats(y + (size_t)r * y_stride + 8 * v, acc[r][v], left - 8 * v);
}

/* R rows by V vectors of one chunk. */
EZ_INLINE void block(const ez_gemm_f32_args *g, partial_sums *sums, const chunk *ch, const float *w, int32_t row0, int32_t n0, const int R,
                     const int V) {
  __m256 acc[10][MAX_VECTORS];
#pragma GCC unroll 10
  for (int r = 0; r < R; r++)
#pragma GCC unroll 8
    for (int v = 0; v < V; v++) acc[r][v] = ch->is_first ? _mm256_setzero_ps() : _mm256_load_ps(sums->at[row0 + r] + 8 * v);
  const size_t panel_floats = g->panel_floats;
  const float *const *rows = g->a + (size_t)ch->tap * g->a_stride + row0;
  int32_t first = ch->first;
  for (int32_t left = ch->k; left > 0; rows += g->a_stride, first = 0) {
    const int32_t n = g->channels - first < left ? g->channels - first : left;
    const float *a[10];
    for (int r = 0; r < R; r++) a[r] = rows[r] + first;
    left -= n;
#pragma GCC unroll 4 /* counting competes with fmas for their ports */
    for (int32_t c = 0; c < n; c++, w += 16) {
      __m256 b[MAX_VECTORS];
      for (int v = 0; v < V; v++) b[v] = _mm256_loadu_ps(w + (size_t)(v / 2) * panel_floats + 8 * (v % 2));
      if (R > 1) /* the next chunk; few rows wait for weights otherwise (49x512x4608: 33 -> 37.6 GMAC/s) */
        for (int v = 0; v < V; v += 2) _mm_prefetch((const char *)(w + (size_t)(v / 2) * panel_floats + 16 * CHUNK), _MM_HINT_T1);
#pragma GCC unroll 10
      for (int r = 0; r < R; r++) {
        const __m256 x = _mm256_broadcast_ss(a[r] + c);
        for (int v = 0; v < V; v++) acc[r][v] = _mm256_fmadd_ps(x, b[v], acc[r][v]);
      }
    }
  }
  if (ch->is_last) {
    finish(g, acc, row0, n0, R, V);
    return;
  }
#pragma GCC unroll 10
  for (int r = 0; r < R; r++)
#pragma GCC unroll 8
    for (int v = 0; v < V; v++) _mm256_store_ps(sums->at[row0 + r] + 8 * v, acc[r][v]);
}

typedef void (*block_fn)(const ez_gemm_f32_args *g, partial_sums *sums, const chunk *ch, const float *w, int32_t row0, int32_t n0);
#define INSTANCE(R, V)                                                                                                                     \
  static __attribute__((noinline)) void block_##R##x##V(const ez_gemm_f32_args *g, partial_sums *sums, const chunk *ch, const float *w,    \
                                                        int32_t row0, int32_t n0) {                                                        \
    block(g, sums, ch, w, row0, n0, R, V);                                                                                                 \
  }
INSTANCE(1, 1) INSTANCE(2, 1) INSTANCE(3, 1) INSTANCE(4, 1) INSTANCE(5, 1)
INSTANCE(6, 1) INSTANCE(7, 1) INSTANCE(8, 1) INSTANCE(9, 1) INSTANCE(10, 1)
INSTANCE(1, 2) INSTANCE(2, 2) INSTANCE(3, 2) INSTANCE(4, 2) INSTANCE(5, 2) INSTANCE(6, 2)
INSTANCE(1, 4) INSTANCE(2, 4) INSTANCE(3, 4)
INSTANCE(1, 8)

/* By vectors: the most rows, and the block of each number of rows. */
static const struct {
  int32_t rows;
  block_fn of[11];
} blocks[MAX_VECTORS + 1] = {
    [1] = {10, {NULL, block_1x1, block_2x1, block_3x1, block_4x1, block_5x1, block_6x1, block_7x1, block_8x1, block_9x1, block_10x1}},
    [2] = {6, {NULL, block_1x2, block_2x2, block_3x2, block_4x2, block_5x2, block_6x2}},
    [4] = {3, {NULL, block_1x4, block_2x4, block_3x4}},
    [8] = {1, {NULL, block_1x8}},
};

/* All rows of `vectors` vectors from column n0 on, in blocks of nearly equal height. */
static void columns_of(const ez_gemm_f32_args *g, partial_sums *sums, int32_t n0, int32_t vectors) {
  const int32_t k = g->taps * g->channels, parts = (g->rows + blocks[vectors].rows - 1) / blocks[vectors].rows;
  for (int32_t first = 0; first < k; first += CHUNK) {
    const chunk ch = {.tap = first / g->channels, .first = first % g->channels, .k = k - first < CHUNK ? k - first : CHUNK,
                      .is_first = first == 0, .is_last = k - first <= CHUNK};
    const float *w = g->w + (size_t)(n0 / 16) * g->panel_floats + n0 % 16 + 16 * (size_t)first;
    for (int32_t i = 0; i < parts; i++) {
      const int32_t row = i * g->rows / parts, next = (i + 1) * g->rows / parts;
      blocks[vectors].of[next - row](g, sums, &ch, w, row, n0);
    }
  }
}

void ez_avx2_gemm_f32(const ez_gemm_f32_args *g) {
  partial_sums sums;
  const int32_t most = g->rows == 1 ? 8 : g->rows <= 3 ? 4 : 2, vectors = (g->columns + 7) / 8;
  for (int32_t v = 0; v < vectors;) {
    int32_t n = most;
    while (n > vectors - v) n /= 2;
    columns_of(g, &sums, 8 * v, n);
    v += n;
  }
}
