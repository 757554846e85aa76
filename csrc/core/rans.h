/* The rANS decoder of coded program files; see ez_coded.h. */
#ifndef EDGEZIP_RANS_H
#define EDGEZIP_RANS_H

#include <stddef.h>
#include <stdint.h>

#include "edgezip/ez_coded.h"

/* A model ready to decode with. */
typedef struct ez_rans_table {
  uint32_t bits, contexts;
  uint8_t context_of_level[16];
  uint32_t cells[EZ_CODED_MAX_CONTEXTS][256];                     /* of a symbol: frequency | start << 16 */
  uint8_t symbols[EZ_CODED_MAX_CONTEXTS << EZ_CODED_MAX_BITS]; /* of a slot, contexts one after another */
} ez_rans_table;

/* One stream. Its bytes may be read up to EZ_CODED_PADDING past the end. */
typedef struct ez_rans_stream {
  const uint8_t *bytes;
  size_t size;
  uint8_t *out;
  size_t count, stride;
  uint8_t *activity; /* of each column, panel / 16 zeros; NULL with one context */
  size_t panel, step; /* count is a multiple of panel, panel of 16 * step, step 4 or 8 */
} ez_rans_stream;

/* 0 when the stream does not end as it must: it is damaged. */
int ez_rans_decode(const ez_rans_table *table, const ez_rans_stream *stream);

#endif
