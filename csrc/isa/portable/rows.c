#define EZ_ROWS_NAME portable
#include "isa/rows.inc"
