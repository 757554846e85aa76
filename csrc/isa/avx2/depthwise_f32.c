/* float32 depthwise on registers of 8 channels. */
#include "isa/avx2/avx2.h"

#define LANES 8
typedef __m256 vector;

EZ_INLINE vector vector_all(float x) { return _mm256_set1_ps(x); }
EZ_INLINE vector vector_load(const float *at) { return _mm256_loadu_ps(at); }
EZ_INLINE vector vector_add(vector a, vector b) { return _mm256_add_ps(a, b); }
EZ_INLINE vector vector_fma(vector a, vector b, vector c) { return _mm256_fmadd_ps(a, b, c); }
EZ_INLINE vector vector_clamp(vector x, vector lo, vector hi) { return _mm256_min_ps(_mm256_max_ps(x, lo), hi); }
EZ_INLINE void vector_store(float *at, vector x, int32_t left) { ez_store_floats(at, x, left); }

#include "isa/depthwise_f32.inc"

void ez_avx2_depthwise_f32(const ez_depthwise_f32_args *d) { ez_depthwise_f32_each_line(d, line_f32); }
