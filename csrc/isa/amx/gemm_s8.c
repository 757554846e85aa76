/* int8 product on AMX: 32 rows by 2 panels in four tiles of sums, two of activations, two of weights, 64 k a step.
 *
 * K is one run for all taps. A step's activations are loaded from where they lie if the rows are equally spaced and the step is inside
 * of one tap; else (3x3 borders, taps that are no multiple of 64, the last step, missing rows) they are copied to L1 first, with zeros
 * where there is nothing, so that no tile instruction reads a byte that the contract of isa.h does not give. The last step of the
 * weights is padded the same way. All tiles keep one shape, set when a call finds another one.
 * Sums leave through L1, never straight to a strided y (1.2-2.3x slower: design, section 2.3), and are requantised by the code of
 * avx512vnni. Up to EZ_AMX_FEW_ROWS rows go to avx512vnni altogether: a tile of 16 rows would be mostly empty. */
#include "isa/amx/amx.h"

#include <string.h>

#include "isa/amx/tiles.h"
#include "isa/avx512vnni/requant.h"

#define STEP 64  /* k of one tile product */
#define CHUNK 16 /* steps whose activations are kept at hand: 32 KiB of them */
#define ROWS 32  /* of two tiles */
#define TILE 16  /* rows of a tile, and columns of one of sums */

typedef struct amx_scratch {
  uint8_t rows[CHUNK][ROWS][STEP];
  int8_t last[EZ_AMX_PANELS][TILE][STEP]; /* the last step of each panel */
  int32_t sums[EZ_AMX_PANELS / 2][ROWS][2 * TILE];
} amx_scratch __attribute__((aligned(64)));

/* Where a tile is loaded from. */
typedef struct tile_rows {
  const uint8_t *at;
  size_t stride;
} tile_rows;

/* One call: K in bytes with every tap padded to 4, in steps; and the steps of the chunk at hand. */
typedef struct amx_job {
  const ez_gemm_s8_args *g;
  amx_scratch *scratch;
  size_t tap_bytes, k_bytes;
  int32_t steps, panels;
  int32_t row0, rows;        /* of the group at hand */
  int32_t first, count;      /* steps */
  tile_rows a[CHUNK];
} amx_job;

static void shape_tiles(void) {
  ez_tile_shapes wanted = {.palette = 1}, now;
  for (int i = 0; i < 8; i++) wanted.row_bytes[i] = STEP, wanted.rows[i] = TILE;
  ez_tile_read_config(&now);
  if (memcmp(&now, &wanted, sizeof now)) ez_tile_config(&wanted);
}

static size_t least(size_t a, size_t b) { return a < b ? a : b; }
static __mmask64 first_bytes(size_t n) { return n >= 64 ? ~0ull : (1ull << n) - 1; }

/* Bytes [k, k + 64) of the group's rows, zeros behind the end of K and in the rows that fill up the last tile. */
static void copy_step(amx_job *job, uint8_t to[ROWS][STEP], size_t k) {
  const ez_gemm_s8_args *g = job->g;
  const size_t end = least(k + STEP, job->k_bytes);
  memset(to, 0, (size_t)ROWS * STEP);
  for (size_t done = 0; k < end;) {
    const size_t tap = k / job->tap_bytes, at = k % job->tap_bytes, n = least(job->tap_bytes - at, end - k);
    const __mmask64 mask = first_bytes(n);
    const uint8_t *const *rows = g->a + tap * g->a_stride + job->row0;
    for (int32_t r = 0; r < job->rows; r++) _mm512_mask_storeu_epi8(to[r] + done, mask, _mm512_maskz_loadu_epi8(mask, rows[r] + at));
    done += n, k += n;
  }
}

static void find_activations(amx_job *job) {
  const ez_gemm_s8_args *g = job->g;
  for (int32_t i = 0; i < job->count; i++) {
    const size_t k = (size_t)(job->first + i) * STEP, at = k % job->tap_bytes;
    if (g->row_step && job->rows % TILE == 0 && at + STEP <= job->tap_bytes) {
      job->a[i] = (tile_rows){g->a[k / job->tap_bytes * g->a_stride + (size_t)job->row0] + at, g->row_step};
      continue;
    }
    copy_step(job, job->scratch->rows[i], k);
    job->a[i] = (tile_rows){job->scratch->rows[i][0], STEP};
  }
}

static const int8_t *weights_of(const amx_job *job, int32_t panel, int32_t step) {
  if ((size_t)(step + 1) * STEP > job->k_bytes) return job->scratch->last[panel][0];
  return job->g->w + (size_t)panel * job->g->panel_bytes + (size_t)step * STEP * TILE;
}

/* The chunk's steps of MT tiles of rows by NT panels; sums come from the bias or the chunk before, and go to scratch. */
EZ_INLINE void multiply(const amx_job *job, int32_t panel, const int MT, const int NT) {
  int32_t(*sums)[2 * TILE] = job->scratch->sums[panel / 2];
  const size_t pitch = sizeof sums[0];
  const int fresh = job->first == 0;
  const int32_t *from = fresh ? job->g->bias + TILE * panel : sums[0], *below = fresh ? from : sums[TILE];
  const size_t stride = fresh ? 0 : pitch; /* every row starts from the same bias */
  ez_tile_load(0, from, stride);
  if (NT == 2) ez_tile_load(1, from + TILE, stride);
  if (MT == 2) ez_tile_load(2, below, stride);
  if (MT == 2 && NT == 2) ez_tile_load(3, below + TILE, stride);
  for (int32_t i = 0; i < job->count; i++) {
    const tile_rows a = job->a[i];
    ez_tile_load(6, weights_of(job, panel, job->first + i), STEP);
    ez_tile_load(4, a.at, a.stride);
    ez_tile_dpbusd(0, 4, 6);
    if (NT == 2) {
      ez_tile_load(7, weights_of(job, panel + 1, job->first + i), STEP);
      ez_tile_dpbusd(1, 4, 7);
    }
    if (MT == 2) {
      ez_tile_load(5, a.at + TILE * a.stride, a.stride);
      ez_tile_dpbusd(2, 5, 6);
      if (NT == 2) ez_tile_dpbusd(3, 5, 7);
    }
  }
  ez_tile_store(0, sums[0], pitch);
  if (NT == 2) ez_tile_store(1, sums[0] + TILE, pitch);
  if (MT == 2) ez_tile_store(2, sums[TILE], pitch);
  if (MT == 2 && NT == 2) ez_tile_store(3, sums[TILE] + TILE, pitch);
}

