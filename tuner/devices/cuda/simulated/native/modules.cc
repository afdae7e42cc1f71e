/* Compiled files and launches of their kernels.

   A launch is a function of what its arguments hold: the same one on the same contents is looked up, not run again.
   Timing calls a kernel thousands of times, of which two run. */

#include "memory.h"

#include <dlfcn.h>
#include <elf.h>
#include <link.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "driver.h"

struct Module {
  void *library;
  int file; /* open as long as the library is: a library of the same name would be taken for this one */
  const SimtKernel *kernels; /* null: our own kernels as PTX */
  const char *begin, *end;
  Hash hash;
};

struct Function {
  Module *module;
  const SimtKernel *kernel; /* null: one of our own, by its name */
  char name[64];
  int dynamic_limit;
};

/* --- loading --------------------------------------------------------------------------------------------- */

#if defined(__x86_64__)
static const int HOST = EM_X86_64;
#else
static const int HOST = EM_AARCH64;
#endif

static size_t elf_bytes(const Elf64_Ehdr *header) {
  return header->e_shoff + (size_t)header->e_shnum * header->e_shentsize;
}

/* Where the module's code and constants lie: what a kernel may read besides memory of the device. */
static int note_range(struct dl_phdr_info *info, size_t, void *given) {
  Module *module = (Module *)given;
  const char *table = (const char *)module->kernels;
  const char *low = nullptr, *high = nullptr;
  bool own = false;
  for (int i = 0; i < info->dlpi_phnum; ++i) {
    const auto &part = info->dlpi_phdr[i];
    if (part.p_type != PT_LOAD) continue;
    const char *begin = (const char *)info->dlpi_addr + part.p_vaddr, *end = begin + part.p_memsz;
    own |= table >= begin && table < end;
    if (part.p_flags & PF_W) continue;
    if (!low || begin < low) low = begin;
    if (end > high) high = end;
  }
  if (!own) return 0;
  module->begin = low;
  module->end = high;
  return 1;
}

static CUresult load_compiled(Module *module, const void *image) {
  const Elf64_Ehdr *header = (const Elf64_Ehdr *)image;
  if (header->e_machine != HOST || header->e_type != ET_DYN) return CUDA_ERROR_NO_BINARY_FOR_GPU;
  const size_t bytes = elf_bytes(header);
  module->file = memfd_create("simulated-cubin", MFD_CLOEXEC);
  if (module->file < 0 || write(module->file, image, bytes) != (ssize_t)bytes) return CUDA_ERROR_OUT_OF_MEMORY;
  char path[64];
  snprintf(path, sizeof path, "/proc/self/fd/%d", module->file);
  module->library = dlopen(path, RTLD_NOW | RTLD_LOCAL);
  if (!module->library) return explain(CUDA_ERROR_INVALID_IMAGE, dlerror());
  module->kernels = (const SimtKernel *)dlsym(module->library, "simt_kernels");
  if (!module->kernels) return CUDA_ERROR_INVALID_IMAGE;
  for (const SimtKernel *kernel = module->kernels; kernel->name; ++kernel)
    if (kernel->shared_end - kernel->shared_begin > MAX_STATIC_SHARED)
      return explain(CUDA_ERROR_INVALID_IMAGE, "the kernel uses too much static shared memory");
  dl_iterate_phdr(note_range, module);
  mix(module->hash, image, bytes);
  return CUDA_SUCCESS;
}

static void unload(Module *module) {
  if (module->library) dlclose(module->library);
  if (module->file >= 0) close(module->file);
  free(module);
}

/* The driver says nothing about what it loads: the logs that are asked for are empty. */
static void empty_logs(unsigned count, const CUjit_option *options, void **values) {
  for (unsigned i = 0; i < count; ++i)
    if (options[i] == CU_JIT_INFO_LOG_BUFFER_SIZE_BYTES || options[i] == CU_JIT_ERROR_LOG_BUFFER_SIZE_BYTES)
      values[i] = nullptr;
}

