/* The row kernels of isa/rows.inc with the flags of this folder. */
#define EZ_ROWS ez_rows_avx2
#include "isa/rows.inc"
