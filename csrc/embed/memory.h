/* Memory of a program that is compiled into somebody's firmware: one static block instead of the heap. Every file of the runtime is
 * compiled with this one included first (-include embed/memory.h -DEZ_EMBEDDED), so that its calloc, malloc, aligned_alloc and free
 * are these. A block that is given back is used again when it was the last one taken: what verification needs is free afterwards. */
#ifndef EDGEZIP_EMBED_MEMORY_H
#define EDGEZIP_EMBED_MEMORY_H

#include <stddef.h>
#include <stdint.h>
#include <stdlib.h> /* before its names become ours */

/* Zeroed bytes on 64, or NULL when the block is used up. */
void *ez_embedded_take(size_t count, size_t bytes);
void ez_embedded_give(void *block);
/* The most that was in use at once. */
size_t ez_embedded_used(void);

#define calloc(count, bytes) ez_embedded_take(count, bytes)
#define malloc(bytes) ez_embedded_take(1, bytes)
#define aligned_alloc(alignment, bytes) ez_embedded_take(1, bytes)
#define free(block) ez_embedded_give(block)

/* Of the generated file: the block. */
extern uint8_t ez_embedded_memory[];
extern const size_t ez_embedded_memory_bytes;

#endif
