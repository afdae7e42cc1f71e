/* What a cache line costs that two CPUs share: nanoseconds a line, of a thread that goes through a buffer in order.

   The other thread, on another CPU, reads or writes all of the buffer in between. Prints one JSON object. */
#define _GNU_SOURCE 1
#include <pthread.h>
#include <sched.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <time.h>

enum { ROUNDS = 40, TRIPS = 2000 };
enum { READ, WRITE, NOTHING };
typedef float Line __attribute__((vector_size(64)));
static volatile Line* buffer;
static size_t lines;
static atomic_int turn, job;
static volatile float sink;

static double now(void) {
  struct timespec t;
  clock_gettime(CLOCK_MONOTONIC, &t);
  return t.tv_sec * 1e9 + t.tv_nsec;
}

static void on(int cpu) {
  cpu_set_t set;
  CPU_ZERO(&set);
  CPU_SET(cpu, &set);
  pthread_setaffinity_np(pthread_self(), sizeof set, &set);
}

static void read_all(void) {
  Line sum = {0};
  for (size_t i = 0; i < lines; ++i) sum += buffer[i];
  sink = sum[0];
}

static void write_all(void) {
  Line one = {1.0f};
  for (size_t i = 0; i < lines; ++i) buffer[i] = one;
}

static int second;
static void* other(void* unused) {
  (void)unused;
  on(second);
  while (1) {
    while (atomic_load(&turn) != 1) {}
    int what = atomic_load(&job);
    if (what == READ) read_all();
    if (what == WRITE) write_all();
    atomic_store(&turn, 0);
  }
  return NULL;
}

static void let_other(int what) {
  atomic_store(&job, what);
  atomic_store(&turn, 1);
  while (atomic_load(&turn) != 0) {}
}

int main(int argc, char** argv) {
  if (argc != 4) return 2;
  lines = strtoul(argv[1], NULL, 10) * 16;
  on(atoi(argv[2]));
  second = atoi(argv[3]);
  buffer = aligned_alloc(4096, lines * sizeof(Line));
  write_all();
  pthread_t thread;
  pthread_create(&thread, NULL, other, NULL);
  let_other(NOTHING);
  double start = now();
  for (int i = 0; i < TRIPS; ++i) let_other(NOTHING);
  printf("{\"round_trip_ns\": %.1f", (now() - start) / TRIPS);
  double took[5] = {0};
  for (int round = 0; round < ROUNDS; ++round) {
    write_all(); let_other(READ); start = now(); write_all(); took[0] += now() - start; /* mine, read by the other */
    start = now(); write_all(); took[1] += now() - start;                            /* mine alone */
    let_other(WRITE); start = now(); write_all(); took[2] += now() - start;              /* written by the other */
    let_other(WRITE); start = now(); read_all(); took[3] += now() - start;
    start = now(); read_all(); took[4] += now() - start;
  }
  const char* names[] = {"write_read_by_other", "write_own", "write_written_by_other", "read_written_by_other", "read_own"};
  for (int i = 0; i < 5; ++i) printf(", \"%s_ns\": %.2f", names[i], took[i] / ROUNDS / lines);
  printf("}\n");
  return 0; /* ends the other thread, too */
}
