/* Times the second call of gemm: docs/raising.md links it with the original, and with the tuned function. */
#include <stdio.h>
#include <stdlib.h>
#include <time.h>
void gemm(int n, const float *a, const float *b, float *c);
static double now(void) { struct timespec t; clock_gettime(CLOCK_MONOTONIC, &t); return t.tv_sec + 1e-9 * t.tv_nsec; }
int main(void) {
  int n = 1024;
  float *a = malloc(4 * n * n), *b = malloc(4 * n * n), *c = malloc(4 * n * n);
  for (int i = 0; i < n * n; i++) { a[i] = i % 7; b[i] = i % 5; }
  gemm(n, a, b, c);
  double began = now();
  gemm(n, a, b, c);
  printf("%.1f ms, c[1000] = %g\n", 1e3 * (now() - began), c[1000]);
}