EZ_INLINE void finish_floats(const ez_gemm_s8_args *g, int32_t row, int32_t left, const int P, __m512i acc[4][4]) {
  if (left >= 4 / P)
    ez_store_float_tile(g, row, 4 / P, P, acc);
  else
    for (int32_t r = 0; r < left; r++) ez_store_float_tile(g, row + r, 1, P, acc + r);
}

/* Four registers of finished sums at a time: two rows of two panels, or four rows of one. */
EZ_INLINE void finish(const amx_job *job, int32_t panel, const int P) {
  ez_gemm_s8_args part = *job->g;
  part.mult += TILE * panel;
  if (part.y_f32) part.addend += TILE * panel, part.y_f32 += TILE * panel;
  part.columns -= TILE * panel;
  if (part.columns > TILE * P) part.columns = TILE * P;
  const ez_requant_zmm q = ez_requant_zmm_of(&part, P);
  const int32_t(*sums)[2 * TILE] = (const int32_t(*)[2 * TILE])job->scratch->sums[panel / 2];
  uint8_t *y = part.y + (size_t)job->row0 * part.y_stride + (size_t)(TILE * panel);
  const int together = 4 / P;
  for (int32_t r = 0; r < job->rows; r += together) {
    __m512i acc[4][4];
#pragma GCC unroll 4
    for (int i = 0; i < 4; i++) acc[i / P][i % P] = _mm512_load_si512(sums[r + i / P] + TILE * (i % P));
    uint8_t *to = y + (size_t)r * part.y_stride;
    const int32_t left = job->rows - r, row = job->row0 + r;
    if (part.y_f32)
      finish_floats(&part, row, left, P, acc);
    else if (left >= together)
      ez_store_tile(&part, &q, to, 4 / P, P, acc);
    else if (left == 1)
      ez_store_tile(&part, &q, to, 1, P, acc);
    else if (left == 2)
      ez_store_tile(&part, &q, to, 2, P, acc);
    else
      ez_store_tile(&part, &q, to, 3, P, acc);
  }
}

static void group_of_rows(amx_job *job) {
  for (job->first = 0; job->first < job->steps; job->first += job->count) {
    job->count = job->steps - job->first < CHUNK ? job->steps - job->first : CHUNK;
    const int is_last = job->first + job->count == job->steps;
    find_activations(job);
    for (int32_t p = 0; p < job->panels; p += 2) {
      const int two_panels = p + 1 < job->panels, two_tiles = job->rows > TILE;
      if (two_panels && two_tiles) multiply(job, p, 2, 2);
      if (two_panels && !two_tiles) multiply(job, p, 1, 2);
      if (!two_panels && two_tiles) multiply(job, p, 2, 1);
      if (!two_panels && !two_tiles) multiply(job, p, 1, 1);
      if (is_last && two_panels) finish(job, p, 2);
      if (is_last && !two_panels) finish(job, p, 1);
    }
  }
}

static void few_rows(const ez_gemm_s8_args *g) {
  for (int32_t n = 0; n < g->columns; n += 4 * TILE) {
    ez_gemm_s8_args part = *g;
    part.columns = g->columns - n < 4 * TILE ? g->columns - n : 4 * TILE;
    part.w += (size_t)(n / TILE) * g->panel_bytes;
    part.bias += n, part.mult += n, part.y += n;
    if (part.y_f32) part.addend += n, part.y_f32 += n;
    ez_avx512vnni_gemm_s8(&part);
  }
}

void ez_amx_gemm_s8(const ez_gemm_s8_args *g) {
  if (g->rows <= EZ_AMX_FEW_ROWS) {
    few_rows(g);
    return;
  }
  amx_scratch scratch;
  amx_job job = {.g = g, .scratch = &scratch, .tap_bytes = ((size_t)g->channels + 3) / 4 * 4, .panels = (g->columns + TILE - 1) / TILE};
  job.k_bytes = job.tap_bytes * (size_t)g->taps;
  job.steps = (int32_t)((job.k_bytes + STEP - 1) / STEP);
  const size_t whole = job.k_bytes / STEP * STEP * TILE, rest = job.k_bytes * TILE - whole;
  for (int32_t p = 0; rest && p < job.panels; p++) {
    memcpy(scratch.last[p], g->w + (size_t)p * g->panel_bytes + whole, rest);
    memset(scratch.last[p][0] + rest, 0, sizeof scratch.last[p] - rest);
  }
  shape_tiles();
  for (job.row0 = 0; job.row0 < g->rows; job.row0 += ROWS) {
    job.rows = g->rows - job.row0 < ROWS ? g->rows - job.row0 : ROWS;
    group_of_rows(&job);
  }
}
