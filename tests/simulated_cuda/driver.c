/* A CUDA driver without a GPU: enough of libcuda for PyCUDA to load and for tuner/devices/cuda/driver.py to run.

   What is simulated: one stream with its own clock, device memory (the host's), events, sticky errors that end with the
   process, and a handful of "cubins", files that begin with \x7fELF and then name what the kernel does:

     double     y = 2 x, in 40 us          forgets    writes half of y         hangs      never ends
     faults     an illegal address, sticky  outside    writes past y's end      inputs     changes x
     greedy     too many resources          unknown    no kernel of that name   alien      no code for this GPU

   Nothing here says how fast or how right a real GPU is. It shows that our calls of PyCUDA are calls that it has, in an
   order that a driver accepts, and that every failure a driver can answer with ends where it should. */

#include <cuda.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

enum { NEVER = -1 };
static int64_t device_ns;   /* when everything enqueued so far is done; NEVER: it never is */
static CUresult sticky;     /* an error that every later call answers with */
static int contexts;

static int64_t now_ns(void) {
  struct timespec t;
  clock_gettime(CLOCK_MONOTONIC, &t);
  return t.tv_sec * 1000000000LL + t.tv_nsec;
}

static void enqueue(int64_t ns) {
  if (device_ns == NEVER) return;
  int64_t begin = now_ns();
  if (begin < device_ns) begin = device_ns;
  device_ns = ns == NEVER ? NEVER : begin + ns;
}

static CUresult finish(int64_t until) {
  while (until == NEVER || now_ns() < until)
    if (until == NEVER) sleep(1);
  return sticky;
}

#define ALIVE() do { if (sticky) return sticky; } while (0)

CUresult cuInit(unsigned flags) { return getenv("SIMULATED_CUDA_ABSENT") ? CUDA_ERROR_NO_DEVICE : CUDA_SUCCESS; }
CUresult cuDriverGetVersion(int *version) { *version = 13000; return CUDA_SUCCESS; }
CUresult cuDeviceGetCount(int *count) { *count = 2; return CUDA_SUCCESS; }
CUresult cuDeviceGet(CUdevice *device, int number) { *device = number; return CUDA_SUCCESS; }
CUresult cuDeviceGetName(char *name, int length, CUdevice device) {
  snprintf(name, length, "Simulated GPU");
  return CUDA_SUCCESS;
}
CUresult cuDeviceGetPCIBusId(char *id, int length, CUdevice device) {
  snprintf(id, length, "0000:%02x:00.0", device + 1);
  return CUDA_SUCCESS;
}
CUresult cuDeviceComputeCapability(int *major, int *minor, CUdevice device) {
  *major = 9;
  *minor = 0;
  return CUDA_SUCCESS;
}
CUresult cuDeviceTotalMem(size_t *bytes, CUdevice device) { *bytes = 1 << 30; return CUDA_SUCCESS; }
CUresult cuDeviceGetAttribute(int *value, CUdevice_attribute attribute, CUdevice device) {
  *value = attribute == CU_DEVICE_ATTRIBUTE_L2_CACHE_SIZE                     ? 1 << 20
           : attribute == CU_DEVICE_ATTRIBUTE_MULTIPROCESSOR_COUNT            ? 132
           : attribute == CU_DEVICE_ATTRIBUTE_CLOCK_RATE                      ? 1980000
           : attribute == CU_DEVICE_ATTRIBUTE_COMPUTE_CAPABILITY_MAJOR        ? 9
                                                                              : 0;
  return CUDA_SUCCESS;
}

static struct { int device; } primary;
CUresult cuDevicePrimaryCtxRetain(CUcontext *context, CUdevice device) {
  primary.device = device;
  *context = (CUcontext)&primary;
  return CUDA_SUCCESS;
}
CUresult cuDevicePrimaryCtxRelease(CUdevice device) { return CUDA_SUCCESS; }
CUresult cuCtxPushCurrent(CUcontext context) { ++contexts; return CUDA_SUCCESS; }
CUresult cuCtxPopCurrent(CUcontext *context) {
  if (!contexts) return CUDA_ERROR_INVALID_CONTEXT;
  --contexts;
  *context = (CUcontext)&primary;
  return CUDA_SUCCESS;
}
CUresult cuCtxGetDevice(CUdevice *device) { *device = primary.device; return CUDA_SUCCESS; }
CUresult cuCtxSynchronize(void) { return finish(device_ns); }

/* --- memory: a header tells the size, so that a stray copy is refused as a driver would --------------- */

CUresult cuMemAlloc(CUdeviceptr *pointer, size_t bytes) {
  ALIVE();
  if (!contexts) return CUDA_ERROR_INVALID_CONTEXT;
  if (bytes > 1 << 30) return CUDA_ERROR_OUT_OF_MEMORY;
  *pointer = (CUdeviceptr)aligned_alloc(256, (bytes + 255) / 256 * 256);
  return CUDA_SUCCESS;
}
CUresult cuMemFree(CUdeviceptr pointer) { ALIVE(); free((void *)pointer); return CUDA_SUCCESS; }
CUresult cuMemGetInfo(size_t *left, size_t *total) { ALIVE(); *left = *total = 1 << 30; return CUDA_SUCCESS; }
CUresult cuMemcpyHtoD(CUdeviceptr to, const void *from, size_t bytes) {
  CUresult failed = finish(device_ns);
  if (!failed) memcpy((void *)to, from, bytes);
  return failed;
}
CUresult cuMemcpyDtoH(void *to, CUdeviceptr from, size_t bytes) {
  CUresult failed = finish(device_ns);
  if (!failed) memcpy(to, (void *)from, bytes);
  return failed;
}
CUresult cuMemsetD8(CUdeviceptr to, unsigned char value, size_t bytes) {
  ALIVE();
  memset((void *)to, value, bytes);
  return CUDA_SUCCESS;
}
CUresult cuMemsetD8Async(CUdeviceptr to, unsigned char value, size_t bytes, CUstream stream) {
  enqueue(20000);
  return cuMemsetD8(to, value, bytes);
}

