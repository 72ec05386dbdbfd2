#ifndef TF_f64
#define TF_f64
typedef double f64;
#endif
#ifndef TF_u16
#define TF_u16
typedef unsigned short u16;
#endif
#ifndef TF_b8
#define TF_b8
typedef unsigned char b8;
#endif
#ifndef TF_i64
#define TF_i64
typedef long i64;
#endif
#ifndef TF_f64x8m
#define TF_f64x8m
typedef double f64x8m __attribute__((vector_size(64), aligned(8), may_alias));
#endif
#ifndef TF_f64x8
#define TF_f64x8
typedef double f64x8 __attribute__((vector_size(64)));
#endif
#ifndef TF_f32x8
#define TF_f32x8
typedef float f32x8 __attribute__((vector_size(32)));
#endif
#ifndef TF_b8x8
#define TF_b8x8
typedef unsigned char b8x8 __attribute__((vector_size(8)));
#endif
#ifndef TF_i8x8
#define TF_i8x8
typedef signed char i8x8 __attribute__((vector_size(8)));
#endif
#ifndef TF_eq_f64x8
#define TF_eq_f64x8
static inline __attribute__((always_inline)) b8x8 eq_f64x8(f64x8 a, f64x8 b) { return (b8x8)(__builtin_convertvector(a == b, i8x8) & 1); }
#endif
#ifndef TF_u32x8
#define TF_u32x8
typedef unsigned int u32x8 __attribute__((vector_size(32)));
#endif
#ifndef TF_u64x8
#define TF_u64x8
typedef unsigned long u64x8 __attribute__((vector_size(64)));
#endif
#ifndef TF_u64
#define TF_u64
typedef unsigned long u64;
#endif
#ifndef TF_splat_u64x8
#define TF_splat_u64x8
static inline __attribute__((always_inline)) u64x8 splat_u64x8(u64 a) { return (u64x8){a, a, a, a, a, a, a, a}; }
#endif
#ifndef TF_lt_u64x8
#define TF_lt_u64x8
static inline __attribute__((always_inline)) b8x8 lt_u64x8(u64x8 a, u64x8 b) { return (b8x8)(__builtin_convertvector(a < b, i8x8) & 1); }
#endif
#ifndef TF_u32
#define TF_u32
typedef unsigned int u32;
#endif
#ifndef TF_splat_u32x8
#define TF_splat_u32x8
static inline __attribute__((always_inline)) u32x8 splat_u32x8(u32 a) { return (u32x8){a, a, a, a, a, a, a, a}; }
#endif
#ifndef TF_i32x8
#define TF_i32x8
typedef int i32x8 __attribute__((vector_size(32)));
#endif
#ifndef TF_where_u32x8
#define TF_where_u32x8
static inline __attribute__((always_inline)) u32x8 where_u32x8(b8x8 c, u32x8 a, u32x8 b) { i32x8 m = __builtin_convertvector((i8x8)c, i32x8) != 0; return (u32x8)((m & (i32x8)a) | (~m & (i32x8)b)); }
#endif
#ifndef TF_lt_u32x8
#define TF_lt_u32x8
static inline __attribute__((always_inline)) b8x8 lt_u32x8(u32x8 a, u32x8 b) { return (b8x8)(__builtin_convertvector(a < b, i8x8) & 1); }
#endif
#ifndef TF_min_u32x8
#define TF_min_u32x8
static inline __attribute__((always_inline)) u32x8 min_u32x8(u32x8 a, u32x8 b) { i32x8 m = (a < b); return (u32x8)((m & (i32x8)a) | (~m & (i32x8)b)); }
#endif
#ifndef TF_u16x8
#define TF_u16x8
typedef unsigned short u16x8 __attribute__((vector_size(16)));
#endif
#ifndef TF_u16x8m
#define TF_u16x8m
typedef unsigned short u16x8m __attribute__((vector_size(16), aligned(2), may_alias));
#endif
#ifndef TF_load_f64x8
#define TF_load_f64x8
static inline __attribute__((always_inline)) f64x8 load_f64x8(const f64 *p, i64 n) { return (f64x8)__builtin_ia32_loadupd512_mask((const void *)p, (f64x8){0}, n >= 8 ? 255 : n <= 0 ? 0 : (1 << n) - 1); }
#endif
#ifndef TF_store_u16x8
#define TF_store_u16x8
static inline __attribute__((always_inline)) void store_u16x8(u16 *p, u16x8 v, i64 n) { for (int q = 0; q < 8; q++) if (q < n) p[q] = v[q]; }
#endif
void ragged_bfloat16(void *const *buffers, long first, long last) {
  const f64 *restrict in0 = buffers[1];
  u16 *restrict out = buffers[0];
  for (long r1 = 0; r1 < 3; r1++) {
    const b8 v0 = r1 < 2L;
    const i64 v1 = (i64)v0;
    const i64 v2 = r1 * 8L;
    if (v1) {
      const f64x8 v3 = *(const f64x8m *)(in0 + v2);
      const f32x8 v4 = __builtin_convertvector(v3, f32x8);
      const f64x8 v5 = __builtin_convertvector(v4, f64x8);
      const b8x8 v6 = eq_f64x8(v5, v3);
      const u32x8 v7 = (u32x8)v4;
      const u64x8 v8 = (u64x8)v3;
      const u64x8 v9 = v8 & splat_u64x8(9223372036854775807UL);
      const u64x8 v10 = (u64x8)v5;
      const u64x8 v11 = v10 & splat_u64x8(9223372036854775807UL);
      const b8x8 v12 = lt_u64x8(v9, v11);
      const u32x8 v13 = v7 - splat_u32x8(1U);
      const u32x8 v14 = where_u32x8(v12, v13, v7);
      const u32x8 v15 = v14 | splat_u32x8(1U);
      const u32x8 v16 = where_u32x8(v6, v7, v15);
      const f32x8 v17 = (f32x8)v16;
      const u32x8 v18 = (u32x8)v17;
      const u32x8 v19 = v18 >> splat_u32x8(31U);
      const u32x8 v20 = v19 << splat_u32x8(15U);
      const u32x8 v21 = v18 & splat_u32x8(2147483647U);
      const b8x8 v22 = lt_u32x8(splat_u32x8(2139095040U), v21);
      const u32x8 v23 = v21 + splat_u32x8(32767U);
      const u32x8 v24 = v21 >> splat_u32x8(16U);
      const u32x8 v25 = v24 & splat_u32x8(1U);
      const u32x8 v26 = v23 + v25;
      const u32x8 v27 = v26 >> splat_u32x8(16U);
      const u32x8 v28 = v27 - splat_u32x8(0U);
      const u32x8 v29 = min_u32x8(v28, splat_u32x8(32640U));
      const u32x8 v30 = where_u32x8(v22, splat_u32x8(32704U), v29);
      const u32x8 v31 = v20 | v30;
      *(u16x8m *)(out + v2) = __builtin_convertvector(v31, u16x8);
    }
    const b8 v32 = v0 ^ 1;
    const i64 v33 = (i64)v32;
    const i64 v34 = r1 * (-8L);
    if (v33) {
      const f64x8 v35 = load_f64x8(in0 + v2, (v34 + 21L));
      const f32x8 v36 = __builtin_convertvector(v35, f32x8);
      const f64x8 v37 = __builtin_convertvector(v36, f64x8);
      const b8x8 v38 = eq_f64x8(v37, v35);
      const u32x8 v39 = (u32x8)v36;
      const u64x8 v40 = (u64x8)v35;
      const u64x8 v41 = v40 & splat_u64x8(9223372036854775807UL);
      const u64x8 v42 = (u64x8)v37;
      const u64x8 v43 = v42 & splat_u64x8(9223372036854775807UL);
      const b8x8 v44 = lt_u64x8(v41, v43);
      const u32x8 v45 = v39 - splat_u32x8(1U);
      const u32x8 v46 = where_u32x8(v44, v45, v39);
      const u32x8 v47 = v46 | splat_u32x8(1U);
      const u32x8 v48 = where_u32x8(v38, v39, v47);
      const f32x8 v49 = (f32x8)v48;
      const u32x8 v50 = (u32x8)v49;
      const u32x8 v51 = v50 >> splat_u32x8(31U);
      const u32x8 v52 = v51 << splat_u32x8(15U);
      const u32x8 v53 = v50 & splat_u32x8(2147483647U);
      const b8x8 v54 = lt_u32x8(splat_u32x8(2139095040U), v53);
      const u32x8 v55 = v53 + splat_u32x8(32767U);
      const u32x8 v56 = v53 >> splat_u32x8(16U);
      const u32x8 v57 = v56 & splat_u32x8(1U);
      const u32x8 v58 = v55 + v57;
      const u32x8 v59 = v58 >> splat_u32x8(16U);
      const u32x8 v60 = v59 - splat_u32x8(0U);
      const u32x8 v61 = min_u32x8(v60, splat_u32x8(32640U));
      const u32x8 v62 = where_u32x8(v54, splat_u32x8(32704U), v61);
      const u32x8 v63 = v52 | v62;
      store_u16x8(out + v2, __builtin_convertvector(v63, u16x8), (v34 + 21L));
    }
  }
}
