/* int8 product for CPUs without VNNI, exact whatever the weights.
 *
 * vpmaddubsw does 32 MACs in one instruction but saturates at 16 bits. With activations in 0..255 a pair of weights of one sign can
 * pass that only if |w0 + w1| > 128 (255 * 128 = 32640); a pair of mixed signs never can. So every step of a panel (4 k by 16 columns)
 * is looked at, at each call, and goes one of two ways: if none of its 32 pairs can saturate, vpmaddubsw + vpmaddwd (32 MACs a cycle on
 * two multiply ports); else 16-bit products of weights and activations that were widened once (24 MACs a cycle). Looking costs
 * about 3 cycles a step, 1.5 % at 96 rows; a flag in the file would save that and would have to be trusted.
 *
 * Work is cut into chunks of 64 steps: 25 rows of a chunk are copied (and widened, if some panel needs it) to the stack, where they stay
 * in L1 for all panels; between chunks the sums wait in `sums`.
 * 196x256x256 with requantisation, GOPS: 152 with safe weights, 126 with Gaussian ones (65 % of the steps unsafe), where registers
 * alone reach 175 and 136; 128x384x1536: 163 and 119 (Sapphire Rapids VM at 3.0 GHz, one core, 2026-11-24). */
#include "isa/avx2/avx2.h"
#include "isa/avx2/few_rows.h"
#include "isa/avx2/requant.h"

#define CHUNK 64     /* steps of 4 k */
#define GROUP 25     /* rows that are copied at a time */
#define BLOCK 5      /* rows of one register block */
#define PITCH 288    /* bytes from row to row: a chunk, and room for stores of whole registers */
#define MAX_PANELS 4

typedef struct wide_row {
  uint32_t even[CHUNK + 8], odd[CHUNK + 8]; /* (x0, x2) and (x1, x3) of each step, 16 bits each */
} wide_row;

typedef struct panel_chunk {
  uint8_t safe[CHUNK], unsafe[CHUNK]; /* steps that vpmaddubsw may, and may not, do */
  int32_t n_safe, n_unsafe;
  __m256i wide[CHUNK][4]; /* of each unsafe step: (w0, w2) of columns 0-7, 8-15, then (w1, w3) */
} panel_chunk;

typedef struct scratch {
  uint8_t rows[GROUP][PITCH] __attribute__((aligned(64)));
  wide_row wide[GROUP];
  panel_chunk panels[MAX_PANELS];
  int32_t sums[EZ_ROW_BLOCK][MAX_PANELS][16] __attribute__((aligned(64)));
} scratch;

/* A run of contiguous input inside a chunk. */
typedef struct piece {
  int32_t tap, first, bytes;
} piece;

/* Cuts steps [step, step + n) into pieces of one tap each; returns how many. */
static int32_t cut_pieces(piece *pieces, int32_t step, int32_t n, int32_t tap_steps) {
  int32_t count = 0;
  while (n > 0) {
    const int32_t at = step % tap_steps, here = tap_steps - at < n ? tap_steps - at : n;
    pieces[count++] = (piece){step / tap_steps, 4 * at, 4 * here};
    step += here, n -= here;
  }
  return count;
}

/* Whole registers are copied: up to 31 bytes too many are read (EZ_OVERREAD) and written over by the next piece. */
static void copy_rows(scratch *s, const ez_gemm_s8_args *g, int32_t row0, int32_t rows, const piece *pieces, int32_t count) {
  for (int32_t r = 0; r < rows; r++) {
    uint8_t *to = s->rows[r];
    for (int32_t i = 0; i < count; i++) {
      const uint8_t *from = g->a[(size_t)pieces[i].tap * g->a_stride + (size_t)(row0 + r)] + pieces[i].first;
      for (int32_t b = 0; b < pieces[i].bytes; b += 32)
        _mm256_storeu_si256((__m256i *)(void *)(to + b), _mm256_loadu_si256((const __m256i *)(const void *)(from + b)));
      to += pieces[i].bytes;
    }
  }
}

static void widen_rows(scratch *s, int32_t rows, int32_t steps) {
  const __m256i low = _mm256_set1_epi16(0xff);
  for (int32_t r = 0; r < rows; r++)
    for (int32_t i = 0; i < steps; i += 8) {
      const __m256i x = _mm256_loadu_si256((const __m256i *)(const void *)(s->rows[r] + 4 * i));
      _mm256_storeu_si256((__m256i *)(void *)(s->wide[r].even + i), _mm256_and_si256(x, low));
      _mm256_storeu_si256((__m256i *)(void *)(s->wide[r].odd + i), _mm256_srli_epi16(x, 8));
    }
}

