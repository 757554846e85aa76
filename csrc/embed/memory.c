#include "embed/memory.h"

#include <string.h>

#define HEAD 64 /* before each block: where the one before began */

static size_t top, last, most; /* bytes taken; start of the last block */

void *ez_embedded_take(size_t count, size_t bytes) {
  if (bytes && count > SIZE_MAX / bytes) return NULL;
  const size_t wanted = count * bytes;
  const size_t room = ez_embedded_memory_bytes - top;
  if (room < HEAD || wanted > room - HEAD) return NULL;
  const size_t whole = HEAD + ((wanted + 63) & ~(size_t)63);
  if (whole > room) return NULL;
  uint8_t *head = ez_embedded_memory + top;
  memcpy(head, &last, sizeof last);
  last = top;
  top += whole;
  most = top > most ? top : most;
  return memset(head + HEAD, 0, wanted);
}

void ez_embedded_give(void *block) {
  if (!block || (uint8_t *)block != ez_embedded_memory + last + HEAD) return;
  top = last;
  memcpy(&last, ez_embedded_memory + top, sizeof last);
}

size_t ez_embedded_used(void) { return most; }
