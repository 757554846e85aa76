#define EZ_ROWS_NAME neon
#include "isa/rows.inc"
