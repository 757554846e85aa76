/* What the int8 products of this folder share: four columns of two k-steps, and what follows the sums of 8 columns. */
#ifndef EDGEZIP_NEON_PRODUCTS_H
#define EDGEZIP_NEON_PRODUCTS_H

#include "isa/neon/neon.h"

/* Four columns, from weights v4, v5 (first k-step) and v6, v7 (second); two columns lie in one register, and v0..v3 hold the
 * 8 bytes of (row 0, row 1) x (step, step + 1) in both halves. ADD is saddlp to begin the sums, sadalp to go on. */
#define FIRST_PRODUCTS                                                                                           \
  "smull v8.8h, v0.8b, v4.8b\n smull2 v9.8h, v0.16b, v4.16b\n smull v10.8h, v1.8b, v4.8b\n smull2 v11.8h, v1.16b, v4.16b\n"  \
  "smull v12.8h, v0.8b, v5.8b\n smull2 v13.8h, v0.16b, v5.16b\n smull v14.8h, v1.8b, v5.8b\n smull2 v15.8h, v1.16b, v5.16b\n"
#define SECOND_PRODUCTS                                                                                          \
  "smlal v8.8h, v2.8b, v6.8b\n smlal2 v9.8h, v2.16b, v6.16b\n smlal v10.8h, v3.8b, v6.8b\n smlal2 v11.8h, v3.16b, v6.16b\n"  \
  "smlal v12.8h, v2.8b, v7.8b\n smlal2 v13.8h, v2.16b, v7.16b\n smlal v14.8h, v3.8b, v7.8b\n smlal2 v15.8h, v3.16b, v7.16b\n"
#define SUMS_OF_COLUMNS_0_TO_3(ADD)                                                                              \
  ADD " v16.4s, v8.8h\n" ADD " v17.4s, v9.8h\n" ADD " v24.4s, v10.8h\n" ADD " v25.4s, v11.8h\n"                      \
  ADD " v18.4s, v12.8h\n" ADD " v19.4s, v13.8h\n" ADD " v26.4s, v14.8h\n" ADD " v27.4s, v15.8h\n"
#define SUMS_OF_COLUMNS_4_TO_7(ADD)                                                                              \
  ADD " v20.4s, v8.8h\n" ADD " v21.4s, v9.8h\n" ADD " v28.4s, v10.8h\n" ADD " v29.4s, v11.8h\n"                      \
  ADD " v22.4s, v12.8h\n" ADD " v23.4s, v13.8h\n" ADD " v30.4s, v14.8h\n" ADD " v31.4s, v15.8h\n"

#define JOIN_PARTS                                                                                               \
  "addp v16.4s, v16.4s, v17.4s\n addp v18.4s, v18.4s, v19.4s\n addp v20.4s, v20.4s, v21.4s\n addp v22.4s, v22.4s, v23.4s\n" \
  "addp v24.4s, v24.4s, v25.4s\n addp v26.4s, v26.4s, v27.4s\n addp v28.4s, v28.4s, v29.4s\n addp v30.4s, v30.4s, v31.4s\n" \
  "addp v16.4s, v16.4s, v18.4s\n addp v20.4s, v20.4s, v22.4s\n addp v24.4s, v24.4s, v26.4s\n addp v28.4s, v28.4s, v30.4s\n"
#define VECTORS                                                                                                  \
  "v0", "v1", "v2", "v3", "v4", "v5", "v6", "v7", "v8", "v9", "v10", "v11", "v12", "v13", "v14", "v15", "v17", "v18", "v19", "v21", \
      "v22", "v23", "v25", "v26", "v27", "v29", "v30", "v31"

/* Sums of one or two rows from `row` on, without their bias, by 8 columns -> what the call wants of them; bias, mult and y stand at the first
 * column, `left` columns are there. `floats` is known when this is compiled: a branch between the sums and what becomes of them would keep
 * the last products from flowing into it. */
EZ_INLINE void ez_neon_finish_8(const ez_gemm_s8_args *g, const ez_requant_neon *q, ptrdiff_t row, const int32_t *bias, const float *mult,
                                const int32x4_t sums[4], const int rows, uint8_t *y, int32_t left, const int floats) {
  const int32x4_t b0 = vld1q_s32(bias), b1 = vld1q_s32(bias + 4);
  if (floats) {
    int32x4_t with_bias[4]; /* and whose address is given away */
    for (int r = 0; r < rows; r++) with_bias[2 * r] = vaddq_s32(sums[2 * r], b0), with_bias[2 * r + 1] = vaddq_s32(sums[2 * r + 1], b1);
    ez_neon_store_floats(g, row, mult - g->mult, with_bias, rows, 2);
    return;
  }
  const float32x4_t m0 = vld1q_f32(mult), m1 = vld1q_f32(mult + 4);
  int16x8_t results[2];
  for (int r = 0; r < rows; r++) {
    results[r] = ez_scale8_neon(vaddq_s32(sums[2 * r], b0), vaddq_s32(sums[2 * r + 1], b1), m0, m1);
    results[r] = vqaddq_s16(results[r], q->zero_point);
  }
  ez_store_rows8_neon(q, results, rows, y, g->y_stride, left);
}

#endif
