/* The program inside of the runner. Here there is none; `edgezip compile --emit exe` builds the runner with another such file. */
#include "tools/runner.h"

const uint8_t ez_embedded[1] = {0};
const uint64_t ez_embedded_bytes = 0;
