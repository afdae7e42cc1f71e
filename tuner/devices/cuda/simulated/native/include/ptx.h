/* The instructions of PTX that sources contain; `compiler.py` puts a call in the place of each. */

#pragma once

static inline void ptx_cp_async(unsigned to, const void *from, unsigned bytes) {
  simt_copy_async(to, from, bytes, bytes);
}
static inline void ptx_cp_async(unsigned to, const void *from, unsigned bytes, unsigned read) {
  simt_copy_async(to, from, bytes, read);
}
/* Where the predicate is 0 the other words are stored at once, as by any store. */
template <class... W>
static inline void ptx_cp_async_where(unsigned to, const void *from, unsigned bytes, int predicate, W... words) {
  const unsigned other[] = {(unsigned)words...};
  if (predicate == 1) simt_copy_async(to, from, bytes, bytes);
  else simt_store_shared(to, other, sizeof other);
}
static inline void ptx_cp_async_commit_group() { simt_commit_async(); }
static inline void ptx_cp_async_wait_group(unsigned left) { simt_wait_async(left); }
static inline void ptx_cp_async_wait_all() { simt_wait_async(0); }
static inline void ptx_dp4a_u32_s32(int &r, unsigned a, int b, int c) { r = simt_dp4a(a, b, c); }
static inline void ptx_dp4a_s32_u32(int &r, int a, unsigned b, int c) { r = simt_dp4a(a, b, c); }