/* Sorts the steps of a panel's chunk, and widens the unsafe ones; returns how many those are. */
static int32_t sort_steps(panel_chunk *p, const int8_t *w, int32_t steps) {
  const __m256i ones = _mm256_set1_epi8(1), most = _mm256_set1_epi16(128);
  p->n_safe = p->n_unsafe = 0;
  for (int32_t k = 0; k < steps; k++, w += 64) {
    const __m256i b0 = _mm256_loadu_si256((const __m256i *)(const void *)w), b1 = _mm256_loadu_si256((const __m256i *)(const void *)(w + 32));
    const __m256i pairs = _mm256_max_epi16(_mm256_abs_epi16(_mm256_maddubs_epi16(ones, b0)), _mm256_abs_epi16(_mm256_maddubs_epi16(ones, b1)));
    const __m256i over = _mm256_cmpgt_epi16(pairs, most);
    if (_mm256_testz_si256(over, over)) {
      p->safe[p->n_safe++] = (uint8_t)k;
      continue;
    }
    __m256i *wide = p->wide[p->n_unsafe];
    p->unsafe[p->n_unsafe++] = (uint8_t)k;
    wide[0] = _mm256_srai_epi16(_mm256_slli_epi16(b0, 8), 8);
    wide[1] = _mm256_srai_epi16(_mm256_slli_epi16(b1, 8), 8);
    wide[2] = _mm256_srai_epi16(b0, 8);
    wide[3] = _mm256_srai_epi16(b1, 8);
  }
  return p->n_unsafe;
}

EZ_INLINE __m256i broadcast(const void *four_bytes) {
  int32_t four;
  memcpy(&four, four_bytes, 4);
  return _mm256_set1_epi32(four);
}

/* Else gcc 12 adds the products of successive steps to each other first, which needs registers that are not there. */
EZ_INLINE void keep(__m256i acc[BLOCK][2], const int R) {
#pragma GCC unroll 5
  for (int r = 0; r < R; r++) __asm__("" : "+x"(acc[r][0]), "+x"(acc[r][1]));
}

/* One step by vpmaddubsw: x is the first row's four bytes. */
EZ_INLINE void add_step(__m256i acc[BLOCK][2], const int8_t *w, const uint8_t *x, const int R) {
  const __m256i ones = _mm256_set1_epi16(1);
  const __m256i b0 = _mm256_loadu_si256((const __m256i *)(const void *)w), b1 = _mm256_loadu_si256((const __m256i *)(const void *)(w + 32));
#pragma GCC unroll 5
  for (int r = 0; r < R; r++) {
    const __m256i four = broadcast(x + r * PITCH);
    acc[r][0] = _mm256_add_epi32(acc[r][0], _mm256_madd_epi16(_mm256_maddubs_epi16(four, b0), ones));
    acc[r][1] = _mm256_add_epi32(acc[r][1], _mm256_madd_epi16(_mm256_maddubs_epi16(four, b1), ones));
  }
}

EZ_INLINE void add_safe(__m256i acc[BLOCK][2], const panel_chunk *p, const int8_t *w, const uint8_t *x, const int R) {
  if (p->n_unsafe == 0) { /* no list, two steps a turn: address arithmetic competes for the vector ports */
    int32_t i = 0;
    for (; i + 2 <= p->n_safe; i += 2, w += 128, x += 8) {
      add_step(acc, w, x, R);
      keep(acc, R);
      add_step(acc, w + 64, x + 4, R);
    }
    if (i < p->n_safe) add_step(acc, w, x, R);
    return;
  }
  for (int32_t i = 0; i < p->n_safe; i++) {
    const size_t k = p->safe[i];
    add_step(acc, w + 64 * k, x + 4 * k, R);
  }
}

EZ_INLINE void add_wide(__m256i acc[BLOCK][2], const panel_chunk *p, const wide_row *rows, const int R) {
  for (int32_t i = 0; i < p->n_unsafe; i++) {
    const wide_row *x = (const wide_row *)(const void *)(rows->even + p->unsafe[i]);
#pragma GCC unroll 2
    for (int half = 0; half < 2; half++) {
      const __m256i b0 = p->wide[i][2 * half], b1 = p->wide[i][2 * half + 1];
#pragma GCC unroll 5
      for (int r = 0; r < R; r++) {
        const __m256i two = broadcast(half ? x[r].odd : x[r].even);
        acc[r][0] = _mm256_add_epi32(acc[r][0], _mm256_madd_epi16(two, b0));
        acc[r][1] = _mm256_add_epi32(acc[r][1], _mm256_madd_epi16(two, b1));
      }
      keep(acc, R);
    }
  }
}

