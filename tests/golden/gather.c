#ifndef TF_i8
#define TF_i8
typedef signed char i8;
#endif
#ifndef TF_i32
#define TF_i32
typedef int i32;
#endif
#ifndef TF_i64
#define TF_i64
typedef long i64;
#endif
#ifndef TF_i32x4m
#define TF_i32x4m
typedef int i32x4m __attribute__((vector_size(16), aligned(4), may_alias));
#endif
#ifndef TF_i32x4
#define TF_i32x4
typedef int i32x4 __attribute__((vector_size(16)));
#endif
#ifndef TF_i64x4
#define TF_i64x4
typedef long i64x4 __attribute__((vector_size(32)));
#endif
#ifndef TF_splat_i64x4
#define TF_splat_i64x4
static inline __attribute__((always_inline)) i64x4 splat_i64x4(i64 a) { return (i64x4){a, a, a, a}; }
#endif
#ifndef TF_b8x4
#define TF_b8x4
typedef unsigned char b8x4 __attribute__((vector_size(4)));
#endif
#ifndef TF_i8x4
#define TF_i8x4
typedef signed char i8x4 __attribute__((vector_size(4)));
#endif
#ifndef TF_lt_i64x4
#define TF_lt_i64x4
static inline __attribute__((always_inline)) b8x4 lt_i64x4(i64x4 a, i64x4 b) { return (b8x4)(__builtin_convertvector(a < b, i8x4) & 1); }
#endif
#ifndef TF_b8
#define TF_b8
typedef unsigned char b8;
#endif
#ifndef TF_i8x4m
#define TF_i8x4m
typedef signed char i8x4m __attribute__((vector_size(4), aligned(1), may_alias));
#endif
void gather(void *const *buffers, long first, long last) {
  const i8 *restrict in0 = buffers[1];
  const i32 *restrict in1 = buffers[2];
  i8 *restrict out = buffers[0];
  for (long r1 = 0; r1 < 4; r1++) {
    const i64 v0 = r1 * 4L;
    const i32x4 v1 = *(const i32x4m *)(in1 + v0);
    const i64x4 v2 = __builtin_convertvector(v1, i64x4);
    const i64 v3 = v2[0];
    const b8x4 v4 = lt_i64x4(splat_i64x4((-1L)), v2);
    const b8x4 v5 = lt_i64x4(v2, splat_i64x4(9L));
    const b8x4 v6 = v4 & v5;
    const b8 v7 = v6[0];
    const i8 v8 = v7 ? in0[v3] : 0;
    const i64 v9 = v2[1];
    const b8 v10 = v6[1];
    const i8 v11 = v10 ? in0[v9] : 0;
    const i64 v12 = v2[2];
    const b8 v13 = v6[2];
    const i8 v14 = v13 ? in0[v12] : 0;
    const i64 v15 = v2[3];
    const b8 v16 = v6[3];
    const i8 v17 = v16 ? in0[v15] : 0;
    const i8x4 v18 = (i8x4){v8, v11, v14, v17};
    *(i8x4m *)(out + v0) = v18;
  }
}
