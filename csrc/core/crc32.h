/* CRC-32 of IEEE 802.3, as zlib's crc32: by the processor's instructions where it has them, else by tables. */
#ifndef EDGEZIP_CRC32_H
#define EDGEZIP_CRC32_H

#include <stddef.h>
#include <stdint.h>

uint32_t ez_crc32(const void *bytes, size_t size);

/* Goes on from the CRC of what came before (0: nothing). */
uint32_t ez_crc32_more(uint32_t crc, const void *bytes, size_t size);

#endif
