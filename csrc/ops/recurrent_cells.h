/* One time step of one sequence of EZ_OP_RECURRENT: what follows the products (ez_format.h has the formulas). */
#ifndef EDGEZIP_RECURRENT_CELLS_H
#define EDGEZIP_RECURRENT_CELLS_H

#include "edgezip/ez_format.h"
#include "isa/isa.h"

#define EZ_CELL_ACTIVATIONS 3 /* f, g, h of a direction */

typedef struct ez_cell {
  const ez_recurrent_params *params;
  const ez_rows *rows;
  const float *peephole; /* (3, H) of the direction, or NULL */
  int32_t direction;
  size_t hidden;
} ez_cell;

/* `products` (G, H) holds h.r and is used up; `gates` (G, H) is the input's share; h and c (H) are the state, updated. spare: H floats. */
void ez_cell_rnn(const ez_cell *cell, float *products, const float *gates, float *h);
void ez_cell_lstm(const ez_cell *cell, float *products, const float *gates, float *h, float *c, float *spare);
/* z and r of a GRU, in the place of their products. */
void ez_cell_gru_gates(const ez_cell *cell, float *products, const float *gates);
/* reset[j] = r[j] * h[j]: what the third product of a GRU reads unless linear_before_reset. */
void ez_cell_gru_reset(const ez_cell *cell, const float *products, const float *h, float *reset);
/* The new state, once the third product is there. */
void ez_cell_gru(const ez_cell *cell, float *products, const float *gates, float *h);

#endif
