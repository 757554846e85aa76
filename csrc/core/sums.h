/* The order of float sums over a contiguous axis (EZ-N1 rule 9): 16 partial sums by index mod 16, then pairs at distance 8, 4, 2, 1. */
#ifndef EDGEZIP_SUMS_H
#define EDGEZIP_SUMS_H

#include <stdint.h>

static inline float ez_sum_of_lanes(float *lanes) {
  for (int distance = 8; distance; distance /= 2)
    for (int i = 0; i < distance; i++) lanes[i] += lanes[i + distance];
  return lanes[0];
}

static inline float ez_sum_in_tree(const float *x, int64_t n) {
  float lanes[16] = {0};
  int64_t i = 0;
  for (; i + 16 <= n; i += 16)
    for (int lane = 0; lane < 16; lane++) lanes[lane] += x[i + lane];
  for (int lane = 0; i < n; i++, lane++) lanes[lane] += x[i];
  return ez_sum_of_lanes(lanes);
}

#endif
