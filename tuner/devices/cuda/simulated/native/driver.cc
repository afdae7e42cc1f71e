/* A CUDA driver without a GPU, which runs kernels: devices, contexts, copies, events and errors.

   One stream with a clock of its own, which nothing of the host moves: it goes on by the seconds that a kernel's file
   states, an estimate, when the kernel is launched, and nobody waits for it. Nothing here says how fast a GPU is. Errors
   of kernels are sticky and end with the process, as a GPU's do. */

#include "driver.h"
#include "memory.h"

#include <dlfcn.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static int64_t device_ps; /* when everything enqueued so far is done, in picoseconds */
static CUresult sticky_error;
static char words[512];
static CUresult explained;
static int contexts, devices = 2;

CUresult sticky(void) { return sticky_error; }
CUresult explain(CUresult error, const char *text) {
  snprintf(words, sizeof words, "%s", text ? text : "");
  explained = error;
  return error;
}
CUresult fail(CUresult error, const char *text) {
  sticky_error = error;
  if (text) explain(error, text);
  return CUDA_SUCCESS;
}

void enqueue(double seconds) { device_ps += (int64_t)(seconds * 1e12 + 0.5); }

extern "C" {

/* Forgets an error that broke the context, which no GPU can: many kernels can fail in one process of an experiment. */
void simt_reset(void) { sticky_error = CUDA_SUCCESS; }
/* A kernel that waits for the clock is to see it go on. */
unsigned long long simt_clock_ns(void) {
  static unsigned long long reads;
  return (unsigned long long)(device_ps / 1000) + ++reads;
}

/* --- devices and contexts ---------------------------------------------------------------------------------- */

CUresult cuInit(unsigned) {
  Dl_info self;
  if (dladdr((void *)cuInit, &self)) dlopen(self.dli_fname, RTLD_NOW | RTLD_GLOBAL | RTLD_NOLOAD);
  return getenv("SIMULATED_CUDA_ABSENT") ? CUDA_ERROR_NO_DEVICE : CUDA_SUCCESS;
}
CUresult cuDriverGetVersion(int *version) { return *version = 13000, CUDA_SUCCESS; }
CUresult cuDeviceGetCount(int *count) { return *count = devices, CUDA_SUCCESS; }
CUresult cuDeviceGet(CUdevice *device, int number) {
  if (number < 0 || number >= devices) return CUDA_ERROR_INVALID_DEVICE;
  return *device = number, CUDA_SUCCESS;
}
CUresult cuDeviceGetName(char *name, int length, CUdevice) {
  snprintf(name, length, "Simulated GPU: its times are estimates");
  return CUDA_SUCCESS;
}
CUresult cuDeviceGetPCIBusId(char *id, int length, CUdevice device) {
  snprintf(id, length, "ffff:%02x:00.0", device + 1);
  return CUDA_SUCCESS;
}
CUresult cuDeviceComputeCapability(int *major, int *minor, CUdevice) {
  *major = 9;
  *minor = 0;
  return CUDA_SUCCESS;
}
CUresult cuDeviceTotalMem(size_t *bytes, CUdevice) { return *bytes = 4ull << 30, CUDA_SUCCESS; }

static int attribute(CUdevice_attribute wanted) {
  switch (wanted) {
    case CU_DEVICE_ATTRIBUTE_MAX_THREADS_PER_BLOCK: return MAX_THREADS;
    case CU_DEVICE_ATTRIBUTE_MAX_BLOCK_DIM_X:
    case CU_DEVICE_ATTRIBUTE_MAX_BLOCK_DIM_Y: return 1024;
    case CU_DEVICE_ATTRIBUTE_MAX_BLOCK_DIM_Z: return 64;
    case CU_DEVICE_ATTRIBUTE_MAX_GRID_DIM_X: return 2147483647;
    case CU_DEVICE_ATTRIBUTE_MAX_GRID_DIM_Y:
    case CU_DEVICE_ATTRIBUTE_MAX_GRID_DIM_Z: return 65535;
    case CU_DEVICE_ATTRIBUTE_MAX_SHARED_MEMORY_PER_BLOCK: return MAX_STATIC_SHARED;
    case CU_DEVICE_ATTRIBUTE_MAX_SHARED_MEMORY_PER_BLOCK_OPTIN: return MAX_DYNAMIC_SHARED;
    case CU_DEVICE_ATTRIBUTE_WARP_SIZE: return WARP;
    case CU_DEVICE_ATTRIBUTE_MAX_REGISTERS_PER_BLOCK: return 65536;
    case CU_DEVICE_ATTRIBUTE_L2_CACHE_SIZE: return 1 << 20;
    case CU_DEVICE_ATTRIBUTE_MULTIPROCESSOR_COUNT: return 132;
    case CU_DEVICE_ATTRIBUTE_CLOCK_RATE: return 1980000;
    case CU_DEVICE_ATTRIBUTE_COMPUTE_CAPABILITY_MAJOR: return 9;
    default: return 0;
  }
}
CUresult cuDeviceGetAttribute(int *value, CUdevice_attribute wanted, CUdevice) {
  return *value = attribute(wanted), CUDA_SUCCESS;
}

static struct { int device; } primary;
CUresult cuDevicePrimaryCtxRetain(CUcontext *context, CUdevice device) {
  primary.device = device;
  return *context = (CUcontext)&primary, CUDA_SUCCESS;
}
CUresult cuDevicePrimaryCtxRelease(CUdevice) { return CUDA_SUCCESS; }
CUresult cuCtxPushCurrent(CUcontext) { return ++contexts, CUDA_SUCCESS; }
CUresult cuCtxPopCurrent(CUcontext *context) {
  if (!contexts) return CUDA_ERROR_INVALID_CONTEXT;
  --contexts;
  return *context = (CUcontext)&primary, CUDA_SUCCESS;
}
CUresult cuCtxGetDevice(CUdevice *device) { return *device = primary.device, CUDA_SUCCESS; }
CUresult cuCtxSynchronize(void) { return sticky_error; }

/* --- memory ------------------------------------------------------------------------------------------------ */

CUresult cuMemAlloc(CUdeviceptr *pointer, size_t bytes) {
  ALIVE();
  return contexts ? allocate(pointer, bytes) : CUDA_ERROR_INVALID_CONTEXT;
}
CUresult cuMemFree(CUdeviceptr pointer) {
  ALIVE();
  return release(pointer);
}
CUresult cuMemGetInfo(size_t *left, size_t *total) {
  ALIVE();
  *left = free_bytes();
  *total = 4ull << 30;
  return CUDA_SUCCESS;
}
CUresult cuMemcpyHtoD(CUdeviceptr to, const void *from, size_t bytes) {
  ALIVE();
  if (!touch(to, bytes, true)) return CUDA_ERROR_INVALID_VALUE;
  memcpy((void *)to, from, bytes);
  return CUDA_SUCCESS;
}
CUresult cuMemcpyDtoH(void *to, CUdeviceptr from, size_t bytes) {
  ALIVE();
  if (!touch(from, bytes, false)) return CUDA_ERROR_INVALID_VALUE;
  memcpy(to, (void *)from, bytes);
  return CUDA_SUCCESS;
}
CUresult cuMemcpyDtoD(CUdeviceptr to, CUdeviceptr from, size_t bytes) {
  ALIVE();
  if (!touch(to, bytes, true) || !touch(from, bytes, false)) return CUDA_ERROR_INVALID_VALUE;
  memmove((void *)to, (void *)from, bytes);
  return CUDA_SUCCESS;
}
CUresult cuMemsetD8(CUdeviceptr to, unsigned char value, size_t bytes) {
  ALIVE();
  if (!touch(to, bytes, true)) return CUDA_ERROR_INVALID_VALUE;
  memset((void *)to, value, bytes);
  return CUDA_SUCCESS;
}
CUresult cuMemsetD8Async(CUdeviceptr to, unsigned char value, size_t bytes, CUstream) {
  enqueue(20e-6);
  return cuMemsetD8(to, value, bytes);
}

/* --- events and errors -------------------------------------------------------------------------------------- */

CUresult cuEventCreate(CUevent *event, unsigned) {
  ALIVE();
  return *event = (CUevent)calloc(1, sizeof(int64_t)), CUDA_SUCCESS;
}
CUresult cuEventDestroy(CUevent event) { return free(event), CUDA_SUCCESS; }
CUresult cuEventRecord(CUevent event, CUstream) {
  ALIVE();
  return *(int64_t *)event = device_ps, CUDA_SUCCESS;
}
CUresult cuEventSynchronize(CUevent) { return sticky_error; }
CUresult cuEventElapsedTime(float *ms, CUevent begin, CUevent end) {
  *ms = (float)((*(int64_t *)end - *(int64_t *)begin) * 1e-9);
  return sticky_error;
}

static const struct { CUresult error; const char *name, *text; } ERRORS[] = {
    {CUDA_SUCCESS, "CUDA_SUCCESS", "no error"},
    {CUDA_ERROR_INVALID_VALUE, "CUDA_ERROR_INVALID_VALUE", "invalid argument"},
    {CUDA_ERROR_OUT_OF_MEMORY, "CUDA_ERROR_OUT_OF_MEMORY", "out of memory"},
    {CUDA_ERROR_NO_DEVICE, "CUDA_ERROR_NO_DEVICE", "no CUDA-capable device is detected"},
    {CUDA_ERROR_INVALID_DEVICE, "CUDA_ERROR_INVALID_DEVICE", "invalid device ordinal"},
    {CUDA_ERROR_INVALID_IMAGE, "CUDA_ERROR_INVALID_IMAGE", "device kernel image is invalid"},
    {CUDA_ERROR_INVALID_CONTEXT, "CUDA_ERROR_INVALID_CONTEXT", "invalid device context"},
    {CUDA_ERROR_NO_BINARY_FOR_GPU, "CUDA_ERROR_NO_BINARY_FOR_GPU",
     "no kernel image is available for execution on the device"},
    {CUDA_ERROR_NOT_FOUND, "CUDA_ERROR_NOT_FOUND", "named symbol not found"},
    {CUDA_ERROR_ILLEGAL_ADDRESS, "CUDA_ERROR_ILLEGAL_ADDRESS", "an illegal memory access was encountered"},
    {CUDA_ERROR_LAUNCH_OUT_OF_RESOURCES, "CUDA_ERROR_LAUNCH_OUT_OF_RESOURCES",
     "too many resources requested for launch"},
    {CUDA_ERROR_MISALIGNED_ADDRESS, "CUDA_ERROR_MISALIGNED_ADDRESS", "misaligned address"},
    {CUDA_ERROR_INVALID_ADDRESS_SPACE, "CUDA_ERROR_INVALID_ADDRESS_SPACE",
     "operation not supported on global/shared address space"},
    {CUDA_ERROR_ILLEGAL_INSTRUCTION, "CUDA_ERROR_ILLEGAL_INSTRUCTION", "an illegal instruction was encountered"},
    {CUDA_ERROR_LAUNCH_FAILED, "CUDA_ERROR_LAUNCH_FAILED", "unspecified launch failure"},
    {CUDA_ERROR_NOT_SUPPORTED, "CUDA_ERROR_NOT_SUPPORTED", "operation not supported by the simulated driver"},
};

CUresult cuGetErrorName(CUresult error, const char **text) {
  *text = "CUDA_ERROR_UNKNOWN";
  for (const auto &known : ERRORS)
    if (known.error == error) *text = known.name;
  return CUDA_SUCCESS;
}
CUresult cuGetErrorString(CUresult error, const char **text) {
  *text = "unknown error";
  for (const auto &known : ERRORS)
    if (known.error == error) *text = known.text;
  if (error && error == explained && words[0]) *text = words;
  return CUDA_SUCCESS;
}
}
