#include "ops/recurrent_cells.h"

#include <math.h>

#include "core/numerics.h"

static void activate(const ez_cell *cell, int which, float *x, size_t n) {
  const ez_recurrent_params *p = cell->params;
  const int at = cell->direction * EZ_CELL_ACTIVATIONS + which;
  cell->rows->unary_f32(p->activation[at], x, x, n, p->alpha[at], p->beta[at]);
}

static void clamp(float *x, size_t n, float clip) {
  if (isinf(clip)) return;
  for (size_t i = 0; i < n; i++) x[i] = ez_clamp(x[i], -clip, clip);
}

static void bound(const ez_cell *cell, float *x, size_t n) { clamp(x, n, cell->params->clip); }

static void add(float *restrict x, const float *restrict y, size_t n) {
  for (size_t i = 0; i < n; i++) x[i] += y[i];
}

static void add_product(float *restrict x, const float *restrict a, const float *restrict b, size_t n) {
  for (size_t i = 0; i < n; i++) x[i] += a[i] * b[i];
}

void ez_cell_rnn(const ez_cell *cell, float *products, const float *gates, float *h) {
  const size_t n = cell->hidden;
  add(products, gates, n);
  bound(cell, products, n);
  activate(cell, 0, products, n);
  for (size_t i = 0; i < n; i++) h[i] = products[i];
}

void ez_cell_gru_gates(const ez_cell *cell, float *products, const float *gates) {
  const size_t both = 2 * cell->hidden;
  add(products, gates, both);
  bound(cell, products, both);
  activate(cell, 0, products, both);
}

void ez_cell_gru_reset(const ez_cell *cell, const float *products, const float *h, float *restrict reset) {
  const float *r = products + cell->hidden;
  for (size_t i = 0; i < cell->hidden; i++) reset[i] = r[i] * h[i];
}

void ez_cell_gru(const ez_cell *cell, float *products, const float *gates, float *restrict h) {
  const size_t n = cell->hidden;
  const float *z = products, *r = products + n;
  float *candidate = products + 2 * n;
  if (cell->params->linear_before_reset)
    for (size_t i = 0; i < n; i++) candidate[i] *= r[i];
  add(candidate, gates + 2 * n, n);
  bound(cell, candidate, n);
  activate(cell, 1, candidate, n);
  for (size_t i = 0; i < n; i++) h[i] = (1.0f - z[i]) * candidate[i] + z[i] * h[i];
}

/* i, o and f lie side by side: one call serves them unless o waits for the new c. */
static void lstm_gates(const ez_cell *cell, float *products, const float *c) {
  const size_t n = cell->hidden;
  float *i = products, *f = products + 2 * n;
  if (cell->peephole) {
    add_product(i, cell->peephole, c, n);
    add_product(f, cell->peephole + 2 * n, c, n);
    bound(cell, i, n);
    bound(cell, f, n);
    activate(cell, 0, i, n);
    activate(cell, 0, f, n);
  } else {
    bound(cell, products, 3 * n);
    activate(cell, 0, products, 3 * n);
  }
  if (cell->params->input_forget)
    for (size_t k = 0; k < n; k++) f[k] = 1.0f - i[k];
}

void ez_cell_lstm(const ez_cell *cell, float *products, const float *gates, float *restrict h, float *restrict c, float *restrict spare) {
  const size_t n = cell->hidden;
  const float *i = products, *f = products + 2 * n;
  float *o = products + n, *g = products + 3 * n;
  add(products, gates, 4 * n);
  lstm_gates(cell, products, c);
  bound(cell, g, n);
  activate(cell, 1, g, n);
  for (size_t k = 0; k < n; k++) c[k] = f[k] * c[k] + i[k] * g[k];
  clamp(c, n, cell->params->cell_clip);
  if (cell->peephole) {
    add_product(o, cell->peephole + n, c, n);
    bound(cell, o, n);
    activate(cell, 0, o, n);
  }
  for (size_t k = 0; k < n; k++) spare[k] = c[k];
  activate(cell, 2, spare, n);
  for (size_t k = 0; k < n; k++) h[k] = o[k] * spare[k];
}
