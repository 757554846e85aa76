/* What operators over (outer, n, inner) prove in common, and how they read whole numbers. */
#ifndef EDGEZIP_FOLDED_H
#define EDGEZIP_FOLDED_H

#include "ops/operands.h"

/* outer, n, inner and m are positive and x has outer * n * inner elements, y outer * m * inner. */
static inline ez_status ez_check_folded(ez_check *check, int32_t x, int32_t y, int32_t outer, int32_t n, int32_t inner, int32_t m) {
  if (outer < 1 || n < 1 || inner < 1 || m < 1) return ez_check_fail(check, -1, "outer", "sizes must be positive, got %d, %d, %d, %d", outer, n, inner, m);
  const int32_t most = n > m ? n : m;
  if ((int64_t)outer * most > ((int64_t)1 << 40) / inner) return ez_check_fail(check, -1, "n", "too many elements");
  const ez_status status = ez_check_elements(check, x, (int64_t)outer * n * inner);
  return status ? status : ez_check_elements(check, y, (int64_t)outer * m * inner);
}

static inline int64_t ez_whole_at(const void *x, int64_t i, int dtype) {
  if (dtype == EZ_DTYPE_S32) return ((const int32_t *)x)[i];
  if (dtype == EZ_DTYPE_S64) return ((const int64_t *)x)[i];
  return ((const uint8_t *)x)[i];
}

static inline void ez_set_whole(void *y, int64_t i, int dtype, uint64_t value) {
  if (dtype == EZ_DTYPE_S32) ((uint32_t *)y)[i] = (uint32_t)value;
  else if (dtype == EZ_DTYPE_S64) ((uint64_t *)y)[i] = value;
  else ((uint8_t *)y)[i] = (uint8_t)value;
}

#endif