extern "C" CUresult cuModuleLoadDataEx(CUmodule *result, const void *image, unsigned count, CUjit_option *options,
                                       void **values) {
  ALIVE();
  empty_logs(count, options, values);
  Module *module = (Module *)calloc(1, sizeof *module);
  module->file = -1;
  CUresult failed = CUDA_SUCCESS;
  if (memcmp(image, ELFMAG, SELFMAG) == 0) failed = load_compiled(module, image);
  else if (!strstr((const char *)image, ".visible .entry")) failed = CUDA_ERROR_INVALID_IMAGE;
  if (failed) return unload(module), failed;
  *result = (CUmodule)module;
  return CUDA_SUCCESS;
}
extern "C" CUresult cuModuleLoadData(CUmodule *result, const void *image) {
  return cuModuleLoadDataEx(result, image, 0, nullptr, nullptr);
}
extern "C" CUresult cuModuleUnload(CUmodule given) {
  unload((Module *)given);
  return sticky();
}

extern "C" CUresult cuModuleGetFunction(CUfunction *result, CUmodule given, const char *name) {
  ALIVE();
  Module *module = (Module *)given;
  const SimtKernel *kernel = module->kernels;
  while (kernel && kernel->name && strcmp(kernel->name, name)) ++kernel;
  if (kernel && !kernel->name) return CUDA_ERROR_NOT_FOUND;
  if (!kernel && strcmp(name, "tuner_hold") && strcmp(name, "tuner_health")) return CUDA_ERROR_NOT_FOUND;
  Function *function = (Function *)calloc(1, sizeof *function);
  *function = {module, kernel, {}, MAX_STATIC_SHARED};
  snprintf(function->name, sizeof function->name, "%s", name);
  *result = (CUfunction)function;
  return CUDA_SUCCESS;
}
extern "C" CUresult cuFuncSetAttribute(CUfunction given, CUfunction_attribute attribute, int value) {
  if (attribute != CU_FUNC_ATTRIBUTE_MAX_DYNAMIC_SHARED_SIZE_BYTES) return CUDA_SUCCESS;
  if (value > MAX_DYNAMIC_SHARED) return CUDA_ERROR_INVALID_VALUE;
  ((Function *)given)->dynamic_limit = value;
  return CUDA_SUCCESS;
}
extern "C" CUresult cuFuncSetBlockShape(CUfunction, int, int, int) { return CUDA_SUCCESS; }

/* --- launches that are known ------------------------------------------------------------------------------ */

enum { MOST_ARGUMENTS = 64, MOST_KNOWN = 4096 };
static const size_t MOST_KEPT = 512u << 20;

struct Result {
  Hash hash;
  char *content; /* null where the launch did not change it */
  size_t bytes;
};
struct Known {
  Hash key;
  unsigned count;
  Result results[MOST_ARGUMENTS];
};
static Known *known[MOST_KNOWN];
static size_t kept_bytes;
static bool touched_others;
static Allocation *touched[MOST_ARGUMENTS];
static unsigned touched_count;

bool find_allocation(uintptr_t address, uintptr_t *begin, uintptr_t *end) {
  Allocation *found = allocation_at(address);
  if (!found) return false;
  bool given = false;
  for (unsigned i = 0; i < touched_count; ++i) given |= touched[i] == found;
  touched_others |= !given;
  *begin = (uintptr_t)found->begin;
  *end = *begin + found->bytes;
  return true;
}

static unsigned offset_of(const SimtKernel *kernel, unsigned parameter) {
  unsigned offset = 0;
  for (unsigned i = 0;; ++i) {
    offset = (offset + kernel->sizes[i] - 1) / kernel->sizes[i] * kernel->sizes[i];
    if (i == parameter) return offset;
    offset += kernel->sizes[i];
  }
}

