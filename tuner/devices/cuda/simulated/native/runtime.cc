/* The part of CUDA's runtime that TVM calls, on the simulated driver. */

#include "graphs.h"

#include <cuda_runtime_api.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static cudaError_t last_error;

static cudaError_t result(CUresult error) {
  if (error) last_error = (cudaError_t)error;
  return (cudaError_t)error;
}

/* The primary context is current from the first call that needs one. */
static void need_context(void) {
  static bool made;
  if (made) return;
  made = true;
  CUcontext context;
  cuInit(0);
  cuDevicePrimaryCtxRetain(&context, 0);
  cuCtxPushCurrent(context);
}

extern "C" {

cudaError_t cudaGetDeviceCount(int *count) {
  if (cuInit(0)) return *count = 0, cudaErrorNoDevice;
  return result(cuDeviceGetCount(count));
}
cudaError_t cudaGetDevice(int *device) { return *device = 0, cudaSuccess; }
cudaError_t cudaSetDevice(int) { return need_context(), cudaSuccess; }
cudaError_t cudaDeviceGetAttribute(int *value, enum cudaDeviceAttr attribute, int device) {
  return result(cuDeviceGetAttribute(value, (CUdevice_attribute)attribute, device));
}
cudaError_t cudaGetDeviceProperties(struct cudaDeviceProp *made, int device) {
  memset(made, 0, sizeof *made);
  cuDeviceGetName(made->name, sizeof made->name, device);
  cuDeviceComputeCapability(&made->major, &made->minor, device);
  cuDeviceTotalMem(&made->totalGlobalMem, device);
  made->warpSize = 32;
  made->maxThreadsPerBlock = MAX_THREADS;
  made->sharedMemPerBlock = MAX_STATIC_SHARED;
  made->sharedMemPerBlockOptin = MAX_DYNAMIC_SHARED;
  made->regsPerBlock = 65536;
  made->l2CacheSize = 1 << 20;
  made->multiProcessorCount = 132;
  return cudaSuccess;
}
cudaError_t cudaMalloc(void **pointer, size_t bytes) {
  need_context();
  return result(cuMemAlloc((CUdeviceptr *)pointer, bytes ? bytes : 1));
}
cudaError_t cudaFree(void *pointer) { return pointer ? result(cuMemFree((CUdeviceptr)pointer)) : cudaSuccess; }
cudaError_t cudaMallocHost(void **pointer, size_t bytes) {
  return (*pointer = malloc(bytes)) ? cudaSuccess : cudaErrorMemoryAllocation;
}
cudaError_t cudaFreeHost(void *pointer) { return free(pointer), cudaSuccess; }
cudaError_t cudaMemGetInfo(size_t *left, size_t *total) { return need_context(), result(cuMemGetInfo(left, total)); }

cudaError_t cudaMemcpyAsync(void *to, const void *from, size_t bytes, enum cudaMemcpyKind kind, cudaStream_t) {
  need_context();
  if (kind == cudaMemcpyHostToDevice) return result(cuMemcpyHtoD((CUdeviceptr)to, from, bytes));
  if (kind == cudaMemcpyDeviceToHost) return result(cuMemcpyDtoH(to, (CUdeviceptr)from, bytes));
  return result(cuMemcpyDtoD((CUdeviceptr)to, (CUdeviceptr)from, bytes));
}
cudaError_t cudaMemcpyPeerAsync(void *to, int, const void *from, int, size_t bytes, cudaStream_t stream) {
  return cudaMemcpyAsync(to, from, bytes, cudaMemcpyDeviceToDevice, stream);
}

/* One stream: work is done in the order in which it is given. */
cudaError_t cudaStreamCreate(cudaStream_t *stream) { return *stream = (cudaStream_t)calloc(1, 8), cudaSuccess; }
cudaError_t cudaStreamCreateWithFlags(cudaStream_t *stream, unsigned) { return cudaStreamCreate(stream); }
cudaError_t cudaStreamDestroy(cudaStream_t stream) { return free(stream), cudaSuccess; }
cudaError_t cudaStreamSynchronize(cudaStream_t) { return need_context(), result(cuCtxSynchronize()); }
cudaError_t cudaStreamWaitEvent(cudaStream_t, cudaEvent_t, unsigned) { return cudaSuccess; }

cudaError_t cudaEventCreate(cudaEvent_t *event) { return result(cuEventCreate((CUevent *)event, 0)); }
cudaError_t cudaEventDestroy(cudaEvent_t event) { return result(cuEventDestroy((CUevent)event)); }
cudaError_t cudaEventRecord(cudaEvent_t event, cudaStream_t) { return result(cuEventRecord((CUevent)event, nullptr)); }
cudaError_t cudaEventSynchronize(cudaEvent_t event) { return result(cuEventSynchronize((CUevent)event)); }
cudaError_t cudaEventElapsedTime(float *ms, cudaEvent_t begin, cudaEvent_t end) {
  return result(cuEventElapsedTime(ms, (CUevent)begin, (CUevent)end));
}

cudaError_t cudaStreamBeginCapture(cudaStream_t, enum cudaStreamCaptureMode) { return begin_capture(), cudaSuccess; }
cudaError_t cudaStreamEndCapture(cudaStream_t, cudaGraph_t *graph) {
  return *graph = (cudaGraph_t)end_capture(), *graph ? cudaSuccess : cudaErrorStreamCaptureUnmatched;
}
cudaError_t cudaGraphInstantiate(cudaGraphExec_t *made, cudaGraph_t graph, unsigned long long) {
  const Graph *from = (const Graph *)graph;
  Graph *copy = (Graph *)calloc(1, sizeof(Graph));
  copy->nodes = (Node *)malloc((from->count ? from->count : 1) * sizeof(Node));
  memcpy((void *)copy->nodes, from->nodes, from->count * sizeof(Node));
  copy->count = copy->held = from->count;
  return *made = (cudaGraphExec_t)copy, cudaSuccess;
}
cudaError_t cudaGraphLaunch(cudaGraphExec_t graph, cudaStream_t) { return result(launch_graph((const Graph *)graph)); }
cudaError_t cudaGraphDestroy(cudaGraph_t graph) { return destroy_graph((Graph *)graph), cudaSuccess; }
cudaError_t cudaGraphExecDestroy(cudaGraphExec_t graph) { return destroy_graph((Graph *)graph), cudaSuccess; }

cudaError_t cudaGetLastError(void) {
  const cudaError_t error = last_error;
  last_error = cudaSuccess;
  return error;
}
cudaError_t cudaPeekAtLastError(void) { return last_error; }
const char *cudaGetErrorName(cudaError_t error) {
  const char *text;
  return cuGetErrorName((CUresult)error, &text), text;
}
const char *cudaGetErrorString(cudaError_t error) {
  const char *text;
  return cuGetErrorString((CUresult)error, &text), text;
}
}
