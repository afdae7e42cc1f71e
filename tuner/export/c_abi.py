"""How C sees what TVM passes: the layouts of DLTensor and TVMFFIAny, those of DLPack and of tvm/ffi/c_api.h."""

STRUCTS = """\
typedef struct { int32_t type, id; } Device;
typedef struct { uint8_t code, bits; uint16_t lanes; } Type;
typedef struct {
  void* data; Device device; int32_t ndim; Type dtype; int64_t *shape, *strides; uint64_t offset;
} Tensor;
typedef struct { int32_t type_index; uint32_t zero; union { int64_t i; void* p; double f; }; } Any;
"""
"""Needs stdint.h."""
