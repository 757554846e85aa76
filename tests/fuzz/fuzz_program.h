#ifndef EDGEZIP_FUZZ_PROGRAM_H
#define EDGEZIP_FUZZ_PROGRAM_H

#include "edgezip/ez.h"

/* SILENT: refused without a message. */
enum verdict { REFUSED, SILENT, RAN, TOO_LARGE };

/* Write the right CRC-32 into header and section table, as far as the sections lie inside. */
void repair(uint8_t *bytes, size_t size);
/* Open, and run once if accepted. `bytes` 64-byte aligned. */
enum verdict try_program(const uint8_t *bytes, size_t size, const char *isa, int32_t threads);
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

#endif
