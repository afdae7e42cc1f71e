/* Run an exported OpenCL model: cc -O2 -o run_model run_model.c -lOpenCL && ./run_model [inputs.bin [outputs.bin]]

   inputs.bin holds the bytes of all inputs one after another, as outputs.bin will hold those of the outputs; inputs are
   zeros without a file. Reads model.plan, model.cl and model.bin of the current folder. TUNER_OPENCL_DEVICE chooses a
   device by a part of its name; without it the model runs on the one that it was tuned for, else on the first.
   What it needs of CL/cl.h is declared here, so that no headers have to be installed. */
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

typedef int32_t cl_int;
typedef uint32_t cl_uint;
typedef uint64_t cl_ulong, cl_bits;
typedef void *platform_t, *device_t, *context_t, *queue_t, *program_t, *kernel_t, *mem_t;
typedef struct { size_t origin, size; } region_t;
extern cl_int clGetPlatformIDs(cl_uint, platform_t*, cl_uint*);
extern cl_int clGetPlatformInfo(platform_t, cl_uint, size_t, void*, size_t*);
extern cl_int clGetDeviceIDs(platform_t, cl_bits, cl_uint, device_t*, cl_uint*);
extern cl_int clGetDeviceInfo(device_t, cl_uint, size_t, void*, size_t*);
extern context_t clCreateContext(const intptr_t*, cl_uint, const device_t*, void*, void*, cl_int*);
extern queue_t clCreateCommandQueue(context_t, device_t, cl_bits, cl_int*);
extern program_t clCreateProgramWithSource(context_t, cl_uint, const char**, const size_t*, cl_int*);
extern cl_int clBuildProgram(program_t, cl_uint, const device_t*, const char*, void*, void*);
extern cl_int clGetProgramBuildInfo(program_t, device_t, cl_uint, size_t, void*, size_t*);
extern kernel_t clCreateKernel(program_t, const char*, cl_int*);
extern cl_int clSetKernelArg(kernel_t, cl_uint, size_t, const void*);
extern mem_t clCreateBuffer(context_t, cl_bits, size_t, void*, cl_int*);
extern mem_t clCreateSubBuffer(mem_t, cl_bits, cl_uint, const void*, cl_int*);
extern cl_int clEnqueueNDRangeKernel(queue_t, kernel_t, cl_uint, const size_t*, const size_t*, const size_t*, cl_uint,
                                     const void*, void*);
extern cl_int clEnqueueWriteBuffer(queue_t, mem_t, cl_uint, size_t, size_t, const void*, cl_uint, const void*, void*);
extern cl_int clEnqueueReadBuffer(queue_t, mem_t, cl_uint, size_t, size_t, void*, cl_uint, const void*, void*);
extern cl_int clFinish(queue_t);
enum { PLATFORM_NAME = 0x902, DEVICE_NAME = 0x102B, MAX_GROUP = 0x1004, LOCAL_BYTES = 0x1023, ALIGN = 0x1019,
       MAX_ALLOC = 0x1010, DEVICE_TYPE = 0x1000, CPU = 2, BUILD_LOG = 0x1183, READ_WRITE = 1, COPY = 1 | 32, REGION = 0x1220, MOST = 1024 };

typedef struct { mem_t memory; size_t bytes; } buffer_t;
typedef struct { kernel_t kernel; size_t global[3], local[3]; } launch_t;
static FILE* plan;
static context_t context;
static buffer_t constants, arena, workspaces[MOST], inputs[MOST], outputs[MOST];
static size_t counts[3]; /* of workspaces, inputs and outputs */

static void stop(const char* format, ...) {
  va_list arguments;
  va_start(arguments, format);
  vfprintf(stderr, format, arguments);
  va_end(arguments);
  fputc('\n', stderr);
  exit(1);
}

static void check(cl_int code, const char* what) { if (code) stop("OpenCL: %s failed with %d", what, (int)code); }

static size_t number(void) {
  unsigned long long value;
  if (fscanf(plan, "%llu", &value) != 1) stop("model.plan is damaged: a number is missing");
  return (size_t)value;
}

static void word(const char* wanted) {
  char found[64];
  if (fscanf(plan, "%63s", found) != 1 || strcmp(found, wanted)) stop("model.plan is damaged: no '%s'", wanted);
}

