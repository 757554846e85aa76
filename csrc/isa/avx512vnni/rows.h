/* Hand-written row kernels of this folder (contracts: ez_rows in isa/isa.h). */
#ifndef EDGEZIP_AVX512VNNI_ROWS_H
#define EDGEZIP_AVX512VNNI_ROWS_H

#include "isa/isa.h"

void ez_avx512vnni_add_s8(const uint8_t *a, const uint8_t *b, uint8_t *y, size_t n, uint32_t act_sign, int32_t za, int32_t zb, float ma, float mb, int32_t zy, int32_t lo, int32_t hi);
void ez_avx512vnni_sub_s8(const uint8_t *a, const uint8_t *b, uint8_t *y, size_t n, uint32_t act_sign, int32_t za, int32_t zb, float ma, float mb, int32_t zy, int32_t lo, int32_t hi);
void ez_avx512vnni_mul_s8(const uint8_t *a, const uint8_t *b, uint8_t *y, size_t n, uint32_t act_sign, int32_t za, int32_t zb, float m, int32_t zy, int32_t lo, int32_t hi);
void ez_avx512vnni_requantize(const uint8_t *x, uint8_t *y, size_t n, uint32_t act_sign, float m, int32_t zx, int32_t zy, int32_t lo, int32_t hi);
void ez_avx512vnni_lerp_s8(const uint8_t *const corner[4], float across, float down, uint8_t *y, size_t n, uint32_t act_sign, int32_t zx, float m, int32_t zy, int32_t lo, int32_t hi);
void ez_avx512vnni_prelu_s8(const uint8_t *x, const float *positive, const float *negative, uint8_t *y, size_t n, uint32_t act_sign, int32_t zx, int32_t zy, int32_t lo, int32_t hi);
void ez_avx512vnni_quantize(const float *x, uint8_t *y, size_t n, uint32_t act_sign, float scale, int32_t zy, int32_t lo, int32_t hi);
void ez_avx512vnni_attend_f32(const float *x, const float *mask, float factor, int32_t divides, float *y, size_t n);
void ez_avx512vnni_norm_f32(const float *x, const float *more, float *s, const float *scale, const float *bias, float *y, size_t n, float epsilon, int32_t centres);
float ez_avx512vnni_quantize_row(const float *x, uint8_t *y, size_t n, uint32_t act_sign);
void ez_avx512vnni_quantize_planes(const float *const planes[3], uint8_t *y, size_t n, uint32_t act_sign, float scale, int32_t zy, int32_t lo, int32_t hi);
void ez_avx512vnni_dequantize(const uint8_t *x, float *y, size_t n, uint32_t act_sign, float scale, int32_t zx);
void ez_avx512vnni_max_s8(const uint8_t *const *x, int32_t taps, uint8_t *y, size_t n, size_t pixels, size_t step_x, size_t step_y, uint32_t act_sign);
void ez_avx512vnni_max_f32(const float *const *x, int32_t taps, float *y, size_t n, size_t pixels, size_t step_x, size_t step_y);
void ez_avx512vnni_sum_s8(const uint8_t *const *x, int32_t taps, int32_t *sums, size_t n, uint32_t act_sign, int32_t zx);
void ez_avx512vnni_scale_s32(const int32_t *sums, uint8_t *y, size_t n, uint32_t act_sign, float count, float m, int32_t zy, int32_t lo, int32_t hi);

#endif
