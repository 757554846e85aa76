#include "ops/convert.h"

#include <string.h>

#include "ops/operands.h"

void ez_convert_run(const ez_converter *c, const uint8_t *x, uint8_t *y, size_t n) {
  switch (c->convert) {
    case EZ_CONVERT_QUANTIZE:
      c->rows->quantize((const float *)(const void *)x, y, n, c->y_sign, c->scale, c->zy, c->lo, c->hi);
      return;
    case EZ_CONVERT_DEQUANTIZE:
      c->rows->dequantize(x, (float *)(void *)y, n, c->x_sign, c->scale, c->zx);
      return;
    case EZ_CONVERT_REQUANTIZE:
      c->rows->requantize(x, y, n, c->x_sign, c->scale, c->zx, c->zy, c->lo, c->hi);
      break; /* stored with the sign of x so far */
    case EZ_CONVERT_CAST:
      ez_cast_run(c->x_dtype, c->y_dtype, x, y, n);
      return;
    default:
      memcpy(y, x, n * ez_element_bytes(c->y_dtype));
  }
  if (c->x_sign != c->y_sign)
    for (size_t i = 0; i < n; i++) y[i] ^= 0x80;
}

/* Truncates towards zero and saturates; NaN is 0. `limit` is the first power of two beyond the type. */
#define SATURATED(v, type, low, high, limit) ((v) != (v) ? 0 : (v) >= (limit) ? (high) : (v) <= (float)(low) ? (low) : (type)(v))

#define FROM_INTEGER(type)                                                                                       \
  do {                                                                                                           \
    const type *from = (const type *)(const void *)x;                                                            \
    switch (y_dtype) {                                                                                           \
      case EZ_DTYPE_F32: for (size_t i = 0; i < n; i++) ((float *)(void *)y)[i] = (float)from[i]; break;         \
      case EZ_DTYPE_S32: for (size_t i = 0; i < n; i++) ((int32_t *)(void *)y)[i] = (int32_t)from[i]; break;     \
      case EZ_DTYPE_S64: for (size_t i = 0; i < n; i++) ((int64_t *)(void *)y)[i] = (int64_t)from[i]; break;     \
      case EZ_DTYPE_U8: for (size_t i = 0; i < n; i++) y[i] = (uint8_t)from[i]; break;                           \
      default: for (size_t i = 0; i < n; i++) y[i] = from[i] != 0;                                               \
    }                                                                                                            \
  } while (0)

static void from_f32(int y_dtype, const float *x, uint8_t *y, size_t n) {
  switch (y_dtype) {
    case EZ_DTYPE_F32: memcpy(y, x, n * 4); break;
    case EZ_DTYPE_S32:
      for (size_t i = 0; i < n; i++) ((int32_t *)(void *)y)[i] = SATURATED(x[i], int32_t, INT32_MIN, INT32_MAX, 2147483648.0f);
      break;
    case EZ_DTYPE_S64:
      for (size_t i = 0; i < n; i++) ((int64_t *)(void *)y)[i] = SATURATED(x[i], int64_t, INT64_MIN, INT64_MAX, 9223372036854775808.0f);
      break;
    case EZ_DTYPE_U8:
      for (size_t i = 0; i < n; i++) y[i] = SATURATED(x[i], uint8_t, 0, 255, 256.0f);
      break;
    default:
      for (size_t i = 0; i < n; i++) y[i] = x[i] != 0.0f;
  }
}

static void from_bool(int y_dtype, const uint8_t *x, uint8_t *y, size_t n) {
  switch (y_dtype) {
    case EZ_DTYPE_F32: for (size_t i = 0; i < n; i++) ((float *)(void *)y)[i] = x[i] != 0; break;
    case EZ_DTYPE_S32: for (size_t i = 0; i < n; i++) ((int32_t *)(void *)y)[i] = x[i] != 0; break;
    case EZ_DTYPE_S64: for (size_t i = 0; i < n; i++) ((int64_t *)(void *)y)[i] = x[i] != 0; break;
    default: for (size_t i = 0; i < n; i++) y[i] = x[i] != 0;
  }
}

void ez_cast_run(int x_dtype, int y_dtype, const uint8_t *x, uint8_t *y, size_t n) {
  switch (x_dtype) {
    case EZ_DTYPE_F32: from_f32(y_dtype, (const float *)(const void *)x, y, n); break;
    case EZ_DTYPE_S32: FROM_INTEGER(int32_t); break;
    case EZ_DTYPE_S64: FROM_INTEGER(int64_t); break;
    case EZ_DTYPE_U8: FROM_INTEGER(uint8_t); break;
    default: from_bool(y_dtype, x, y, n);
  }
}