static char* content(const char* path, size_t* bytes) {
  FILE* file = fopen(path, "rb");
  if (!file || fseek(file, 0, SEEK_END)) stop("%s cannot be read", path);
  *bytes = (size_t)ftell(file);
  rewind(file);
  char* read = malloc(*bytes + 1);
  if (!read || fread(read, 1, *bytes, file) != *bytes) stop("%s cannot be read", path);
  read[*bytes] = 0;
  fclose(file);
  return read;
}

static buffer_t allocate(size_t bytes, void* from) {
  cl_int code;
  buffer_t made = {NULL, bytes ? bytes : 1};
  made.memory = clCreateBuffer(context, from ? COPY : READ_WRITE, made.bytes, from, &code);
  check(code, "clCreateBuffer");
  return made;
}

static device_t choose(const char* tuned_for) {
  const char* wanted = getenv("TUNER_OPENCL_DEVICE");
  platform_t platforms[64];
  device_t first = NULL;
  cl_uint many = 0;
  if (clGetPlatformIDs(64, platforms, &many)) many = 0;
  for (cl_uint p = 0; p < many; ++p) {
    device_t devices[64];
    cl_uint of_platform = 0;
    if (clGetDeviceIDs(platforms[p], 0xFFFFFFFF, 64, devices, &of_platform)) continue;
    for (cl_uint d = 0; d < of_platform; ++d) {
      char name[1024], platform[256] = "", device[256] = "";
      clGetPlatformInfo(platforms[p], PLATFORM_NAME, sizeof platform, platform, NULL);
      clGetDeviceInfo(devices[d], DEVICE_NAME, sizeof device, device, NULL);
      snprintf(name, sizeof name, "%s / %s", platform, device);
      if (!first && !wanted) first = devices[d];
      if (wanted ? strstr(name, wanted) != NULL : strcmp(name, tuned_for) == 0) return devices[d];
    }
  }
  if (!first) stop(wanted ? "there is no OpenCL device '%s' here" : "there is no OpenCL device here", wanted);
  return first;
}

static void least(device_t device, cl_uint key, size_t size, size_t wanted, const char* what) {
  cl_ulong has = 0;
  check(clGetDeviceInfo(device, key, size, &has, NULL), "clGetDeviceInfo");
  if (wanted > has) stop("the device allows %llu %s, the model needs %zu", (unsigned long long)has, what, wanted);
}

static mem_t argument(void) {
  char kind;
  if (fscanf(plan, " %c", &kind) != 1) stop("model.plan is damaged: an argument is missing");
  size_t at = number();
  region_t region;
  region.origin = number();
  region.size = number();
  buffer_t* many[] = {workspaces, inputs, outputs};
  size_t index = kind == 'w' ? 0 : kind == 'i' ? 1 : 2;
  if (!strchr("caiow", kind)) stop("model.plan is damaged: an argument of kind '%c'", kind);
  if (kind != 'c' && kind != 'a' && at >= counts[index]) stop("model.plan is damaged: buffer %zu", at);
  buffer_t whole = kind == 'c' ? constants : kind == 'a' ? arena : many[index][at];
  if (!region.size) region.size = 1;
  if (region.origin == 0 && region.size >= whole.bytes) return whole.memory;
  cl_int code;
  mem_t part = clCreateSubBuffer(whole.memory, READ_WRITE, REGION, &region, &code);
  check(code, "clCreateSubBuffer");
  return part;
}

static void run(queue_t queue, const launch_t* launches, size_t many) {
  for (size_t i = 0; i < many; ++i)
    check(clEnqueueNDRangeKernel(queue, launches[i].kernel, 3, NULL, launches[i].global, launches[i].local, 0, NULL, NULL),
          "clEnqueueNDRangeKernel");
  check(clFinish(queue), "clFinish");
}

