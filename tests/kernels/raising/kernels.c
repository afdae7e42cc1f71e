/* Functions that are raised and compared with themselves. */
#include <math.h>

void gemm(int m, int n, int k, float alpha, float beta, float *A, float *B, float *C) {
  for (int i = 0; i < m; i++) {
    for (int j = 0; j < n; j++) C[i * n + j] *= beta;
    for (int l = 0; l < k; l++) for (int j = 0; j < n; j++) C[i * n + j] += alpha * A[i * k + l] * B[l * n + j];
  }
}
void product(int m, int n, int k, double *A, double *B, double *C) {
  for (int i = 0; i < m; i++) for (int j = 0; j < n; j++) {
    double s = 0;
    for (int l = 0; l < k; l++) s += A[l * m + i] * B[j * k + l];
    C[i * n + j] = s;
  }
}
void tiled(int n, float *A, float *B, float *C) {
  for (int i = 0; i < n; i++) for (int j = 0; j < n; j++) C[i * n + j] = 0;
  for (int ii = 0; ii < n; ii += 8) for (int jj = 0; jj < n; jj += 8) for (int kk = 0; kk < n; kk += 8)
    for (int i = ii; i < (ii + 8 < n ? ii + 8 : n); i++) for (int j = jj; j < (jj + 8 < n ? jj + 8 : n); j++)
      for (int k = kk; k < (kk + 8 < n ? kk + 8 : n); k++) C[i * n + j] += A[i * n + k] * B[k * n + j];
}
void integers(int n, signed char *A, signed char *B, int *C) {
  for (int i = 0; i < n; i++) for (int j = 0; j < n; j++) {
    int s = 0;
    for (int k = 0; k < n; k++) s += A[i * n + k] * B[k * n + j];
    C[i * n + j] = s;
  }
}
float dot(int n, float *x, float *y) {
  float s = 0;
  for (int i = 0; i < n; i++) s += x[i] * y[i];
  return s;
}
void padded(int n, float *x, float *w, float *y) {
  for (int i = 0; i < n; i++) {
    float s = 0;
    for (int r = 0; r < 5; r++) if (i + r - 2 >= 0 && i + r - 2 < n) s += x[i + r - 2] * w[r];
    y[i] = s;
  }
}
void convolution(int f, int c, int h, int w, float *x, float *k, float *y) {
  for (int o = 0; o < f; o++) for (int i = 0; i < h - 2; i++) for (int j = 0; j < w - 2; j++) {
    float t = 0;
    for (int l = 0; l < c; l++) for (int r = 0; r < 3; r++) for (int s = 0; s < 3; s++)
      t += x[(l * h + i + r) * w + j + s] * k[((o * c + l) * 3 + r) * 3 + s];
    y[(o * (h - 2) + i) * (w - 2) + j] = t;
  }
}
void stencil(int n, int m, double *A, double *B) {
  for (int i = 1; i < n - 1; i++) for (int j = 1; j < m - 1; j++)
    B[i * m + j] = 0.2 * (A[i * m + j] + A[i * m + j - 1] + A[i * m + j + 1] + A[(i - 1) * m + j] + A[(i + 1) * m + j]);
}
void symmetric(int n, int k, double a, double *A, double *C) {
  for (int i = 0; i < n; i++) for (int j = 0; j <= i; j++) for (int l = 0; l < k; l++)
    C[i * n + j] += a * A[i * k + l] * A[j * k + l];
}
void triangle(int n, double *A, double *x, double *y) {
  for (int i = 0; i < n; i++) { double s = 0; for (int k = 0; k < i; k++) s += A[i * n + k] * x[k]; y[i] = s; }
}
void twice(int m, int n, double *A, double *x, double *y, double *t) {
  for (int i = 0; i < n; i++) y[i] = 0;
  for (int i = 0; i < m; i++) {
    t[i] = 0;
    for (int j = 0; j < n; j++) t[i] += A[i * n + j] * x[j];
    for (int j = 0; j < n; j++) y[j] += A[i * n + j] * t[i];
  }
}
void softmax(int m, int n, float *x, float *y) {
  for (int i = 0; i < m; i++) {
    float g = x[i * n], t = 0;
    for (int j = 1; j < n; j++) if (x[i * n + j] > g) g = x[i * n + j];
    for (int j = 0; j < n; j++) { y[i * n + j] = expf(x[i * n + j] - g); t += y[i * n + j]; }
    for (int j = 0; j < n; j++) y[i * n + j] /= t;
  }
}
void layer_norm(int m, int n, float *x, float *g, float *h, float *y) {
  for (int i = 0; i < m; i++) {
    float a = 0, v = 0;
    for (int j = 0; j < n; j++) a += x[i * n + j];
    a /= n;
    for (int j = 0; j < n; j++) { float d = x[i * n + j] - a; v += d * d; }
    float r = 1 / sqrtf(v / n + 1e-5f);
    for (int j = 0; j < n; j++) y[i * n + j] = (x[i * n + j] - a) * r * g[j] + h[j];
  }
}
void reversed(int n, float *x, float *y) { for (int i = n - 1; i >= 0; i--) y[n - 1 - i] = 3 * x[i] - i; }
void smallest(int m, int n, double *x, double *y) {
  for (int i = 0; i < m; i++) { double s = x[i * n]; for (int j = 1; j < n; j++) s = x[i * n + j] < s ? x[i * n + j] : s; y[i] = s; }
}
void rows(int m, int n, int lda, float *A, float *y) {
  for (int i = 0; i < m; i++) { float s = y[i]; for (int j = 0; j < n; j++) s += A[i * lda + j]; y[i] = 2 * s; }
}
void clipped(int n, float *x, float *y) { for (int i = 0; i < n; i++) y[i] = x[i] > 1 ? 1 : x[i] < -1 ? -1 : x[i]; }
int counted(int n, float *x, float *y) { for (int i = 0; i < n; i++) y[i] = x[i] * 2; return n + 5; }
void part(int m, int n, int ldc, float *A, float *C) {
  for (int i = 0; i < m; i++) for (int j = 0; j < n; j++) C[i * ldc + j] = 2 * A[i * n + j];
}
void running(int m, int n, float *x, float *y) {
  for (int i = 0; i < m; i++) { float s = 1; for (int j = 0; j < n; j++) { s += x[i * n + j]; y[i * n + j] = s; } }
}
float before(int n, double *x, double *y) {
  double s = 1;
  for (int i = 0; i < n; i++) { y[i] = s; s *= x[i]; }
  return s;
}
void columns(int m, int n, double *x, double *y) {
  for (int j = 0; j < n; j++) y[j] = x[j];
  for (int i = 1; i < m; i++) for (int j = 0; j < n; j++) y[i * n + j] = y[(i - 1) * n + j] + x[i * n + j];
}
void added_up(int n, int *x) { for (int i = 1; i < n; i++) x[i] += x[i - 1]; }
void greatest_so_far(int n, float *x, float *y) {
  float s = x[n - 1];
  for (int i = n - 1; i >= 0; i--) { if (x[i] > s) s = x[i]; y[i] = s; }
}
int first_greatest(int n, float *x) {
  int at = 0;
  float m = x[0];
  for (int i = 1; i < n; i++) if (x[i] > m) { m = x[i]; at = i; }
  return at;
}
void last_least(int m, int n, float *x, long *y, float *v) {
  for (int i = 0; i < m; i++) {
    int at = 0;
    float b = x[i * n];
    for (int j = 1; j < n; j++) if (x[i * n + j] <= b) { b = x[i * n + j]; at = j; }
    y[i] = at;
    v[i] = b;
  }
}
int first_from_behind(int m, int n, float *x) {
  int at = -1;
  float b = -INFINITY;
  for (int i = m - 1; i >= 0; i--) for (int j = 0; j < n; j++) if (x[i * n + j] > b) { b = x[i * n + j]; at = i * n + j; }
  return at;
}
void filtered(int m, int n, double a, double *x, double *y, double *z) {
  for (int i = 0; i < m; i++) { double s = 0; for (int j = 0; j < n; j++) { s = a * s + x[i * n + j]; y[i * n + j] = s; } }
  for (int i = 0; i < m; i++) for (int j = 0; j < n; j++) z[i * n + j] = 2 * y[i * n + j];
}
void solved(int n, double *A, double *b, double *x) {
  for (int i = 0; i < n; i++) b[i] = 2 * b[i];
  for (int i = 0; i < n; i++) {
    double s = b[i];
    for (int j = 0; j < i; j++) s -= A[i * n + j] * x[j];
    x[i] = s / (3 + A[i * n + i]);
  }
}
void recurrence(int n, double *x) { for (int i = 1; i < n; i++) x[i] = 0.5 * x[i - 1] + x[i]; }
void largest(int m, int n, float *x, float *y) {
  for (int i = 0; i < m; i++) { float g = x[i * n]; for (int j = 1; j < n; j++) g = x[i * n + j] > g ? x[i * n + j] : g; y[i] = g; }
}
void across(int m, int n, int k, float *A, float *B, float *C) {
  for (int i = 0; i < m; i++) for (int j = 0; j < n; j++) {
    float s = 0;
    for (int l = 0; l < k; l++) s += A[i * k + l] * B[j * k + l];
    C[i * n + j] = s;
  }
}
void between(int n, int k, float *A, float *C) {
  for (int i = 0; i < n; i++) for (int j = 0; j <= i; j++)
    for (int l = 0; l < k; l++) C[i * n + j] += 2 * A[i * k + l] * A[j * k + l];
}
void each_across(int b, int n, int k, double *A, double *B, double *C) {
  for (int h = 0; h < b; h++) for (int i = 0; i < n; i++) for (int j = 0; j < n; j++)
    for (int l = 0; l < k; l++) C[(h * n + i) * n + j] += A[(h * n + i) * k + l] * B[(h * n + j) * k + l];
}
