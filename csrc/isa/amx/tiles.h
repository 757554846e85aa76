/* The tile instructions, by number of the tile (a literal). The intrinsics of gcc 12 do not say which memory they touch; these do.
 * EZ_AMX_MODEL, a header's name, puts a model of them in their place. */
#ifndef EDGEZIP_AMX_TILES_H
#define EDGEZIP_AMX_TILES_H

#include <stddef.h>
#include <stdint.h>

/* The operand of ldtilecfg: palette 1 has 8 tiles of up to 16 rows of up to 64 bytes. */
typedef struct ez_tile_shapes {
  uint8_t palette, start_row, reserved[14];
  uint16_t row_bytes[16];
  uint8_t rows[16];
} ez_tile_shapes;

#ifdef EZ_AMX_MODEL
#include EZ_AMX_MODEL
#else
#define ez_tile_config(shapes) __asm__ volatile("ldtilecfg %0" : : "m"(*(shapes)) : "memory")
#define ez_tile_read_config(shapes) __asm__ volatile("sttilecfg %0" : "=m"(*(shapes)) : : "memory")
#define ez_tile_load(tile, from, stride) \
  __asm__ volatile("tileloadd (%0,%1,1), %%tmm" #tile : : "r"((const void *)(from)), "r"((size_t)(stride)) : "memory")
#define ez_tile_store(tile, to, stride) \
  __asm__ volatile("tilestored %%tmm" #tile ", (%0,%1,1)" : : "r"((void *)(to)), "r"((size_t)(stride)) : "memory")
/* sum[m][n] += over 64 k of a[m][k] (unsigned) * b[k / 4][n][k % 4] (signed) */
#define ez_tile_dpbusd(sum, a, b) __asm__ volatile("tdpbusd %%tmm" #b ", %%tmm" #a ", %%tmm" #sum : : : "memory")
#endif

#endif
