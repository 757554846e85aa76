/* The list of compiled ISA tables, and the choice among them. */
#ifndef EDGEZIP_DISPATCH_H
#define EDGEZIP_DISPATCH_H

#include "ops/op.h"

/* Compiled tables, best first; the last is portable. */
int32_t ez_isa_table_count(void);
const ez_isa *ez_isa_table(int32_t index);
/* NULL when no table has that name. */
const ez_isa *ez_isa_find(const char *name);
int ez_isa_runs_here(const ez_isa *isa);

/* Fill `out` for a program of `layout` and `act_sign`. `isa` NULL: the environment's EDGEZIP_ISA, else the best table of this
 * CPU. A slot that the table leaves empty, or that cannot read the program, falls along the chain; portable reads all.
 * A named ISA that is unknown, or not offered by this CPU, is refused (EZ_BAD_ISA). *name is the table chosen. */
ez_status ez_kernels_resolve(const char *isa, uint32_t layout, uint32_t act_sign, ez_kernels *out, const char **name, ez_error *error);

#endif