/* The hash of all that the outcome depends on, and the allocations among the arguments. */
static Hash key_of(const Function *function, const Launch &launch) {
  Hash key = function->module->hash;
  mix(key, launch.kernel->name, strlen(launch.kernel->name));
  mix(key, &launch.grid, sizeof launch.grid);
  mix(key, &launch.block, sizeof launch.block);
  mix(key, &launch.dynamic_shared, sizeof launch.dynamic_shared);
  touched_count = 0;
  for (unsigned i = 0; i < launch.kernel->parameters; ++i) {
    uint64_t value = 0;
    memcpy(&value, launch.parameters + offset_of(launch.kernel, i), launch.kernel->sizes[i]);
    Allocation *found = launch.kernel->sizes[i] == 8 ? allocation_at(value) : nullptr;
    if (found && touched_count < MOST_ARGUMENTS) {
      unsigned number = 0;
      while (number < touched_count && touched[number] != found) ++number;
      if (number == touched_count) touched[touched_count++] = found;
      value -= (uintptr_t)found->begin;
      mix(key, &hash_of(found), sizeof(Hash));
      mix(key, &number, sizeof number);
    }
    mix(key, &value, sizeof value);
  }
  return key;
}

static bool equal(const Hash &a, const Hash &b) { return a.low == b.low && a.high == b.high; }

static void repeat(const Known *entry) {
  for (unsigned i = 0; i < entry->count; ++i) {
    const Result &result = entry->results[i];
    if (!result.content || equal(hash_of(touched[i]), result.hash)) continue;
    memcpy(touched[i]->begin, result.content, result.bytes);
    touched[i]->hash = result.hash;
    touched[i]->changed = false;
  }
}

static void remember(const Hash &key, const Hash *before) {
  Known *&slot = known[key.low % MOST_KNOWN];
  if (slot) {
    for (unsigned i = 0; i < slot->count; ++i)
      if (slot->results[i].content) kept_bytes -= slot->results[i].bytes, free(slot->results[i].content);
    free(slot);
    slot = nullptr;
  }
  size_t wanted = 0;
  for (unsigned i = 0; i < touched_count; ++i) wanted += touched[i]->bytes;
  if (wanted > MOST_KEPT - kept_bytes) return;
  slot = (Known *)calloc(1, sizeof *slot);
  slot->key = key;
  slot->count = touched_count;
  for (unsigned i = 0; i < touched_count; ++i) {
    Result &result = slot->results[i];
    result.hash = hash_of(touched[i]);
    result.bytes = touched[i]->bytes;
    if (equal(result.hash, before[i])) continue;
    result.content = (char *)malloc(result.bytes);
    memcpy(result.content, touched[i]->begin, result.bytes);
    kept_bytes += result.bytes;
  }
}

static CUresult run_or_repeat(const Function *function, const Launch &launch) {
  const Hash key = key_of(function, launch);
  const Known *entry = known[key.low % MOST_KNOWN];
  if (entry && equal(entry->key, key) && entry->count == touched_count) {
    repeat(entry);
    return CUDA_SUCCESS;
  }
  Hash before[MOST_ARGUMENTS];
  for (unsigned i = 0; i < touched_count; ++i) before[i] = touched[i]->hash;
  touched_others = false;
  const CUresult failed = run_launch(launch);
  if (failed || touched_others) {
    all_changed();
    return failed;
  }
  for (unsigned i = 0; i < touched_count; ++i) touched[i]->changed = true;
  remember(key, before);
  return CUDA_SUCCESS;
}

/* --- launching ------------------------------------------------------------------------------------------- */