/* --- code --------------------------------------------------------------------------------------------- */

typedef struct { char does[32]; } Code;

CUresult cuModuleLoadDataEx(CUmodule *module, const void *image, unsigned n, CUjit_option *o, void **v) {
  ALIVE();
  Code *code = calloc(1, sizeof *code);
  const char *text = image;
  if (memcmp(text, "\x7f" "ELF", 4) == 0) snprintf(code->does, sizeof code->does, "%s", text + 4);
  else if (!strstr(text, ".visible .entry")) return CUDA_ERROR_INVALID_IMAGE;
  if (strcmp(code->does, "alien") == 0) return CUDA_ERROR_NO_BINARY_FOR_GPU;
  *module = (CUmodule)code;
  return CUDA_SUCCESS;
}
CUresult cuModuleUnload(CUmodule module) { ALIVE(); free(module); return CUDA_SUCCESS; }
CUresult cuModuleGetFunction(CUfunction *function, CUmodule module, const char *name) {
  ALIVE();
  Code *code = calloc(1, sizeof *code), *from = (Code *)module;
  if (strcmp(from->does, "unknown") == 0) return CUDA_ERROR_NOT_FOUND;
  snprintf(code->does, sizeof code->does, "%s", from->does[0] ? from->does : name);
  *function = (CUfunction)code;
  return CUDA_SUCCESS;
}
CUresult cuFuncSetAttribute(CUfunction function, CUfunction_attribute attribute, int value) {
  return value > 232448 ? CUDA_ERROR_INVALID_VALUE : CUDA_SUCCESS;
}
CUresult cuFuncSetBlockShape(CUfunction function, int x, int y, int z) { return CUDA_SUCCESS; }

CUresult cuLaunchKernel(CUfunction function, unsigned gx, unsigned gy, unsigned gz, unsigned bx, unsigned by, unsigned bz,
                        unsigned shared, CUstream stream, void **parameters, void **extra) {
  ALIVE();
  const char *does = ((Code *)function)->does;
  uint64_t *given = extra[1];
  size_t count = *(size_t *)extra[3] / 8;
  if (bx * by * bz > 1024 || !strcmp(does, "greedy")) return CUDA_ERROR_LAUNCH_OUT_OF_RESOURCES;
  if (!strcmp(does, "tuner_hold")) {
    enqueue((int64_t)given[0]);
    return CUDA_SUCCESS;
  }
  if (!strcmp(does, "tuner_health")) {
    uint32_t *v = (uint32_t *)given[0];
    for (uint32_t i = 0; i < bx; ++i) v[i] = v[i] * 3 + i;
    enqueue(3000);
    return CUDA_SUCCESS;
  }
  if (count != 2) return CUDA_ERROR_INVALID_VALUE;
  if (!strcmp(does, "hangs")) {
    enqueue(NEVER);
    return CUDA_SUCCESS;
  }
  if (!strcmp(does, "faults")) {
    sticky = CUDA_ERROR_ILLEGAL_ADDRESS; /* told by the next call that waits, as a real one is */
    return CUDA_SUCCESS;
  }
  float *x = (float *)given[0], *y = (float *)given[1];
  unsigned n = gx * bx;
  for (unsigned i = 0; i < (!strcmp(does, "forgets") ? n / 2 : n); ++i) y[i] = 2 * x[i];
  if (!strcmp(does, "outside")) y[n] = 1;
  if (!strcmp(does, "inputs")) x[n - 1] += 1;
  enqueue(40000);
  return CUDA_SUCCESS;
}

/* --- events and streams --------------------------------------------------------------------------------- */

CUresult cuEventCreate(CUevent *event, unsigned flags) {
  ALIVE();
  *event = calloc(1, sizeof(int64_t));
  return CUDA_SUCCESS;
}
CUresult cuEventDestroy(CUevent event) { free(event); return CUDA_SUCCESS; }
CUresult cuEventRecord(CUevent event, CUstream stream) {
  ALIVE();
  enqueue(0);
  *(int64_t *)event = device_ns;
  return CUDA_SUCCESS;
}
CUresult cuEventSynchronize(CUevent event) { return finish(*(int64_t *)event); }
CUresult cuEventElapsedTime(float *ms, CUevent begin, CUevent end) {
  *ms = (*(int64_t *)end - *(int64_t *)begin) * 1e-6f;
  return sticky;
}

CUresult cuGetErrorName(CUresult error, const char **text) { *text = "CUDA_ERROR"; return CUDA_SUCCESS; }
CUresult cuGetErrorString(CUresult error, const char **text) {
  *text = error == CUDA_ERROR_ILLEGAL_ADDRESS            ? "an illegal memory access was encountered"
          : error == CUDA_ERROR_LAUNCH_OUT_OF_RESOURCES  ? "too many resources requested for launch"
          : error == CUDA_ERROR_NO_BINARY_FOR_GPU        ? "no kernel image is available for execution on the device"
          : error == CUDA_ERROR_NOT_FOUND                ? "named symbol not found"
          : error == CUDA_ERROR_NO_DEVICE                ? "no CUDA-capable device is detected"
                                                         : "another error";
  return CUDA_SUCCESS;
}
