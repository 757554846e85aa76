/* Instead of core/cpu.c, beside avxvnni_by_avx2.h. */
#include "core/cpu.h"

uint32_t ez_cpu_features(void) { return EZ_CPU_AVX2 | EZ_CPU_AVXVNNI; }
