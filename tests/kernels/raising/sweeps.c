/* Maps that go over the same rows one after another. */
void smoothed(int t, int n, int m, float *x, float *y) {
  for (int s = 0; s < t; s++) {
    for (int i = 1; i < n - 1; i++) for (int j = 1; j < m - 1; j++)
      y[i * m + j] = 0.25f * (x[i * m + j - 1] + x[i * m + j + 1] + x[(i - 1) * m + j] + x[(i + 1) * m + j]);
    for (int i = 1; i < n - 1; i++) for (int j = 1; j < m - 1; j++)
      x[i * m + j] = 0.25f * (y[i * m + j - 1] + y[i * m + j + 1] + y[(i - 1) * m + j] + y[(i + 1) * m + j]);
  }
}
void heat(int t, int n, double *x, double *y) {
  for (int s = 0; s < t; s++) {
    for (int i = 1; i < n - 1; i++) for (int j = 1; j < n - 1; j++) for (int k = 1; k < n - 1; k++)
      y[(i * n + j) * n + k] = x[((i + 1) * n + j) * n + k] + x[((i - 1) * n + j) * n + k] - x[(i * n + j + 1) * n + k]
        - x[(i * n + j - 1) * n + k] + 0.5 * x[(i * n + j) * n + k + 1] - 0.5 * x[(i * n + j) * n + k - 1];
    for (int i = 1; i < n - 1; i++) for (int j = 2; j < n - 1; j++) for (int k = 1; k < n - 2; k++)
      x[(i * n + j) * n + k] = y[((i + 1) * n + j) * n + k] - y[((i - 1) * n + j) * n + k] + y[(i * n + j) * n + k];
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
/* Each map writes less than the one before, other rows are read far before and behind, and scalars and whole maps take part. */
void mixed(int n, float a, float *x, float *y, float *z, const float *w) {
  for (int i = 0; i < n; i++) for (int j = 0; j < n; j++) x[i * n + j] = a * w[i * n + j];
  for (int i = 3; i < n; i++) for (int j = 0; j < n; j++) y[i * n + j] = x[(i - 3) * n + j] + w[(n - 1) * n + j];
  for (int i = 0; i < n - 4; i++) for (int j = 2; j < n - 1; j++) z[i * n + j] = y[(i + 4) * n + j - 2] - a;
  for (int i = 1; i < n - 5; i++) for (int j = 2; j < n - 2; j++) x[i * n + j] = z[(i + 1) * n + j] + x[i * n + j];
}
/* The second map reads rows in another order, and must not be behind the first. */
void turned_over(int n, float *x, float *y) {
  for (int i = 1; i < n - 1; i++) for (int j = 1; j < n - 1; j++) y[i * n + j] = x[(i + 1) * n + j] + x[(i - 1) * n + j];
  for (int i = 1; i < n - 1; i++) for (int j = 1; j < n - 1; j++) x[i * n + j] = y[(n - 1 - i) * n + j];
}
