/* Functions where it matters in which order things happen, or how NaNs compare. */
#include <math.h>
#include <stdlib.h>

void skewed(int n, float *a, float *b, float *c) {
  for (int i = 1; i < n; i++) { b[i] = a[i - 1]; a[i] = c[i] * 2; }
}
void jacobi(int n, int t, float *A, float *B) {
  for (int s = 0; s < t; s++) {
    for (int i = 1; i < n - 1; i++) for (int j = 1; j < n - 1; j++)
      B[i * n + j] = 0.25f * (A[i * n + j - 1] + A[i * n + j + 1] + A[(i - 1) * n + j] + A[(i + 1) * n + j]);
    for (int i = 1; i < n - 1; i++) for (int j = 1; j < n - 1; j++)
      A[i * n + j] = 0.25f * (B[i * n + j - 1] + B[i * n + j + 1] + B[(i - 1) * n + j] + B[(i + 1) * n + j]);
  }
}
void gradients(int n, int t, float *A, float *x, float *r, float *p, float *q) {
  for (int s = 0; s < t; s++) {
    for (int i = 0; i < n; i++) { float z = 0; for (int j = 0; j < n; j++) z += A[i * n + j] * p[j]; q[i] = z; }
    float rr = 0, pq = 0, nn = 0;
    for (int i = 0; i < n; i++) rr += r[i] * r[i];
    for (int i = 0; i < n; i++) pq += p[i] * q[i];
    for (int i = 0; i < n; i++) { x[i] += rr / (pq + 1) * p[i]; r[i] -= rr / (pq + 1) * q[i]; }
    for (int i = 0; i < n; i++) nn += r[i] * r[i];
    for (int i = 0; i < n; i++) p[i] = r[i] + nn / (rr + 1) * p[i];
  }
}
void lu(int n, double *A) {
  for (int k = 0; k < n; k++) {
    for (int i = k + 1; i < n; i++) A[i * n + k] /= A[k * n + k] + 9;
    for (int i = k + 1; i < n; i++) for (int j = k + 1; j < n; j++) A[i * n + j] -= A[i * n + k] * A[k * n + j];
  }
}
void nested(int n, int t, float *A, float *x) {
  for (int s = 0; s < t; s++) for (int k = 0; k < 3; k++) {
    float m = 0;
    for (int i = 0; i < n; i++) m += x[i] * (k + 1);
    for (int i = 0; i < n; i++) x[i] = x[i] / (m + s + 2) + A[i];
  }
}
void temporary(int n, float *A, float *B, float *y) {
  float *t = malloc(n * sizeof(float));
  for (int i = 0; i < n; i++) { float s = 0; for (int j = 0; j < n; j++) s += A[i * n + j] * B[j]; t[i] = s; }
  for (int i = 0; i < n; i++) y[i] = expf(t[i]);
  free(t);
}
void unordered(int n, float *x, float *z, float *y) {
  for (int i = 0; i < n; i++) {
    float a = x[i], b = z[i];
    y[8 * i] = a != b ? 1 : 2;
    y[8 * i + 1] = !(a > b) ? a : b;
    y[8 * i + 2] = fmaxf(b, a);
    y[8 * i + 3] = isnan(a) ? 0 : a;
    y[8 * i + 4] = islessgreater(a, b) ? 1 : 2;
    y[8 * i + 5] = (a > b || a != a) ? a : b;
    y[8 * i + 6] = !(a >= b) ? 1 : b;
    y[8 * i + 7] = a == b ? a : 5;
  }
}
