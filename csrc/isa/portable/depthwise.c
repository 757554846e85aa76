/* Portable depthwise: int8 in both layouts and signs, and float. */
#include "isa/portable/portable.h"

#include <math.h>
#include <string.h>

#include "core/numerics.h"
#include "edgezip/ez_format.h"

/* Weight of channel c, tap t: K4N16 is (C/16, taps/4, 16, 4), K8N16 is (C/16, taps, 16). */
static int32_t weight(const ez_depthwise_s8_args *args, int32_t c, int32_t t) {
  const int32_t lane = c % 16;
  const size_t panel = (size_t)(c / 16), taps = (size_t)args->taps;
  if (args->layout == EZ_LAYOUT_K8N16) return args->w[(panel * taps + (size_t)t) * 16 + (size_t)lane];
  return args->w[(panel * ((taps + 3) / 4) + (size_t)t / 4) * 64 + (size_t)(lane * 4 + t % 4)];
}

void ez_portable_depthwise_s8(const ez_depthwise_s8_args *args) {
  for (int32_t p = 0; p < args->pixels; p++) {
    const uint8_t *const *a = args->a + (size_t)p * (size_t)args->taps;
    uint8_t *y = args->y + (size_t)p * args->y_stride;
    for (int32_t c = 0; c < args->channels; c++) {
      int32_t acc = args->bias[c];
      for (int32_t t = 0; t < args->taps; t++) acc = ez_mac(acc, ez_operand(a[t][c], args->act_sign), weight(args, c, t));
      y[c] = ez_store(ez_requantize_s32(acc, args->mult[c], args->lo, args->hi, args->zero_point), args->act_sign);
    }
  }
}

/* One fmaf chain a channel in ascending taps, bias last. Where the target has no fused multiply-add, fmaf is libm's: slow, exact. */
void ez_portable_depthwise_f32(const ez_depthwise_f32_args *args) {
  const int32_t taps = args->taps;
  for (int32_t c = 0; c < args->channels; c += 16) {
    const float *w = args->w + (size_t)c * (size_t)taps; /* (taps, 16) */
    const float *bias = args->bias + c;
    const size_t bytes = sizeof(float) * (size_t)(args->channels - c < 16 ? args->channels - c : 16);
    for (int32_t p = 0; p < args->pixels; p++) {
      const float *const *a = args->a + (size_t)p * (size_t)taps;
      float acc[16] = {0};
      for (int32_t t = 0; t < taps; t++)
        for (int i = 0; i < 16; i++) acc[i] = fmaf(a[t][c + i], w[t * 16 + i], acc[i]);
      for (int i = 0; i < 16; i++) acc[i] = ez_clamp(acc[i] + bias[i], args->lo, args->hi);
      memcpy(args->y + (size_t)p * args->y_stride + c, acc, bytes);
    }
  }
}
