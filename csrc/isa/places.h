/* Where the groups of block-sparse weights find their activations: for kernels that read rows where they lie. */
#ifndef EDGEZIP_PLACES_H
#define EDGEZIP_PLACES_H

#include "isa/isa.h"

#define EZ_MOST_PLACES 1024 /* groups that a kernel takes at a time; more wait with their sums in memory */

typedef struct ez_place {
  uint32_t tap;    /* bytes from the first tap's row pointers to those of this one */
  uint32_t offset; /* bytes from the start of a row */
} ez_place;

/* Groups [first, first + count) of a list that ascends; `step`: k of a group. */
static inline void ez_find_places(const ez_gemm_s8_args *g, uint32_t first, uint32_t count, uint32_t step, ez_place *out) {
  const uint32_t span = ((uint32_t)g->channels + step - 1) / step, tap_bytes = (uint32_t)(g->a_stride * sizeof *g->a);
  uint32_t tap = count ? g->index[first] / span : 0, start = tap * span;
  for (uint32_t i = 0; i < count; i++) {
    while (g->index[first + i] >= start + span) tap++, start += span;
    out[i] = (ez_place){tap * tap_bytes, (g->index[first + i] - start) * step};
  }
}

#endif
