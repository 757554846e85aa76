/* A network without a runtime to install: the C sources that EdgeZip makes of it, and this program.
 *
 *   edgezip compile edgezip/data/demo/fashion_cnn.onnx -o demo --target host --emit c
 *   make -C demo && cc -O2 -Idemo examples/c/classify.c demo/libdemo.a -lm -Wl,--gc-sections -o classify
 *   ./classify picture.bin        28 x 28 float32 between 0 and 1, row by row
 *
 * There is no heap, no file and no thread in the network's code: what is read here is read by this program. */
#include <stdio.h>

#include "demo.h"

#define CLASSES (DEMO_OUTPUT_0_BYTES / sizeof(float))

int main(int argc, char **argv) {
  static float picture[DEMO_INPUT_0_BYTES / sizeof(float)], scores[CLASSES];
  if (demo_init()) return fprintf(stderr, "classify: %s\n", demo_message()), 1;
  if (demo_self_test()) return fprintf(stderr, "classify: this processor computes other bits than the reference\n"), 1;

  FILE *file = argc == 2 ? fopen(argv[1], "rb") : NULL;
  if (!file || fread(picture, sizeof picture, 1, file) != 1) return fprintf(stderr, "usage: classify picture.bin (%zu bytes)\n", sizeof picture), 2;
  fclose(file);

  const void *inputs[DEMO_INPUTS] = {picture};
  void *outputs[DEMO_OUTPUTS] = {scores};
  if (demo_run(inputs, outputs)) return fprintf(stderr, "classify: %s\n", demo_message()), 1;
  size_t best = 0;
  for (size_t i = 1; i < CLASSES; i++) best = scores[i] > scores[best] ? i : best;
  printf("class %zu, score %.4f, %zu bytes of memory\n", best, (double)scores[best], demo_memory_used());
  return 0;
}