static CUresult own_kernel(const Function *function, unsigned threads, const void *parameters) {
  uint64_t value;
  memcpy(&value, parameters, sizeof value);
  if (!strcmp(function->name, "tuner_hold")) {
    enqueue(1e-9 * (double)value);
    return CUDA_SUCCESS;
  }
  if (!touch(value, threads * sizeof(uint32_t), true)) return fail(CUDA_ERROR_ILLEGAL_ADDRESS, nullptr);
  uint32_t *values = (uint32_t *)value;
  for (uint32_t i = 0; i < threads; ++i) values[i] = values[i] * 3 + i;
  enqueue(3e-6);
  return CUDA_SUCCESS;
}

/* Says why the launch cannot be; CUDA_SUCCESS where it can. */
static CUresult refused(const Function *function, const Launch &launch) {
  const SimtIndex g = launch.grid, b = launch.block;
  const uint64_t threads = (uint64_t)b.x * b.y * b.z;
  if (!threads || !g.x || !g.y || !g.z || threads > MAX_THREADS || b.z > 64 || g.y > 65535 || g.z > 65535 ||
      g.x > 2147483647u)
    return CUDA_ERROR_INVALID_VALUE;
  if (!function->kernel) return CUDA_SUCCESS;
  const SimtKernel &kernel = *function->kernel;
  if (threads > kernel.max_threads || kernel.registers * threads > 65536) return CUDA_ERROR_LAUNCH_OUT_OF_RESOURCES;
  const int static_bytes = (int)(kernel.shared_end - kernel.shared_begin);
  if ((int)launch.dynamic_shared > function->dynamic_limit) return CUDA_ERROR_INVALID_VALUE;
  if ((int)launch.dynamic_shared + static_bytes > MAX_DYNAMIC_SHARED) return CUDA_ERROR_INVALID_VALUE;
  return CUDA_SUCCESS;
}

CUresult launch_now(const Node &node) {
  const Function *function = (const Function *)node.function;
  if (!function->kernel) return own_kernel(function, node.launch.block.x, node.launch.parameters);
  const CUresult failed = run_or_repeat(function, node.launch);
  if (failed) return fail(failed, launch_failure);
  const double seconds = function->kernel->seconds;
  enqueue(seconds > 0 ? seconds : 2e-6); /* the least that the analytical model gives any launch */
  return CUDA_SUCCESS;
}

extern "C" CUresult cuLaunchKernel(CUfunction given, unsigned gx, unsigned gy, unsigned gz, unsigned bx, unsigned by,
                                   unsigned bz, unsigned shared, CUstream, void **parameters, void **extra) {
  ALIVE();
  Function *function = (Function *)given;
  static Node node;
  node = {given, {function->kernel, {gx, gy, gz}, {bx, by, bz}, shared, function->module->begin,
                  function->module->end, {}}};
  if (CUresult failed = refused(function, node.launch)) return failed;
  const unsigned count = function->kernel ? function->kernel->parameters : 1;
  const unsigned last = function->kernel && count ? offset_of(function->kernel, count - 1) : 0;
  const unsigned bytes = function->kernel && count ? last + function->kernel->sizes[count - 1] : 8 * count;
  if (bytes > sizeof node.launch.parameters) return CUDA_ERROR_INVALID_VALUE;
  if (parameters)
    for (unsigned i = 0; i < count; ++i) {
      const unsigned at = function->kernel ? offset_of(function->kernel, i) : 0;
      memcpy(node.launch.parameters + at, parameters[i], function->kernel ? function->kernel->sizes[i] : 8);
    }
  else if (extra && *(size_t *)extra[3] >= bytes) memcpy(node.launch.parameters, extra[1], bytes);
  else return CUDA_ERROR_INVALID_VALUE;
  return captured(node) ? CUDA_SUCCESS : launch_now(node);
}
extern "C" CUresult cuLaunchKernelEx(const CUlaunchConfig *c, CUfunction function, void **parameters, void **extra) {
  return cuLaunchKernel(function, c->gridDimX, c->gridDimY, c->gridDimZ, c->blockDimX, c->blockDimY, c->blockDimZ,
                        c->sharedMemBytes, c->hStream, parameters, extra);
}
