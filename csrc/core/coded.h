/* Coded program files (ez_coded.h) back to plain ones. */
#ifndef EDGEZIP_CODED_H
#define EDGEZIP_CODED_H

#include "core/block.h"
#include "edgezip/ez.h"
#include "edgezip/ez_coded.h"

/* Whether the bytes begin as a coded file does. */
int ez_is_coded(const void *bytes, size_t size);
/* The plain file into a new block, whose plain size goes to *plain_bytes. Proves whatever it reads. */
ez_status ez_decode_program(const void *bytes, size_t size, ez_block *plain, size_t *plain_bytes, ez_error *error);

#endif
