#ifndef TF_f32
#define TF_f32
typedef float f32;
#endif
#ifndef TF_f32x16
#define TF_f32x16
typedef float f32x16 __attribute__((vector_size(64)));
#endif
#ifndef TF_i64
#define TF_i64
typedef long i64;
#endif
#ifndef TF_min_i64
#define TF_min_i64
static inline __attribute__((always_inline)) i64 min_i64(i64 a, i64 b) { return (a < b) ? a : b; }
#endif
#ifndef TF_b8
#define TF_b8
typedef unsigned char b8;
#endif
#ifndef TF_splat_f32x16
#define TF_splat_f32x16
static inline __attribute__((always_inline)) f32x16 splat_f32x16(f32 a) { return (f32x16){a, a, a, a, a, a, a, a, a, a, a, a, a, a, a, a}; }
#endif
#ifndef TF_f32x16m
#define TF_f32x16m
typedef float f32x16m __attribute__((vector_size(64), aligned(4), may_alias));
#endif
#ifndef TF_load_f32x16
#define TF_load_f32x16
static inline __attribute__((always_inline)) f32x16 load_f32x16(const f32 *p, i64 n) { return (f32x16)__builtin_ia32_loadups512_mask((const void *)p, (f32x16){0}, n >= 16 ? 65535 : n <= 0 ? 0 : (1 << n) - 1); }
#endif
#ifndef TF_store_f32x16
#define TF_store_f32x16
static inline __attribute__((always_inline)) void store_f32x16(f32 *p, f32x16 v, i64 n) { __builtin_ia32_storeups512_mask((void *)p, (f32x16)v, n >= 16 ? 65535 : n <= 0 ? 0 : (1 << n) - 1); }
#endif
void sum_in_parts(void *const *buffers, long first, long last) {
  const f32 *restrict in0 = buffers[1];
  f32 *restrict out = buffers[0];
  f32x16 a0_0;
  f32x16 a1_0;
  for (long r2 = first; r2 < last; r2++) {
    const i64 v0 = r2 * 19L;
    const i64 v1 = r2 * (-76L);
    const i64 v2 = min_i64((v1 + 301L), 76L);
    const i64 v3 = r2 * 1444L;
    for (long r3 = 0; r3 < 2; r3++) {
      const b8 v4 = r3 < 1L;
      const i64 v5 = (i64)v4;
      const i64 v6 = r3 * 16L;
      const i64 v7 = v0 + v6;
      const i64 v8 = v3 + v6;
      if (v5) {
        a0_0 = splat_f32x16(0x0p+0f);
        for (long r4 = 0; r4 < v2; r4++) {
          const i64 v9 = r4 * 19L;
          const i64 v10 = v8 + v9;
          const f32x16 v11 = *(const f32x16m *)(in0 + v10);
          a0_0 = a0_0 + v11;
        }
        *(f32x16m *)(out + v7) = a0_0;
      }
      const b8 v12 = v4 ^ 1;
      const i64 v13 = (i64)v12;
      const i64 v14 = r3 * (-16L);
      if (v13) {
        a1_0 = splat_f32x16(0x0p+0f);
        for (long r4 = 0; r4 < v2; r4++) {
          const i64 v15 = r4 * 19L;
          const i64 v16 = v8 + v15;
          const f32x16 v17 = load_f32x16(in0 + v16, (v14 + 19L));
          a1_0 = a1_0 + v17;
        }
        store_f32x16(out + v7, a1_0, (v14 + 19L));
      }
    }}
}
#ifndef TF_f32
#define TF_f32
typedef float f32;
#endif
#ifndef TF_f32x16
#define TF_f32x16
typedef float f32x16 __attribute__((vector_size(64)));
#endif
#ifndef TF_b8
#define TF_b8
typedef unsigned char b8;
#endif
#ifndef TF_i64
#define TF_i64
typedef long i64;
#endif
#ifndef TF_splat_f32x16
#define TF_splat_f32x16
static inline __attribute__((always_inline)) f32x16 splat_f32x16(f32 a) { return (f32x16){a, a, a, a, a, a, a, a, a, a, a, a, a, a, a, a}; }
#endif
#ifndef TF_f32x16m
#define TF_f32x16m
typedef float f32x16m __attribute__((vector_size(64), aligned(4), may_alias));
#endif
#ifndef TF_sqrt_f32
#define TF_sqrt_f32
static inline __attribute__((always_inline)) f32 sqrt_f32(f32 a) { return __builtin_sqrtf(a); }
#endif
#ifndef TF_sqrt_f32x16
#define TF_sqrt_f32x16
static inline __attribute__((always_inline)) f32x16 sqrt_f32x16(f32x16 a) { f32x16 r; for (int q = 0; q < 16; q++) r[q] = sqrt_f32(a[q]); return r; }
#endif
#ifndef TF_load_f32x16
#define TF_load_f32x16
static inline __attribute__((always_inline)) f32x16 load_f32x16(const f32 *p, i64 n) { return (f32x16)__builtin_ia32_loadups512_mask((const void *)p, (f32x16){0}, n >= 16 ? 65535 : n <= 0 ? 0 : (1 << n) - 1); }
#endif
#ifndef TF_store_f32x16
#define TF_store_f32x16
static inline __attribute__((always_inline)) void store_f32x16(f32 *p, f32x16 v, i64 n) { __builtin_ia32_storeups512_mask((void *)p, (f32x16)v, n >= 16 ? 65535 : n <= 0 ? 0 : (1 << n) - 1); }
#endif
void sum_in_parts_combine(void *const *buffers, long first, long last) {
  const f32 *restrict in1 = buffers[2];
  f32 *restrict out = buffers[0];
  f32x16 a0_0;
  f32x16 a1_0;
  for (long r2 = 0; r2 < 2; r2++) {
    const b8 v0 = r2 < 1L;
    const i64 v1 = (i64)v0;
    const i64 v2 = r2 * 16L;
    if (v1) {
      a0_0 = splat_f32x16(0x0p+0f);
      for (long r3 = 0; r3 < 4; r3++) {
        const i64 v3 = r3 * 19L;
        const i64 v4 = v2 + v3;
        const f32x16 v5 = *(const f32x16m *)(in1 + v4);
        a0_0 = a0_0 + v5;
      }
      *(f32x16m *)(out + v2) = sqrt_f32x16(a0_0);
    }
    const b8 v6 = v0 ^ 1;
    const i64 v7 = (i64)v6;
    const i64 v8 = r2 * (-16L);
    if (v7) {
      a1_0 = splat_f32x16(0x0p+0f);
      for (long r3 = 0; r3 < 4; r3++) {
        const i64 v9 = r3 * 19L;
        const i64 v10 = v2 + v9;
        const f32x16 v11 = load_f32x16(in1 + v10, (v8 + 19L));
        a1_0 = a1_0 + v11;
      }
      store_f32x16(out + v2, sqrt_f32x16(a1_0), (v8 + 19L));
    }
  }
}
