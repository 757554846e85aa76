#define EZ_ROWS_NAME avx512vnni
#include "isa/rows.inc"
