#include "amx_model.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { TILES = 8, MOST_ROWS = 16, MOST_BYTES = 64 };

amx_counts amx_counted;
static ez_tile_shapes shapes; /* palette 0: not configured */
static uint8_t tiles[TILES][MOST_ROWS][MOST_BYTES];

static void fault(const char *why) {
  printf("amx model: %s\n", why);
  exit(3);
}

void amx_model_config(const ez_tile_shapes *wanted) {
  if (wanted->palette != 1 || wanted->start_row) fault("palette or start row");
  for (int i = 0; i < 14; i++)
    if (wanted->reserved[i]) fault("reserved byte of a configuration");
  for (int i = 0; i < 16; i++) {
    if (wanted->rows[i] > MOST_ROWS || wanted->row_bytes[i] > MOST_BYTES) fault("shape of a tile");
    if ((wanted->rows[i] == 0) != (wanted->row_bytes[i] == 0)) fault("half a shape");
    if (i >= TILES && wanted->rows[i]) fault("a ninth tile");
  }
  shapes = *wanted;
  memset(tiles, 0, sizeof tiles);
  amx_counted.configs++;
}

void amx_model_read_config(ez_tile_shapes *to) { *to = shapes; }

static void need(int tile) {
  if (tile < 0 || tile >= TILES || shapes.palette != 1 || !shapes.rows[tile]) fault("a tile that is not configured");
}

void amx_model_load(int tile, const void *from, size_t stride) {
  need(tile);
  memset(tiles[tile], 0, sizeof tiles[tile]);
  for (size_t r = 0; r < shapes.rows[tile]; r++) memcpy(tiles[tile][r], (const uint8_t *)from + r * stride, shapes.row_bytes[tile]);
  amx_counted.loads++;
}

void amx_model_store(int tile, void *to, size_t stride) {
  need(tile);
  for (size_t r = 0; r < shapes.rows[tile]; r++) memcpy((uint8_t *)to + r * stride, tiles[tile][r], shapes.row_bytes[tile]);
  amx_counted.stores++;
}

void amx_model_dpbusd(int sum, int a, int b) {
  need(sum), need(a), need(b);
  if (sum == a || sum == b || a == b) fault("a product of a tile with itself");
  if (shapes.rows[sum] != shapes.rows[a] || shapes.row_bytes[sum] != shapes.row_bytes[b]) fault("a product whose sums do not fit");
  if (shapes.row_bytes[a] != 4 * shapes.rows[b] || shapes.row_bytes[sum] % 4) fault("a product whose k differ");
  for (int m = 0; m < shapes.rows[sum]; m++)
    for (int n = 0; n < shapes.row_bytes[sum] / 4; n++) {
      uint32_t total;
      memcpy(&total, tiles[sum][m] + 4 * n, 4);
      for (int k = 0; k < shapes.row_bytes[a]; k++) total += (uint32_t)(tiles[a][m][k] * (int8_t)tiles[b][k / 4][4 * n + k % 4]);
      memcpy(tiles[sum][m] + 4 * n, &total, 4);
    }
  amx_counted.products++;
}
