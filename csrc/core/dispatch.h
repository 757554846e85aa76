/* Which ISA tables are compiled in, and which table serves each kernel slot of a program.
 *
 * The public listing (ez_isa_count, ez_isa_name, ez_isa_supported) is declared in edgezip/ez.h and defined in dispatch.c.
 */
#ifndef EDGEZIP_DISPATCH_H
#define EDGEZIP_DISPATCH_H

#include "edgezip/ez.h"
#include "isa/isa.h"
#include "ops/op.h"

/* Table `index` of the compiled ones, best first; NULL outside. */
const ez_isa *ez_isa_at(int32_t index);

/* The compiled table of that name, or NULL. */
const ez_isa *ez_isa_find(const char *name);

/* Fill `out` for programs of this layout and sign. `isa`: a table's name; NULL means the environment variable EDGEZIP_ISA if
 * set and not empty, else the best table that this CPU supports. From there the chain is walked slot by slot: an empty slot, or
 * an int8 kernel that does not read this layout and sign, falls to the next table.
 * EZ_BAD_ISA with a message when the name is unknown here or this CPU lacks it. */
ez_status ez_kernels_resolve(const char *isa, uint32_t layout, uint32_t act_sign, ez_kernels *out, ez_error *error);

#endif
