/* Packed weights rearranged so that vpmaddubsw never saturates on them: what gemm_s8.c multiplies by.
 *
 * vpmaddubsw adds two products in 16 bits. With activations in 0..255 that can saturate only if |w0 + w1| > 128 (255 * 128 = 32640), and
 * which two k meet in a pair is free. Within a window of 16 k of a tap, k are paired so that all 16 columns of the panel stay below
 * that; one that finds no partner is paired with zeros. The activations follow by one byte shuffle a window and panel, or a window and
 * two panels where a pairing that suits both takes hardly more steps.
 *
 * A prepared product: uint64_t offset of each panel from the start, then the panels, each an ez_paired_panel, its windows, and on the
 * next multiple of 64 bytes its weights, 64 bytes a step: (16 columns, 2 pairs, 2). */
#ifndef EDGEZIP_AVX2_PAIRS_H
#define EDGEZIP_AVX2_PAIRS_H

#include "isa/isa.h"

typedef struct ez_paired_window {
  uint8_t from[16]; /* the byte of the window that goes to each place; its weights are zero where any will do */
  int32_t tap, first, steps;
  int32_t unused;
} ez_paired_window;

typedef struct ez_paired_panel {
  int32_t windows, steps; /* 0 windows: too few k found a partner, the packed weights serve better */
  int32_t leads;          /* the next panel has the same windows */
  int32_t unused;
} ez_paired_panel;

static inline const ez_paired_panel *ez_paired_panel_at(const uint8_t *prepared, int32_t panel) {
  return (const ez_paired_panel *)(const void *)(prepared + ((const uint64_t *)(const void *)prepared)[panel]);
}

static inline const ez_paired_window *ez_paired_windows(const ez_paired_panel *p) { return (const ez_paired_window *)(const void *)(p + 1); }

static inline const int8_t *ez_paired_weights(const ez_paired_panel *p) {
  const uintptr_t end = (uintptr_t)(ez_paired_windows(p) + p->windows);
  return (const int8_t *)((end + 63) & ~(uintptr_t)63);
}

/* Contracts: ez_isa in isa/isa.h. */
size_t ez_avx2_prepared_room(int32_t panels, int32_t taps, int32_t channels, int32_t rows);
size_t ez_avx2_prepare_gemm_s8(const int8_t *w, size_t panel_bytes, int32_t panels, int32_t taps, int32_t channels, uint8_t *out);

#endif
