/* Dynamic shapes: proving the section, and making the records of one size. */
#ifndef EDGEZIP_SHAPES_H
#define EDGEZIP_SHAPES_H

#include "core/program.h"

/* Reads and proves the section; sets program->shapes and the records in force. A program without it stays as it is. */
ez_status ez_shapes_open(ez_program *program, ez_error *error);

/* Memory for the records of one size; all of it is allocated once. */
typedef struct ez_records {
  ez_step *steps;
  ez_tensor *tensors;
  int64_t *quantities;
} ez_records;

/* 0 when memory is out. ez_records_destroy is right in either case. */
int ez_records_create(ez_records *records, const ez_shapes *shapes);
void ez_records_destroy(ez_records *records);
/* Makes `view` the program of these sizes, its records in `records`; they are not proved yet. */
ez_status ez_records_make(ez_records *records, const ez_program *program, const int32_t *sizes, ez_program *view, ez_error *error);

#endif
