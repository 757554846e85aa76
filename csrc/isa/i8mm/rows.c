/* The row kernels of isa/rows.inc with the flags of this folder. */
#define EZ_ROWS ez_rows_i8mm
#include "isa/rows.inc"
