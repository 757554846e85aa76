#define EZ_ROWS_NAME avx2
#include "isa/rows.inc"
