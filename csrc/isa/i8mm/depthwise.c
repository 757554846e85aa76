/* Depthwise of K8N16 by sdot, for kernels that slide; the others go to NEON. */
#include "isa/dotprod/slide.h"
#include "isa/i8mm/i8mm.h"

/* Taps of a column, 16 channels each, to dwords of four rows for 8 channels; zero where the kernel has no row. */
EZ_INLINE void by_column(const ez_depthwise_s8_args *d, int32_t c, int8x16_t w[][2], const int K) {
  const int8_t *from = d->w + (size_t)(c / 16) * (size_t)(K * K) * 16 + (size_t)(c % 16);
  for (int g = 0; g < GROUPS(K); g++)
    for (int kx = 0; kx < K; kx++) {
      int8x16_t taps[4];
      for (int i = 0; i < 4; i++)
        taps[i] = 4 * g + i < K ? load8((const uint8_t *)from + ((4 * g + i) * K + kx) * 16) : vdupq_n_s8(0);
      const int16x8_t taps01 = vreinterpretq_s16_s8(vzip1q_s8(taps[0], taps[1])), taps23 = vreinterpretq_s16_s8(vzip1q_s8(taps[2], taps[3]));
      w[g * K + kx][0] = vreinterpretq_s8_s16(vzip1q_s16(taps01, taps23)), w[g * K + kx][1] = vreinterpretq_s8_s16(vzip2q_s16(taps01, taps23));
    }
}
EZ_INLINE void by_column_3(const ez_depthwise_s8_args *d, int32_t c, int8x16_t w[][2]) { by_column(d, c, w, 3); }
EZ_INLINE void by_column_5(const ez_depthwise_s8_args *d, int32_t c, int8x16_t w[][2]) { by_column(d, c, w, 5); }

void ez_i8mm_depthwise_s8(const ez_depthwise_s8_args *d) {
  if (!slide_s8(d, by_column_3, by_column_5)) ez_neon_depthwise_s8(d);
}
