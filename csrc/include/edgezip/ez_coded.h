/* A coded program file, version 1: the bytes of a plain .ez (ez_format.h), entropy-coded with rANS (Duda 2013, arXiv:1311.2540).
 *
 *   header | models | segments | streams | EZ_CODED_PADDING zeros
 *
 * Decoding gives the plain file, whose own checks then hold as ever. Numbers outside of the header are varints: 7 bits a byte, the least first,
 * the high bit set in all but the last, at most 9 bytes.
 *
 * model: u8 bits (2^bits is the sum of the frequencies of a context, 8..14), u8 contexts (1..8); with more than one, 8 bytes: the context of each of
 * the 16 levels, 4 bits each, low half first. Then u8 symbols - 1; up to 32 of them: their values, rising; else a bit set of 32 bytes. Then
 * for each context the frequency of each symbol.
 * segment: gap (zeros since the end of the segment before), count, stride (1..8), then for each of `stride` planes: model + 1, or 0 for bytes stored as they
 * are, and the bytes of its stream; if one of the models has several contexts, panel and step. Plane p holds the bytes p, p + stride,
 * ... of the segment, `count` of them.
 * stream: the states (u32; EZ_CODED_STATES of them from EZ_CODED_MANY symbols on, else one), then u16 words. Symbol i belongs to state
 * i mod states; a state below 2^16 takes the next word. At the end all states are 2^16 and all words are used.
 * context: packed int8 weights lie as panels (K/step, 16 outputs, step). The column of a symbol is its k; its activity a, 0 at first, becomes
 * a + ((255 * (symbol != 0) - a) >> 4) with each symbol of the column, and its level is a >> 4.
 */
#ifndef EDGEZIP_EZ_CODED_H
#define EDGEZIP_EZ_CODED_H

#include <stdint.h>

#define EZ_CODED_VERSION 1u
#define EZ_CODED_STATES 8
#define EZ_CODED_MANY 2048 /* symbols */
#define EZ_CODED_PADDING 16
#define EZ_CODED_MAX_BITS 14
#define EZ_CODED_MAX_CONTEXTS 8
#define EZ_CODED_MAX_STRIDE 8
#define EZ_CODED_MAX_RATIO 4096 /* plain bytes for each coded byte: more is refused before any memory is taken */

typedef struct ez_coded_header { /* 64 bytes */
  char magic[8];                 /* "EDGEZIPC" */
  uint32_t version;
  uint32_t body_crc32; /* of all behind the header */
  uint64_t plain_bytes; /* of the program: decoding writes no more */
  uint64_t file_bytes;
  uint32_t n_models, n_segments;
  uint32_t model_bytes, segment_bytes;
  uint32_t reserved[3];
  uint32_t crc32; /* of the 60 bytes before */
} ez_coded_header;

#endif
