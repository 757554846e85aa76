/* Large zeroed memory, aligned to 64 bytes: arena, scratch, states. */
#ifndef EDGEZIP_BLOCK_H
#define EDGEZIP_BLOCK_H

#include <stddef.h>
#include <stdint.h>

typedef struct ez_block {
  uint8_t *bytes; /* NULL when there is none */
  void *base;     /* what is given back */
  size_t size;    /* of it */
} ez_block;

/* Zeroed, so that over-read bytes are the same in every run; untouched, so that a hostile size costs no memory until used. 0 when
 * memory is out. */
int ez_block_create(ez_block *block, size_t bytes);
void ez_block_destroy(ez_block *block);

#endif
