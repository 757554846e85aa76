/* Addresses that an index tensor names: shared by take (reads them) and scatter (writes them). */
#ifndef EDGEZIP_INDEXED_H
#define EDGEZIP_INDEXED_H

#include <string.h>

#include "ops/operands.h"

/* The index tensor, its walk and every address it can name stay inside `data`; `moved` has as many elements as the walk. */
static inline ez_status ez_check_indexed(ez_check *check, int32_t data, int32_t index, int32_t moved) {
  ez_indexed_params p;
  memcpy(&p, check->step->params, sizeof p);
  const int index_dtype = check->tensors[index].dtype;
  if (index_dtype != EZ_DTYPE_S32 && index_dtype != EZ_DTYPE_S64) return ez_check_fail(check, index, "dtype", "expected s32 or s64, got %d", index_dtype);
  if (p.axis < -1 || p.axis >= EZ_MAX_RANK) return ez_check_fail(check, -1, "axis", "expected -1 to %d, got %d", EZ_MAX_RANK - 1, p.axis);
  const int32_t count = p.axis >= 0 ? p.rank : p.depth;
  if (count < (p.axis >= 0) || count > EZ_MAX_RANK || p.axis >= count) return ez_check_fail(check, -1, "rank", "%d numbers do not go with axis %d", count, p.axis);
  if (p.rows < 1 || p.inner < 1 || p.batch_rows < 1 || p.batch_stride < 0 || p.rows % p.batch_rows || (p.axis >= 0 && p.inner != 1))
    return ez_check_fail(check, -1, "rows", "contradictory sizes %d, %d, %d, %d", p.rows, p.inner, p.batch_rows, p.batch_stride);
  int64_t reach = p.inner - 1 + (int64_t)(p.rows / p.batch_rows - 1) * p.batch_stride, walk = 1;
  if (reach >= (int64_t)1 << 40) return ez_check_fail(check, -1, "batch_stride", "too far");
  for (int32_t i = 0; i < count; i++) {
    const int32_t size = p.axis >= 0 && i != p.axis ? p.dims[i] : p.extents[i];
    if (size < 1 || p.strides[i] < 0 || (p.axis >= 0 && p.dims[i] < 1)) return ez_check_fail(check, -1, "extents", "axis %d: %d by %d", i, size, p.strides[i]);
    reach += (int64_t)(size - 1) * p.strides[i];
    if (p.axis >= 0) walk *= p.dims[i];
    if (reach >= (int64_t)1 << 40 || walk > INT32_MAX) return ez_check_fail(check, -1, "extents", "too many elements");
  }
  if (p.axis >= 0 && walk != p.rows) return ez_check_fail(check, -1, "rows", "expected %lld, got %d", (long long)walk, p.rows);
  const ez_tensor *t = &check->tensors[data];
  if (reach >= ez_rows_of(t) * ez_columns_of(t)) return ez_check_fail(check, data, "dims", "element %lld is named", (long long)reach);
  ez_status status = ez_check_contiguous(check, data);
  if (!status) status = ez_check_elements(check, index, (int64_t)p.rows * (p.axis >= 0 ? 1 : p.depth));
  if (!status) status = ez_check_elements(check, moved, (int64_t)p.rows * p.inner);
  if (!status) status = ez_check_stored(check, data);
  if (!status) status = ez_check_stored(check, moved);
  return status;
}

static inline int64_t ez_index_at(const void *index, int64_t i, int dtype, int32_t extent) {
  int64_t held = dtype == EZ_DTYPE_S64 ? ((const int64_t *)index)[i] : ((const int32_t *)index)[i];
  held = held < -(int64_t)extent ? 0 : held < 0 ? held + extent : held;
  return held < extent ? held : extent - 1;
}

/* First element that row `row` of the index names. */
static inline int64_t ez_address(const ez_indexed_params *p, const void *index, int dtype, int64_t row) {
  int64_t at = 0;
  if (p->axis < 0) {
    for (int32_t k = 0; k < p->depth; k++) at += ez_index_at(index, row * p->depth + k, dtype, p->extents[k]) * p->strides[k];
    return at + row / p->batch_rows * p->batch_stride;
  }
  int64_t rest = row;
  for (int32_t i = p->rank - 1; i >= 0; i--) {
    const int64_t place = rest % p->dims[i];
    rest /= p->dims[i];
    at += (i == p->axis ? ez_index_at(index, row, dtype, p->extents[i]) : place) * p->strides[i];
  }
  return at;
}

#endif
