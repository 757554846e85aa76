/* A matrix of activations as the panels that product kernels read, packed while the program runs: scratch of a step, per thread. */
#ifndef EDGEZIP_PANELS_H
#define EDGEZIP_PANELS_H

#include "ops/op.h"

/* Elements (k, n) of B lie at k * stride_k + n * stride_n from its start, in elements. */
typedef struct ez_matrix {
  const uint8_t *at;
  size_t stride_k, stride_n;
  int32_t K, N;
} ez_matrix;

/* float32: (N/16, K, 16), columns beyond N are zero. */
uint64_t ez_panels_f32_bytes(int32_t K, int32_t N);
void ez_pack_panels_f32(const ez_kernels *kernels, const ez_matrix *b, float *panels);

/* int8. Kernels take weights in [-127, 127]; b - zero_point reaches further where the zero point is not 0, or a byte is -128. What does
 * not fit goes into further taps that meet the same activations: sums are exact whatever B holds, and cost twice as much (rarely thrice). */
typedef struct ez_panels_s8 {
  int8_t *w;      /* (N/16, taps, K/step, 16, step) */
  int32_t *bias;  /* -(za + (act_sign ? 128 : 0)) * column sum, N padded to 16 */
  size_t panel_bytes;
  int32_t taps;   /* 1 to 3 */
} ez_panels_s8;

/* Room for the panels, what packing needs beside them included; multiple of 64. */
uint64_t ez_panels_s8_bytes(int32_t K, int32_t N, uint32_t layout);
ez_panels_s8 ez_pack_panels_s8(const ez_kernels *kernels, const ez_matrix *b, int32_t zero_a, int32_t zero_b, uint8_t *room);

#endif