int main(int argc, char** argv) {
  cl_int code;
  char tuned_for[1024];
  if (!(plan = fopen("model.plan", "r"))) stop("model.plan cannot be read: run this in the folder of the export");
  word("tuner-opencl");
  if (number() != 1) stop("model.plan is of another format");
  word("device");
  if (fscanf(plan, " %1023[^\n]", tuned_for) != 1) stop("model.plan is damaged: no device");
  device_t device = choose(tuned_for);
  word("needs");
  size_t threads = number(), local = number(), alignment = number(), arena_bytes = number();
  cl_uint wants = 0;
  least(device, MAX_GROUP, sizeof(size_t), threads, "work items in a group");
  least(device, LOCAL_BYTES, sizeof(cl_ulong), local, "bytes of local memory");
  least(device, MAX_ALLOC, sizeof(cl_ulong), arena_bytes, "bytes in one buffer");
  check(clGetDeviceInfo(device, ALIGN, sizeof wants, &wants, NULL), "clGetDeviceInfo");
  if (wants >= 8 && alignment % (wants / 8)) stop("the device wants buffers aligned to %u bytes", wants / 8);
  context = clCreateContext(NULL, 1, &device, NULL, NULL, &code);
  check(code, "clCreateContext");
  queue_t queue = clCreateCommandQueue(context, device, 0, &code);
  check(code, "clCreateCommandQueue");
  size_t source_bytes, weight_bytes;
  const char* source = content("model.cl", &source_bytes);
  program_t program = clCreateProgramWithSource(context, 1, &source, &source_bytes, &code);
  check(code, "clCreateProgramWithSource");
  if (clBuildProgram(program, 1, &device, "", NULL, NULL)) {
    static char log[1 << 16];
    clGetProgramBuildInfo(program, device, BUILD_LOG, sizeof log, log, NULL);
    stop("model.cl does not compile: %.2000s", log);
  }
  char* weights = content("model.bin", &weight_bytes);
  constants = allocate(weight_bytes, weight_bytes ? weights : NULL);
  arena = allocate(arena_bytes, NULL);
  buffer_t* groups[] = {workspaces, inputs, outputs};
  const char* names[] = {"workspaces", "inputs", "outputs"};
  for (int group = 0; group < 3; ++group) {
    word(names[group]);
    if ((counts[group] = number()) > MOST) stop("model.plan has too many %s", names[group]);
    for (size_t i = 0; i < counts[group]; ++i) groups[group][i] = allocate(number(), NULL);
  }
  word("calls");
  size_t many = number();
  launch_t* launches = calloc(many ? many : 1, sizeof *launches);
  for (size_t i = 0; launches && i < many; ++i) {
    char name[256];
    if (fscanf(plan, "%255s", name) != 1) stop("model.plan is damaged: call %zu is missing", i);
    launches[i].kernel = clCreateKernel(program, name, &code);
    check(code, name);
    for (int axis = 0; axis < 3; ++axis) launches[i].global[axis] = number();
    for (int axis = 0; axis < 3; ++axis) launches[i].local[axis] = number();
    size_t arguments = number();
    for (cl_uint a = 0; a < arguments; ++a) {
      mem_t given = argument();
      check(clSetKernelArg(launches[i].kernel, a, sizeof given, &given), "clSetKernelArg");
    }
  }
  FILE* from = argc > 1 ? fopen(argv[1], "rb") : NULL;
  if (argc > 1 && !from) stop("%s cannot be read", argv[1]);
  for (size_t i = 0; i < counts[1]; ++i) {
    char* bytes = calloc(1, inputs[i].bytes);
    if (!bytes || (from && fread(bytes, 1, inputs[i].bytes, from) != inputs[i].bytes)) stop("input %zu is too short", i);
    check(clEnqueueWriteBuffer(queue, inputs[i].memory, 1, 0, inputs[i].bytes, bytes, 0, NULL, NULL), "the upload");
    free(bytes);
  }
  run(queue, launches, many); /* the first call sets things up */
  struct timespec begin, end;
  clock_gettime(CLOCK_MONOTONIC, &begin);
  run(queue, launches, many);
  clock_gettime(CLOCK_MONOTONIC, &end);
  cl_bits type = 0;
  check(clGetDeviceInfo(device, DEVICE_TYPE, sizeof type, &type, NULL), "clGetDeviceInfo");
  printf("%.3g ms for one call%s\n", 1e3 * (end.tv_sec - begin.tv_sec) + 1e-6 * (end.tv_nsec - begin.tv_nsec),
         type & CPU ? " (CPU's time)" : "");
  FILE* to = argc > 2 ? fopen(argv[2], "wb") : NULL;
  if (argc > 2 && !to) stop("%s cannot be written", argv[2]);
  for (size_t i = 0; to && i < counts[2]; ++i) {
    char* bytes = malloc(outputs[i].bytes);
    if (!bytes) stop("no memory for output %zu", i);
    check(clEnqueueReadBuffer(queue, outputs[i].memory, 1, 0, outputs[i].bytes, bytes, 0, NULL, NULL), "the download");
    if (fwrite(bytes, 1, outputs[i].bytes, to) != outputs[i].bytes) stop("%s cannot be written", argv[2]);
    free(bytes);
  }
  if (to && fclose(to)) stop("%s cannot be written", argv[2]);
  return 0;
}
