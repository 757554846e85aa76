/* Runs of contiguous elements, converted on the way: what a copy does to each element. */
#ifndef EDGEZIP_CONVERT_H
#define EDGEZIP_CONVERT_H

#include "ops/op.h"

typedef struct ez_converter {
  const ez_rows *rows;
  int32_t convert; /* EZ_CONVERT_* */
  int x_dtype, y_dtype;
  uint32_t x_sign, y_sign; /* XOR between logical and stored bytes of either side */
  float scale;             /* of the float side, or sx/sy */
  int32_t zx, zy, lo, hi;
} ez_converter;

/* Whether bytes change on the way at all. */
static inline int ez_converts(const ez_converter *converter) { return converter->convert != EZ_CONVERT_NONE || converter->x_sign != converter->y_sign; }

/* n contiguous elements of x into y. x and y do not overlap. */
void ez_convert_run(const ez_converter *converter, const uint8_t *x, uint8_t *y, size_t n);
/* EZ_CONVERT_CAST: f32, s32, s64, u8, bool. */
void ez_cast_run(int x_dtype, int y_dtype, const uint8_t *x, uint8_t *y, size_t n);

#endif
