#define EZ_ROWS_NAME dotprod
#include "isa/rows.inc"
