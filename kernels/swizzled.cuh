/* Shared memory whose 128-byte lines have their chunks of `granule` bytes in another order: chunk c of line l lies at
   c ^ l ^ l >> bits ^ l >> 2 * bits, of whose bits as many count as a line has chunks. Every line keeps its own bytes. */
template <class T, int granule> struct Swizzled {
  char* memory;
  int begin; /* in elements */
  __device__ __forceinline__ T* operator+(int offset) const {
    const int bits = granule == 4 ? 5 : granule == 8 ? 4 : 3;
    const int byte = (begin + offset) * (int)sizeof(T), line = byte >> 7;
    return (T*)(memory + (byte ^ ((line ^ line >> bits ^ line >> 2 * bits) & ((1 << bits) - 1)) * granule));
  }
  __device__ __forceinline__ T& operator[](int offset) const { return *(*this + offset); }
  __device__ __forceinline__ Swizzled tile(int offset) const { return {memory, begin + offset}; }
};
template <class T, int granule> __device__ __forceinline__ T* at(Swizzled<T, granule> tile, int offset) {
  return tile + offset;
}
