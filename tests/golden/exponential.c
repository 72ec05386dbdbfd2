#ifndef TF_f32
#define TF_f32
typedef float f32;
#endif
#ifndef TF_b8
#define TF_b8
typedef unsigned char b8;
#endif
#ifndef TF_i64
#define TF_i64
typedef long i64;
#endif
#ifndef TF_f32x16m
#define TF_f32x16m
typedef float f32x16m __attribute__((vector_size(64), aligned(4), may_alias));
#endif
#ifndef TF_f32x16
#define TF_f32x16
typedef float f32x16 __attribute__((vector_size(64)));
#endif
#ifndef TF_splat_f32x16
#define TF_splat_f32x16
static inline __attribute__((always_inline)) f32x16 splat_f32x16(f32 a) { return (f32x16){a, a, a, a, a, a, a, a, a, a, a, a, a, a, a, a}; }
#endif
#ifndef TF_b8x16
#define TF_b8x16
typedef unsigned char b8x16 __attribute__((vector_size(16)));
#endif
#ifndef TF_i8x16
#define TF_i8x16
typedef signed char i8x16 __attribute__((vector_size(16)));
#endif
#ifndef TF_lt_f32x16
#define TF_lt_f32x16
static inline __attribute__((always_inline)) b8x16 lt_f32x16(f32x16 a, f32x16 b) { return (b8x16)(__builtin_convertvector(a < b, i8x16) & 1); }
#endif
#ifndef TF_i32x16
#define TF_i32x16
typedef int i32x16 __attribute__((vector_size(64)));
#endif
#ifndef TF_where_f32x16
#define TF_where_f32x16
static inline __attribute__((always_inline)) f32x16 where_f32x16(b8x16 c, f32x16 a, f32x16 b) { i32x16 m = __builtin_convertvector((i8x16)c, i32x16) != 0; return (f32x16)((m & (i32x16)a) | (~m & (i32x16)b)); }
#endif
#ifndef TF_fma_f32x16
#define TF_fma_f32x16
static inline __attribute__((always_inline)) f32x16 fma_f32x16(f32x16 a, f32x16 b, f32x16 c) { return __builtin_ia32_vfmaddps512_mask(a, b, c, -1, 4); }
#endif
#ifndef TF_i32
#define TF_i32
typedef int i32;
#endif
#ifndef TF_splat_i32x16
#define TF_splat_i32x16
static inline __attribute__((always_inline)) i32x16 splat_i32x16(i32 a) { return (i32x16){a, a, a, a, a, a, a, a, a, a, a, a, a, a, a, a}; }
#endif
#ifndef TF_load_f32x16
#define TF_load_f32x16
static inline __attribute__((always_inline)) f32x16 load_f32x16(const f32 *p, i64 n) { return (f32x16)__builtin_ia32_loadups512_mask((const void *)p, (f32x16){0}, n >= 16 ? 65535 : n <= 0 ? 0 : (1 << n) - 1); }
#endif
#ifndef TF_store_f32x16
#define TF_store_f32x16
static inline __attribute__((always_inline)) void store_f32x16(f32 *p, f32x16 v, i64 n) { __builtin_ia32_storeups512_mask((void *)p, (f32x16)v, n >= 16 ? 65535 : n <= 0 ? 0 : (1 << n) - 1); }
#endif
void exponential(void *const *buffers, long first, long last) {
  const f32 *restrict in0 = buffers[1];
  f32 *restrict out = buffers[0];
  for (long r1 = 0; r1 < 2; r1++) {
    const b8 v0 = r1 < 1L;
    const i64 v1 = (i64)v0;
    const i64 v2 = r1 * 16L;
    if (v1) {
      const f32x16 v3 = *(const f32x16m *)(in0 + v2);
      const b8x16 v4 = lt_f32x16(v3, splat_f32x16((-0x1.a4p+6f)));
      const f32x16 v5 = where_f32x16(v4, splat_f32x16((-0x1.a4p+6f)), v3);
      const b8x16 v6 = lt_f32x16(splat_f32x16(0x1.64p+6f), v5);
      const f32x16 v7 = where_f32x16(v6, splat_f32x16(0x1.64p+6f), v5);
      const f32x16 v8 = fma_f32x16(v7, splat_f32x16(0x1.715476p+0f), splat_f32x16(0x1.8001fcp+23f));
      const f32x16 v9 = v8 - splat_f32x16(0x1.8001fcp+23f);
      const f32x16 v10 = fma_f32x16(v9, splat_f32x16((-0x1.62e4p-1f)), v7);
      const f32x16 v11 = v9 * splat_f32x16((-0x1.7f7d1cp-20f));
      const f32x16 v12 = v10 + v11;
      const f32x16 v13 = v12 * v12;
      const f32x16 v14 = fma_f32x16(splat_f32x16(0x1.a01a02p-13f), v12, splat_f32x16(0x1.6c16c2p-10f));
      const f32x16 v15 = fma_f32x16(v14, v12, splat_f32x16(0x1.111112p-7f));
      const f32x16 v16 = fma_f32x16(v15, v12, splat_f32x16(0x1.555556p-5f));
      const f32x16 v17 = fma_f32x16(v16, v12, splat_f32x16(0x1.555556p-3f));
      const f32x16 v18 = fma_f32x16(v17, v12, splat_f32x16(0x1p-1f));
      const f32x16 v19 = v10 - v12;
      const f32x16 v20 = v19 + v11;
      const f32x16 v21 = fma_f32x16(v13, v18, v20);
      const f32x16 v22 = v21 + v12;
      const f32x16 v23 = v22 + splat_f32x16(0x1p+0f);
      const i32x16 v24 = (i32x16)v8;
      const i32x16 v25 = v24 >> splat_i32x16(1);
      const i32x16 v26 = v25 << splat_i32x16(23);
      const f32x16 v27 = (f32x16)v26;
      const f32x16 v28 = v23 * v27;
      const i32x16 v29 = v24 - v25;
      const i32x16 v30 = v29 << splat_i32x16(23);
      const f32x16 v31 = (f32x16)v30;
      *(f32x16m *)(out + v2) = v28 * v31;
    }
    const b8 v32 = v0 ^ 1;
    const i64 v33 = (i64)v32;
    const i64 v34 = r1 * (-16L);
    if (v33) {
      const f32x16 v35 = load_f32x16(in0 + v2, (v34 + 21L));
      const b8x16 v36 = lt_f32x16(v35, splat_f32x16((-0x1.a4p+6f)));
      const f32x16 v37 = where_f32x16(v36, splat_f32x16((-0x1.a4p+6f)), v35);
      const b8x16 v38 = lt_f32x16(splat_f32x16(0x1.64p+6f), v37);
      const f32x16 v39 = where_f32x16(v38, splat_f32x16(0x1.64p+6f), v37);
      const f32x16 v40 = fma_f32x16(v39, splat_f32x16(0x1.715476p+0f), splat_f32x16(0x1.8001fcp+23f));
      const f32x16 v41 = v40 - splat_f32x16(0x1.8001fcp+23f);
      const f32x16 v42 = fma_f32x16(v41, splat_f32x16((-0x1.62e4p-1f)), v39);
      const f32x16 v43 = v41 * splat_f32x16((-0x1.7f7d1cp-20f));
      const f32x16 v44 = v42 + v43;
      const f32x16 v45 = v44 * v44;
      const f32x16 v46 = fma_f32x16(splat_f32x16(0x1.a01a02p-13f), v44, splat_f32x16(0x1.6c16c2p-10f));
      const f32x16 v47 = fma_f32x16(v46, v44, splat_f32x16(0x1.111112p-7f));
      const f32x16 v48 = fma_f32x16(v47, v44, splat_f32x16(0x1.555556p-5f));
      const f32x16 v49 = fma_f32x16(v48, v44, splat_f32x16(0x1.555556p-3f));
      const f32x16 v50 = fma_f32x16(v49, v44, splat_f32x16(0x1p-1f));
      const f32x16 v51 = v42 - v44;
      const f32x16 v52 = v51 + v43;
      const f32x16 v53 = fma_f32x16(v45, v50, v52);
      const f32x16 v54 = v53 + v44;
      const f32x16 v55 = v54 + splat_f32x16(0x1p+0f);
      const i32x16 v56 = (i32x16)v40;
      const i32x16 v57 = v56 >> splat_i32x16(1);
      const i32x16 v58 = v57 << splat_i32x16(23);
      const f32x16 v59 = (f32x16)v58;
      const f32x16 v60 = v55 * v59;
      const i32x16 v61 = v56 - v57;
      const i32x16 v62 = v61 << splat_i32x16(23);
      const f32x16 v63 = (f32x16)v62;
      store_f32x16(out + v2, v60 * v63, (v34 + 21L));
    }
  }
}
