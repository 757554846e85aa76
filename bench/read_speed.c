/* How fast one core reads a buffer: what a product that reads its weights once can at best reach. */
#include <immintrin.h>
#include <stdint.h>
#include <time.h>

static uint64_t now_ns(void) {
  struct timespec t;
  clock_gettime(CLOCK_MONOTONIC, &t);
  return (uint64_t)t.tv_sec * 1000000000u + (uint64_t)t.tv_nsec;
}

/* Nanoseconds of the fastest of `repeats` passes; bytes: a multiple of 256. */
uint64_t read_ns(const uint8_t *at, uint64_t bytes, int repeats, uint64_t *sink) {
  uint64_t least = UINT64_MAX;
  for (int i = 0; i < repeats; i++) {
    const uint64_t start = now_ns();
    __m256i sum[8];
    for (int v = 0; v < 8; v++) sum[v] = _mm256_setzero_si256();
    for (uint64_t b = 0; b < bytes; b += 256)
      for (int v = 0; v < 8; v++) {
        if (v % 2 == 0) _mm_prefetch((const char *)at + b + 2048 + 32 * v, _MM_HINT_T0);
        sum[v] = _mm256_or_si256(sum[v], _mm256_loadu_si256((const __m256i *)(const void *)(at + b + 32 * (uint64_t)v)));
      }
    for (int v = 1; v < 8; v++) sum[0] = _mm256_or_si256(sum[0], sum[v]);
    const uint64_t took = now_ns() - start;
    *sink += (uint64_t)_mm256_extract_epi64(sum[0], 0);
    if (took < least) least = took;
  }
  return least;
}
