/* The tile instructions that csrc/isa/amx uses, in plain C, with the faults of the real ones (Intel SDM volume 1, chapter 18): a wrong
 * palette or shape, a product of tiles that do not fit each other, any use before a configuration. Loads and stores touch just the
 * bytes of the configured shape, so guard pages and the address sanitizer see each of them. Included by csrc/isa/amx/tiles.h. */
#ifndef EDGEZIP_TEST_AMX_MODEL_H
#define EDGEZIP_TEST_AMX_MODEL_H

#include "isa/amx/tiles.h"

typedef struct amx_counts {
  uint64_t configs, loads, stores, products;
} amx_counts;
extern amx_counts amx_counted;

/* A fault ends the process with exit code 3. */
void amx_model_config(const ez_tile_shapes *shapes);
void amx_model_read_config(ez_tile_shapes *shapes);
void amx_model_load(int tile, const void *from, size_t stride);
void amx_model_store(int tile, void *to, size_t stride);
void amx_model_dpbusd(int sum, int a, int b);

#define ez_tile_config(shapes) amx_model_config(shapes)
#define ez_tile_read_config(shapes) amx_model_read_config(shapes)
#define ez_tile_load(tile, from, stride) amx_model_load(tile, from, stride)
#define ez_tile_store(tile, to, stride) amx_model_store(tile, to, stride)
#define ez_tile_dpbusd(sum, a, b) amx_model_dpbusd(sum, a, b)

#endif