/* One register block: a chunk of one panel. `row` counts in the group, `at` in the call. */
typedef struct block_place {
  int32_t row, at, panel, is_first, is_last;
  const int8_t *w;
} block_place;

EZ_INLINE void block(const ez_gemm_s8_args *g, scratch *s, const block_place *b, const int R) {
  __m256i acc[BLOCK][2];
  const int32_t *bias = g->bias + 16 * b->panel;
#pragma GCC unroll 5
  for (int r = 0; r < R; r++) {
    const __m256i *from = (const __m256i *)(const void *)(b->is_first ? bias : s->sums[b->at + r][b->panel]);
    acc[r][0] = _mm256_loadu_si256(from), acc[r][1] = _mm256_loadu_si256(from + 1);
  }
  const panel_chunk *p = &s->panels[b->panel];
  add_safe(acc, p, b->w, s->rows[b->row], R);
  add_wide(acc, p, &s->wide[b->row], R);
  keep(acc, R);
  if (!b->is_last) {
#pragma GCC unroll 5
    for (int r = 0; r < R; r++) {
      __m256i *to = (__m256i *)(void *)s->sums[b->at + r][b->panel];
      _mm256_store_si256(to, acc[r][0]), _mm256_store_si256(to + 1, acc[r][1]);
    }
    return;
  }
  if (__builtin_expect(g->y_f32 != NULL, 0)) {
    ez_store_float_panel(g, acc, b->at, 16 * b->panel, R);
    return;
  }
  const ez_requant_rows q = ez_requant_rows_of(g, g->mult + 16 * b->panel);
  uint8_t *y = g->y + (size_t)b->at * g->y_stride + (size_t)(16 * b->panel);
  const int32_t columns = g->columns - 16 * b->panel;
  if (g->small_mult)
    ez_store_panel(&q, acc, y, g->y_stride, columns, R, 1);
  else
    ez_store_panel(&q, acc, y, g->y_stride, columns, R, 0);
}

#define INSTANCE(R) \
  static __attribute__((noinline)) void block_##R(const ez_gemm_s8_args *g, scratch *s, const block_place *b) { block(g, s, b, R); }
INSTANCE(1) INSTANCE(2) INSTANCE(3) INSTANCE(4) INSTANCE(5)

typedef void (*block_fn)(const ez_gemm_s8_args *g, scratch *s, const block_place *b);
static const block_fn blocks[BLOCK + 1] = {NULL, block_1, block_2, block_3, block_4, block_5};

void ez_avx2_gemm_s8(const ez_gemm_s8_args *g) {
  if (g->rows <= EZ_AVX2_FEW_ROWS) {
    ez_avx2_gemm_s8_few(g);
    return;
  }
  scratch s;
  const int32_t panels = (g->columns + 15) / 16, tap_steps = (g->channels + 3) / 4, steps = g->taps * tap_steps;
  for (int32_t first = 0; first < steps; first += CHUNK) {
    const int32_t n = steps - first < CHUNK ? steps - first : CHUNK;
    block_place b = {.is_first = first == 0, .is_last = first + n == steps};
    int32_t unsafe = 0;
    for (int32_t p = 0; p < panels; p++) unsafe += sort_steps(&s.panels[p], g->w + (size_t)p * g->panel_bytes + (size_t)first * 64, n);
    piece pieces[CHUNK];
    const int32_t count = cut_pieces(pieces, first, n, tap_steps);
    for (int32_t row0 = 0; row0 < g->rows; row0 += GROUP) {
      const int32_t rows = g->rows - row0 < GROUP ? g->rows - row0 : GROUP, parts = (rows + BLOCK - 1) / BLOCK;
      copy_rows(&s, g, row0, rows, pieces, count);
      if (unsafe) widen_rows(&s, rows, n);
      for (b.panel = 0; b.panel < panels; b.panel++) {
        b.w = g->w + (size_t)b.panel * g->panel_bytes + (size_t)first * 64;
        for (int32_t i = 0; i < parts; i++) {
          b.row = i * rows / parts, b.at = row0 + b.row;
          blocks[(i + 1) * rows / parts - b.row](g, &s, &b);
        }
      }
    }
  }
}
