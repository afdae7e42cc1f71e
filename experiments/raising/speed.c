/* Kernels as people write them, at sizes beyond the second-level cache. */
void gemm(int n, const float *A, const float *B, float *C) {
  for (int i = 0; i < n; i++) for (int j = 0; j < n; j++) {
    float s = 0;
    for (int k = 0; k < n; k++) s += A[i * n + k] * B[k * n + j];
    C[i * n + j] = s;
  }
}
void product_transposed(int n, const float *A, const float *B, float *C) {
  for (int i = 0; i < n; i++) for (int j = 0; j < n; j++) {
    float s = 0;
    for (int k = 0; k < n; k++) s += A[i * n + k] * B[j * n + k];
    C[i * n + j] = s;
  }
}
void batched(int b, int n, const float *A, const float *B, float *C) {
  for (int l = 0; l < b; l++) for (int i = 0; i < n; i++) for (int j = 0; j < n; j++) {
    float s = 0;
    for (int k = 0; k < n; k++) s += A[(l * n + i) * n + k] * B[(l * n + k) * n + j];
    C[(l * n + i) * n + j] = s;
  }
}
void gemm64(int n, const double *A, const double *B, double *C) {
  for (int i = 0; i < n; i++) for (int k = 0; k < n; k++) for (int j = 0; j < n; j++)
    C[i * n + j] += A[i * n + k] * B[k * n + j];
}
void convolution(int f, int c, int h, const float *x, const float *w, float *y) {
  for (int o = 0; o < f; o++) for (int i = 0; i < h - 2; i++) for (int j = 0; j < h - 2; j++) {
    float s = 0;
    for (int l = 0; l < c; l++) for (int p = 0; p < 3; p++) for (int q = 0; q < 3; q++)
      s += x[(l * h + i + p) * h + j + q] * w[((o * c + l) * 3 + p) * 3 + q];
    y[(o * (h - 2) + i) * (h - 2) + j] = s;
  }
}
void convolution_strided(int f, int c, int h, const float *x, const float *w, float *y) {
  for (int o = 0; o < f; o++) for (int i = 0; i < h; i++) for (int j = 0; j < h; j++) {
    float s = 0;
    for (int l = 0; l < c; l++) for (int p = 0; p < 3; p++) for (int q = 0; q < 3; q++)
      s += x[(l * (2 * h + 1) + 2 * i + p) * (2 * h + 1) + 2 * j + q] * w[((o * c + l) * 3 + p) * 3 + q];
    y[(o * h + i) * h + j] = s;
  }
}
void five_points(int n, const float *x, float *y) {
  for (int i = 1; i < n - 1; i++) for (int j = 1; j < n - 1; j++)
    y[i * n + j] = 0.2f * (x[i * n + j] + x[i * n + j - 1] + x[i * n + j + 1] + x[(i - 1) * n + j] + x[(i + 1) * n + j]);
}
void seven_points(int n, const float *x, float *y) {
  for (int i = 1; i < n - 1; i++) for (int j = 1; j < n - 1; j++) for (int k = 1; k < n - 1; k++)
    y[(i * n + j) * n + k] = 0.1f * (x[(i * n + j) * n + k - 1] + x[(i * n + j) * n + k + 1]
      + x[(i * n + j - 1) * n + k] + x[(i * n + j + 1) * n + k] + x[((i - 1) * n + j) * n + k] + x[((i + 1) * n + j) * n + k]
      + x[(i * n + j) * n + k]);
}
void smoothed_twice(int n, float *x, float *y) {
  for (int i = 1; i < n - 1; i++) for (int j = 1; j < n - 1; j++)
    y[i * n + j] = 0.25f * (x[i * n + j - 1] + x[i * n + j + 1] + x[(i - 1) * n + j] + x[(i + 1) * n + j]);
  for (int i = 1; i < n - 1; i++) for (int j = 1; j < n - 1; j++)
    x[i * n + j] = 0.25f * (y[i * n + j - 1] + y[i * n + j + 1] + y[(i - 1) * n + j] + y[(i + 1) * n + j]);
}
void smoothed(int t, int n, float *x, float *y) {
  for (int s = 0; s < t; s++) {
    for (int i = 1; i < n - 1; i++) for (int j = 1; j < n - 1; j++)
      y[i * n + j] = 0.25f * (x[i * n + j - 1] + x[i * n + j + 1] + x[(i - 1) * n + j] + x[(i + 1) * n + j]);
    for (int i = 1; i < n - 1; i++) for (int j = 1; j < n - 1; j++)
      x[i * n + j] = 0.25f * (y[i * n + j - 1] + y[i * n + j + 1] + y[(i - 1) * n + j] + y[(i + 1) * n + j]);
  }
}
void heat(int t, int n, double *x, double *y) {
  for (int s = 0; s < t; s++) {
    for (int i = 1; i < n - 1; i++) for (int j = 1; j < n - 1; j++) for (int k = 1; k < n - 1; k++)
      y[(i * n + j) * n + k] = 0.125 * (x[((i + 1) * n + j) * n + k] - 2.0 * x[(i * n + j) * n + k] + x[((i - 1) * n + j) * n + k])
        + 0.125 * (x[(i * n + j + 1) * n + k] - 2.0 * x[(i * n + j) * n + k] + x[(i * n + j - 1) * n + k])
        + 0.125 * (x[(i * n + j) * n + k + 1] - 2.0 * x[(i * n + j) * n + k] + x[(i * n + j) * n + k - 1]) + x[(i * n + j) * n + k];
    for (int i = 1; i < n - 1; i++) for (int j = 1; j < n - 1; j++) for (int k = 1; k < n - 1; k++)
      x[(i * n + j) * n + k] = 0.125 * (y[((i + 1) * n + j) * n + k] - 2.0 * y[(i * n + j) * n + k] + y[((i - 1) * n + j) * n + k])
        + 0.125 * (y[(i * n + j + 1) * n + k] - 2.0 * y[(i * n + j) * n + k] + y[(i * n + j - 1) * n + k])
        + 0.125 * (y[(i * n + j) * n + k + 1] - 2.0 * y[(i * n + j) * n + k] + y[(i * n + j) * n + k - 1]) + y[(i * n + j) * n + k];
  }
}
void waves(int t, int n, float *ex, float *ey, float *hz) {
  for (int s = 0; s < t; s++) {
    for (int i = 1; i < n; i++) for (int j = 0; j < n; j++)
      ey[i * n + j] = ey[i * n + j] - 0.5f * (hz[i * n + j] - hz[(i - 1) * n + j]);
    for (int i = 0; i < n; i++) for (int j = 1; j < n; j++)
      ex[i * n + j] = ex[i * n + j] - 0.5f * (hz[i * n + j] - hz[i * n + j - 1]);
    for (int i = 0; i < n - 1; i++) for (int j = 0; j < n - 1; j++)
      hz[i * n + j] = hz[i * n + j] - 0.7f * (ex[i * n + j + 1] - ex[i * n + j] + ey[(i + 1) * n + j] - ey[i * n + j]);
  }
}
