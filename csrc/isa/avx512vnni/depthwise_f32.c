/* float32 depthwise on registers of 16 channels. */
#include "isa/avx512vnni/avx512vnni.h"

#define LANES 16
typedef __m512 vector;

EZ_INLINE vector vector_all(float x) { return _mm512_set1_ps(x); }
EZ_INLINE vector vector_load(const float *at) { return _mm512_loadu_ps(at); }
EZ_INLINE vector vector_add(vector a, vector b) { return _mm512_add_ps(a, b); }
EZ_INLINE vector vector_fma(vector a, vector b, vector c) { return _mm512_fmadd_ps(a, b, c); }
EZ_INLINE vector vector_clamp(vector x, vector lo, vector hi) { return _mm512_min_ps(_mm512_max_ps(x, lo), hi); }
EZ_INLINE void vector_store(float *at, vector x, int32_t left) {
  _mm512_mask_storeu_ps(at, left >= LANES ? 0xffff : (__mmask16)((1u << left) - 1), x);
}

#include "isa/depthwise_f32.inc"

void ez_avx512vnni_depthwise_f32(const ez_depthwise_f32_args *d) { ez_depthwise_f32_each_line(d, line_f32); }
