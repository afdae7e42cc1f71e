/* Near misses. `// leave: REASONS` says why a function is left alone (any of them, over levels of optimisation);
   `; but: PATTERNS` names what may be found beside it; `at -O0`: a compiler that optimises makes something else of it. */
#include <math.h>
#include <stdatomic.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>

extern void touch(float *x);
extern float roll(void);
extern float weigh(float x);
extern int more(int i);

// leave: overwrite
void overwrite_for_accumulate(int n, float *A, float *B, float *C) {
  for (int i = 0; i < n; i++) for (int j = 0; j < n; j++) for (int k = 0; k < n; k++)
    C[i * n + j] = A[i * n + k] * B[k * n + j];
}
// leave: overwrite
void last_of_a_row(int n, float A[][64], float *y) {
  for (int i = 0; i < n; i++) for (int j = 0; j < 64; j++) y[i] = A[i][j];
}
// leave: loop-carried
void product_in_place(int n, float *A, float *B) {
  for (int i = 0; i < n; i++) for (int j = 0; j < n; j++) for (int k = 0; k < n; k++)
    A[i * n + j] += A[i * n + k] * B[k * n + j];
}
// leave: loop-carried
void triangular_in_place(int n, double *A, double *B) {
  for (int i = 0; i < n; i++) for (int j = 0; j < n; j++) for (int k = i + 1; k < n; k++)
    B[i * n + j] += A[k * n + i] * B[k * n + j];
}
// leave: semiring
void min_plus(int n, float *A, float *B, float *C) {
  for (int i = 0; i < n; i++) for (int j = 0; j < n; j++) {
    float m = INFINITY;
    for (int k = 0; k < n; k++) m = fminf(m, A[i * n + k] + B[k * n + j]);
    C[i * n + j] = m;
  }
}
// leave: semiring
void max_times(int n, float *A, float *B, float *C) {
  for (int i = 0; i < n; i++) for (int j = 0; j < n; j++) {
    float m = 0;
    for (int k = 0; k < n; k++) m = fmaxf(m, A[i * n + k] * B[k * n + j]);
    C[i * n + j] = m;
  }
}
// leave: not-multilinear
void sum_of_sums(int n, float *A, float *B, float *C) {
  for (int i = 0; i < n; i++) for (int j = 0; j < n; j++) {
    float s = 0;
    for (int k = 0; k < n; k++) s += A[i * n + k] + B[k * n + j];
    C[i * n + j] = s;
  }
}
// leave: not-multilinear
void sum_of_quotients(int n, float *A, float *B, float *C) {
  for (int i = 0; i < n; i++) for (int j = 0; j < n; j++) {
    float s = 0;
    for (int k = 0; k < n; k++) s += A[i * n + k] / B[k * n + j];
    C[i * n + j] = s;
  }
}
// leave: not-multilinear
void distances(int n, int d, float *A, float *B, float *C) {
  for (int i = 0; i < n; i++) for (int j = 0; j < n; j++) {
    float s = 0;
    for (int k = 0; k < d; k++) s += fabsf(A[i * d + k] - B[j * d + k]);
    C[i * n + j] = s;
  }
}
// leave: subscript
void wrong_subscript_diagonal(int n, float *A, float *B, float *C) {
  for (int i = 0; i < n; i++) for (int j = 0; j < n; j++) {
    float s = 0;
    for (int k = 0; k < n; k++) s += A[k * n + k] * B[(k + j) * n + j];
    C[i * n + j] = s;
  }
}
// leave: subscript
void wrong_subscript_stride(int n, float *A, float *B, float *C) {
  for (int i = 0; i < n; i++) for (int j = 0; j < n; j++) {
    float s = 0;
    for (int k = 0; k < n; k++) s += A[i * n + 2 * k] * B[k * n + j];
    C[i * n + j] = s;
  }
}
// leave: subscript,loop-carried,overwrite
void wrong_subscript_result(int n, float *A, float *B, float *C) {
  for (int i = 0; i < n; i++) for (int j = 0; j < n; j++) {
    float s = 0;
    for (int k = 0; k < n; k++) s += A[i * n + k] * B[k * n + j];
    C[i + j] = s;
  }
}
// leave: subscript,loop-carried
void product_of_counters(int n, float *x, float *y) {
  for (int i = 0; i < n; i++) for (int j = 0; j < n; j++) y[i * j] += x[i];
}
// leave: subscript
void square_of_counter(int n, float *x, float *y) {
  for (int i = 0; i < n; i++) y[i] = x[i * i];
}
// leave: subscript,pointer
void modulo(int n, float *x, float *y) {
  for (int i = 0; i < n; i++) y[i] = x[i % 7];
}
// leave: subscript,pointer
void quotient(int n, float *x, float *y) {
  for (int i = 0; i < n; i++) y[i] = x[i / 2];
}
// leave: subscript
void flipped_bits(int n, float *x, float *y) {
  for (int i = 0; i < n; i++) y[i] = x[i ^ 1];
}
// leave: indirect
void gather(int n, const int *at, float *x, float *y) {
  for (int i = 0; i < n; i++) y[i] = x[at[i]];
}
// leave: indirect
void scatter(int n, const int *at, float *x, float *y) {
  for (int i = 0; i < n; i++) y[at[i]] += x[i];
}
// leave: indirect
void histogram(int n, const unsigned char *x, int *h) {
  for (int i = 0; i < n; i++) h[x[i]]++;
}
// leave: indirect,data-dependent-bound,data-dependent-control
void sparse(int n, const int *row, const int *column, float *v, float *x, float *y) {
  for (int i = 0; i < n; i++) {
    float s = 0;
    for (int k = row[i]; k < row[i + 1]; k++) s += v[k] * x[column[k]];
    y[i] = s;
  }
}
// leave: pointer
void rows_by_pointer(int n, float **A, float *x, float *y) {
  for (int i = 0; i < n; i++) { float s = 0; for (int j = 0; j < n; j++) s += A[i][j] * x[j]; y[i] = s; }
}
struct node { float value; struct node *next; };
// leave: pointer,data-dependent-bound,type,subscript
float list(struct node *p) {
  float s = 0;
  while (p) { s += p->value; p = p->next; }
  return s;
}
// leave: type,pointer
void members(int n, struct node *p) {
  for (int i = 0; i < n; i++) p[i].value *= 2;
}
// leave: call
void call_with_effect(int n, float *A, float *B, float *C) {
  for (int i = 0; i < n; i++) for (int j = 0; j < n; j++) {
    float s = 0;
    for (int k = 0; k < n; k++) { s += A[i * n + k] * B[k * n + j]; touch(A); }
    C[i * n + j] = s;
  }
}
// leave: call
void call_that_may_alias(int n, float *x, float *y) {
  for (int i = 0; i < n; i++) { y[i] = x[i]; touch(y); }
}
// leave: call
void call_of_unknown_value(int n, float *x, float *y) {
  for (int i = 0; i < n; i++) y[i] = weigh(x[i]);
}
// leave: call
void call_without_arguments(int n, float *y) {
  for (int i = 0; i < n; i++) y[i] = roll();
}
// leave: call
void printing(int n, float *x, float *y) {
  for (int i = 0; i < n; i++) { y[i] = 2 * x[i]; printf("%f\n", y[i]); }
}
// leave: call
void by_function_pointer(int n, float *x, float *y, float (*f)(float)) {
  for (int i = 0; i < n; i++) y[i] = f(x[i]);
}
// leave: several-exits
void breaks(int n, float *x, float *y) {
  for (int i = 0; i < n; i++) { if (x[i] < 0) break; y[i] = x[i]; }
}
// leave: several-exits,data-dependent-bound
float breaks_sum(int n, float *x, float *y) {
  float s = 0;
  for (int i = 0; i < n; i++) { s += x[i] * y[i]; if (s > 100) break; }
  return s;
}
// leave: several-exits
int search(int n, int *x, int v) {
  for (int i = 0; i < n; i++) if (x[i] == v) return i;
  return -1;
}
// leave: several-exits,control-flow,data-dependent-bound
void jumps(int n, float *x, float *y) {
  for (int i = 0; i < n; i++) for (int j = 0; j < n; j++) { if (x[j] > y[i]) goto out; y[i] += x[j]; }
out:;
}
// leave: several-exits
void endless(float *x) { for (;;) x[0] += 1; }
// leave: volatile
void volatile_store(int n, float *x, volatile float *y) {
  for (int i = 0; i < n; i++) y[i] = x[i];
}
// leave: volatile
void volatile_load(int n, volatile float *x, float *y) {
  for (int i = 0; i < n; i++) y[i] = x[i];
}
// leave: volatile
float volatile_sum(int n, float *x) {
  volatile float s = 0;
  for (int i = 0; i < n; i++) s += x[i];
  return s;
}
// leave: atomic
void atomic_sum(int n, int *x, _Atomic int *y) {
  for (int i = 0; i < n; i++) atomic_fetch_add(y, x[i]);
}
// leave: atomic
void atomic_store_all(int n, int *x, _Atomic int *y) {
  for (int i = 0; i < n; i++) atomic_store(&y[i], x[i]);
}
// leave: atomic
void fences(int n, int *x, int *y) {
  for (int i = 0; i < n; i++) { y[i] = x[i]; atomic_thread_fence(memory_order_seq_cst); }
}
// leave: data-dependent-bound,several-exits,data-dependent-control
void until_zero(float *x, float *y) {
  int i = 0;
  while (x[i] != 0) { y[i] = x[i]; i++; }
}
// leave: data-dependent-bound,several-exits,data-dependent-control
void bound_in_memory(int *n, float *x, float *y) {
  for (int i = 0; i < *n; i++) y[i] = x[i];
}
// leave: data-dependent-bound,several-exits,data-dependent-control
void bound_that_moves(int n, int *x) {
  for (int i = 0; i < x[0]; i++) x[i] += n;
}
// leave: data-dependent-bound,several-exits,data-dependent-control
void ragged(int n, const int *length, float *x, float *y) {
  for (int i = 0; i < n; i++) for (int j = 0; j < length[i]; j++) y[i] += x[i * 64 + j];
}
// leave: data-dependent-bound,several-exits
void converges(int n, double *x) {
  double e = 1;
  while (e > 1e-6) { e = 0; for (int i = 0; i < n; i++) { x[i] *= 0.5; e += x[i]; } }
}
// leave: call,data-dependent-bound
void bound_by_call(float *x) { for (int i = 0; more(i); i++) x[i] = 0; }
// leave: data-dependent-control
void store_if(int n, float *x, float *y) {
  for (int i = 0; i < n; i++) if (x[i] > 0) y[i] = x[i];
}
// leave: data-dependent-control
void compaction_guard(int n, float *x, float *y, float *z) {
  for (int i = 0; i < n; i++) if (x[i] > y[i]) { z[i] = x[i]; y[i] = 0; }
}
// leave: data-dependent-control,pointer,loop-carried
void compaction(int n, float *x, float *y) {
  int k = 0;
  for (int i = 0; i < n; i++) if (x[i] > 0) y[k++] = x[i];
}
// leave: wrap-around
void narrow_counter(int n, float *x, float *y) {
  for (unsigned char i = 0; i < n; i++) y[i] = x[i];
}
// leave: wrap-around
void narrow_index(int n, float *x, float *y) {
  for (int i = 0; i < n; i++) y[i] = x[(unsigned char)i];
}
// leave: wrap-around
void short_index(int n, float *x, float *y) {
  for (int i = 0; i < n; i++) y[i] = x[(short)(i * 3)];
}
// leave: wrap-around,subscript
void masked_index(int n, float *x, float *y) {
  for (unsigned i = 0; i < n; i++) y[i] = x[i & 255];
}
// leave: wrap-around,subscript
void ring(int n, float *x, float *y) {
  for (int i = 0; i < n; i++) y[i] = x[(i + 5) & 63];
}
// leave: wrap-around,data-dependent-bound
void steps_over_its_end(unsigned n, float *x) {
  for (unsigned i = 0; i != n; i += 3) x[i] = 0;
}
// leave: nan-order
float nan_taking_max(int n, float *x) {
  float m = x[0];
  for (int i = 1; i < n; i++) m = m > x[i] ? m : x[i];
  return m;
}
// leave: nan-order
float nan_keeping_max(int n, float *x) {
  float m = x[0];
  for (int i = 1; i < n; i++) if (!(x[i] <= m)) m = x[i];
  return m;
}
// leave: nan-order
void nan_min_rows(int n, float *x, float *y) {
  for (int i = 0; i < n; i++) {
    float m = x[i * n];
    for (int j = 1; j < n; j++) m = m < x[i * n + j] ? m : x[i * n + j];
    y[i] = m;
  }
}
// leave: loop-carried
float compensated(int n, float *x) {
  float s = 0, c = 0;
  for (int i = 0; i < n; i++) { float y = x[i] - c, t = s + y; c = (t - s) - y; s = t; }
  return s;
}
// leave: loop-carried
float horner(int n, float *a, float x) {
  float s = 0;
  for (int i = 0; i < n; i++) s = s * x + a[i];
  return s;
}
// leave: loop-carried
float decayed(int n, float *x) {
  float s = 0;
  for (int i = 0; i < n; i++) s = 0.9f * s + x[i];
  return s;
}
// leave: loop-carried
float alternating(int n, float *x) {
  float s = 0;
  for (int i = 0; i < n; i++) s = x[i] - s;
  return s;
}
// leave: loop-carried
float doubled(int n, float *x) {
  float s = 0;
  for (int i = 0; i < n; i++) s = s + s + x[i];
  return s;
}
// leave: loop-carried
float saturating(int n, float *x) {
  float s = 0;
  for (int i = 0; i < n; i++) { s += x[i]; if (s > 1) s = 1; }
  return s;
}
// leave: loop-carried
float chained_quotient(int n, float *x) {
  float s = 1;
  for (int i = 0; i < n; i++) s = x[i] / s;
  return s;
}
// leave: loop-carried
float rounded_each_time(int n, double *x) {
  float s = 0;
  for (int i = 0; i < n; i++) s = (float)(s * 0.5f + x[i]);
  return s;
}
// leave: loop-carried,memory-order
void gauss_seidel(int n, double *A) {
  for (int i = 1; i < n - 1; i++) for (int j = 1; j < n - 1; j++)
    A[i * n + j] = 0.2 * (A[i * n + j] + A[i * n + j - 1] + A[i * n + j + 1] + A[(i - 1) * n + j] + A[(i + 1) * n + j]);
}
// leave: loop-carried,memory-order
void smooth_in_place(int n, float *x) {
  for (int i = 1; i < n - 1; i++) x[i] = (x[i - 1] + x[i] + x[i + 1]) / 3;
}
// leave: loop-carried,memory-order
void fibonacci(int n, float *x) {
  for (int i = 2; i < n; i++) x[i] = x[i - 1] + x[i - 2];
}
// leave: loop-carried,memory-order
void filter(int n, float *x, float *y) {
  for (int i = 1; i < n; i++) y[i] = 0.5f * y[i - 1] + x[i];
}
// leave: loop-carried,memory-order
void solve_lower(int n, double *L, double *x) {
  for (int i = 0; i < n; i++) { for (int j = 0; j < i; j++) x[i] -= L[i * n + j] * x[j]; x[i] /= L[i * n + i]; }
}
// leave: loop-carried,memory-order,call,pointer
void cholesky(int n, double *A) {
  for (int i = 0; i < n; i++) {
    for (int j = 0; j < i; j++) {
      for (int k = 0; k < j; k++) A[i * n + j] -= A[i * n + k] * A[j * n + k];
      A[i * n + j] /= A[j * n + j];
    }
    for (int k = 0; k < i; k++) A[i * n + i] -= A[i * n + k] * A[i * n + k];
    A[i * n + i] = sqrt(A[i * n + i]);
  }
}
// leave: memory-order,loop-carried
void swap_halves(int n, float *x, float *y) {
  for (int i = 0; i < n; i++) { float t = x[i]; x[i] = y[i]; y[i] = t; }
}
// leave: memory-order,loop-carried
void reverse_in_place(int n, float *x) {
  for (int i = 0; i < n; i++) { float t = x[i]; x[i] = x[n - 1 - i]; x[n - 1 - i] = t; }
}
// leave: memory-order,loop-carried
void transpose_in_place(int n, float *A) {
  for (int i = 0; i < n; i++) for (int j = 0; j < i; j++) {
    float t = A[i * n + j]; A[i * n + j] = A[j * n + i]; A[j * n + i] = t;
  }
}
// leave: memory-order,loop-carried
void old_value_kept(int n, float *x, float *y) {
  for (int i = 0; i < n; i++) { float t = x[0]; x[0] = y[i]; y[i] = t; }
}
// leave: loop-carried,subscript
void overlapping_rows(int n, float *C) {
  for (int i = 0; i < n; i++) for (int j = 0; j < 2 * n; j++) C[i * n + j] += 1;
}
// leave at -O0: loop-carried
void shift_right(int n, float *x) {
  for (int i = 1; i < n; i++) x[i] = x[i - 1];
}
// leave at -O0: live-out,loop-carried,overwrite
float last_value(int n, float *x) {
  float last = 0;
  for (int i = 0; i < n; i++) last = x[i];
  return last;
}
// leave: loop-carried
float previous_value(int n, float *x, float *y) {
  float before = 0;
  for (int i = 0; i < n; i++) { y[i] = x[i] - before; before = x[i]; }
  return before;
}
// leave: loop-carried
void swapped_registers(int n, float *x) {
  float a = 0, b = 1;
  for (int i = 0; i < n; i++) { float t = a; a = b; b = t; x[i] = a; }
}
// leave: loop-carried
float running_mean(int n, float *x) {
  float m = 0;
  for (int i = 0; i < n; i++) m += (x[i] - m) / (i + 1);
  return m;
}
// leave: loop-carried
float online_softmax_sum(int n, float *x) {
  float m = -INFINITY, s = 0;
  for (int i = 0; i < n; i++) { float o = m; m = fmaxf(m, x[i]); s = s * expf(o - m) + expf(x[i] - m); }
  return s;
}
// leave: loop-carried
uint32_t hash(int n, const uint32_t *x) {
  uint32_t h = 5381;
  for (int i = 0; i < n; i++) h = h * 33 + x[i];
  return h;
}
// leave: loop-carried,operator
uint32_t checksum(int n, const uint32_t *x) {
  uint32_t h = 0;
  for (int i = 0; i < n; i++) h = (h << 1) ^ x[i];
  return h;
}
// leave: type,pointer,operator
void two_types(int n, float *x) {
  int *bits = (int *)x;
  for (int i = 0; i < n; i++) { bits[i] &= 0x7fffffff; x[i] += 1; }
}
// leave: pointer
void chosen_array(int n, int which, float *x, float *y, float *z) {
  for (int i = 0; i < n; i++) { float *p = i & 1 ? x : y; z[i] = p[i]; }
}
// leave: data-dependent-bound,control-flow,several-exits,wrap-around
void doubling(int n, float *x) {
  for (int i = 1; i < n; i *= 2) x[i] = 0;
}
// leave: data-dependent-bound,control-flow,several-exits,loop-carried,subscript,pointer
void moving_step(int n, float *x) {
  for (int i = 0, d = 1; i < n; i += d, d++) x[i] = 0;
}
// leave: control-flow,data-dependent-control
void cases(int n, const int *kind, float *x) {
  for (int i = 0; i < n; i++) switch (kind[i]) { case 0: x[i] = 1; break; case 1: x[i] = 2; break; case 7: x[i] *= 3; break; default: x[i] = 0; }
}
// leave: loop-carried; but: reduction
int argmax_of_another(int n, float *x, float *y) {
  int at = 0;
  float m = x[0];
  for (int i = 1; i < n; i++) if (x[i] > m) { m = y[i]; at = i; }
  return at;
}
// leave: loop-carried
float max_then_sum(int n, float *x) {
  float m = 0, s = 0;
  for (int i = 0; i < n; i++) { if (x[i] > m) m = x[i]; s += m; }
  return s;
}
